//! What `demo` and the upper test tiers need before they can start: packages, peers, our binaries, guest images.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use xtask::{
    command,
    fleet::{Managers, name},
    packages, paths,
    progress::Progress,
    toolchain,
};

use crate::{Bench, Demo, Fleet, Guests, Replicas};

/// Products that an environment runs.
const BINARIES: &[&str] = &[
    "basalt-bootstrap-kubeadm",
    "basalt-controlplane-kubeadm",
    "basalt-dcs-adapter",
    "basalt-dcs-controller",
    "basalt-dcs-simulator",
    "e2e",
];

/// Where everything is that an environment runs.
pub struct Prepared {
    toolchain: PathBuf,
    binaries: PathBuf,
    images: PathBuf,
}

impl Prepared {
    /// Whether sandbox guests can run here; the error says why not.
    pub fn probe(&self) -> Result<()> {
        command::output(Command::new(self.binaries.join("basalt-dcs-simulator")).arg("probe")).map(drop)
    }

    /// The end-to-end program with these folders as its arguments.
    pub fn e2e(&self) -> Command {
        let mut e2e = Command::new(self.binaries.join("e2e"));
        e2e.arg("--toolchain").arg(&self.toolchain);
        e2e.arg("--binaries").arg(&self.binaries);
        e2e.arg("--images").arg(&self.images);
        e2e
    }
}

/// How our binaries are built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Quickly, for tests and the demo.
    Debug,
    /// As released, for figures.
    Release,
}

impl Build {
    fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// Brings this machine to where an environment can start, showing each step.
pub fn prepare(assets: Option<&Path>, build: Build, progress: &Progress) -> Result<Prepared> {
    if !packages::is_root() {
        bail!(
            "sandbox guests need root: run the command again as root (`sudo -E env PATH=$PATH cargo xtask …`); \
             they make network namespaces, cgroups and mounts of their own and nothing else"
        );
    }
    packages::ensure(progress)?;
    let prepared = prepare_processes(assets, build, progress)?;
    build_images(&prepared.toolchain, &prepared.binaries, &prepared.images)?;
    Ok(prepared)
}

/// The same without guests: peers and our binaries, for which nobody needs to be root.
pub fn prepare_processes(assets: Option<&Path>, build: Build, progress: &Progress) -> Result<Prepared> {
    prepare_with(|| toolchain::ensure(assets, progress), build, progress)
}

fn prepare_with(peers: impl FnOnce() -> Result<PathBuf> + Send, build: Build, progress: &Progress) -> Result<Prepared> {
    // The Go and Rust builds have long single-threaded stretches: side by side they fill them.
    let toolchain = thread::scope(|scope| {
        let peers = scope.spawn(peers);
        build_products(build, progress)?;
        peers.join().map_err(|_| anyhow!("building the peers panicked"))?
    })?;
    let binaries = paths::target().join(build.folder());
    Ok(Prepared { toolchain, binaries, images: paths::cache().join("images") })
}

/// Makes a cluster and shows it; replaces this process so that Ctrl-C reaches the environment directly.
pub fn demo(options: &Demo, progress: &Progress) -> Result<ExitCode> {
    let assets = options.peers.assets.as_deref();
    let memory = || prepare_processes(assets, Build::Debug, progress);
    let (prepared, guests) = match options.guests {
        Some(Guests::Memory) => (memory()?, Guests::Memory),
        Some(Guests::Sandbox) => (prepare(assets, Build::Debug, progress)?, Guests::Sandbox),
        None if !packages::is_root() => {
            progress.line("Sandbox guests need root: the machines are models in memory (--guests).");
            (memory()?, Guests::Memory)
        }
        None => {
            let prepared = prepare(assets, Build::Debug, progress)?;
            match prepared.probe() {
                Ok(()) => (prepared, Guests::Sandbox),
                Err(reason) => {
                    progress.line(format!(
                        "Sandbox guests cannot run here: {reason:#}. The machines are models in memory."
                    ));
                    (prepared, Guests::Memory)
                }
            }
        }
    };
    let mut e2e = prepared.e2e();
    e2e.args(["demo", "--guests", &name(guests), "--boot", &name(options.boot)]);
    add_replicas(&mut e2e, &options.replicas);
    if let Some(version) = &options.kubernetes_version {
        e2e.args(["--kubernetes-version", version]);
    }
    if options.keep {
        e2e.arg("--keep");
    }
    Err(e2e.exec()).context("cannot start the demo")
}

/// Makes a cluster with release builds and prints what it took and cost; replaces this process.
pub fn bench(options: &Bench, progress: &Progress) -> Result<ExitCode> {
    let prepared = prepare(options.peers.assets.as_deref(), Build::Release, progress)?;
    let mut e2e = prepared.e2e();
    e2e.arg("bench");
    add_replicas(&mut e2e, &options.replicas);
    Err(e2e.exec()).context("cannot start the measurement")
}

/// The same of a fleet on memory guests, perhaps beside upstream's kubeadm providers; replaces this process.
pub fn bench_fleet(fleet: &Fleet, progress: &Progress) -> Result<ExitCode> {
    let assets = fleet.peers.assets.as_deref();
    let peers = || {
        if fleet.options.runs().contains(&Managers::Upstream) {
            toolchain::ensure_with_rivals(assets, progress)
        } else {
            toolchain::ensure(assets, progress)
        }
    };
    let prepared = prepare_with(peers, Build::Release, progress)?;
    let mut e2e = prepared.e2e();
    e2e.arg("fleet").args(fleet.options.arguments());
    Err(e2e.exec()).context("cannot start the measurement")
}

fn add_replicas(e2e: &mut Command, replicas: &Replicas) {
    e2e.args(["--control-plane", &replicas.control_plane.to_string(), "--workers", &replicas.workers.to_string()]);
}

fn build_products(build: Build, progress: &Progress) -> Result<()> {
    let stage = progress.stage(format!("cargo build ({})", build.folder()));
    let mut cargo = command::cargo();
    cargo.args(["build", "--locked", "--workspace"]);
    for binary in BINARIES {
        cargo.args(["--bin", binary]);
    }
    match build {
        // With the generators come the features that tests ask of libraries: so nothing is built twice, for the demo and
        // for tests.
        Build::Debug => cargo.arg("--examples"),
        Build::Release => cargo.arg("--release"),
    };
    command::run(&mut cargo, &stage)?;
    stage.done(format!("{} binaries", BINARIES.len()));
    Ok(())
}

/// The simulator builds its own guest images; it shows its progress itself.
fn build_images(toolchain: &Path, binaries: &Path, images: &Path) -> Result<()> {
    let mut build = Command::new(binaries.join("basalt-dcs-simulator"));
    build.args(["image", "build", "--toolchain-bin"]).arg(toolchain).arg("--cache").arg(images);
    let status = build.status().with_context(|| format!("cannot start `{}`", command::display(&build)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", command::display(&build));
    }
    Ok(())
}
