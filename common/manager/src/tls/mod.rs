//! Serves a router over TLS, with a certificate that may change meanwhile.

mod certificate;

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, server::ResolvesServerCert};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use certificate::CertificateError;
pub(crate) use certificate::{Certificate, Files};

/// Limit of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long open connections may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `stop`, then lets requests under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    certificate: Arc<dyn ResolvesServerCert>,
    stop: CancellationToken,
) {
    let mut tls = ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificate);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: give those that are open time to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, service, watcher) =
            (acceptor.clone(), TowerToHyperService::new(router.clone()), graceful.watcher());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let builder = Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "A connection ended early.");
            }
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}
