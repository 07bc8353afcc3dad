//! The way to what listens inside the control plane's pods: etcd members, and the API servers themselves.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use kubeadm::pki;
use manager::workload::{Forward, WorkloadClient};

use super::{Error, KUBE_SYSTEM};
use crate::etcd::{self, Client, Manner, View};

/// Port of etcd's clients.
const ETCD_PORT: u16 = 2379;
/// Limit of looking at a serving certificate.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Reaches control plane pods of a workload cluster. In production through its API server ([`PortForwards`]); a simulation
/// answers itself.
pub trait Pods: Send + Sync + 'static {
    /// Connects to the etcd member on a node.
    fn etcd<'a>(
        &'a self,
        client: &'a WorkloadClient,
        node: &'a str,
        manner: &'a Manner,
    ) -> BoxFuture<'a, Result<Box<dyn Member>, Error>>;

    /// When the API server's certificate on a node expires.
    fn certificate_expiry<'a>(
        &'a self,
        client: &'a WorkloadClient,
        node: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Timestamp, Error>>;
}

/// One etcd member, by which the cluster is seen and changed. See [`Client`] for what each call promises.
pub trait Member: Send {
    /// Members, leader and alarms.
    fn view(&mut self) -> BoxFuture<'_, Result<View, etcd::Error>>;
    /// Removes a member; one that is gone is fine, one of another name stays.
    fn remove<'a>(&'a mut self, id: u64, name: &'a str) -> BoxFuture<'a, Result<(), etcd::Error>>;
    /// Makes another member lead; this one must lead.
    fn move_leader(&mut self, to: u64) -> BoxFuture<'_, Result<(), etcd::Error>>;
}

/// Port-forwards of the workload cluster's API server.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortForwards;

impl Pods for PortForwards {
    fn etcd<'a>(
        &'a self,
        client: &'a WorkloadClient,
        node: &'a str,
        manner: &'a Manner,
    ) -> BoxFuture<'a, Result<Box<dyn Member>, Error>> {
        Box::pin(async move {
            let mut forward = client.port_forward(KUBE_SYSTEM, &format!("etcd-{node}"), ETCD_PORT).await?;
            let stream = forward.take_stream().ok_or_else(no_stream)?;
            let client = Client::over(stream, manner, node).await?;
            Ok(Box::new(Forwarded { client, _forward: forward }) as Box<dyn Member>)
        })
    }

    fn certificate_expiry<'a>(
        &'a self,
        client: &'a WorkloadClient,
        node: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Timestamp, Error>> {
        Box::pin(async move {
            let mut forward = client.port_forward(KUBE_SYSTEM, &format!("kube-apiserver-{node}"), port).await?;
            let stream = forward.take_stream().ok_or_else(no_stream)?;
            let handshake = etcd::peer_certificate(stream, "kube-apiserver");
            let der = tokio::time::timeout(HANDSHAKE, handshake)
                .await
                .map_err(|_| Error::Content(format!("the API server on {node} showed no certificate in time")))??;
            pki::expiry(&der)
                .map_err(|error| Error::Content(format!("the API server's certificate on {node}: {error}")))
        })
    }
}

fn no_stream() -> Error {
    Error::Content("the port-forward has no stream".to_owned())
}

/// A connection to one member, with the port-forward that carries it.
struct Forwarded {
    client: Client,
    _forward: Forward,
}

impl Member for Forwarded {
    fn view(&mut self) -> BoxFuture<'_, Result<View, etcd::Error>> {
        Box::pin(self.client.view())
    }

    fn remove<'a>(&'a mut self, id: u64, name: &'a str) -> BoxFuture<'a, Result<(), etcd::Error>> {
        Box::pin(self.client.remove(id, name))
    }

    fn move_leader(&mut self, to: u64) -> BoxFuture<'_, Result<(), etcd::Error>> {
        Box::pin(self.client.move_leader(to))
    }
}
