//! System packages that sandbox guests and the image build need, on Debian and Ubuntu.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{command, progress::Progress};

/// A program looked for on PATH (and in the sbin folders), the Debian package that brings it, and why it is needed.
pub const NEEDED: &[(&str, &str, &str)] = &[
    ("gcc", "gcc", "aws-lc is C code"),
    ("git", "git", "the file list of the checkout"),
    ("debootstrap", "debootstrap", "the root file system of guest images"),
    ("ip", "iproute2", "network namespaces, bridge and veth pairs"),
    ("nsenter", "util-linux", "entering namespaces"),
    ("mount", "mount", "overlay and bind mounts of guests"),
];

/// Where a program is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// Packages of [`NEEDED`] whose program is not installed.
pub fn missing() -> Vec<&'static str> {
    let absent = NEEDED.iter().filter(|(program, ..)| find(program).is_none());
    absent.map(|(_, package, _)| *package).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The command that installs these packages.
pub fn install_command(packages: &[&str]) -> String {
    format!("apt-get update && apt-get install --yes --no-install-recommends {}", packages.join(" "))
}

/// Installs what is missing where that is possible (root on Debian or Ubuntu), saying which; elsewhere fails with
/// the exact command.
pub fn ensure(progress: &Progress) -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let install = install_command(&packages);
    if !is_root() || !is_debian_like() {
        bail!("these system packages are missing: {}\nas root on Debian or Ubuntu: {install}", packages.join(", "));
    }
    progress.line(format!("Installing system packages: {}", packages.join(", ")));
    let stage = progress.stage("system packages");
    let mut apt = Command::new("sh");
    apt.args(["-c", &install]).env("DEBIAN_FRONTEND", "noninteractive");
    command::run(&mut apt, &stage)?;
    stage.done(packages.join(", "));
    let left = missing();
    if !left.is_empty() {
        bail!("still missing after installation: {}", left.join(", "));
    }
    Ok(())
}

/// Whether this process has user id 0.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_debian_like() -> bool {
    let release = fs::read_to_string(Path::new("/etc/os-release")).unwrap_or_default();
    release.lines().any(|line| {
        matches!(line.split_once('='), Some(("ID" | "ID_LIKE", value)) if value.contains("debian") || value.contains("ubuntu"))
    })
}
