//! Probes and diagnostics, on a thread and runtime of their own: they answer while the workers are stuck.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use kubeadm::{
    api::spec::EncryptionAlgorithm,
    pki::{self, LEAF_DAYS, Leaf},
};
use process::telemetry::Telemetry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    client::OwnClient,
    clock::Clock,
    gate::Gate,
    metrics::Metrics,
    tls::{self, Certificate},
};

/// What is waited for before this process is ready; `None` once it is.
pub(crate) type Waiting = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the diagnostics tell and do.
#[derive(Clone)]
pub(crate) struct Diagnostics {
    pub(crate) metrics: Arc<Metrics>,
    /// Caches, queues and workload clusters as they are now.
    pub(crate) state: Arc<dyn Fn() -> Value + Send + Sync>,
    pub(crate) telemetry: Option<Telemetry>,
    /// Makes the client by which callers are reviewed; `None` serves everybody over plain HTTP.
    pub(crate) reviewer: Option<OwnClient>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The servers' addresses as they became: a port 0 is any that is free.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Of the probes.
    pub health: SocketAddr,
    /// Of the diagnostics.
    pub diagnostics: SocketAddr,
}

/// Binds both listeners and serves until `stop`.
pub(crate) fn serve(
    health: SocketAddr,
    at: SocketAddr,
    waiting: Waiting,
    diagnostics: Diagnostics,
    stop: CancellationToken,
) -> std::io::Result<Addresses> {
    let (probes, listener) = (bind(health)?, bind(at)?);
    let addresses = Addresses { health: probes.local_addr()?, diagnostics: listener.local_addr()? };
    let certificate = diagnostics.reviewer.is_some().then(|| self_signed(&diagnostics)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("probes".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let probes = plain(probes, probe_routes(waiting), stop.clone());
            tokio::join!(probes, told(listener, diagnostics, certificate, stop));
        });
    })?;
    Ok(addresses)
}

fn probe_routes(waiting: Waiting) -> Router {
    let ready = move || {
        let answer = waiting();
        async move {
            match answer {
                None => (StatusCode::OK, "ok".to_owned()),
                Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {reason}")),
            }
        }
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready))
}

async fn told(
    listener: std::net::TcpListener,
    diagnostics: Diagnostics,
    certificate: Option<Arc<Certificate>>,
    stop: CancellationToken,
) {
    let routes = diagnostic_routes(&diagnostics);
    let (Some(certificate), Some(reviewer)) = (certificate, &diagnostics.reviewer) else {
        return plain(listener, routes, stop).await;
    };
    let gate = match reviewer() {
        Ok(client) => Arc::new(Gate::new(client, Arc::clone(&diagnostics.clock))),
        Err(error) => return tracing::error!(%error, "Diagnostics are not served."),
    };
    let guard = from_fn(move |request: Request, next: Next| guarded(Arc::clone(&gate), request, next));
    match TcpListener::from_std(listener) {
        Ok(listener) => tls::serve(listener, routes.layer(guard), certificate, stop).await,
        Err(error) => tracing::error!(%error, "Diagnostics are not served."),
    }
}

async fn guarded(gate: Arc<Gate>, request: Request, next: Next) -> Response {
    match gate.admit(request.method(), request.uri().path(), request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(status) => status.into_response(),
    }
}

fn diagnostic_routes(diagnostics: &Diagnostics) -> Router {
    let (metrics, state, telemetry) =
        (Arc::clone(&diagnostics.metrics), Arc::clone(&diagnostics.state), diagnostics.telemetry.clone());
    let numbers = move || {
        let text = metrics.render();
        async move { ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text) }
    };
    let verbosity = move |text: String| async move {
        let Ok(wanted) = text.trim().parse() else {
            return (StatusCode::BAD_REQUEST, "the body must be a verbosity from 0 to 9\n");
        };
        if telemetry.is_some_and(|telemetry| telemetry.set_level(wanted)) {
            (StatusCode::OK, "successfully set klog.logging.verbosity\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the log is not this process's own\n")
        }
    };
    Router::new()
        .route("/metrics", get(numbers))
        .route("/debug/state", get(move || async move { Json(state()) }))
        .route("/debug/flags/v", put(verbosity))
}

/// A certificate that proves nothing but hides what is said: scrapers know it as that of every Kubernetes component.
fn self_signed(diagnostics: &Diagnostics) -> std::io::Result<Arc<Certificate>> {
    let made = || -> Result<Arc<Certificate>, String> {
        let (algorithm, now) = (EncryptionAlgorithm::EcdsaP256, diagnostics.clock.now());
        let text = |error: pki::Error| error.to_string();
        let authority = pki::authority("diagnostics", algorithm, LEAF_DAYS * 10, now).map_err(text)?;
        let leaf = Leaf {
            name: "diagnostics",
            organisations: &[],
            dns: &["localhost"],
            addresses: &[],
            server: true,
            client: false,
        };
        let serving = pki::issue(&authority, &leaf, algorithm, now).map_err(text)?;
        let certificate = Arc::new(Certificate::default());
        certificate.set(serving.certificate.as_bytes(), serving.key.as_bytes())?;
        Ok(certificate)
    };
    made().map_err(std::io::Error::other)
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let describe =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let listener = std::net::TcpListener::bind(address).map_err(describe)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn plain(listener: std::net::TcpListener, router: Router, stop: CancellationToken) {
    let served = async {
        let listener = TcpListener::from_std(listener)?;
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    };
    if let Err(error) = served.await {
        tracing::error!(%error, "A diagnostics listener ended.");
    }
}
