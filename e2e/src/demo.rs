//! `cargo xtask demo`: one cluster, from manifests to Available, shown all the way.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use xtask::{progress::Progress, toolchain};

use crate::{
    cluster::{BootFormat, NAMESPACE, Replicas, Shape},
    environment::{Environment, Inputs},
    ground::{Ground, Guests},
    scenarios::{steps, used},
    tree,
};

/// What the demo can vary.
#[derive(Args, Clone)]
pub struct Options {
    #[command(flatten)]
    replicas: Replicas,
    /// Boot configuration that the bootstrap provider writes
    #[arg(long, value_enum, default_value = "ignition")]
    pub boot: BootFormat,
    /// Kubernetes version of the cluster [default: the pinned version]
    #[arg(long)]
    pub kubernetes_version: Option<String>,
    /// Keep everything running until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// What the machines are
    #[arg(long, value_enum, default_value = "sandbox")]
    pub guests: Guests,
}

/// The version of the guests' kubelet: what a cluster gets unless told otherwise.
pub fn pinned_version() -> Result<String> {
    let kubernetes = toolchain::MODULES.iter().find(|module| module.folder == "kubernetes");
    match kubernetes {
        Some(module) => module.version(),
        None => bail!("no Kubernetes is pinned"),
    }
}

/// Makes the cluster, shows it, takes it all down again (or waits for Ctrl-C first).
pub async fn run(inputs: &Inputs, options: &Options, progress: &Progress) -> Result<()> {
    let pinned = pinned_version()?;
    let version = options.kubernetes_version.clone().unwrap_or_else(|| pinned.clone());
    if !version.starts_with(&pinned) {
        bail!("--kubernetes-version {version}: the guest images hold {pinned}; a suffix to it is allowed");
    }
    let shape = Shape {
        name: "demo".into(),
        namespace: NAMESPACE.into(),
        index: 0,
        control_plane: options.replicas.control_plane,
        workers: options.replicas.workers,
        version,
        boot: options.boot,
        ground: Ground::of(options.guests)?,
    };
    let mut environment = Environment::start("demo", shape.ground, inputs, &[shape.balancer()], progress).await?;
    let result = tokio::select! {
        result = show(&mut environment, &shape, options.keep, progress) => result,
        () = ::process::terminated() => Err(anyhow::anyhow!("interrupted")),
    };
    let stage = progress.stage("taking everything down");
    let logs = environment.logs().to_path_buf();
    environment.stop().await;
    stage.done(format!("logs stay in {}", logs.display()));
    result
}

async fn show(environment: &mut Environment, shape: &Shape, keep: bool, progress: &Progress) -> Result<()> {
    let took = steps::create(environment, shape, progress).await?;
    let limit = Duration::from_secs(60);
    steps::nodes_ready(environment, shape, limit, progress).await?;
    println!("\n{}", tree::render(&environment.management.client, &shape.namespace).await?);
    let kubeconfig = steps::kubeconfig(environment, shape).await?;
    println!("{}", used::kubectl(environment, &kubeconfig, &["get", "nodes", "--output=wide"], None).await?);
    println!(
        "{}",
        used::kubectl(environment, &kubeconfig, &["get", "pods", "--all-namespaces", "--output=wide"], None).await?
    );
    println!(
        "{} control plane machines and {} workers Available {:.0} s after the manifests were applied.",
        shape.control_plane,
        shape.workers,
        took.as_secs_f64()
    );
    if keep {
        let kubectl = environment.toolchain.join("kubectl").display().to_string();
        let (kubectl, who) = match shape.ground.guests {
            Guests::Sandbox => (format!("nsenter --net=/run/netns/basalt-demo {kubectl}"), ", as root"),
            Guests::Memory => (kubectl, ""),
        };
        println!("\nEverything keeps running until Ctrl-C. In another terminal{who}:");
        println!("  {kubectl} --kubeconfig {} get nodes", kubeconfig.display());
        println!("  {kubectl} --kubeconfig {} get clusters,machines -A", environment.management.kubeconfig.display());
        std::future::pending::<()>().await;
    }
    Ok(())
}
