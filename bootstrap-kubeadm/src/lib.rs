//! Cluster API bootstrap provider for kubeadm: `KubeadmConfig` → boot data in a Secret.

pub mod config;
pub mod crds;
pub mod webhooks;

use std::time::Duration;

use clap::Parser;
use manager::{Identity, Informer, Manager, StartError, cli::ManagerArgs};

use crate::config::{BY_CLUSTER, ConfigReconciler, Owners, Settings};

/// Turns `KubeadmConfigs` into boot data: cloud-init or Ignition that runs kubeadm init or join.
#[derive(Parser)]
#[command(name = "basalt-bootstrap-kubeadm", version)]
pub struct Args {
    #[command(flatten)]
    manager: ManagerArgs,
    /// Life of the tokens by which machines join; they are extended until the machine has joined
    #[arg(long, env = "KUBEADM_BOOTSTRAP_TOKEN_TTL", default_value = "15m", value_parser = ttl)]
    bootstrap_token_ttl: Duration,
    /// Number of `KubeadmConfigs` worked on at once
    #[arg(long, env = "KUBEADMCONFIG_CONCURRENCY", default_value_t = 100)]
    kubeadmconfig_concurrency: usize,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = manager::cli::duration(text)?;
    if ttl < Duration::from_secs(60) {
        return Err("a token must live for a minute at least".to_owned());
    }
    Ok(ttl)
}

/// Who this provider's process is.
pub const IDENTITY: Identity = Identity {
    name: "basalt-bootstrap-kubeadm",
    provider: "bootstrap-kubeadm",
    version: env!("CARGO_PKG_VERSION"),
    lease: "kubeadm-bootstrap-manager-leader-election-capi",
    field_manager: "basalt-bootstrap-kubeadm",
};

/// Wires the provider and runs it until it is told to stop.
pub async fn run(args: Args) -> Result<(), StartError> {
    let mut manager = Manager::new(args.manager, IDENTITY).await?;
    let settings = Settings { token_ttl: args.bootstrap_token_ttl };
    register(&mut manager, settings, args.kubeadmconfig_concurrency);
    manager.run().await
}

/// Adds this provider's controller and webhooks to a process.
pub fn register(manager: &mut Manager, settings: Settings, concurrency: usize) {
    let ignition = manager.feature_gates().enabled("KubeadmBootstrapFormatIgnition", true);
    let configs = manager.informer(Informer::default());
    let clusters = manager.informer(Informer::default());
    let machines = manager.informer(Informer::default().index(BY_CLUSTER, config::by_cluster));
    let pools = manager.feature_gates().enabled("MachinePool", true);
    let pools = pools.then(|| manager.informer(Informer::default().index(BY_CLUSTER, config::pool_by_cluster)));
    let owners = Owners { machines: machines.clone(), pools: pools.clone() };
    let reconciler = ConfigReconciler::new(manager, &configs, &owners, &clusters, settings);
    let controller = manager
        .controller("kubeadmconfig", &configs, reconciler, concurrency)
        .watches(&machines, config::woken_by_machine)
        .watches(&clusters, move |old, new| config::woken_by_cluster(&owners, old, new));
    if let Some(pools) = &pools {
        controller.watches(pools, config::woken_by_pool);
    }
    manager.webhooks(webhooks::routes(ignition));
}
