//! Whether sandbox guests can run on this host, and what is missing where they cannot.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::cgroup;

/// Programs that the launcher calls, with the Debian package that brings each.
const PROGRAMS: &[(&str, &str)] = &[
    ("chroot", "coreutils"),
    ("ip", "iproute2"),
    ("kill", "procps"),
    ("losetup", "mount"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
];

/// What stands in the way of sandbox guests; empty where they can run. With `kernel_only`, what no package could bring.
pub fn obstacles(kernel_only: bool) -> Vec<String> {
    let mut found = Vec::new();
    if !rustix::process::geteuid().is_root() {
        found.push("not root: namespaces, mounts and control groups need it".to_owned());
        // Everything below would only say the same in other words.
        return found;
    }
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !on_path(program)).collect();
    if !kernel_only {
        found.extend(
            missing
                .iter()
                .map(|(program, package)| format!("the program `{program}` is missing (Debian package {package})")),
        );
    }
    found.extend(missing_hierarchies());
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known: BTreeSet<&str> = file_systems.lines().filter_map(|line| line.split_whitespace().last()).collect();
    found.extend(
        ["overlay", "xfs", "ext4"]
            .iter()
            .filter(|name| !known.contains(*name))
            .map(|name| format!("the kernel has no file system `{name}`")),
    );
    if !Path::new("/dev/loop-control").exists() {
        found.push("no loop devices: /dev/loop-control is missing".to_owned());
    }
    // The trial needs the programs.
    if found.is_empty() && missing.is_empty() {
        found.extend(try_namespaces().err());
    }
    found
}

fn missing_hierarchies() -> Vec<String> {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return vec![
            "the host has only cgroup v2; the launcher knows version 1 (boot with systemd.unified_cgroup_hierarchy=0)"
                .to_owned(),
        ];
    }
    match cgroup::hierarchies() {
        Ok(present) => cgroup::missing(&present)
            .into_iter()
            .map(|name| format!("control group hierarchy `{name}` is not mounted below /sys/fs/cgroup"))
            .collect(),
        Err(error) => vec![format!("the control groups of this process are unknown: {error}")],
    }
}

/// Makes the namespaces of a machine, an overlay and a veth pair in them, and lets them go again.
fn try_namespaces() -> Result<(), String> {
    let script = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/r && \
                  mount -t overlay overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/r && \
                  mount -t proc proc /mnt/l && ip link add br0 type bridge && \
                  ip link add eth0 type veth peer name p0 && ip link set p0 master br0";
    let tried = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--cgroup",
            "--fork",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
        ])
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("namespaces cannot be used: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("namespaces cannot be made: {error}")),
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
}
