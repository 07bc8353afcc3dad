//! Cluster API bootstrap provider for kubeadm.
