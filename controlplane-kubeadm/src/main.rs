//! The manager of kubeadm control planes.

use clap::Parser;
use controlplane_kubeadm::{
    controlplane::{CONCURRENCY, ControlPlanes, names::FIELD_MANAGER},
    webhooks,
};
use manager::{Identity, Manager, cli::ManagerArgs};

/// Runs Kubernetes control planes on machines that kubeadm sets up.
#[derive(Parser)]
#[command(name = "basalt-controlplane-kubeadm", version)]
struct Cli {
    #[command(flatten)]
    manager: ManagerArgs,
    /// Control planes worked on at the same time
    #[arg(long, env = "KUBEADMCONTROLPLANE_CONCURRENCY", default_value_t = CONCURRENCY)]
    kubeadmcontrolplane_concurrency: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let identity = Identity {
        name: "basalt-controlplane-kubeadm",
        provider: "control-plane-kubeadm",
        version: env!("CARGO_PKG_VERSION"),
        lease: "kubeadm-control-plane-manager-leader-election-capi",
        field_manager: FIELD_MANAGER,
    };
    let mut manager = Manager::new(cli.manager, identity).await?;
    ControlPlanes::register(&mut manager, cli.kubeadmcontrolplane_concurrency);
    let ignition = manager.feature_gates().enabled("KubeadmBootstrapFormatIgnition", true);
    manager.webhooks(webhooks::routes(ignition));
    Ok(manager.run().await?)
}
