//! What the site's network offers to guests beside a cable: an image registry and load balancers.

use std::{io, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use tokio::{net::TcpListener, process::Command, task::JoinSet};
use tracing::{error, info};

pub mod load_balancer;
pub mod registry;

use load_balancer::LoadBalancerSpec;
use registry::Registry;

/// What to offer and where.
#[derive(Clone, Debug)]
pub struct FabricConfig {
    /// Bridge that carries the addresses; those it lacks are added to it.
    pub bridge: String,
    /// Listener of the image registry and the image store it serves.
    pub registry: Option<(SocketAddr, PathBuf)>,
    /// Load balancers.
    pub load_balancers: Vec<LoadBalancerSpec>,
}

/// Running services of the fabric; they end when this is dropped.
#[derive(Debug)]
pub struct Fabric {
    _services: JoinSet<()>,
}

/// Starts everything; when this returns, all listeners are open.
pub async fn start(config: FabricConfig) -> Result<Fabric> {
    let mut services = JoinSet::new();
    if let Some((address, store)) = config.registry {
        let router = Registry::open(&store)?.router();
        let listener = listen(address, &config.bridge).await.context("image registry")?;
        info!(%address, "Image registry is open.");
        services.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                error!(%error, "The image registry ended.");
            }
        });
    }
    for spec in config.load_balancers {
        let listener = listen(spec.listen, &config.bridge).await.context("load balancer")?;
        info!(address = %spec.listen, back_ends = ?spec.back_ends, "Load balancer is open.");
        services.spawn(async move { load_balancer::serve(listener, &spec.back_ends).await });
    }
    Ok(Fabric { _services: services })
}

/// Listens on an address, after giving it to the bridge where this host does not have it.
async fn listen(address: SocketAddr, bridge: &str) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            let network = format!("{}/{prefix}", address.ip());
            let added = Command::new("ip").args(["address", "replace", &network, "dev", bridge]).output().await?;
            if !added.status.success() {
                bail!("cannot give {network} to {bridge}: {}", String::from_utf8_lossy(&added.stderr).trim());
            }
            TcpListener::bind(address).await
        }
        other => other,
    }
    .with_context(|| format!("cannot listen on {address}"))
}
