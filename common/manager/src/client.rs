//! Clients of API servers, with limits that kube does not set by itself.

use std::{path::Path, sync::Arc, task, time::Duration};

use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper_rustls::HttpsConnector;
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt, DynBody},
    config::{KubeConfigOptions, Kubeconfig},
};
use rustls::{ClientConfig, client::Resumption};
use serde_json::json;
use tower::{BoxError, Layer, Service, ServiceBuilder};

use crate::metrics::{Metrics, RequestLabels};

/// Limit of connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// Limit of one request and its answer.
const CALL: Duration = Duration::from_secs(15);
/// Size of what a connection to a workload cluster reads into, in bytes: by itself it grows with the longest answer, and
/// stays.
const READ: usize = 16 * 1024;

/// The clients could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig file cannot be read or is incomplete.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Neither a kubeconfig nor a pod's service account is at hand.
    #[error("no kubeconfig was given and none was inferred: {0}")]
    Infer(#[from] kube::config::InferConfigError),
    /// TLS or address is unusable.
    #[error("{0}")]
    Kube(#[from] kube::Error),
}

/// Two clients of one API server: calls have a limit, watches and port-forwards last.
#[derive(Clone)]
pub struct Clients {
    /// For requests with one answer.
    pub call: Client,
    /// For watches and port-forwards.
    pub stream: Client,
}

/// Makes a client whose background work runs on the runtime that it is called on: a server with a runtime of its own
/// must not wait for another's.
pub type OwnClient = Arc<dyn Fn() -> Result<Client, ClientError> + Send + Sync>;

/// Makes the clients of the workload cluster that a configuration leads to.
pub type Dial = Arc<dyn Fn(Config) -> Result<Clients, ClientError> + Send + Sync>;

/// Dials as this user agent. There may be a thousand workload clusters: the two clients of one share what they know of TLS,
/// which is one server, and keep little else. What few kubeconfigs ask for, a proxy or another name of the server, is
/// left to kube.
pub fn dial(user_agent: &str) -> Dial {
    let user_agent = user_agent.to_owned();
    Arc::new(move |config| {
        if config.proxy_url.is_some() || config.tls_server_name.is_some() {
            return clients(config, &user_agent, None);
        }
        let mut tls = config.rustls_client_config()?;
        tls.resumption = Resumption::in_memory_sessions(1);
        let tls = Arc::new(tls);
        let (calling, lasting) = pair(config, &user_agent);
        Ok(Clients { call: build_small(&calling, &tls)?, stream: build_small(&lasting, &tls)? })
    })
}

/// Where and as whom to connect: a file, or what the environment offers.
pub async fn config(kubeconfig: Option<&Path>) -> Result<Config, ClientError> {
    Ok(match kubeconfig {
        Some(path) => {
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    })
}

/// The two clients of a configuration. Requests are counted where metrics are given.
pub fn clients(config: Config, user_agent: &str, metrics: Option<&Arc<Metrics>>) -> Result<Clients, ClientError> {
    let (calling, lasting) = pair(config, user_agent);
    Ok(Clients { call: build(calling, metrics)?, stream: build(lasting, metrics)? })
}

/// Configurations of the two clients.
fn pair(config: Config, user_agent: &str) -> (Config, Config) {
    let lasting = limited(config, user_agent, None);
    let mut calling = lasting.clone();
    calling.read_timeout = Some(CALL);
    (calling, lasting)
}

/// Makes clients of a configuration whose calls have this limit.
pub fn own_client(config: Config, user_agent: &str, limit: Duration, metrics: &Arc<Metrics>) -> OwnClient {
    let (config, metrics) = (limited(config, user_agent, Some(limit)), Arc::clone(metrics));
    Arc::new(move || build(config.clone(), Some(&metrics)))
}

fn limited(mut config: Config, user_agent: &str, read: Option<Duration>) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(CALL);
    config.read_timeout = read;
    // Otherwise the time that a connection lay idle counts against the next answer.
    config.reset_reader_on_write = true;
    // Retries are the queue's business: one that waits inside a call holds a worker.
    config.default_retry = false;
    if let Ok(agent) = user_agent.parse() {
        config.headers.push((header::USER_AGENT, agent));
    }
    config
}

fn build(config: Config, metrics: Option<&Arc<Metrics>>) -> Result<Client, ClientError> {
    let host = config.cluster_url.authority().map_or("", http::uri::Authority::as_str);
    let observe = Observe { counted: metrics.map(|metrics| (Arc::clone(metrics), host.into())) };
    Ok(ClientBuilder::try_from(config)?.with_layer(&observe).build())
}

/// The same as kube builds, without tracing and compression.
fn build_small(config: &Config, tls: &Arc<ClientConfig>) -> Result<Client, ClientError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let mut connector = TimeoutConnector::new(HttpsConnector::from((http, Arc::clone(tls))));
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).http1_read_buf_exact_size(READ).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .map_response(|answer: http::Response<_>| {
            answer.map(|body| Box::new(BodyExt::map_err(body, BoxError::from)) as Box<DynBody>)
        })
        .service(client);
    let observe = Observe { counted: None };
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).with_layer(&observe).build())
}

/// Counts answers, and makes the wait that a server asks for by header part of its error: the API server's overload
/// answers are plain text, in which kube would lose it.
#[derive(Clone)]
struct Observe {
    /// Where answers are counted, and as whose.
    counted: Option<(Arc<Metrics>, Arc<str>)>,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observe: self.clone() }
    }
}

struct Observed<S> {
    inner: S,
    observe: Observe,
}

type Answer = http::Response<Either<Box<DynBody>, Full<bytes::Bytes>>>;

impl<S> Service<http::Request<Body>> for Observed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> task::Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (observe, method) = (self.observe.clone(), request.method().to_string());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some((metrics, host)) = observe.counted {
                let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
                let labels = RequestLabels { method: method.into(), code, host };
                metrics.requests.get_or_create(&labels).inc();
            }
            explained(answer?).await
        })
    }
}

/// The same answer; an overload answer as the API's Status with the wait that its header asks for.
async fn explained(answer: http::Response<Box<DynBody>>) -> Result<Answer, BoxError> {
    let overloaded = matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let (true, Some(wait)) = (overloaded, asked_wait(answer.headers())) else { return Ok(answer.map(Either::Left)) };
    let (mut parts, body) = answer.into_parts();
    let text = body.collect().await?.to_bytes();
    let mut status = serde_json::from_slice(&text).unwrap_or_else(|_| {
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": parts.status.as_u16(),
            "reason": "TooManyRequests", "message": String::from_utf8_lossy(&text).trim(),
        })
    });
    if status["details"]["retryAfterSeconds"].as_u64().unwrap_or(0) == 0 {
        status["details"]["retryAfterSeconds"] = json!(wait);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(http::Response::from_parts(parts, Either::Right(Full::from(status.to_string()))))
}

fn asked_wait(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}
