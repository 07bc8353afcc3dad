//! The load balancer against back ends that come, answer badly, and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dcs_simulator::fabric::{load_balancer, signals::Signals};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// An HTTPS server that answers and counts health checks, and to a connection in clear says its name and holds it.
struct BackEnd {
    address: SocketAddr,
    healthy: Arc<AtomicBool>,
    checks: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl BackEnd {
    async fn start(name: u8) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), name)
    }

    fn on(listener: TcpListener, name: u8) -> Self {
        let key = rcgen::generate_simple_self_signed(["nobody.example".to_owned()]).unwrap();
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let address = listener.local_addr().unwrap();
        let (healthy, checks) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (state, counter) = (healthy.clone(), checks.clone());
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (acceptor, state, counter) = (acceptor.clone(), state.clone(), counter.clone());
                tokio::spawn(async move {
                    let mut first = [0];
                    stream.peek(&mut first).await.unwrap();
                    // 22 starts a TLS handshake.
                    if first[0] != 22 {
                        stream.write_all(&[name]).await.unwrap();
                        let _ = stream.read(&mut [0; 16]).await;
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        return;
                    }
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let _ = stream.read(&mut [0; 1024]).await;
                    counter.fetch_add(1, Ordering::SeqCst);
                    let status = if state.load(Ordering::SeqCst) { "200 OK" } else { "500 Internal Server Error" };
                    let _ =
                        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, healthy, checks, task }
    }
}

/// Connects and returns the back end's name, or nothing when the connection is closed.
async fn visit(balancer: SocketAddr) -> Option<(u8, TcpStream)> {
    let mut stream = TcpStream::connect(balancer).await.ok()?;
    stream.write_all(b"x").await.ok()?;
    let mut name = [0];
    let read =
        tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut name)).await.expect("an answer or an end");
    read.ok().map(|_| (name[0], stream))
}

async fn wait_until(balancer: SocketAddr, what: &str, condition: impl Fn(&[Option<u8>]) -> bool) {
    for _ in 0..100 {
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(visit(balancer).await.map(|(name, _)| name));
        }
        if condition(&names) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_back_ends_take_turns_and_dead_ones_lose_their_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let balancer = listener.local_addr().unwrap();
    let (a, b) = (BackEnd::start(b'a').await, BackEnd::start(b'b').await);
    b.healthy.store(false, Ordering::SeqCst);
    let back_ends = [a.address, b.address];
    let task = tokio::spawn(async move { load_balancer::serve(listener, &back_ends, None).await });

    wait_until(balancer, "the healthy one answers", |names| names == [Some(b'a'); 4]).await;
    b.healthy.store(true, Ordering::SeqCst);
    wait_until(balancer, "both take turns", |names| {
        names.windows(2).all(|pair| pair[0].is_some() && pair[0] != pair[1])
    })
    .await;

    let mut held = loop {
        if let (b'a', stream) = visit(balancer).await.unwrap() {
            break stream;
        }
    };
    a.healthy.store(false, Ordering::SeqCst);
    let end =
        tokio::time::timeout(Duration::from_secs(20), held.read(&mut [0; 16])).await.expect("the connection is cut");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    wait_until(balancer, "only the other one answers", |names| names == [Some(b'b'); 4]).await;

    b.task.abort();
    b.healthy.store(false, Ordering::SeqCst);
    wait_until(balancer, "nobody answers", |names| names == [None; 4]).await;
    task.abort();
    a.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_whose_changes_are_told_is_checked_then_and_hardly_otherwise() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let balancer = listener.local_addr().unwrap();
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (back_end, signals) = (reserved.local_addr().unwrap(), Signals::default());
    drop(reserved);
    let told = signals.clone();
    let task = tokio::spawn(async move { load_balancer::serve(listener, &[back_end], Some(&told)).await });

    // Nobody was there for so long that the next check by itself is seconds away.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let back_end = BackEnd::on(TcpListener::bind(back_end).await.unwrap(), b'a');
    let begun = tokio::time::Instant::now();
    signals.changed(back_end.address);
    wait_until(balancer, "it is found", |names| names == [Some(b'a'); 4]).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    tokio::time::sleep(Duration::from_secs(4)).await;
    let checks = back_end.checks.load(Ordering::SeqCst);
    assert!(checks <= 6, "{checks} checks in {:?}", begun.elapsed());
    back_end.healthy.store(false, Ordering::SeqCst);
    signals.changed(back_end.address);
    let begun = tokio::time::Instant::now();
    wait_until(balancer, "it is given up", |names| names == [None; 4]).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    task.abort();
    back_end.task.abort();
}
