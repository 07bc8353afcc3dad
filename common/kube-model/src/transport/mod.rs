//! HTTP in front of a server: a service that `kube::Client::new` takes, and that hyper or axum serve over a network.

mod body;
mod document;
mod negotiate;
mod protobuf;
mod route;
mod strict_json;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};
use serde_json::Value;
use tower::BoxError;

use self::{
    negotiate::Form,
    route::{Query, Route},
};
use crate::{
    errors::ApiError,
    faults::{After, Before, Call},
    object,
    server::{Deleted, FieldChecks, Server, Target},
    stored::Stored,
    table::{Include, Tables},
    watch::error_line,
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
            Some(path) => document::answer(&self.server.registry(), &self.git_version, &path, &request),
            None => self.resource(&call, &request, &query),
        };
        match faults.after(&call, outcome.as_ref().err()).await {
            After::Answer => Ok(outcome.unwrap_or_else(|error| refuse(&error))),
            After::Lose => Err(Lost.into()),
            After::Replace(error) => Ok(refuse(&error)),
        }
    }

    fn resource(&self, call: &Call, request: &Request<Bytes>, query: &Query) -> Result<Answer, ApiError> {
        let Call { verb, target, .. } = call;
        let server = &self.server;
        let shape = self.shape(target, request, query)?;
        match *verb {
            "get" => Ok(self.shown(StatusCode::OK, &shape, &server.read(target, shape.is_metadata_only)?)),
            "list" => {
                let list = server.list(target, &query.list_params(shape.is_metadata_only)?)?;
                Ok(match &shape.tables {
                    Some(tables) => json(StatusCode::OK, &tables.of_list(&list, server.now())),
                    None => answer(StatusCode::OK, "application/json", list.to_json()),
                })
            }
            "watch" => self.watch(call, query, shape),
            "create" if !target.subresource.is_empty() => {
                Ok(json(StatusCode::CREATED, &server.evict(target, &body::eviction(request)?)?))
            }
            "create" | "update" | "patch" => self.write(call, request, query, &shape),
            "delete" => Ok(match server.delete(target, &body::delete_params(request, query)?)? {
                Deleted::Object(object) => self.shown(StatusCode::OK, &shape, &shape.cut(object)),
                Deleted::Gone(status) => json(StatusCode::OK, &*status),
            }),
            _ => {
                let list = query.list_params(shape.is_metadata_only)?;
                let deleted = server.delete_collection(target, &list, &body::delete_params(request, query)?)?;
                Ok(answer(StatusCode::OK, "application/json", deleted.to_json()))
            }
        }
    }

    fn write(
        &self,
        Call { verb, target, manager }: &Call,
        request: &Request<Bytes>,
        query: &Query,
        shape: &Shape,
    ) -> Result<Answer, ApiError> {
        let server = &self.server;
        let params = |duplicates| query.write_params(verb, manager, duplicates);
        let ((object, is_new), params) = match *verb {
            "create" => {
                let (object, duplicates) = body::object(request)?;
                let params = params(duplicates)?;
                ((server.make(target, object, &params)?, true), params)
            }
            "update" => {
                let (object, duplicates) = body::object(request)?;
                let params = params(duplicates)?;
                (server.put(target, object, &params)?, params)
            }
            _ => {
                let (patch, duplicates) = body::patch(request)?;
                let params = params(duplicates)?;
                (server.amend(target, &patch, &params)?, params)
            }
        };
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        let mut answer = self.shown(status, shape, &shape.cut(object));
        for warning in params.fields.iter().flat_map(FieldChecks::warnings) {
            // Names that no header can carry are not warned of.
            if let Ok(value) = header::HeaderValue::from_str(&format!("299 - {}", Value::from(warning))) {
                answer.headers_mut().append(header::WARNING, value);
            }
        }
        Ok(answer)
    }

    fn watch(&self, call: &Call, query: &Query, shape: Shape) -> Result<Answer, ApiError> {
        let lines = match self.server.watch(call.clone(), &query.list_params(shape.is_metadata_only)?) {
            Ok(lines) => lines.boxed(),
            // That a version is too old or not there yet is told within the watch, as the watch cache does.
            Err(error) if [410, 504].contains(&error.code()) => futures::stream::iter([error_line(&error)]).boxed(),
            Err(error) => return Err(error),
        };
        let lines = match shape.tables {
            Some(tables) => {
                let server = Arc::clone(&self.server);
                let mut is_first = true;
                let tabled = move |line| tables.of_line(&line, std::mem::take(&mut is_first), server.now());
                lines.map(tabled).boxed()
            }
            None => lines,
        };
        let lines = match query.timeout()? {
            Some(timeout) => lines.take_until(tokio::time::sleep(timeout)).boxed(),
            None => lines,
        };
        let body = StreamBody::new(lines.map(|line| Ok(Frame::data(line)))).boxed_unsync();
        Ok(with_type(StatusCode::OK, "application/json", body))
    }

    fn shape(&self, target: &Target, request: &Request<Bytes>, query: &Query) -> Result<Shape, ApiError> {
        let form = negotiate::form(request);
        let tables = match form {
            Form::Table(version) => {
                let resource = self.server.resource(target).ok_or_else(ApiError::no_such_path)?;
                let include = Include::parse(query.text("includeObject"))?;
                Some(Tables::new(resource, &target.version, version, include))
            }
            Form::Whole | Form::Metadata => None,
        };
        Ok(Shape { is_metadata_only: form == Form::Metadata, tables })
    }

    /// An answer with one object, which is cut down already.
    fn shown(&self, status: StatusCode, shape: &Shape, object: &Arc<Stored>) -> Answer {
        match &shape.tables {
            Some(tables) => json(status, &tables.of_object(object, self.server.now())),
            None => answer(status, "application/json", object.text()),
        }
    }
}

/// What a client wants to see of objects.
struct Shape {
    is_metadata_only: bool,
    tables: Option<Tables>,
}

impl Shape {
    fn cut(&self, object: Arc<Stored>) -> Arc<Stored> {
        if self.is_metadata_only { Arc::new(object.with_fields(object::metadata_only(&object))) } else { object }
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
