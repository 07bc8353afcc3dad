//! HTTP in front of a server: a service that `kube::Client::new` takes, and that hyper or axum serve over a network.

mod body;
mod protobuf;
mod route;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};
use tower::BoxError;

use self::route::{Query, Route};
use crate::{
    discovery,
    errors::ApiError,
    faults::{After, Before, Call},
    object,
    server::{Deleted, Server, Target},
    stored::Stored,
    watch::{View, error_line},
};

/// The body of an answer: a document, or the lines of a watch.
pub type AnswerBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;
type Answer = Response<AnswerBody>;

/// The connection broke before an answer came. A fault did it; what was asked may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was lost before an answer came")]
pub struct Lost;

/// A server that speaks HTTP. Cheap to clone.
#[derive(Clone)]
pub struct HttpServer {
    server: Arc<Server>,
    git_version: Arc<str>,
}

impl HttpServer {
    /// Speaks for a server that calls itself by a Kubernetes version, such as `v1.36.3`.
    pub fn new(server: Arc<Server>, git_version: &str) -> Self {
        Self { server, git_version: git_version.into() }
    }

    async fn serve(self, request: Request<Bytes>) -> Result<Answer, BoxError> {
        let query = Query::parse(&request);
        let (call, document) = match route::route(request.method(), request.uri().path(), &query) {
            Ok(Route::Resource { verb, target }) => (Call { verb, target, manager: query.manager(&request) }, None),
            Ok(Route::Document(document)) => {
                let call = Call { verb: "get", target: Target::default(), manager: String::new() };
                (call, Some(document))
            }
            Err(error) => return Ok(refuse(&error)),
        };
        let faults = self.server.faults();
        match faults.before(&call).await {
            Before::Serve => {}
            Before::Refuse(error) => return Ok(refuse(&error)),
            Before::Lose => return Err(Lost.into()),
            Before::Delay(time) => tokio::time::sleep(time).await,
        }
        let outcome = match document {
            Some(document) => self.document(&document),
            None => self.resource(&call, &request, &query),
        };
        match faults.after(&call, outcome.as_ref().err()).await {
            After::Answer => Ok(outcome.unwrap_or_else(|error| refuse(&error))),
            After::Lose => Err(Lost.into()),
            After::Replace(error) => Ok(refuse(&error)),
        }
    }

    fn document(&self, path: &[String]) -> Result<Answer, ApiError> {
        let registry = self.server.registry();
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let document = match path.as_slice() {
            ["version"] => Some(discovery::version(&self.git_version)),
            ["healthz" | "livez" | "readyz"] => return Ok(answer(StatusCode::OK, "text/plain", Bytes::from("ok"))),
            ["api"] => Some(discovery::core_versions()),
            ["apis"] => Some(discovery::group_list(&registry)),
            ["apis", group] => discovery::one_group(&registry, group),
            ["api", version] => discovery::resource_list(&registry, "", version),
            ["apis", group, version] => discovery::resource_list(&registry, group, version),
            _ => None,
        };
        Ok(json(StatusCode::OK, &document.ok_or_else(ApiError::no_such_path)?))
    }

    fn resource(&self, call: &Call, request: &Request<Bytes>, query: &Query) -> Result<Answer, ApiError> {
        let Call { verb, target, manager } = call;
        let server = &self.server;
        let written = query.write_params(manager);
        let view = View { version: target.version.clone(), is_metadata_only: wants_metadata(request) };
        let object =
            |status: StatusCode, object: Arc<Stored>| answer(status, "application/json", shown(&view, &object).text());
        let done = |(written, is_new): (Arc<Stored>, bool)| {
            object(if is_new { StatusCode::CREATED } else { StatusCode::OK }, written)
        };
        match *verb {
            "get" => Ok(answer(StatusCode::OK, "application/json", server.read(target, view.is_metadata_only)?.text())),
            "list" => {
                let list = server.list(target, &query.list_params(view.is_metadata_only)?)?;
                Ok(answer(StatusCode::OK, "application/json", list.to_json()))
            }
            "watch" => self.watch(call, query, view.is_metadata_only),
            "create" if !target.subresource.is_empty() => {
                Ok(json(StatusCode::CREATED, &server.evict(target, &body::eviction(request)?)?))
            }
            "create" => Ok(done((server.make(target, body::object(request)?, &written)?, true))),
            "update" => Ok(done(server.put(target, body::object(request)?, &written)?)),
            "patch" => Ok(done(server.amend(target, &body::patch(request)?, &written)?)),
            "delete" => Ok(match server.delete(target, &body::delete_params(request, query)?)? {
                Deleted::Object(deleted) => object(StatusCode::OK, deleted),
                Deleted::Gone(status) => json(StatusCode::OK, &*status),
            }),
            _ => {
                let list = query.list_params(view.is_metadata_only)?;
                let deleted = server.delete_collection(target, &list, &body::delete_params(request, query)?)?;
                Ok(answer(StatusCode::OK, "application/json", deleted.to_json()))
            }
        }
    }

    fn watch(&self, call: &Call, query: &Query, is_metadata_only: bool) -> Result<Answer, ApiError> {
        let lines = match self.server.watch(call.clone(), &query.list_params(is_metadata_only)?) {
            Ok(lines) => lines.boxed(),
            // That a version is too old or not there yet is told within the watch, as the watch cache does.
            Err(error) if [410, 504].contains(&error.code()) => futures::stream::iter([error_line(&error)]).boxed(),
            Err(error) => return Err(error),
        };
        let lines = match query.timeout()? {
            Some(timeout) => lines.take_until(tokio::time::sleep(timeout)).boxed(),
            None => lines,
        };
        let body = StreamBody::new(lines.map(|line| Ok(Frame::data(line)))).boxed_unsync();
        Ok(with_type(StatusCode::OK, "application/json", body))
    }
}

impl<B> tower::Service<Request<B>> for HttpServer
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            server.serve(Request::from_parts(parts, body)).await
        })
    }
}

/// Whether a client wants no more than metadata.
fn wants_metadata(request: &Request<Bytes>) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').next().is_some_and(|first| first.contains("as=PartialObjectMetadata"))
}

/// An answered object, cut down to what the client wants.
fn shown(view: &View, object: &Arc<Stored>) -> Arc<Stored> {
    if view.is_metadata_only { Arc::new(object.with_fields(object::metadata_only(object))) } else { Arc::clone(object) }
}

fn with_type(status: StatusCode, content_type: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    answer
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    with_type(status, content_type, Full::new(body).boxed_unsync())
}

fn json(status: StatusCode, document: &impl serde::Serialize) -> Answer {
    // Values and statuses have string keys only, so that they always serialise.
    let body = serde_json::to_vec(document).unwrap_or_default();
    answer(status, "application/json", body.into())
}

/// An error as a client gets it.
pub fn refuse(error: &ApiError) -> Response<AnswerBody> {
    let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(status, &error.0);
    if let Some(seconds) = error.0.details.as_ref().and_then(|details| details.retry_after_seconds) {
        answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    }
    answer
}

/// The verb of a method on a path.
fn verb(method: &Method, is_collection: bool, has_subresource: bool, is_watch: bool) -> Option<&'static str> {
    Some(match (method.as_str(), is_collection) {
        ("POST", false) if has_subresource => "create",
        ("GET", true) if is_watch => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", true) => "create",
        ("PUT", false) => "update",
        ("PATCH", false) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        _ => return None,
    })
}
