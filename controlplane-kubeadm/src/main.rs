//! Cluster API control plane provider for kubeadm.

fn main() {}
