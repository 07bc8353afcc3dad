//! Questions for which nothing is kept: who is asking, and what may be done (`authentication.k8s.io`,
//! `authorization.k8s.io`).

use bytes::Bytes;
use http::{Request, StatusCode};
use kube_model::{ApiError, Resource, Schema, Server, transport};
use serde_json::{Value, json};

use super::{
    authn::{User, bootstrap_user},
    authz,
    front::{Answer, plain},
    request::{Attributes, ResourceAttributes},
};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// What can be asked: group, kind, plural, and whether it is asked in a namespace.
const KINDS: [(&str, &str, &str, bool); 6] = [
    (AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", false),
    (AUTHENTICATION, "TokenReview", "tokenreviews", false),
    (AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", true),
    (AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", false),
    (AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", false),
    (AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", false),
];

/// Lets a server's discovery name them.
pub fn install(server: &Server) {
    for (group, kind, plural, is_namespaced) in KINDS {
        let mut resource = Resource::new(group, "v1", kind, plural, is_namespaced, Schema::Untyped);
        resource.behaviour.is_asked = true;
        server.install(resource);
    }
}

/// The answer to a question; none where a request is none. `now` in seconds since the epoch.
pub(super) fn answer(
    server: &Server,
    user: &User,
    now: i64,
    attributes: &Attributes,
    request: &Request<Bytes>,
) -> Option<Result<Answer, ApiError>> {
    let resource = attributes.resource.as_ref().filter(|resource| resource.name.is_empty())?;
    let is_asked = |(group, _, plural, _): &&(&str, &str, &str, bool)| {
        *group == resource.group && *plural == resource.resource && attributes.verb == "create"
    };
    let (group, kind, ..) = KINDS.iter().find(is_asked)?;
    let answered = transport::object(request, kind).map(|mut question| {
        question["apiVersion"] = json!(format!("{group}/v1"));
        question["kind"] = json!(kind);
        if !question["metadata"].is_object() {
            question["metadata"] = json!({});
        }
        if *kind == "SelfSubjectReview" {
            let moment = jiff::Timestamp::from_second(now).unwrap_or_default();
            question["metadata"]["creationTimestamp"] = json!(moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        question["status"] = status(server, user, now, kind, &question["spec"]);
        plain(StatusCode::CREATED, "application/json", question.to_string().into())
    });
    Some(answered)
}

fn status(server: &Server, user: &User, now: i64, kind: &str, spec: &Value) -> Value {
    match kind {
        "SelfSubjectReview" => json!({"userInfo": described(user)}),
        "TokenReview" => match bootstrap_user(spec["token"].as_str().unwrap_or_default(), server, now) {
            Some(user) => json!({"authenticated": true, "user": described(&user)}),
            None => json!({"user": {}, "error": "invalid bearer token"}),
        },
        "SelfSubjectRulesReview" => {
            let rules = authz::rules(server, user, spec["namespace"].as_str().unwrap_or_default());
            let (resources, paths): (Vec<_>, Vec<_>) = rules.into_iter().partition(|rule| rule["resources"].is_array());
            json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
        }
        "SelfSubjectAccessReview" => access(server, user, spec),
        _ => {
            let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let name = spec["user"].as_str().unwrap_or_default();
            access(server, &User::named(name, groups.map(str::to_owned).collect()), spec)
        }
    }
}

fn described(user: &User) -> Value {
    let mut shown = json!({"username": user.name, "groups": user.groups});
    if let Some(credential) = &user.credential {
        shown["extra"] = json!({CREDENTIAL: [credential]});
    }
    shown
}

/// Where it is told which certificate somebody showed.
pub(super) const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

fn access(server: &Server, user: &User, spec: &Value) -> Value {
    match authz::authorize(server, user, &asked(spec)) {
        Ok(()) => json!({"allowed": true}),
        Err(_) => json!({"allowed": false}),
    }
}

/// The request that a question is about.
fn asked(spec: &Value) -> Attributes {
    let resource = &spec["resourceAttributes"];
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    if !resource.is_object() {
        let path = &spec["nonResourceAttributes"];
        return Attributes { verb: text(path, "verb"), path: text(path, "path"), resource: None };
    }
    let about = ResourceAttributes {
        group: text(resource, "group"),
        resource: text(resource, "resource"),
        subresource: text(resource, "subresource"),
        namespace: text(resource, "namespace"),
        name: text(resource, "name"),
        selected_node: String::new(),
    };
    Attributes { verb: text(resource, "verb"), path: String::new(), resource: Some(about) }
}
