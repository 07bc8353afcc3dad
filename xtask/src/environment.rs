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

/// Programs without which ours cannot be built.
const BUILD_TOOLS: &[&str] = &["gcc", "git"];

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

    /// Installs and builds what sandbox guests need beyond our programs, unless this machine's kernel cannot run them.
    fn make_ready_for_sandboxes(&self, progress: &Progress) -> Result<()> {
        let simulator = self.binaries.join("basalt-dcs-simulator");
        command::output(Command::new(simulator).args(["probe", "--kernel-only"]))?;
        packages::ensure(progress)?;
        self.probe()?;
        build_images(&self.toolchain, &self.binaries, &self.images)
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

fn require_root() -> Result<()> {
    if !packages::is_root() {
        bail!(
            "sandbox guests need root: run the command again as root (`sudo -E env PATH=$PATH cargo xtask …`); \
             they make network namespaces, cgroups and mounts of their own and nothing else"
        );
    }
    Ok(())
}

/// Brings this machine to where an environment can start, showing each step.
pub fn prepare(assets: Option<&Path>, build: Build, progress: &Progress) -> Result<Prepared> {
    require_root()?;
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
    let is_root = packages::is_root();
    if options.guests == Some(Guests::Sandbox) {
        require_root()?;
    }
    // Whatever the machines are, our programs have to be built. On a machine that builds already, nothing is installed
    // before it is known to be of use.
    if is_root && BUILD_TOOLS.iter().any(|tool| packages::find(tool).is_none()) {
        packages::ensure(progress)?;
    }
    let prepared = prepare_processes(assets, Build::Debug, progress)?;
    let (guests, why) = choose(options.guests, is_root, || prepared.make_ready_for_sandboxes(progress))?;
    if let Some(why) = why {
        progress.line(format!("{why}: the machines are models in memory (--guests)."));
    }
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

/// Which guests a demo has, and why they are no sandboxes where nobody has chosen. `sandbox` brings this machine to where
/// sandboxes can run, and is not tried where that is not wanted or cannot be.
fn choose(
    wanted: Option<Guests>,
    is_root: bool,
    sandbox: impl FnOnce() -> Result<()>,
) -> Result<(Guests, Option<String>)> {
    match wanted {
        Some(Guests::Memory) => Ok((Guests::Memory, None)),
        Some(Guests::Sandbox) => sandbox().map(|()| (Guests::Sandbox, None)),
        None if !is_root => Ok((Guests::Memory, Some("Sandbox guests need root".to_owned()))),
        None => match sandbox() {
            Ok(()) => Ok((Guests::Sandbox, None)),
            Err(error) => {
                let reason = format!("{error:#}");
                let reason = reason.lines().next().unwrap_or_default().trim_end_matches(['.', ':']);
                Ok((Guests::Memory, Some(format!("Sandbox guests cannot run here: {reason}"))))
            }
        },
    }
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

/// Builds these integration tests, of whichever crate they are; their executables.
pub fn build_tests(names: &[&str], progress: &Progress) -> Result<Vec<PathBuf>> {
    let stage = progress.stage(format!("cargo test --no-run ({})", names.join(", ")));
    let mut cargo = command::cargo();
    // Of the whole workspace, so that libraries have the features that they have in every other build.
    cargo.args(["test", "--locked", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    for name in names {
        cargo.args(["--test", name]);
    }
    let printed = command::run_for_output(&mut cargo, &stage)?;
    let executables: Vec<PathBuf> = printed.lines().filter_map(|line| test_executable(line, names)).collect();
    if executables.len() < names.len() {
        bail!("`{}` has not told of {} executables", command::display(&cargo), names.len());
    }
    stage.done("");
    Ok(executables)
}

/// What cargo says of an integration test that it has built; it tells of libraries and of build scripts as well.
fn test_executable(line: &str, names: &[&str]) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let name = message["target"]["name"].as_str()?;
    names.contains(&name).then(|| message["executable"].as_str().map(PathBuf::from))?
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn never() -> Result<()> {
        panic!("nothing is installed or built for guests that nobody wants")
    }

    fn fails() -> Result<()> {
        Err(anyhow!("apt-get ended with 100\nE: no network")).context("system packages")
    }

    #[test]
    fn what_was_chosen_is_done_or_fails() {
        assert!(matches!(choose(Some(Guests::Memory), true, never), Ok((Guests::Memory, None))));
        assert!(matches!(choose(Some(Guests::Sandbox), true, || Ok(())), Ok((Guests::Sandbox, None))));
        assert!(choose(Some(Guests::Sandbox), true, fails).is_err());
    }

    #[test]
    fn where_nobody_chose_memory_guests_stand_in_with_the_reason_in_a_line() {
        assert!(matches!(choose(None, true, || Ok(())), Ok((Guests::Sandbox, None))));
        let (guests, why) = choose(None, false, never).unwrap();
        assert!(guests == Guests::Memory);
        assert_eq!(why.as_deref(), Some("Sandbox guests need root"));
        let (guests, why) = choose(None, true, fails).unwrap();
        assert!(guests == Guests::Memory);
        assert_eq!(why.as_deref(), Some("Sandbox guests cannot run here: system packages: apt-get ended with 100"));
    }

    #[test]
    fn executables_of_tests_are_found_in_what_cargo_tells() {
        let told = |name: &str, executable: &str| {
            format!(r#"{{"reason":"compiler-artifact","target":{{"name":"{name}"}},"executable":{executable}}}"#)
        };
        let found = |line: &str| test_executable(line, &["conformance"]);
        assert_eq!(found(&told("conformance", "\"/deps/conformance-1\"")), Some(PathBuf::from("/deps/conformance-1")));
        assert_eq!(found(&told("conformance", "null")), None);
        assert_eq!(found(&told("serde", "null")), None);
        assert_eq!(found("not of cargo"), None);
    }
}
