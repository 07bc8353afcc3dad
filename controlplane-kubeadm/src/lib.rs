//! Cluster API control plane provider for kubeadm.
