//! What an API server does beyond storage with requests for certificates: who asks is written into them, and who decides
//! must be allowed to for their signer (`plugin/pkg/admission/certificates/approval`).

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use kube_model::{ApiError, Qualified, Server, Target};
use serde_json::{Value, json};

use super::{
    authn::User,
    authz::{Question, review},
    request::{Attributes, ResourceAttributes},
    reviews::CREDENTIAL,
};

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";

fn about(attributes: &Attributes) -> Option<&ResourceAttributes> {
    attributes.resource.as_ref().filter(|resource| resource.group == GROUP && resource.resource == PLURAL)
}

/// Writes into a new request who makes it, whatever the body says; other bodies pass as they are.
pub(super) fn name(request: Request<Bytes>, user: &User, attributes: &Attributes) -> Result<Request<Bytes>, ApiError> {
    let is_apply = |request: &Request<Bytes>| {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("application/apply-patch"))
    };
    let is_new = match about(attributes).filter(|resource| resource.subresource.is_empty()) {
        Some(_) => attributes.verb == "create" || attributes.verb == "patch" && is_apply(&request),
        None => false,
    };
    if !is_new {
        return Ok(request);
    }
    let text = String::from_utf8_lossy(request.body());
    let object: Result<Value, _> = serde_json::from_str(&text);
    let object = object.or_else(|_| serde_saphyr::from_str(&text));
    let mut object = object.map_err(|_| ApiError::bad_request("the body of the request is neither JSON nor YAML"))?;
    if !object["spec"].is_object() {
        return Ok(request);
    }
    object["spec"]["username"] = json!(user.name);
    object["spec"]["groups"] = json!(user.groups);
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.remove("uid");
        spec.remove("extra");
    }
    if let Some(credential) = &user.credential {
        object["spec"]["extra"] = json!({CREDENTIAL: [credential]});
    }
    let (mut parts, _) = request.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    if attributes.verb == "create" {
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(Request::from_parts(parts, object.to_string().into()))
}

/// Lets those decide who may approve for the signer of a request.
pub(super) fn admit_decision(server: &Server, user: &User, attributes: &Attributes) -> Result<(), ApiError> {
    let Some(resource) = about(attributes).filter(|resource| resource.subresource == "approval") else {
        return Ok(());
    };
    if !attributes.is_write() {
        return Ok(());
    }
    let target = Target {
        group: GROUP.into(),
        version: "v1".into(),
        plural: PLURAL.into(),
        name: resource.name.clone(),
        ..Target::default()
    };
    // One that is not there is refused later.
    let Ok(found) = server.get(&target, false) else { return Ok(()) };
    let signer = found.pointer("/spec/signerName").and_then(Value::as_str).unwrap_or_default();
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let may = |name: &str| {
        let question = Question { verb: "approve", group: GROUP, resource: "signers", subresource: "", name };
        review(server, user, question).is_ok()
    };
    if may(signer) || may(&format!("{domain}/*")) {
        return Ok(());
    }
    let why = format!("user not permitted to approve requests with signerName {signer:?}");
    Err(ApiError::forbidden(Qualified { group: GROUP, resource: PLURAL }, &resource.name, &why))
}
