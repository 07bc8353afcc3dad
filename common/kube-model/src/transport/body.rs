//! Bodies of requests.

use bytes::Bytes;
use http::{Request, header};
use serde::Deserialize;
use serde_json::Value;

use super::{
    protobuf::{self, Unreadable},
    route::Query,
    strict_json,
};
use crate::{
    errors::{ApiError, FieldError, Qualified},
    patch::Patch,
    server::{DeleteParams, Propagation},
};

/// Types of bodies that are understood.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// Types of patches that are understood.
const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, \
                       application/strategic-merge-patch+json, application/apply-patch+yaml";

fn content_type(request: &Request<Bytes>) -> &str {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

/// A body, and the paths of fields that stand twice in it.
type Read<T> = (T, Vec<String>);

fn from_json(request: &Request<Bytes>) -> Result<Read<Value>, ApiError> {
    strict_json::read(request.body())
        .map_err(|why| ApiError::bad_request(format!("the body of the request is not JSON: {why}")))
}

/// JSON, which YAML contains, is read as such; the rest by the rules of YAML.
fn from_yaml(request: &Request<Bytes>) -> Result<Value, ApiError> {
    if let Ok(value) = serde_json::from_slice(request.body()) {
        return Ok(value);
    }
    let text = std::str::from_utf8(request.body()).unwrap_or_default();
    serde_saphyr::from_str(text).map_err(|why| ApiError::bad_request(format!("error decoding YAML: {why}")))
}

/// The object of a create or an update.
pub(super) fn object(request: &Request<Bytes>) -> Result<Read<Value>, ApiError> {
    let with_none = |object| (object, Vec::new());
    match content_type(request) {
        "" | "application/json" => from_json(request),
        "application/yaml" => from_yaml(request).map(with_none),
        "application/vnd.kubernetes.protobuf" => {
            protobuf::decode(request.body()).map(with_none).map_err(|unreadable| match unreadable {
                Unreadable::Kind => ApiError::unsupported_media_type(ACCEPTED),
                Unreadable::Body(error) => error,
            })
        }
        _ => Err(ApiError::unsupported_media_type(ACCEPTED)),
    }
}

/// The patch of a patch.
pub(super) fn patch(request: &Request<Bytes>) -> Result<Read<Patch>, ApiError> {
    let patch: fn(Value) -> Patch = match content_type(request) {
        "application/json-patch+json" => Patch::Json,
        "application/merge-patch+json" => Patch::Merge,
        "application/strategic-merge-patch+json" => Patch::Strategic,
        "application/apply-patch+yaml" => return Ok((Patch::Apply(from_yaml(request)?), Vec::new())),
        _ => return Err(ApiError::unsupported_media_type(PATCHES)),
    };
    let (body, duplicates) = from_json(request)?;
    Ok((patch(body), duplicates))
}

/// `DeleteOptions`, as a body carries them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    dry_run: Vec<String>,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    preconditions: Option<Preconditions>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// The options of the deletion that an eviction is.
pub(super) fn eviction(request: &Request<Bytes>) -> Result<DeleteParams, ApiError> {
    let (mut eviction, _) = object(request)?;
    let options = eviction.get_mut("deleteOptions").map(Value::take).unwrap_or_default();
    if options.is_null() { Ok(DeleteParams::default()) } else { read_options(options)?.params() }
}

fn read_options(options: Value) -> Result<DeleteOptions, ApiError> {
    serde_json::from_value(options).map_err(|why| ApiError::bad_request(format!("DeleteOptions: {why}")))
}

/// The options of a deletion: of the body, or else of the query.
pub(super) fn delete_params(request: &Request<Bytes>, query: &Query) -> Result<DeleteParams, ApiError> {
    let options = if request.body().is_empty() {
        DeleteOptions {
            dry_run: vec![query.text("dryRun").to_owned()],
            grace_period_seconds: query.grace_seconds()?,
            propagation_policy: Some(query.text("propagationPolicy").to_owned()).filter(|policy| !policy.is_empty()),
            preconditions: None,
        }
    } else {
        read_options(object(request)?.0)?
    };
    options.params()
}

impl DeleteOptions {
    fn params(self) -> Result<DeleteParams, ApiError> {
        let propagation = match self.propagation_policy.as_deref() {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let allowed = ["Foreground", "Background", "Orphan", "nil"].map(str::to_owned);
                let error = FieldError::not_supported("propagationPolicy", &other.into(), &allowed);
                let kind = Qualified { group: "meta.k8s.io", resource: "DeleteOptions" };
                return Err(ApiError::invalid(kind, "", &[error]));
            }
        };
        let preconditions = self.preconditions.unwrap_or_default();
        Ok(DeleteParams {
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            propagation,
            grace_seconds: self.grace_period_seconds,
            is_dry_run: self.dry_run.iter().any(|stage| stage == "All"),
        })
    }
}
