//! Bodies of requests.

use bytes::Bytes;
use http::{Request, header};
use serde::Deserialize;
use serde_json::Value;

use super::{
    protobuf::{self, Unreadable},
    route::{Query, dry_run},
    strict_json,
};
use crate::{
    errors::{ApiError, FieldError, Qualified},
    go,
    patch::Patch,
    server::{DeleteParams, Propagation},
};

/// Types of bodies that are understood.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// Types of patches of custom resources, which are refused in other words.
const CUSTOM_PATCHES: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

fn content_type(request: &Request<Bytes>) -> &str {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

/// A body, and the paths of fields that stand twice in it.
type Read<T> = (T, Vec<String>);

/// A document that should be an object of a kind.
fn from_json(request: &Request<Bytes>, kind: &str) -> Result<Read<Value>, ApiError> {
    let unrecognised = |why: &str| {
        let shown = shown(request.body());
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} \
             ({shown})"
        ))
    };
    let (value, duplicates) =
        strict_json::read(request.body()).map_err(|why| unrecognised(&go::json_error(&why, request.body())))?;
    match go::json_type(&value) {
        "object" => Ok((value, duplicates)),
        given => Err(unrecognised(&format!("json: cannot unmarshal {given} into Go value of type {TYPE_META}"))),
    }
}

/// Where Go reads the kind of an object.
const TYPE_META: &str =
    r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// The beginning of a body, for a message (`summarizeData`).
fn shown(body: &[u8]) -> String {
    const MOST: usize = 30;
    let begins = &body[..body.len().min(MOST)];
    let rest = if body.len() > MOST { " ..." } else { "" };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{rest}", String::from_utf8_lossy(begins)),
        Some(_) => format!("{}{rest}", begins.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
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
pub(super) fn object(request: &Request<Bytes>, kind: &str) -> Result<Read<Value>, ApiError> {
    let with_none = |object| (object, Vec::new());
    match content_type(request) {
        "" | "application/json" => from_json(request, kind),
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
pub(super) fn patch(request: &Request<Bytes>, is_custom: bool) -> Result<Read<Patch>, ApiError> {
    let (patch, wanted, wanted_type): (fn(Value) -> Patch, _, _) = match content_type(request) {
        "application/json-patch+json" => (Patch::Json, "array", "[]handlers.jsonPatchOp"),
        "application/merge-patch+json" => (Patch::Merge, "object", "map[string]interface {}"),
        "application/strategic-merge-patch+json" => (Patch::Strategic, "object", "map[string]interface {}"),
        "application/apply-patch+yaml" => return Ok((Patch::Apply(from_yaml(request)?), Vec::new())),
        _ if is_custom => return Err(ApiError::unsupported_media_type(CUSTOM_PATCHES)),
        _ => return Err(ApiError::unsupported_patch()),
    };
    let undecodable = |why: &str| ApiError::bad_request(format!("error decoding patch: {why}"));
    let (body, duplicates) =
        strict_json::read(request.body()).map_err(|why| undecodable(&go::json_error(&why, request.body())))?;
    match go::json_type(&body) {
        given if given == wanted => Ok((patch(body), duplicates)),
        given => Err(undecodable(&format!("json: cannot unmarshal {given} into Go value of type {wanted_type}"))),
    }
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

/// The options of the deletion that an eviction of a pod is.
pub(super) fn eviction(request: &Request<Bytes>, query: &Query, pod: &str) -> Result<DeleteParams, ApiError> {
    let is_dry_run = query.is_dry_run("CreateOptions")?;
    let (mut eviction, _) = object(request, "Eviction")?;
    if eviction["metadata"]["name"] != pod {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = eviction.get_mut("deleteOptions").map(Value::take).unwrap_or_default();
    let params = if options.is_null() { DeleteParams::default() } else { read_options(options)?.params()? };
    Ok(DeleteParams { is_dry_run: params.is_dry_run || is_dry_run, ..params })
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
        read_options(object(request, "DeleteOptions")?.0)?
    };
    options.params()
}

impl DeleteOptions {
    fn params(self) -> Result<DeleteParams, ApiError> {
        let is_dry_run = dry_run(&self.dry_run, "DeleteOptions")?;
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
            is_dry_run,
        })
    }
}
