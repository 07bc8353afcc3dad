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
    server::{BINDING, Deleted, FieldChecks, Rescale, SCALE, Server, Target, Veto, WriteParams},
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
        if !server.has_group(&target.group) {
            return Ok(page_not_found());
        }
        let shape = self.shape(target, request, query)?;
        if target.subresource == SCALE {
            return self.scale(call, request, query, &shape);
        }
        match *verb {
            "get" => Ok(self.shown(StatusCode::OK, &shape, &server.read(target, shape.is_metadata_only)?)),
            "list" => {
                let list = server.list(target, &query.list_params(shape.is_metadata_only)?)?;
                Ok(match &shape.tables {
                    Some(tables) => json(StatusCode::OK, &tables.of_list(&list, server.now())),
                    None => shape.send(StatusCode::OK, list.to_json()),
                })
            }
            "watch" => self.watch(call, query, shape),
            "create" if target.subresource == BINDING => {
                let (binding, _) = body::object(request, "Binding")?;
                let is_dry_run = query.is_dry_run("CreateOptions")?;
                Ok(json(StatusCode::CREATED, &server.bind(target, &binding, is_dry_run)?))
            }
            "create" if !target.subresource.is_empty() => {
                let eviction = body::eviction(request, query, &target.name)?;
                Ok(json(StatusCode::CREATED, &server.evict(target, &eviction)?))
            }
            "create" | "update" | "patch" => self.write(call, request, query, &shape),
            "delete" => Ok(match server.delete(target, &body::delete_params(request, query)?)? {
                Deleted::Object(object) => self.shown(StatusCode::OK, &shape, &shape.cut(object)),
                Deleted::Gone(status) => json(StatusCode::OK, &*status),
            }),
            _ => {
                let list = query.list_params(shape.is_metadata_only)?;
                let deleted = server.delete_collection(target, &list, &body::delete_params(request, query)?)?;
                Ok(shape.send(StatusCode::OK, deleted.to_json()))
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
        let kind = server.resource(target).map(|resource| resource.kind.clone()).unwrap_or_default();
        let veto = request.extensions().get::<Veto>();
        let params = |duplicates| {
            let params = query.write_params(verb, manager, duplicates)?;
            Ok::<_, ApiError>(WriteParams { veto: veto.cloned(), ..params })
        };
        let ((object, is_new), params) = match *verb {
            "create" => {
                let (object, duplicates) = body::object(request, &kind)?;
                let params = params(duplicates)?;
                ((server.make(target, object, &params)?, true), params)
            }
            "update" => {
                let (object, duplicates) = body::object(request, &kind)?;
                let params = params(duplicates)?;
                (server.put(target, object, &params)?, params)
            }
            _ => {
                let is_custom = server.resource(target).is_some_and(|resource| resource.behaviour.is_custom);
                let (patch, duplicates) = body::patch(request, is_custom)?;
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

    /// Reads or changes a scale.
    fn scale(&self, call: &Call, request: &Request<Bytes>, query: &Query, shape: &Shape) -> Result<Answer, ApiError> {
        let Call { verb, target, manager } = call;
        let params = |duplicates| query.write_params(verb, manager, duplicates);
        let scale = match *verb {
            "get" => self.server.scale(target)?,
            "update" => {
                let (scale, duplicates) = body::object(request, "Scale")?;
                self.server.rescale(target, &Rescale::Update(scale), &params(duplicates)?)?
            }
            "patch" => {
                let (patch, duplicates) = body::patch(request, false)?;
                self.server.rescale(target, &Rescale::Patch(patch), &params(duplicates)?)?
            }
            _ => return Err(ApiError::method_not_allowed()),
        };
        Ok(shape.send(StatusCode::OK, shape.cut(scale).text()))
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
        let form = negotiate::form(request).ok_or_else(ApiError::no_acceptable_form)?;
        let tables = match form {
            Form::Table(version) => {
                let resource = self.server.resource(target).ok_or_else(ApiError::no_such_path)?;
                let include = Include::parse(query.text("includeObject"))?;
                Some(Tables::new(resource, &target.version, version, include))
            }
            Form::Whole | Form::Yaml | Form::Metadata => None,
        };
        Ok(Shape { is_metadata_only: form == Form::Metadata, is_yaml: form == Form::Yaml, tables })
    }

    /// An answer with one object, which is cut down already.
    fn shown(&self, status: StatusCode, shape: &Shape, object: &Arc<Stored>) -> Answer {
        match &shape.tables {
            Some(tables) => json(status, &tables.of_object(object, self.server.now())),
            None => shape.send(status, object.text()),
        }
    }
}

/// What a client wants to see of objects.
struct Shape {
    is_metadata_only: bool,
    is_yaml: bool,
    tables: Option<Tables>,
}

impl Shape {
    /// A document that was written as JSON.
    fn send(&self, status: StatusCode, json: Bytes) -> Answer {
        let yaml = self.is_yaml.then(|| serde_json::from_slice::<Value>(&json).ok()).flatten();
        match yaml.and_then(|document| serde_saphyr::to_string(&document).ok()) {
            Some(text) => answer(status, "application/yaml", text.into()),
            None => answer(status, "application/json", json),
        }
    }

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

/// The object of a kind that a body holds, in whatever form it is sent: for those who answer what the model does not.
pub fn object(request: &Request<Bytes>, kind: &str) -> Result<Value, ApiError> {
    body::object(request, kind).map(|(object, _)| object)
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

/// The answer where no API is.
fn page_not_found() -> Answer {
    answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", Bytes::from_static(b"404 page not found\n"))
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
