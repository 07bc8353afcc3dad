//! The API server of a control plane machine: TLS, who is asking, whether they may, and what is behind.
//!
//! ```text
//!  TCP ─ TLS ─► listener ─► front ─► authn   401
//!                             │      authz   403, by the RBAC objects of the cluster
//!                             │      admission  403, of kubelets that write to others' nodes
//!                             │      storage 500 where etcd has no quorum
//!                             ├────► kube_model::Server, which all control plane machines of a cluster share
//!                             └────► port_forward, to whatever the machine's pods listen on
//! ```

mod admission;
mod authn;
mod authz;
mod certificates;
mod front;
mod listener;
mod logs;
mod port_forward;
mod rbac;
mod request;
mod reviews;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use kube_model::Subresource;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

pub use self::{
    authn::{User, bootstrap_user},
    authz::{Question, review},
    listener::ApiServer,
    rbac::kubeadm_objects,
};
use super::{
    cable::Cable,
    time::TimeSource,
    tls::{ServerFiles, TlsError},
};

/// What a request does to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// What etcd said when it refused; the API server hands it on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

/// etcd, as an API server depends on it.
pub trait Storage: Send + Sync {
    /// Whether keys can be reached now. Waits as long as etcd does before it refuses.
    fn access(&self, access: Access) -> BoxFuture<'_, Result<(), StorageError>>;
    /// What `/healthz` and `/readyz` say of etcd.
    fn is_healthy(&self) -> bool;
}

/// A connection to a port of a pod.
pub trait PodStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> PodStream for S {}

/// Where port-forwards lead. Whether the pod exists is known from the API; this is about its process.
pub trait PodPorts: Send + Sync {
    /// Connects to a port of a pod. An error is a sentence, as a kubelet words it.
    fn connect<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn PodStream>, String>>;
}

/// What an API server is made of.
pub struct Config<'a> {
    /// Objects of the cluster; its control plane machines share them.
    pub server: Arc<kube_model::Server>,
    /// Version it calls itself by, such as `v1.34.2`.
    pub git_version: &'a str,
    /// `apiserver.crt`, `apiserver.key` and `ca.crt`, in PEM.
    pub files: ServerFiles<'a>,
    /// The machine's time: certificates and tokens expire by it.
    pub time: TimeSource,
    /// etcd.
    pub storage: Arc<dyn Storage>,
    /// Ports of pods.
    pub ports: Arc<dyn PodPorts>,
    /// The machine's cable: its connections stall while it is unplugged.
    pub cable: Cable,
}

/// Why an API server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its address cannot be had.
    #[error("failed to listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// Its certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Sizes of the model that a cluster needs when there are a thousand of them: history costs memory.
pub const MODEL_OPTIONS: kube_model::Options =
    kube_model::Options { history: 64, watch_queue: 256, keeps_text: false, collects_at_once: true };

/// Lets a server's discovery name what is answered in front of it.
pub fn install(server: &kube_model::Server) {
    reviews::install(server);
    if let Some((_, pods)) = server.registry().find("", "v1", "pods") {
        let mut pods = pods.as_ref().clone();
        pods.foreign = vec![
            Subresource { name: "log", kind: "Pod", verbs: &["get"] },
            Subresource { name: "portforward", kind: "PodPortForwardOptions", verbs: &["create", "get"] },
        ];
        server.install(pods);
    }
}

impl ApiServer {
    /// Starts an API server on an address; port 0 takes a free one. When this returns, it listens.
    pub async fn start(address: SocketAddr, config: Config<'_>) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen(address, error);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self::serve(listener, address, config)?)
    }
}
