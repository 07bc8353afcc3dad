//! The workload cluster: what is read there, and what is kept right there.

mod add_ons;
mod alarm;
mod kubeadm_config;
mod pods;
mod read;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};

pub use add_ons::{AddOns, keep as keep_add_ons};
pub use alarm::Alarms;
pub use kubeadm_config::{Target, ensure_rbac, updated as updated_kubeadm_config, write as write_kubeadm_config};
pub use pods::{Member, Pods, PortForwards};
pub use read::{EtcdAccess, is_initialized, read};

use crate::controlplane::facts::Etcd;

/// Namespace of the control plane's pods and configuration.
pub const KUBE_SYSTEM: &str = "kube-system";

/// Selects the control plane's static pods.
const CONTROL_PLANE_PODS: &str = "tier=control-plane";

/// A machine as it is found in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its node, once core has found it.
    pub node: Option<String>,
    /// Its identity at the infrastructure; empty until known.
    pub provider_id: String,
}

/// What was read in a workload cluster in one pass.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Control plane nodes by name; `Err` is why they could not be read.
    pub nodes: Result<BTreeMap<String, Node>, String>,
    /// Static pods by name.
    pub pods: Result<BTreeMap<String, Pod>, String>,
    /// etcd.
    pub etcd: Etcd,
}

impl Workload {
    /// A machine's node: as core found it, else the control plane node of its identity. Core may come to know a cluster
    /// half a minute after it answers; nothing needs to wait for that.
    pub fn node_of(&self, host: &Host) -> Option<String> {
        host.node.clone().or_else(|| node_of_identity(self.nodes.as_ref().ok()?, &host.provider_id))
    }
}

fn node_of_identity(nodes: &BTreeMap<String, Node>, provider_id: &str) -> Option<String> {
    let is_it = |node: &Node| node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()) == Some(provider_id);
    let found = nodes.iter().find(|(_, node)| !provider_id.is_empty() && is_it(node));
    found.map(|(name, _)| name.clone())
}

/// Why something in a workload cluster could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer, or refused.
    #[error("workload cluster: {0}")]
    Api(#[from] kube::Error),
    /// The API server did not answer in time.
    #[error("the API server of the workload cluster did not answer within {} s", read::LIMIT.as_secs())]
    Silent,
    /// etcd did not answer, or refused.
    #[error(transparent)]
    Etcd(#[from] crate::etcd::Error),
    /// Certificates are unusable.
    #[error(transparent)]
    Tls(#[from] crate::etcd::TlsError),
    /// What is there is not as it must be.
    #[error("{0}")]
    Content(String),
}

impl Error {
    /// Whether the cluster did not answer at all.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Api(error) => !matches!(error, kube::Error::Api(_) | kube::Error::SerdeError(_)),
            Self::Silent => true,
            Self::Etcd(_) | Self::Tls(_) | Self::Content(_) => false,
        }
    }
}
