//! Probes and metrics, on a thread and runtime of their own: they answer while the workers are stuck.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What is waited for before this process is ready; empty once it is.
pub(crate) type Waiting = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Binds the probes' listener and, where it may be served without authentication, the metrics' one; serves both until
/// `stop`.
pub(crate) fn serve(
    health: SocketAddr,
    diagnostics: Option<SocketAddr>,
    waiting: Waiting,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = bind(health)?;
    let diagnostics = diagnostics.map(bind).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("probes".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let probes = Router::new().route("/healthz", get(|| async { "ok" })).route(
                "/readyz",
                get(move || {
                    let answer = waiting();
                    async move {
                        match answer {
                            None => (StatusCode::OK, "ok".to_owned()),
                            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {reason}")),
                        }
                    }
                }),
            );
            let numbers =
                Router::new().route(
                    "/metrics",
                    get(move || {
                        let text = metrics.render();
                        async move {
                            ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                        }
                    }),
                );
            let probes = run(listener, probes, stop.clone());
            match diagnostics {
                Some(diagnostics) => {
                    tokio::join!(probes, run(diagnostics, numbers, stop));
                }
                None => probes.await,
            }
        });
    })?;
    Ok(())
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let describe =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let listener = std::net::TcpListener::bind(address).map_err(describe)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn run(listener: std::net::TcpListener, router: Router, stop: CancellationToken) {
    let served = async {
        let listener = TcpListener::from_std(listener)?;
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    };
    if let Err(error) = served.await {
        tracing::error!(%error, "A diagnostics listener ended.");
    }
}
