//! Cluster API control plane provider for kubeadm.

pub mod api;
pub mod controlplane;
pub mod etcd;
pub mod webhooks;
pub mod workload;
