//! What kubeadm finds on a machine beside its files: the seam to the machine and to the cluster behind it.

use std::{net::IpAddr, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::net::TcpStream;

use super::{files::Files, images::Registries, pki::KeyStore, version::Version};
use crate::guest::memory::cable::Carried;

/// Fixed properties of the machine.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Version of kubeadm and kubelet in the image.
    pub version: Version,
    /// Host name.
    pub hostname: String,
    /// Address on the default route.
    pub address: Option<IpAddr>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// What can be pulled.
    pub registries: Registries,
    /// Factor on every time that kubeadm waits for something: 1 is kubeadm's own.
    pub wait_scale: f64,
    /// Whether unknown fields of kubeadm's documents are errors.
    pub is_strict: bool,
}

impl Facts {
    /// How long to wait at most, where kubeadm would wait this long.
    pub fn limit(&self, timeout: Duration) -> Duration {
        timeout.mul_f64(self.wait_scale.clamp(0.0, 1000.0))
    }
}

/// A member of an etcd cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity.
    pub id: u64,
    /// Name; empty until it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_url: String,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

/// A client of an etcd cluster. Errors are etcd's texts.
pub trait EtcdClient: Send + Sync {
    /// All members.
    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>, String>>;
    /// Adds a learner.
    fn add_learner<'a>(&'a self, peer_url: &'a str) -> BoxFuture<'a, Result<Member, String>>;
    /// Gives a learner its vote.
    fn promote(&self, id: u64) -> BoxFuture<'_, Result<(), String>>;
    /// Client URLs of all members that have a vote and have ever started.
    fn endpoints(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;
    /// Whether the member behind a client URL tells its status.
    fn status(&self, endpoint: &str) -> Result<(), String>;
}

/// See the [module](self).
pub trait Host: Send + Sync {
    /// Fixed properties.
    fn facts(&self) -> &Facts;
    /// The machine's clock.
    fn now(&self) -> Timestamp;
    /// Waits by the machine's clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
    /// Opens a connection to a host name or address. The error is Go's.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Carried<TcpStream>, String>>;
    /// `systemctl restart kubelet`: it reads its configuration and static pods again.
    fn restart_kubelet(&self, files: &mut dyn Files);
    /// Whether kubelet answers its health check; otherwise why not.
    fn kubelet_health(&self) -> Result<(), String>;
    /// Whether a static pod's process answers its health check; otherwise why not.
    fn component_health(&self, component: &str) -> Result<(), String>;
    /// A client for the etcd that serves these URLs, with this client certificate (PEM).
    fn etcd(&self, endpoints: &[String], certificate: &[u8]) -> Result<Box<dyn EtcdClient>, String>;
    /// Keys of leaf certificates.
    fn keys(&self) -> &KeyStore;
    /// Whether something listens on a port of the machine.
    fn port_in_use(&self, port: u16) -> bool;
}
