//! Clients of API servers, with limits that kube does not set by itself.

use std::{path::Path, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::metrics::{Metrics, RequestLabels};

/// Limit of connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// Limit of one request and its answer.
const CALL: Duration = Duration::from_secs(15);

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
pub fn clients(mut config: Config, user_agent: &str, metrics: Option<&Arc<Metrics>>) -> Result<Clients, ClientError> {
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(CALL);
    // Retries are the queue's business: one that waits inside a call holds a worker.
    config.default_retry = false;
    if let Ok(agent) = user_agent.parse() {
        config.headers.push((http::header::USER_AGENT, agent));
    }
    let mut calling = config.clone();
    calling.read_timeout = Some(CALL);
    config.read_timeout = None;
    Ok(Clients { call: build(calling, metrics)?, stream: build(config, metrics)? })
}

fn build(config: Config, metrics: Option<&Arc<Metrics>>) -> Result<Client, ClientError> {
    let builder = ClientBuilder::try_from(config)?;
    let Some(metrics) = metrics.cloned() else { return Ok(builder.build()) };
    Ok(builder.with_layer(&CountLayer { metrics }).build())
}

#[derive(Clone)]
struct CountLayer {
    metrics: Arc<Metrics>,
}

impl<S> tower::Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, metrics: Arc::clone(&self.metrics) }
    }
}

#[derive(Clone)]
struct Count<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, Body, Answer> tower::Service<http::Request<Body>> for Count<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Answer>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (metrics, method) = (Arc::clone(&self.metrics), request.method().to_string());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            metrics.requests.get_or_create(&RequestLabels { method, code }).inc();
            answer
        })
    }
}
