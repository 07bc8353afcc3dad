//! The manager of kubeadm control planes.

use std::{sync::Arc, time::Duration};

use clap::Parser;
use controlplane_kubeadm::{
    IDENTITY,
    api::validation::Gates,
    controlplane::{ControlPlanes, Settings},
    etcd::Limits,
    webhooks,
    workload::PortForwards,
};
use manager::{
    Manager,
    cli::{self, ManagerArgs},
};

/// Runs Kubernetes control planes on machines that kubeadm sets up.
#[derive(Parser)]
#[command(name = "basalt-controlplane-kubeadm", version)]
struct Cli {
    #[command(flatten)]
    manager: ManagerArgs,
    /// Control planes worked on at the same time
    #[arg(long, env = "KUBEADMCONTROLPLANE_CONCURRENCY", default_value_t = 100)]
    kubeadmcontrolplane_concurrency: usize,
    /// How long conditions of a workload cluster that does not answer are kept; at least 2m
    #[arg(long, env = "REMOTE_CONDITIONS_GRACE_PERIOD", default_value = "5m", value_parser = grace)]
    remote_conditions_grace_period: Duration,
    /// Limit of connecting to an etcd member
    #[arg(long, env = "ETCD_DIAL_TIMEOUT_DURATION", default_value = "10s", value_parser = limit)]
    etcd_dial_timeout_duration: Duration,
    /// Limit of one call to an etcd member
    #[arg(long, env = "ETCD_CALL_TIMEOUT_DURATION", default_value = "15s", value_parser = limit)]
    etcd_call_timeout_duration: Duration,
}

fn grace(text: &str) -> Result<Duration, String> {
    at_least(text, Duration::from_secs(120))
}

fn limit(text: &str) -> Result<Duration, String> {
    at_least(text, Duration::from_millis(1))
}

fn at_least(text: &str, least: Duration) -> Result<Duration, String> {
    let parsed = cli::duration(text)?;
    if parsed < least { Err(format!("{text:?} is less than {least:?}")) } else { Ok(parsed) }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut manager = Manager::new(cli.manager, IDENTITY).await?;
    let settings = Settings {
        concurrency: cli.kubeadmcontrolplane_concurrency,
        grace: cli.remote_conditions_grace_period,
        etcd: Limits { connect: cli.etcd_dial_timeout_duration, call: cli.etcd_call_timeout_duration },
    };
    let known = ControlPlanes::register(&mut manager, settings, Arc::new(PortForwards));
    let gates = Gates {
        ignition: manager.feature_gates().enabled("KubeadmBootstrapFormatIgnition", true),
        taints: manager.feature_gates().enabled("MachineTaintPropagation", false),
    };
    manager.webhooks(webhooks::routes(gates, known));
    Ok(manager.run().await?)
}
