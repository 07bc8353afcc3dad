//! A TCP load balancer as a site operator sets one up: a listener, a list of back ends, and a health check over HTTPS.
//!
//! It passes bytes through and knows nothing of what is behind: a back end is live while `GET /healthz` answers 200
//! (its certificate is not verified), takes its turn among the live ones, and loses its connections when it dies.

use std::{
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tracing::{debug, info};

use super::signals::Signals;

/// How often a back end that is live and well is checked.
const CHECK_PERIOD: Duration = Duration::from_secs(2);
/// How often any other is: connections that are refused cost next to nothing, and a cluster waits for its first back end.
const DOUBT_PERIOD: Duration = Duration::from_millis(250);
/// How often any back end is checked of which every change is told, once it has stayed as it is.
const TOLD_PERIOD: Duration = Duration::from_secs(300);
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Failed checks in a row until a back end counts as dead: one may be a hiccup of a loaded machine.
const FAILURES: u32 = 3;
/// Connections at a time: a bound, far above what a cluster's nodes open.
const CONNECTIONS: usize = 4096;
/// Longest answer to a health check that is read.
const ANSWER: usize = 64 << 10;

/// A connection for health checks.
type Checks = http1::SendRequest<Empty<Bytes>>;

/// One load balancer as configured: `address:port=backend,backend,…`, where a back end without a port has the listener's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancerSpec {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it passes connections to.
    pub back_ends: Vec<SocketAddr>,
}

impl FromStr for LoadBalancerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form ADDRESS:PORT=BACKEND[:PORT],…");
        let (listen, back_ends) = text.split_once('=').ok_or_else(form)?;
        let listen: SocketAddr = listen.trim().parse().map_err(|_| form())?;
        let back_end = |text: &str| {
            let text = text.trim();
            text.parse().or_else(|_| text.parse().map(|address| SocketAddr::new(address, listen.port())))
        };
        let back_ends: Vec<SocketAddr> =
            back_ends.split(',').map(back_end).collect::<Result<_, _>>().map_err(|_| form())?;
        Ok(Self { listen, back_ends })
    }
}

/// A back end and what the health check says of it.
struct BackEnd {
    address: SocketAddr,
    live: watch::Sender<bool>,
}

/// Serves a load balancer until its task is dropped. `listener` is bound to the configured address.
pub async fn serve(listener: TcpListener, back_ends: &[SocketAddr], signals: Option<&Signals>) {
    let listen = listener.local_addr().ok();
    let _open = signals.zip(listen).map(|(signals, listen)| signals.balance(listen, back_ends));
    let back_ends: Arc<Vec<BackEnd>> = Arc::new(
        back_ends.iter().map(|address| BackEnd { address: *address, live: watch::Sender::new(false) }).collect(),
    );
    // Tasks end with this set, that is with this function's future.
    let mut tasks = JoinSet::new();
    let tls = connector();
    for index in 0..back_ends.len() {
        let (back_ends, tls) = (back_ends.clone(), tls.clone());
        let signal = signals.map(|signals| signals.of(back_ends[index].address));
        tasks.spawn(async move { judge(&back_ends[index], &tls, signal.as_deref()).await });
    }
    let turn = Arc::new(AtomicUsize::new(0));
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Ended connections leave the set here, at the latest with the next one.
        while tasks.try_join_next().is_some() {}
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let (back_ends, turn) = (back_ends.clone(), turn.clone());
                tasks.spawn(async move {
                    pass(client, &back_ends, &turn).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: a pause lets connections end.
                debug!(%error, "Cannot accept a connection.");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Passes one connection to the next live back end; without one it is closed at once.
async fn pass(mut client: TcpStream, back_ends: &[BackEnd], turn: &AtomicUsize) {
    let start = turn.fetch_add(1, Ordering::Relaxed);
    for offset in 0..back_ends.len() {
        let back_end = &back_ends[(start + offset) % back_ends.len()];
        let mut live = back_end.live.subscribe();
        if !*live.borrow_and_update() {
            continue;
        }
        let Ok(Ok(mut server)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(back_end.address)).await else {
            continue;
        };
        // Watches and port-forwards are many small writes.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = live.wait_for(|live| !live) => {}
        }
        return;
    }
    // No one is there: the client sees its connection refused as far as a listener can refuse.
    let _ = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
}

/// Checks one back end again and again: after each change that is told, and less and less often while it stays as it is.
async fn judge(back_end: &BackEnd, tls: &TlsConnector, signal: Option<&Notify>) {
    let mut failures = 0;
    let mut kept = None;
    let mut pause = DOUBT_PERIOD;
    loop {
        match timeout(CHECK_TIMEOUT, check(back_end.address, tls, &mut kept)).await {
            Ok(Ok(true)) => failures = 0,
            outcome => {
                // The next check makes a connection of its own, as a client would have to.
                if !matches!(outcome, Ok(Ok(false))) {
                    kept = None;
                }
                failures += 1;
            }
        }
        let live = failures == 0 || (*back_end.live.borrow() && failures < FAILURES);
        let changed = back_end.live.send_if_modified(|known| std::mem::replace(known, live) != live);
        if changed {
            info!(back_end = %back_end.address, live, "Load balancer: back end changed.");
        }
        let Some(signal) = signal else {
            tokio::time::sleep(if live && failures == 0 { CHECK_PERIOD } else { DOUBT_PERIOD }).await;
            continue;
        };
        // A connection that nobody uses for minutes costs more memory than the next handshake costs time.
        kept = None;
        let is_settled = !changed && live == (failures == 0);
        pause = if is_settled { (pause * 2).min(TOLD_PERIOD) } else { DOUBT_PERIOD };
        // A server that was told to have ended may answer once more: the next checks come soon.
        if timeout(pause, signal.notified()).await.is_ok() {
            pause = DOUBT_PERIOD / 2;
        }
    }
}

/// Asks over the connection that the check before left open: a handshake every other second for each of a thousand back
/// ends would be all that this process does. A connection that has ended meanwhile says nothing yet.
async fn check(address: SocketAddr, tls: &TlsConnector, kept: &mut Option<Checks>) -> std::io::Result<bool> {
    if let Some(checks) = kept
        && !checks.is_closed()
        && let Ok(is_healthy) = ask(checks, address).await
    {
        return Ok(is_healthy);
    }
    let stream = TcpStream::connect(address).await?;
    let stream = tls.connect(ServerName::from(address.ip()), stream).await?;
    let (checks, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // Ends with the handle.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    ask(kept.insert(checks), address).await
}

async fn ask(checks: &mut Checks, address: SocketAddr) -> std::io::Result<bool> {
    let request = http::Request::get("/healthz").header(http::header::HOST, address.to_string());
    let request = request.body(Empty::new()).map_err(std::io::Error::other)?;
    let answer = checks.send_request(request).await.map_err(std::io::Error::other)?;
    let is_healthy = answer.status() == http::StatusCode::OK;
    // Read to its end, so that the connection can be used again; a health check says a word or a few lines.
    Limited::new(answer.into_body(), ANSWER).collect().await.map_err(std::io::Error::other)?;
    Ok(is_healthy)
}

/// What all health checks are made with.
fn connector() -> TlsConnector {
    static SHARED: LazyLock<TlsConnector> = LazyLock::new(|| TlsConnector::from(Arc::new(unverified())));
    SHARED.clone()
}

/// A client that accepts any certificate, as load balancers' health checks do: it learns one bit and sends nothing secret.
fn unverified() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    // The provider has these versions: the fallback is never taken, and would only mean dead back ends.
    match builder.with_safe_default_protocol_versions() {
        Ok(builder) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        Err(_) => ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
    }
}

/// Believes any certificate.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_flag_names_listener_and_back_ends() {
        let spec: LoadBalancerSpec = "10.77.0.100:6443=10.77.1.1, 10.77.1.2:7443".parse().unwrap();
        assert_eq!(spec.listen, "10.77.0.100:6443".parse().unwrap());
        assert_eq!(spec.back_ends, ["10.77.1.1:6443".parse().unwrap(), "10.77.1.2:7443".parse().unwrap()]);
        for wrong in ["", "10.77.0.100:6443", "10.77.0.100=10.77.1.1", "10.77.0.100:6443=x", "10.77.0.100:6443="] {
            assert!(wrong.parse::<LoadBalancerSpec>().is_err_and(|error| error.contains("ADDRESS:PORT")), "{wrong}");
        }
    }
}
