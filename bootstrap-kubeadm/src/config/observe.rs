//! What a decision about a `KubeadmConfig` may know.

use std::sync::Arc;

use cluster_api::{
    conditions,
    v1beta2::{Cluster, Machine},
};
use kubeadm::api::v1beta2::KubeadmConfig;

/// The objects that a decision looks at, as the caches have them.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The config.
    pub config: Arc<KubeadmConfig>,
    /// The machine it is for.
    pub machine: Arc<Machine>,
    /// The cluster of the machine.
    pub cluster: Arc<Cluster>,
}

impl Facts {
    /// Whether the cluster's API server has answered once.
    pub fn is_control_plane_initialized(&self) -> bool {
        conditions::is_true(self.cluster.conditions(), "ControlPlaneInitialized")
            || self.cluster.is_control_plane_initialized()
    }

    /// The token by which the machine joins, where it joins by one.
    pub fn discovery_token(&self) -> Option<&str> {
        let discovery = self.config.spec.0.join_configuration.as_ref()?.discovery.as_ref()?;
        Some(discovery.bootstrap_token.as_ref()?.token.as_str()).filter(|token| !token.is_empty())
    }
}
