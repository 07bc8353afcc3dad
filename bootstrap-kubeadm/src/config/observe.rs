//! What a decision about a `KubeadmConfig` may know.

use std::sync::Arc;

use cluster_api::{
    conditions,
    v1beta2::{Cluster, Machine, MachineInitialization, MachinePool, MachineSpec},
};
use kube::ResourceExt;
use kubeadm::api::{
    spec::{ClusterConfiguration, JoinConfiguration},
    v1beta2::KubeadmConfig,
};

/// The objects that a decision looks at, as the caches have them.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The config.
    pub config: Arc<KubeadmConfig>,
    /// The machine or pool that it is for.
    pub owner: Owner,
    /// The cluster of the owner.
    pub cluster: Arc<Cluster>,
    /// The Secret with the boot data, read only where a decision rests on it.
    pub data_secret: DataSecret,
}

/// The machine that boot data is for, or the pool of machines that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Whether it is a pool.
    pub is_pool: bool,
    /// Cluster it belongs to.
    pub cluster_name: String,
    /// Kubernetes version of its machines, as the user wrote it.
    pub version: String,
    /// Secret that it takes its boot data from, once core has told it.
    pub data_secret_name: Option<String>,
    /// Whether it belongs to the control plane; a pool never does.
    pub is_control_plane: bool,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// Whether each of its machines is a node.
    pub has_joined: bool,
    /// Whether its infrastructure exists: it has read its boot data.
    pub is_provisioned: bool,
}

impl Owner {
    /// A machine.
    pub fn of_machine(machine: &Machine) -> Self {
        let initialization = machine.status.as_ref().and_then(|status| status.initialization.as_ref());
        Self {
            is_control_plane: machine.is_control_plane(),
            is_deleting: machine.is_deleting(),
            has_joined: machine.node_name().is_some(),
            ..Self::new(machine.name_any(), &machine.spec, &machine.spec.cluster_name, initialization)
        }
    }

    /// A pool of machines.
    pub fn of_pool(pool: &MachinePool) -> Self {
        let initialization = pool.status.as_ref().and_then(|status| status.initialization.as_ref());
        Self {
            is_pool: true,
            is_deleting: pool.metadata.deletion_timestamp.is_some(),
            has_joined: pool.has_all_nodes(),
            ..Self::new(pool.name_any(), &pool.spec.template.spec, &pool.spec.cluster_name, initialization)
        }
    }

    fn new(name: String, spec: &MachineSpec, cluster: &str, facts: Option<&MachineInitialization>) -> Self {
        Self {
            name,
            is_pool: false,
            cluster_name: cluster.to_owned(),
            version: spec.version.clone(),
            data_secret_name: spec.bootstrap.data_secret_name.clone(),
            is_control_plane: false,
            is_deleting: false,
            has_joined: false,
            is_provisioned: facts.and_then(|facts| facts.infrastructure_provisioned).unwrap_or(false),
        }
    }
}

/// What is known of the Secret with the boot data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSecret {
    /// Nobody has looked.
    Unknown,
    /// It is there.
    Present,
    /// It was made, and is gone.
    Lost,
}

impl Facts {
    /// Whether the cluster's API server has answered once.
    pub fn is_control_plane_initialized(&self) -> bool {
        conditions::is_true(self.cluster.conditions(), "ControlPlaneInitialized")
            || self.cluster.is_control_plane_initialized()
    }

    /// Settings of the whole cluster.
    pub fn cluster_configuration(&self) -> ClusterConfiguration {
        self.config.spec.0.cluster_configuration.clone().unwrap_or_default()
    }

    /// Settings of the join.
    pub fn join_configuration(&self) -> JoinConfiguration {
        self.config.spec.0.join_configuration.clone().unwrap_or_default()
    }

    /// Whether etcd is not on the control plane machines.
    pub fn has_external_etcd(&self) -> bool {
        let cluster = self.config.spec.0.cluster_configuration.as_ref();
        cluster.and_then(|cluster| cluster.etcd.as_ref()?.external.as_ref()).is_some()
    }

    /// `host:port` of the cluster's API server, once it is known.
    pub fn endpoint(&self) -> Option<String> {
        self.cluster.spec.control_plane_endpoint.address()
    }

    /// The token by which the machine joins, where it joins by one.
    pub fn discovery_token(&self) -> Option<&str> {
        let discovery = self.config.spec.0.join_configuration.as_ref()?.discovery.as_ref()?;
        // A file of the user's takes precedence: then nobody asks with the token.
        if discovery.file.is_some() {
            return None;
        }
        Some(discovery.bootstrap_token.as_ref()?.token.as_str()).filter(|token| !token.is_empty())
    }
}
