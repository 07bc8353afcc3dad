//! The workload cluster: what is read there, and what is kept right there.

mod add_ons;
mod kubeadm_config;
mod read;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};

pub use add_ons::{AddOns, keep as keep_add_ons};
pub use kubeadm_config::{Target, ensure_rbac, updated as updated_kubeadm_config, write as write_kubeadm_config};
pub use read::{EtcdAccess, certificate_expiry, etcd_client, is_initialized, read};

use crate::controlplane::facts::Etcd;

/// Namespace of the control plane's pods and configuration.
pub const KUBE_SYSTEM: &str = "kube-system";

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

/// Why something in a workload cluster could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer, or refused.
    #[error("workload cluster: {0}")]
    Api(#[from] kube::Error),
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
        matches!(self, Self::Api(error) if !matches!(error, kube::Error::Api(_) | kube::Error::SerdeError(_)))
    }
}
