//! What the site's network offers to guests beside a cable: an image registry and load balancers.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{net::TcpListener, process::Command, task::JoinSet};
use tracing::{error, info};

pub mod load_balancer;
pub mod registry;
pub mod signals;

use load_balancer::LoadBalancerSpec;
use registry::Registry;
use signals::Signals;

/// What to offer and where.
#[derive(Clone, Debug)]
pub struct FabricConfig {
    /// Bridge that carries the addresses; those it lacks are added to it. Without one everything is on loopback, where
    /// Linux answers on all of 127.0.0.0/8.
    pub bridge: Option<String>,
    /// Listener of the image registry and the image store it serves.
    pub registry: Option<(SocketAddr, PathBuf)>,
    /// Load balancers.
    pub load_balancers: Vec<LoadBalancerSpec>,
    /// Who tells of changes at back ends; nobody does where machines are no part of this process.
    pub signals: Option<Signals>,
}

/// Running services of the fabric; they end when this is dropped.
#[derive(Debug)]
pub struct Fabric {
    _services: JoinSet<()>,
}

/// Starts everything; when this returns, all listeners are open.
pub async fn start(config: FabricConfig) -> Result<Fabric> {
    let bridge = config.bridge.as_deref();
    if let Some(bridge) = bridge {
        pin_address(bridge).await?;
    }
    let mut services = JoinSet::new();
    if let Some((address, store)) = config.registry {
        let router = Registry::open(&store)?.router();
        let listener = listen(address, bridge).await.context("image registry")?;
        info!(%address, "Image registry is open.");
        services.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                error!(%error, "The image registry ended.");
            }
        });
    }
    for spec in config.load_balancers {
        let listener = listen(spec.listen, bridge).await.context("load balancer")?;
        info!(address = %spec.listen, back_ends = ?spec.back_ends, "Load balancer is open.");
        let signals = config.signals.clone();
        services.spawn(async move { load_balancer::serve(listener, &spec.back_ends, signals.as_ref()).await });
    }
    Ok(Fabric { _services: services })
}

/// Fixes the bridge's hardware address. Left alone it follows the ports, so that each machine that comes or goes would
/// make the fabric's addresses unreachable until the others' ARP entries expire.
async fn pin_address(bridge: &str) -> Result<()> {
    let shown = ip(&["-json", "link", "show", "dev", bridge]).await?;
    let shown: serde_json::Value = serde_json::from_str(&shown).context("answer of `ip`")?;
    let address = match shown[0]["address"].as_str() {
        // A bridge that has lost its last port; any address will do on a network without another bridge.
        None | Some("00:00:00:00:00:00") => "02:00:00:00:00:01",
        Some(address) => address,
    };
    ip(&["link", "set", "dev", bridge, "address", address]).await.map(drop)
}

async fn ip(arguments: &[&str]) -> Result<String> {
    let call = Command::new("ip").args(arguments).output();
    let output = tokio::time::timeout(Duration::from_secs(10), call).await.context("`ip` hangs")??;
    if !output.status.success() {
        bail!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Listens on an address, after giving it to the bridge where this host does not have it.
async fn listen(address: SocketAddr, bridge: Option<&str>) -> Result<TcpListener> {
    match (TcpListener::bind(address).await, bridge) {
        (Err(error), Some(bridge)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            let network = format!("{}/{prefix}", address.ip());
            ip(&["address", "replace", &network, "dev", bridge]).await?;
            TcpListener::bind(address).await
        }
        (Err(error), None) if error.kind() == io::ErrorKind::AddrNotAvailable => bail!(
            "cannot listen on {address}: this host does not have the address, and memory guests have no bridge that could \
             carry it; take one of 127.0.0.0/8"
        ),
        (other, _) => other,
    }
    .with_context(|| format!("cannot listen on {address}"))
}
