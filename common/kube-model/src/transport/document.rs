//! Documents about the server: discovery, OpenAPI, health.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};

use super::{Answer, json, negotiate::accepts, page_not_found};
use crate::{
    discovery,
    errors::ApiError,
    openapi::{self, Document, Form},
    registry::Registry,
};

const JSON: &str = "application/json";
/// Type by which clients ask for the document of OpenAPI v2 as protobuf.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The type that it is sent with: the other one is none by the grammar of types, and Go clients refuse it.
const SENT_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// A document whose address has its hash never changes.
const FOR_GOOD: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The answer to a request for a document, by the segments of its path.
pub(super) fn answer(
    registry: &Registry,
    git_version: &str,
    path: &[String],
    request: &Request<Bytes>,
) -> Result<Answer, ApiError> {
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let document = match path.as_slice() {
        ["version"] => Some(discovery::version(git_version)),
        ["healthz" | "livez" | "readyz"] => {
            return Ok(super::answer(StatusCode::OK, "text/plain", Bytes::from("ok")));
        }
        ["api"] => Some(discovery::core_versions()),
        ["apis"] => Some(discovery::group_list(registry)),
        ["apis", group] => discovery::one_group(registry, group),
        ["api", version] => discovery::resource_list(registry, "", version),
        ["apis", group, version] => discovery::resource_list(registry, group, version),
        ["openapi", "v2"] => return version_2(registry, request),
        ["openapi", "v3"] => Some(openapi::index(registry)),
        ["openapi", "v3", "api", version] => return version_3(registry, "", version, request),
        ["openapi", "v3", "apis", group, version] => return version_3(registry, group, version, request),
        _ => None,
    };
    match (document, path.as_slice()) {
        (Some(document), _) => Ok(json(StatusCode::OK, &document)),
        // Where there is an API it says that this is none of it.
        (None, ["api", ..]) => Err(ApiError::no_such_path()),
        (None, ["apis", group, ..]) if registry.has_group(group) => Err(ApiError::no_such_path()),
        (None, _) => Ok(page_not_found()),
    }
}

fn version_2(registry: &Registry, request: &Request<Bytes>) -> Result<Answer, ApiError> {
    // Who asks for JSON among others gets it: it is what people read.
    if accepts(request, JSON) {
        Ok(sent(openapi::all(registry, Form::Json), JSON, request))
    } else if accepts(request, PROTOBUF) || accepts(request, SENT_PROTOBUF) {
        Ok(sent(openapi::all(registry, Form::Protobuf), SENT_PROTOBUF, request))
    } else {
        Err(ApiError::not_acceptable(&format!("{JSON}, {PROTOBUF}")))
    }
}

fn version_3(registry: &Registry, group: &str, version: &str, request: &Request<Bytes>) -> Result<Answer, ApiError> {
    let document = openapi::group_version(registry, group, version).ok_or_else(ApiError::no_such_path)?;
    if !accepts(request, JSON) {
        return Err(ApiError::not_acceptable(JSON));
    }
    let has_hash = request.uri().query().is_some_and(|query| query.contains(&format!("hash={}", document.hash)));
    let mut answer = sent(document, JSON, request);
    if has_hash {
        answer.headers_mut().insert(header::CACHE_CONTROL, FOR_GOOD);
    }
    Ok(answer)
}

/// A document, or that the client has it already.
fn sent(document: Document, content_type: &'static str, request: &Request<Bytes>) -> Answer {
    let tag = format!("\"{}\"", document.hash);
    let has_it = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let (status, body) =
        if has_it { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, document.bytes) };
    let mut answer = super::answer(status, content_type, body);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}
