//! Cluster API control plane provider for kubeadm.

pub mod api;
pub mod controlplane;
pub mod etcd;
pub mod webhooks;
pub mod workload;

use manager::Identity;

/// Who this provider's process is.
pub const IDENTITY: Identity = Identity {
    name: "basalt-controlplane-kubeadm",
    provider: "control-plane-kubeadm",
    version: env!("CARGO_PKG_VERSION"),
    lease: "kubeadm-control-plane-manager-leader-election-capi",
    field_manager: controlplane::names::FIELD_MANAGER,
};
