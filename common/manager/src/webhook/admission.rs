//! Admission reviews. A bad object becomes a denial that names the field, never an HTTP error, which the API server
//! would report as a broken webhook.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
};
use serde_json::Value;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
}

/// What a webhook is asked about.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is done.
    pub operation: Operation,
    /// The object as it would become; `Null` on deletion.
    pub object: Value,
    /// The object as it is; `Null` on creation.
    pub old: Value,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// Name of the subresource that is written; empty for the object itself.
    pub subresource: String,
}

impl Request {
    /// Whether an annotation is on the object (on deletion: on the old one).
    pub fn has_annotation(&self, name: &str) -> bool {
        let object = if self.operation == Operation::Delete { &self.old } else { &self.object };
        object["metadata"]["annotations"].get(name).is_some()
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field: `spec.pool[1].ip`.
    pub field: String,
    /// What is wrong, and how to mend it.
    pub message: String,
}

impl FieldError {
    /// An error at a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

pub(super) fn mutate(body: &[u8], default: fn(&mut Value, &Request) -> Result<(), Vec<FieldError>>) -> Response {
    answer(body, |review, request| {
        let before = request.object.clone();
        let mut after = before.clone();
        if let Err(errors) = default(&mut after, request) {
            return review.deny(denial(&errors));
        }
        if after == before {
            return review;
        }
        let fallback = review.clone();
        review.with_patch(json_patch::diff(&before, &after)).unwrap_or_else(|error| fallback.deny(error.to_string()))
    })
}

pub(super) fn validate(body: &[u8], validate: impl Fn(&Request) -> Result<Vec<String>, Vec<FieldError>>) -> Response {
    answer(body, |mut review, request| match validate(request) {
        Ok(warnings) if warnings.is_empty() => review,
        Ok(warnings) => {
            review.warnings = Some(warnings);
            review
        }
        Err(errors) => review.deny(denial(&errors)),
    })
}

fn denial(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn answer(body: &[u8], judge: impl FnOnce(AdmissionResponse, &Request) -> AdmissionResponse) -> Response {
    let review: AdmissionReview<DynamicObject> = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("not an AdmissionReview: {error}")).into_response(),
    };
    let request: AdmissionRequest<DynamicObject> = match review.try_into() {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("not an AdmissionReview: {error}")).into_response(),
    };
    let allowed = AdmissionResponse::from(&request);
    Json(judge(allowed, &plain(request)).into_review()).into_response()
}

fn plain(request: AdmissionRequest<DynamicObject>) -> Request {
    use kube::core::admission::Operation as Asked;
    let value =
        |object: Option<DynamicObject>| object.and_then(|object| serde_json::to_value(object).ok()).unwrap_or_default();
    Request {
        operation: match request.operation {
            Asked::Create => Operation::Create,
            Asked::Delete => Operation::Delete,
            Asked::Update | Asked::Connect => Operation::Update,
        },
        object: value(request.object),
        old: value(request.old_object),
        dry_run: request.dry_run,
        subresource: request.sub_resource.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review(object: Value) -> Vec<u8> {
        let request = json!({
            "uid": "u", "kind": {"group": "g", "version": "v1", "kind": "Thing"},
            "resource": {"group": "g", "version": "v1", "resource": "things"},
            "name": "a", "namespace": "ns", "operation": "CREATE", "userInfo": {}, "object": object, "dryRun": false,
        });
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
            .to_string()
            .into_bytes()
    }

    fn thing(spec: Value) -> Value {
        json!({"apiVersion": "g/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec})
    }

    async fn said(response: Response) -> Value {
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["response"].clone()
    }

    #[tokio::test]
    async fn a_denial_names_every_field() {
        let refuse: fn(&Request) -> Result<Vec<String>, Vec<FieldError>> =
            |_| Err(vec![FieldError::new("spec.a", "too long"), FieldError::new("spec.b", "missing")]);
        let answer = said(validate(&review(thing(json!({}))), refuse)).await;
        assert_eq!(answer["allowed"], false);
        assert_eq!(answer["status"]["message"], "spec.a: too long; spec.b: missing");
    }

    #[tokio::test]
    async fn defaulting_sends_only_what_it_changed() {
        let fill: fn(&mut Value, &Request) -> Result<(), Vec<FieldError>> = |object, _| {
            object["spec"]["replicas"] = json!(1);
            Ok(())
        };
        let answer = said(mutate(&review(thing(json!({}))), fill)).await;
        // Go reads bytes from a list of numbers as well as from base64.
        let patch: Vec<u8> = serde_json::from_value(answer["patch"].clone()).unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        assert_eq!(patch, json!([{"op": "add", "path": "/spec/replicas", "value": 1}]));
        let unchanged = said(mutate(&review(thing(json!({"replicas": 1}))), fill)).await;
        assert!(unchanged["allowed"] == true && unchanged.get("patch").is_none());
    }
}
