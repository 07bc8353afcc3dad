//! Cluster API bootstrap provider for kubeadm.

fn main() {}
