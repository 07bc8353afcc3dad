//! Listeners: HTTPS for VRM and the hosts, plain HTTP for the control API. A response marked as dropped cuts its
//! connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::vrm::Dropped;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A client that has not sent its header by then is cut off.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// What open calls get to end at shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Serves until `stop`, then lets open calls end.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, router: Router, stop: CancellationToken) {
    let acceptor = tls.map(TlsAcceptor::from);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(connection(stream, peer, acceptor.clone(), router.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "Connection cannot be accepted.");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    if timeout(DRAIN_LIMIT, connections.wait()).await.is_err() {
        tracing::warn!("Open calls were cut off at shutdown.");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    // Replies are small; waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve_stream(stream, router, stop).await,
        Some(acceptor) => match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve_stream(stream, router, stop).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed."),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long."),
        },
    }
}

async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: http::Request<Incoming>| answer(router.clone(), request.map(Body::new)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                tracing::trace!(%error, "Connection ended.");
            }
            return;
        }
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(router: Router, request: Request) -> io::Result<Response> {
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if response.extensions().get::<Dropped>().is_some() {
        // The work is done as far as the fault says; the client sees a connection that breaks.
        let _ = response.into_body().collect().await;
        return Err(io::Error::from(io::ErrorKind::ConnectionReset));
    }
    Ok(response)
}
