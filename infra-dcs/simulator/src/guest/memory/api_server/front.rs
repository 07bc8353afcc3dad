//! One request: who asks, whether they may, whether etcd answers, and who serves it.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, BodyStream, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Incoming;
use kube_model::{
    ApiError, Server,
    transport::{AnswerBody, HttpServer, refuse},
};
use serde_json::json;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service, ServiceExt};

use super::{
    Access, Config, PodPorts, Storage, admission,
    authn::{self, ClientCertificate},
    authz, certificates, logs, port_forward,
    request::Attributes,
    reviews,
};
use crate::guest::memory::time::TimeSource;

/// Largest body (`--max-request-body-bytes` of the generic server: 3 MiB).
const BODY_LIMIT: usize = 3 << 20;
/// How long a request may take but a watch or a port-forward (`--request-timeout`).
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Port-forwards at a time. A control plane provider needs one for each member of etcd.
const FORWARDS: usize = 256;
/// Checks of the health endpoints, in their order.
const CHECKS: [&str; 3] = ["ping", "log", "etcd"];

pub(super) type Answer = Response<AnswerBody>;

/// Serves the requests of all connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Front(Arc<Parts>);

pub(super) struct Parts {
    pub server: Arc<Server>,
    http: HttpServer,
    time: TimeSource,
    storage: Arc<dyn Storage>,
    pub ports: Arc<dyn PodPorts>,
    /// Port-forwards that may still begin.
    pub forwards: Arc<Semaphore>,
    /// Watches and port-forwards end.
    pub drain: CancellationToken,
    /// Everything ends.
    pub cut: CancellationToken,
}

impl Front {
    pub fn new(config: Config<'_>, drain: CancellationToken, cut: CancellationToken) -> Self {
        let Config { server, git_version, files: _, time, storage, ports, cable: _ } = config;
        let http = HttpServer::new(Arc::clone(&server), git_version);
        let forwards = Arc::new(Semaphore::new(FORWARDS));
        Self(Arc::new(Parts { server, http, time, storage, ports, forwards, drain, cut }))
    }

    pub fn time(&self) -> &TimeSource {
        &self.0.time
    }

    pub fn send_bookmarks(&self) {
        self.0.server.send_bookmarks();
    }

    /// The service of one connection.
    pub fn for_client(self, certificate: ClientCertificate) -> ClientFront {
        ClientFront { front: self, certificate: Arc::new(certificate) }
    }
}

/// Serves the requests of one connection.
#[derive(Clone)]
pub(super) struct ClientFront {
    front: Front,
    certificate: Arc<ClientCertificate>,
}

impl Service<Request<Incoming>> for ClientFront {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let Self { front, certificate } = self.clone();
        Box::pin(async move { front.0.serve(&certificate, request).await })
    }
}

impl Parts {
    async fn serve(&self, certificate: &ClientCertificate, request: Request<Incoming>) -> Result<Answer, BoxError> {
        let attributes = Attributes::read(request.method(), request.uri());
        let user = authn::authenticate(certificate, request.headers(), &self.server, &self.time);
        let Some(user) = user else { return Ok(refuse(&ApiError::unauthorized())) };
        let authorized = authz::authorize(&self.server, &user, &attributes);
        if let Err(error) = authorized.and_then(|()| admission::admit(&self.server, &user, &attributes)) {
            return Ok(refuse(&error));
        }
        if let Some(health) = self.health(request.uri()) {
            return Ok(health);
        }
        if let Err(error) = self.ask_storage(&attributes, request.uri()).await {
            return Ok(refuse(&error));
        }
        if let Some((namespace, pod)) = attributes.of_pod("portforward") {
            return Ok(port_forward::serve(self, namespace, pod, request));
        }
        if let Some((namespace, pod)) = attributes.of_pod("log").filter(|_| attributes.verb == "get") {
            let answer = logs::serve(&self.server, namespace, pod, request.uri());
            return Ok(answer.unwrap_or_else(|error| refuse(&error)));
        }
        if attributes.path == "/" {
            return Ok(plain(StatusCode::OK, "application/json", self.paths()));
        }
        let request = with_body(request).await.and_then(|request| certificates::name(request, &user, &attributes));
        let mut request = match request {
            Ok(request) => request,
            Err(error) => return Ok(refuse(&error)),
        };
        let now = i64::try_from(self.time.now() / 1_000).unwrap_or(i64::MAX);
        if let Some(answer) = reviews::answer(&self.server, &user, now, &attributes, &request) {
            return Ok(answer.unwrap_or_else(|error| refuse(&error)));
        }
        if let Some(veto) = admission::veto(&user) {
            request.extensions_mut().insert(veto);
        }
        let request = request.map(Full::new);
        let answer = self.http.clone().oneshot(request).await?;
        if attributes.verb != "watch" {
            return Ok(answer);
        }
        let ended = self.drain.clone().cancelled_owned();
        Ok(answer.map(|body| StreamBody::new(BodyStream::new(body).take_until(ended)).boxed_unsync()))
    }

    /// The paths that there are.
    fn paths(&self) -> Bytes {
        const OWN: [&str; 8] =
            ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
        let mut paths: BTreeSet<String> = OWN.into_iter().map(str::to_owned).collect();
        for (_, resource) in self.server.registry().iter() {
            let group = match resource.group.as_str() {
                "" => "/api".to_owned(),
                group => format!("/apis/{group}"),
            };
            paths.extend(resource.versions.iter().map(|version| format!("{group}/{}", version.name)));
            paths.insert(group);
        }
        json!({"paths": paths}).to_string().into()
    }

    /// Refuses what etcd would have to answer and cannot. What the watch cache knows needs no etcd.
    async fn ask_storage(&self, attributes: &Attributes, uri: &Uri) -> Result<(), ApiError> {
        if attributes.resource.is_none() {
            return Ok(());
        }
        let version = uri.query().and_then(|query| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(key, _)| key == "resourceVersion").map(|(_, value)| value.into_owned())
        });
        let is_cached = match attributes.verb.as_str() {
            "watch" => version.is_some_and(|version| !version.is_empty()),
            "get" | "list" => version.as_deref() == Some("0"),
            _ => false,
        };
        if is_cached {
            return Ok(());
        }
        let access = if attributes.is_write() { Access::Write } else { Access::Read };
        self.storage.access(access).await.map_err(|error| ApiError::plain(&error.0))
    }

    /// `/healthz`, `/livez` and `/readyz`, whole or one check (`apiserver/pkg/server/healthz`).
    fn health(&self, uri: &Uri) -> Option<Answer> {
        let path = uri.path().trim_matches('/');
        let (name, only) = path.split_once('/').map_or((path, None), |(name, check)| (name, Some(check)));
        if !["healthz", "livez", "readyz"].contains(&name) || only.is_some_and(|check| !CHECKS.contains(&check)) {
            return None;
        }
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let is_excluded = |check: &str| query.iter().any(|(key, value)| key == "exclude" && value == check);
        let mut report = String::new();
        let mut has_failed = false;
        for check in CHECKS.into_iter().filter(|check| only.is_none_or(|only| only == *check)) {
            if is_excluded(check) {
                report.push_str(&format!("[+]{check} excluded: ok\n"));
            } else if check == "etcd" && !self.storage.is_healthy() {
                has_failed = true;
                report.push_str(&format!("[-]{check} failed: reason withheld\n"));
            } else {
                report.push_str(&format!("[+]{check} ok\n"));
            }
        }
        let text = "text/plain; charset=utf-8";
        Some(if has_failed {
            plain(StatusCode::INTERNAL_SERVER_ERROR, text, format!("{report}{name} check failed\n").into())
        } else if query.iter().any(|(key, _)| key == "verbose") {
            plain(StatusCode::OK, text, format!("{report}{name} check passed\n").into())
        } else {
            plain(StatusCode::OK, text, Bytes::from_static(b"ok"))
        })
    }
}

/// Reads the body, which must not be too large nor too slow.
async fn with_body(request: Request<Incoming>) -> Result<Request<Bytes>, ApiError> {
    let (parts, body) = request.into_parts();
    match timeout(REQUEST_LIMIT, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(BODY_LIMIT)),
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the body of the request cannot be read: {error}"))),
        Err(_) => Err(ApiError::timeout("request did not complete within the allotted timeout")),
    }
}

/// An answer that is no `Status`.
pub(super) fn plain(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
