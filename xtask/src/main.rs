//! `cargo xtask`: the commands a developer or a curious platform engineer types.

mod clean;
mod doctor;
mod environment;
mod generate;
mod test;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask::{fleet, progress::Progress, toolchain};

/// Build, run and test Basalt.
///
/// `demo` makes a real Kubernetes cluster on a simulated DCS site on this machine; `test` runs all tests.
#[derive(Parser)]
#[command(name = "cargo xtask", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make a real Kubernetes cluster on a simulated DCS site and show it
    Demo(Demo),
    /// Run the tests, tier by tier, and close with one `N passed, N failed, N skipped` line
    Test(test::Options),
    /// Measure one cluster, or a fleet, with release builds: time, memory, requests, what it costs when nothing is to do
    Bench(Bench),
    /// Write what is generated from Rust: CRDs, RBAC and the protocol's descriptor set
    Gen {
        /// Change nothing; fail when a generated file is out of date or the protocol breaks compatibility
        #[arg(long)]
        check: bool,
    },
    /// Build the pinned peers (Kubernetes, etcd, core Cluster API, containerd, CoreDNS) into the cache
    Toolchain(Peers),
    /// Say what this machine lacks, and the command that installs it
    Doctor {
        /// Install the missing system packages (root on Debian or Ubuntu)
        #[arg(long)]
        fix: bool,
    },
    /// Find and remove what a killed run left: processes, mounts, namespaces, cgroups
    Clean,
}

/// Where the peers' binaries come from.
#[derive(Args, Clone)]
struct Peers {
    /// Folder with your own etcd, kube-apiserver and kubectl, taken instead of building them
    #[arg(long, env = toolchain::USER_ASSETS, value_name = "DIR")]
    assets: Option<PathBuf>,
}

/// How a machine's first boot is configured.
#[derive(Clone, Copy, ValueEnum)]
enum BootFormat {
    Ignition,
    CloudConfig,
}

/// What a machine of the simulated site is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Guests {
    /// A Linux sandbox in which everything is real; needs root
    Sandbox,
    /// A model inside the simulator, on loopback alone; needs no rights, and takes seconds
    Memory,
}

/// How many machines a cluster has.
#[derive(Args)]
struct Replicas {
    /// Number of control plane machines (odd)
    #[arg(long, default_value_t = 3, value_parser = odd)]
    control_plane: u32,
    /// Number of worker machines
    #[arg(long, default_value_t = 2)]
    workers: u32,
}

#[derive(Args)]
struct Demo {
    #[command(flatten)]
    replicas: Replicas,
    /// Boot configuration that the bootstrap provider writes
    #[arg(long, value_enum, default_value = "ignition")]
    boot: BootFormat,
    /// What the machines are [default: sandbox where this machine can run them, else memory]
    #[arg(long, value_enum)]
    guests: Option<Guests>,
    /// Kubernetes version of the cluster; a vendor suffix (v1.36.3-1) is allowed [default: the pinned version]
    #[arg(long)]
    kubernetes_version: Option<String>,
    /// Keep everything running until Ctrl-C, and print how to look around
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    peers: Peers,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
struct Bench {
    #[command(flatten)]
    replicas: Replicas,
    #[command(flatten)]
    peers: Peers,
    #[command(subcommand)]
    of: Option<BenchOf>,
}

#[derive(Subcommand)]
enum BenchOf {
    /// Measure many clusters on memory guests, from creation to deletion; needs no root
    Fleet(Fleet),
}

#[derive(Args)]
struct Fleet {
    #[command(flatten)]
    options: fleet::Options,
    #[command(flatten)]
    peers: Peers,
}

fn odd(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number % 2 == 1 => Ok(number),
        _ => Err("must be an odd number: etcd needs a majority".to_owned()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let progress = Progress::default();
    match task {
        Task::Demo(demo) => environment::demo(&demo, &progress),
        Task::Bench(Bench { of: Some(BenchOf::Fleet(fleet)), .. }) => environment::bench_fleet(&fleet, &progress),
        Task::Bench(options) => environment::bench(&options, &progress),
        Task::Test(options) => test::run(&options, &progress),
        Task::Gen { check } => generate::run(check, &progress).map(|()| ExitCode::SUCCESS),
        Task::Toolchain(peers) => {
            let bin = toolchain::ensure(peers.assets.as_deref(), &progress)?;
            println!("{}", bin.display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Doctor { fix } => doctor::run(fix, &progress),
        Task::Clean => clean::run(&progress).map(|()| ExitCode::SUCCESS),
    }
}
