//! The listener: a bounded number of TLS connections, HTTP/1.1 and HTTP/2 on each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::{ServerConfig, server::danger::ClientCertVerifier};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config,
    authn::{AnyClient, ClientCertificate},
    front::Front,
};
use crate::guest::memory::{
    cable::Cable,
    tls::{self, TlsError},
};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A client that has not sent its header by then is cut off.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// What open requests get to end when the machine shuts down in order.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Connections at a time; more have to wait. A cluster's kubelets and controllers need one or two each.
const CONNECTIONS: usize = 512;
/// How often watches hear of the present version (`cacher.go`).
const BOOKMARKS: Duration = Duration::from_secs(60);
/// Largest flow-control windows: what one client can make a machine keep.
const WINDOW: u32 = 256 * 1024;

/// A running API server. Dropping it cuts everything off, as a power cut does.
pub struct ApiServer {
    address: SocketAddr,
    /// No new connections and requests; watches end.
    drain: CancellationToken,
    /// Everything ends at once.
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

/// What every connection needs.
struct Shared {
    cable: Cable,
    front: Front,
    acceptor: TlsAcceptor,
    clients: Arc<dyn ClientCertVerifier>,
    drain: CancellationToken,
    cut: CancellationToken,
}

impl ApiServer {
    /// Starts an API server on a listener that has this address.
    pub fn serve(listener: TcpListener, address: SocketAddr, config: Config<'_>) -> Result<Self, TlsError> {
        let clients = tls::client_verifier(config.files)?;
        let accepting = Arc::new(AnyClient::new(Arc::clone(&clients)));
        let mut tls: ServerConfig = tls::config(config.files, accepting, &config.time)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let cable = config.cable.clone();
        let shared = Shared {
            cable,
            front: Front::new(config, drain.clone(), cut.clone()),
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            clients,
            drain: drain.clone(),
            cut: cut.clone(),
        };
        connections.spawn(accept(listener, Arc::new(shared), connections.clone()));
        Ok(Self { address, drain, cut, connections })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it in order: watches end, open requests are answered, then connections close.
    pub async fn stop(self) {
        self.drain.cancel();
        self.connections.close();
        if timeout(DRAIN_LIMIT, self.connections.wait()).await.is_err() {
            tracing::debug!(address = %self.address, "Open requests to an API server were cut off.");
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, connections: TaskTracker) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut bookmarks = interval(BOOKMARKS);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            shared.cable.plugged().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shared.drain.cancelled() => break,
            () = shared.cut.cancelled() => break,
            _ = bookmarks.tick() => {
                shared.front.send_bookmarks();
                continue;
            }
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _permit = permit;
                    let cut = shared.cut.clone();
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = connection(stream, peer, shared) => {}
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "Connection to an API server cannot be accepted.");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Replies are small; waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    let stream = shared.cable.carry(stream);
    let stream = match timeout(HANDSHAKE_LIMIT, shared.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake with an API server failed."),
        Err(_) => return tracing::debug!(%peer, "TLS handshake with an API server took too long."),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let client = ClientCertificate::read(chain, shared.clients.as_ref(), shared.front.time());
    let service = TowerToHyperService::new(shared.front.clone().for_client(client));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(250)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                tracing::trace!(%peer, error, "Connection to an API server ended.");
            }
            return;
        }
        () = shared.drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
