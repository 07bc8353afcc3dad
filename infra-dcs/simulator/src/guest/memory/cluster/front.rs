//! An API server of one machine: its listener, its certificate, and the model behind it.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    Cluster, Presence,
    api::{Api, PODS},
    etcd, first_objects,
    kubelet::{Kubelet, Open},
    process::Surroundings,
    reach::Listening,
};
use crate::guest::memory::{
    api_server::{ApiServer, Config, PodPorts, PodStream, Storage},
    etcd::{LocalMember, MemberId},
    kubeadm::{Cidr, files::Files, manifests, pki},
    root::Root,
    tls::ServerFiles,
};

/// How long the API server waits for a kubelet that does not answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A running API server. Dropping it ends it and its connections.
pub struct Front {
    storage: Arc<LocalMember>,
    address: SocketAddr,
    /// Kept, never looked at.
    _server: ApiServer,
    _presence: Presence,
}

impl Front {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has etcd.
    pub fn health(&self) -> Result<(), String> {
        if self.storage.is_healthy() { Ok(()) } else { Err("[-]etcd failed: reason withheld".into()) }
    }
}

/// Starts an API server by its pod's flags. `member` is the machine's own of etcd.
pub fn start(
    pod: &Value,
    root: &Root,
    surroundings: &Surroundings<'_>,
    cluster: &Arc<Cluster>,
    member: Option<MemberId>,
    address: SocketAddr,
) -> Result<Front, String> {
    let id = member.ok_or("dial tcp 127.0.0.1:2379: connect: connection refused")?;
    let storage = Arc::new(LocalMember { cluster: Arc::clone(&cluster.etcd.members), id });
    if !storage.is_healthy() {
        return Err(
            "context deadline exceeded: etcd does not serve: it has no leader, or this member is a learner".into()
        );
    }
    let read = |flag: &str| Files::read(root, manifests::flag(pod, flag).unwrap_or_default()).unwrap_or_default();
    let (certificate, key, client_ca) = (read("tls-cert-file"), read("tls-private-key-file"), read("client-ca-file"));
    let authority = manifests::flag(pod, "kubelet-certificate-authority").filter(|path| !path.is_empty());
    let kubelets = authority.map(|path| pki::load_certificate(root, path)).transpose()?;
    let listener = listen(address)?;
    let services = manifests::flag(pod, "service-cluster-ip-range").and_then(|text| text.split(',').next());
    if let Some(range) = services.and_then(Cidr::parse) {
        first_objects(cluster, range);
    }
    let config = Config {
        server: Arc::clone(&cluster.server),
        git_version: &version(pod),
        files: ServerFiles { certificate: &certificate, key: &key, client_ca: &client_ca },
        time: etcd::time(surroundings),
        storage: Arc::clone(&storage) as Arc<dyn Storage>,
        ports: Arc::new(Ports {
            cluster: Arc::downgrade(cluster),
            kubelets,
            own: Arc::downgrade(surroundings.kubelet),
        }),
        cable: surroundings.kubelet.cable.clone(),
    };
    let server = ApiServer::serve(listener, address, config).map_err(|error| error.to_string())?;
    let (cable, clock) = (surroundings.kubelet.cable.clone(), surroundings.kubelet.clock.clone());
    let presence = cluster.add_front(Listening::new(address, cable, clock, &certificate, &client_ca));
    Ok(Front { storage, address, _server: server, _presence: presence })
}

/// Version of the API server by its image's tag.
fn version(pod: &Value) -> String {
    let image = pod.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().replace('_', "+")
}

fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let wrong = |error: std::io::Error| format!("failed to listen on {address}: listen tcp {address}: bind: {error}");
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(wrong)?;
    // Connections of an earlier start may not have been forgotten yet.
    socket.set_reuseaddr(true).map_err(wrong)?;
    socket.bind(address).map_err(wrong)?;
    socket.listen(BACKLOG).map_err(wrong)
}

/// Ports of the cluster's pods, by their kubelets.
struct Ports {
    cluster: Weak<Cluster>,
    /// The authority that kubelets' certificates must come from, where one was given.
    kubelets: Option<pki::Certificate>,
    /// The kubelet of this API server's own machine.
    own: Weak<Kubelet>,
}

impl Ports {
    /// The kubelet of a pod, if it lets the API server in.
    fn kubelet(&self, namespace: &str, pod: &str) -> Result<Arc<Kubelet>, String> {
        let cluster = self.cluster.upgrade().ok_or("the cluster is gone")?;
        let found = Api::new(&cluster.server, "kube-apiserver").get(PODS, namespace, pod);
        let node = found.as_ref().and_then(|pod| pod["spec"]["nodeName"].as_str()).unwrap_or_default();
        let kubelet = cluster.kubelet_of(node);
        let kubelet = kubelet.ok_or_else(|| {
            format!("error dialing backend: dial tcp: lookup of node {node}: connect: connection refused")
        })?;
        let served = kubelet.serving_certificate().map_err(|why| format!("error dialing backend: {why}"))?;
        if let Some(authority) = &self.kubelets {
            let address = kubelet.machine.address;
            let wrong = |why: &str| format!("error dialing backend: tls: failed to verify certificate: x509: {why}");
            match served {
                None => return Err(wrong("certificate signed by unknown authority")),
                Some(served) if !served.is_signed_by(authority) => {
                    return Err(wrong("certificate signed by unknown authority"));
                }
                Some(served) if !served.addresses.contains(&address) => {
                    return Err(wrong(&format!("certificate is valid for {:?}, not {address}", served.addresses)));
                }
                Some(_) => {}
            }
        }
        Ok(kubelet)
    }
}

impl PodPorts for Ports {
    fn connect<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn PodStream>, String>> {
        async move {
            let kubelet = self.kubelet(namespace, pod)?;
            let own = self.own.upgrade().ok_or("the machine is off")?;
            let is_own = Arc::ptr_eq(&own, &kubelet);
            let plugged = async {
                if !is_own {
                    own.cable.plugged().await;
                    kubelet.cable.plugged().await;
                }
            };
            let late = || format!("error dialing backend: dial tcp {}:10250: i/o timeout", kubelet.machine.address);
            timeout(DIAL_TIMEOUT, plugged).await.map_err(|_| late())?;
            match kubelet.open(pod, port) {
                Some(Open::Etcd(stream)) => Ok(Box::new(stream) as Box<dyn PodStream>),
                Some(Open::Tcp(address)) => {
                    let stream = timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await.map_err(|_| late())?;
                    let stream = stream.map_err(|error| format!("dial tcp {address}: {error}"))?;
                    Ok(Box::new(kubelet.cable.carry(stream)) as Box<dyn PodStream>)
                }
                None => Err(format!(
                    "error forwarding port {port} to pod {pod}: failed to connect to localhost:{port} inside namespace: \
                     connect: connection refused"
                )),
            }
        }
        .boxed()
    }
}
