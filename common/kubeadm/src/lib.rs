//! Everything about kubeadm that is pure: its configuration as Cluster API users write it, in both API versions; the
//! documents that kubeadm reads; the boot data that runs it; the certificates, kubeconfigs and tokens around it.

pub mod api;
pub mod config;
pub mod kubeconfig;
pub mod pki;
pub mod template;
pub mod token;
pub mod userdata;
