//! An API server of one machine: its listener, its certificate, and the model behind it.

use std::{net::SocketAddr, sync::Arc};

use serde_json::Value;

use super::{Cluster, Presence, etcd, first_objects, kubelet::Kubelet};
use crate::guest::memory::{
    kubeadm::{Cidr, files::Files, images, manifests},
    root::Root,
};

/// A running API server. Dropping it ends it and its connections.
pub struct Front {
    cluster: Arc<Cluster>,
    task: tokio::task::JoinHandle<()>,
    _presence: Presence,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    /// Whether it still listens.
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// Whether it has etcd.
    pub fn health(&self) -> Result<(), String> {
        if self.cluster.etcd.has_quorum() { Ok(()) } else { Err("[-]etcd failed: reason withheld".into()) }
    }
}

/// Starts an API server by its pod's flags.
pub fn start(
    pod: &Value,
    root: &mut Root,
    kubelet: &Arc<Kubelet>,
    cluster: &Arc<Cluster>,
    address: SocketAddr,
) -> Result<Front, String> {
    if let Some(etcd) = Files::text(root, &manifests::path("etcd"))
        .and_then(|text| crate::guest::memory::kubeadm::config::from_yaml(&text).ok())
    {
        etcd::is_usable(root, &etcd, cluster)?;
    } else {
        return Err("dial tcp 127.0.0.1:2379: connect: connection refused".into());
    }
    let services =
        manifests::flag(pod, "service-cluster-ip-range").and_then(|text| Cidr::parse(text.split(',').next()?));
    let listener = listen(address)?;
    if let Some(first) = services.and_then(|range| range.address(1)) {
        first_objects(cluster, &first.to_string());
    }
    let _ = (images::etcd_version, kubelet);
    let presence = cluster.add_front(address.ip(), kubelet.cable.clone());
    let task = tokio::spawn(serve(listener, pod.clone(), root.clone(), Arc::clone(cluster), kubelet.cable.clone())?);
    Ok(Front { cluster: Arc::clone(cluster), task, _presence: presence })
}

fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener, String> {
    let wrong = |error: std::io::Error| format!("failed to listen on {address}: listen tcp {address}: bind: {error}");
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
    let socket = socket.map_err(wrong)?;
    socket.set_reuseaddr(true).map_err(wrong)?;
    socket.bind(address).map_err(wrong)?;
    socket.listen(1024).map_err(wrong)
}

/// Serves connections until the task ends.
fn serve(
    listener: tokio::net::TcpListener,
    pod: Value,
    root: Root,
    cluster: Arc<Cluster>,
    cable: crate::guest::memory::cable::Cable,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let read = |flag: &str| Files::read(&root, manifests::flag(&pod, flag).unwrap_or_default()).unwrap_or_default();
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&read("tls-cert-file")).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&read("tls-private-key-file")).map_err(|e| e.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in crate::guest::memory::kubeadm::pki::certificates_of(&read("client-ca-file"))? {
        roots.add(certificate.der.into()).map_err(|e| e.to_string())?;
    }
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| e.to_string())?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| e.to_string())?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let service = kube_model::transport::HttpServer::new(Arc::clone(&cluster.server), "v1.36.3");
    Ok(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            cable.plugged().await;
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (acceptor, service, cable) = (acceptor.clone(), service.clone(), cable.clone());
            while connections.try_join_next().is_some() {}
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(cable.carry(stream)).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(service);
                let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = builder.serve_connection_with_upgrades(hyper_util::rt::TokioIo::new(stream), service).await;
            });
        }
    })
}
