//! The end-to-end program behind `cargo xtask demo` and the upper tiers of `cargo xtask test`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::{
    api_tier, bench, cluster::Replicas, conformance, demo, environment::Inputs, fleet, ground::Guests, isolation,
    scenarios,
};
use xtask::progress::Progress;

/// Run the demo or the scenarios in an environment of their own. `cargo xtask` prepares the folders and starts this.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    inputs: Inputs,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make one cluster and show it
    Demo(demo::Options),
    /// Measure one cluster
    Bench(Replicas),
    /// Measure many clusters on memory guests; needs no root
    Fleet(xtask::fleet::Options),
    /// Run the scenarios
    Run(scenarios::Options),
    /// Check kinds, webhooks and rights against a real API server; needs no root and no guest images
    Api(api_tier::Options),
    /// Hold a cluster that is there against the answers of a real one
    Conformance(conformance::command::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    // Whoever started this may be killed; then everything is taken down, as by Ctrl-C.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    let isolated = match &cli.task {
        Task::Demo(options) => (options.guests == Guests::Sandbox).then_some("demo"),
        Task::Bench(_) => Some("bench"),
        Task::Run(options) => (options.guests == Guests::Sandbox).then(|| options.environment()),
        // Free ports of loopback are enough.
        Task::Fleet(_) | Task::Api(_) => None,
        // It goes where the cluster is.
        Task::Conformance(_) => None,
    };
    if let Some(name) = isolated.filter(|_| !isolation::is_inside()) {
        return isolation::reenter(&format!("basalt-{name}")).await;
    }
    // A second installation is impossible in one process; the first call is here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let progress = Progress::default();
    match cli.task {
        Task::Demo(options) => demo::run(&cli.inputs, &options, &progress).await.map(|()| ExitCode::SUCCESS),
        Task::Bench(replicas) => bench::run(&cli.inputs, &replicas, &progress).await.map(|()| ExitCode::SUCCESS),
        Task::Fleet(options) => fleet::run(&cli.inputs, &options, &progress).await.map(|()| ExitCode::SUCCESS),
        Task::Run(options) => {
            let tier = if options.guests == Guests::Sandbox { "node" } else { "e2e" };
            Ok(closing(tier, scenarios::run(&cli.inputs, &options, &progress).await?))
        }
        Task::Conformance(options) => {
            conformance::command::main(&cli.inputs, &options, &progress).await.map(|()| ExitCode::SUCCESS)
        }
        Task::Api(options) => Ok(closing("api", api_tier::run(&cli.inputs, &options, &progress).await?)),
    }
}

/// The line that `cargo xtask test` counts, and the exit code that fits it.
fn closing(tier: &str, (passed, failed, skipped): (usize, usize, usize)) -> ExitCode {
    println!("{tier}: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
