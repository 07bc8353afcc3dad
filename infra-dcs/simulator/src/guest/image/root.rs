//! The golden root file system: Debian by debootstrap, the Kubernetes programs, and what `rootfs/` adds.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use super::{BuildArgs, output, progress, progress::Progress};

/// Debian release.
pub const SUITE: &str = "bookworm";

/// Packages beside debootstrap's minimal variant. `python3-cffi-backend` is what cloud-init needs through a virtual
/// package that debootstrap does not resolve; `ignition` runs inside this root, as it does in a real image's first boot;
/// `openssh-client` has the `ssh-keygen` that cloud-init calls; `catatonit` is the statically linked program of the pause image.
pub const PACKAGES: &str = "systemd,systemd-sysv,dbus,libpam-systemd,runc,iproute2,iptables,nftables,conntrack,ethtool,\
socat,kmod,cloud-init,python3-cffi-backend,containernetworking-plugins,procps,util-linux,ca-certificates,mount,\
iputils-ping,openssl,curl,network-manager,openssh-client,xfsprogs,e2fsprogs,fdisk,gdisk,ignition,catatonit";

/// Units that would act on the host, wait for udev, or have nothing to do in a sandbox.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "cloud-init-hotplugd.socket",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "kmod-static-nodes.service",
    "networking.service",
    "polkit.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-udev-settle.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "xfs_scrub_all.timer",
];

/// Units enabled in `multi-user.target`.
const ENABLED: &[&str] = &["containerd.service", "kubelet.service", "pod-network.service"];

/// Where each program of the toolchain goes.
const PROGRAMS: &[(&str, &str)] = &[
    ("containerd", "usr/local/bin/containerd"),
    ("containerd-shim-runc-v2", "usr/local/bin/containerd-shim-runc-v2"),
    ("ctr", "usr/local/bin/ctr"),
    ("kubeadm", "usr/lib/sandbox/kubeadm"),
    ("kubectl", "usr/bin/kubectl"),
    ("kubelet", "usr/bin/kubelet"),
];

/// A file of ours in the image.
pub struct RootFile {
    /// Path below the root.
    pub path: &'static str,
    /// Permissions.
    pub mode: u32,
    /// Content; `@REGISTRY@` stands for the registry's address.
    pub content: &'static str,
}

const fn file(path: &'static str, mode: u32, content: &'static str) -> RootFile {
    RootFile { path, mode, content }
}

/// All files of ours in the image.
pub const FILES: &[RootFile] = &[
    file("usr/lib/systemd/system/kubelet.service", 0o644, include_str!("rootfs/kubelet.service")),
    file("usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", 0o644, include_str!("rootfs/10-kubeadm.conf")),
    file("etc/default/kubelet", 0o644, include_str!("rootfs/kubelet.default")),
    file("usr/lib/systemd/system/containerd.service", 0o644, include_str!("rootfs/containerd.service")),
    file("etc/containerd/config.toml", 0o644, include_str!("rootfs/containerd.toml")),
    file("etc/containerd/certs.d/_default/hosts.toml", 0o644, include_str!("rootfs/hosts.toml.in")),
    file("usr/bin/kubeadm", 0o755, include_str!("rootfs/kubeadm.sh")),
    file("usr/sbin/restorecon", 0o755, include_str!("rootfs/restorecon.sh")),
    // Ignition relabels what it writes; see the SELinux files below.
    file("usr/sbin/setfiles", 0o755, include_str!("rootfs/restorecon.sh")),
    file("etc/selinux/config", 0o644, "SELINUX=permissive\nSELINUXTYPE=targeted\n"),
    file("etc/selinux/targeted/contexts/files/file_contexts", 0o644, ""),
    file("usr/lib/systemd/system/guest-mounts.service", 0o644, include_str!("rootfs/guest-mounts.service")),
    file("usr/lib/systemd/system/pod-network.service", 0o644, include_str!("rootfs/pod-network.service")),
    file("usr/lib/sandbox/pod-network", 0o755, include_str!("rootfs/pod-network.sh")),
    file("usr/share/sandbox/pod-network-rbac.yaml", 0o644, include_str!("rootfs/pod-network-rbac.yaml")),
    file("etc/systemd/journald.conf.d/sandbox.conf", 0o644, include_str!("rootfs/journald.conf")),
    file("etc/systemd/system.conf.d/shutdown.conf", 0o644, include_str!("rootfs/shutdown.conf")),
    // The unit that runs kubeadm comes from the provider; a failed boot must be readable on the console.
    file("usr/lib/systemd/system/kubeadm.service.d/console.conf", 0o644, include_str!("rootfs/console.conf")),
    file("etc/NetworkManager/conf.d/sandbox.conf", 0o644, include_str!("rootfs/networkmanager.conf")),
    file(
        "usr/lib/systemd/system/NetworkManager-wait-online.service.d/sandbox.conf",
        0o644,
        include_str!("rootfs/wait-online.conf"),
    ),
    file("etc/cloud/cloud.cfg.d/99-sandbox.cfg", 0o644, include_str!("rootfs/cloud.cfg")),
    file("etc/sysctl.d/90-kubernetes.conf", 0o644, include_str!("rootfs/sysctl.conf")),
];

/// Makes debootstrap's result, or finds it from an earlier build.
pub fn ensure_base(cache: &Path, mirror: Option<&str>, progress: &Progress) -> Result<PathBuf> {
    let inputs = format!("{SUITE} {PACKAGES}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, inputs.as_bytes());
    let base = cache.join(format!("base-{}", hex::encode(&digest.as_ref()[..8])));
    if base.exists() {
        return Ok(base);
    }
    let staging = base.with_extension("partial");
    remove(&staging)?;
    progress.stage("debootstrap", |bar| debootstrap(&staging, mirror, bar))?;
    fs::rename(&staging, &base)?;
    Ok(base)
}

fn debootstrap(target: &Path, mirror: Option<&str>, bar: &ProgressBar) -> Result<()> {
    // In a mount namespace of its own, so that what it mounts in the target goes with it however it ends.
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "debootstrap", "--variant=minbase"])
        .arg(format!("--include={PACKAGES}"))
        .arg(SUITE)
        .arg(target)
        .args(mirror)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start debootstrap (packages util-linux and debootstrap)")?;
    let mut last = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            last = line?;
            bar.set_message(last.trim_start_matches("I: ").to_owned());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let log = fs::read_to_string(target.join("debootstrap/debootstrap.log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        bail!("debootstrap ended with {status}: {last}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

/// Makes the golden root from debootstrap's result.
pub fn make(base: &Path, root: &Path, args: &BuildArgs, bar: &ProgressBar) -> Result<()> {
    progress::count(bar, 4);
    bar.set_message("copying Debian");
    output(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(base).arg(root))?;
    bar.inc(1);
    bar.set_message("removing what no machine reads");
    for dir in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"] {
        remove(&root.join(dir))?;
        fs::create_dir_all(root.join(dir))?;
    }
    bar.inc(1);
    bar.set_message("Kubernetes and containerd");
    for (name, target) in PROGRAMS {
        install(&args.toolchain_bin.join(name), &root.join(target))?;
    }
    bar.inc(1);
    bar.set_message("units and configuration");
    for file in FILES {
        write(&root.join(file.path), file.mode, &file.content.replace("@REGISTRY@", &args.registry))?;
    }
    enable_units(root)?;
    leave_identity_open(root)?;
    for dir in
        ["opt/cni", "etc/cni/net.d", "etc/kubernetes/manifests", "var/lib/kubelet", "var/lib/etcd", "var/log/journal"]
    {
        fs::create_dir_all(root.join(dir))?;
    }
    relink("/usr/lib/cni", &root.join("opt/cni/bin"))?;
    mark_up_to_date(root)?;
    bar.inc(1);
    Ok(())
}

fn enable_units(root: &Path) -> Result<()> {
    let units = root.join("etc/systemd/system");
    for unit in MASKED {
        relink("/dev/null", &units.join(unit))?;
    }
    relink("/usr/lib/systemd/system/multi-user.target", &units.join("default.target"))?;
    for unit in ENABLED {
        relink(&format!("/usr/lib/systemd/system/{unit}"), &units.join("multi-user.target.wants").join(unit))?;
    }
    relink("/usr/lib/systemd/system/guest-mounts.service", &units.join("local-fs.target.wants/guest-mounts.service"))
}

/// Host name, resolver and machine id are the machine's own and come from what it boots with.
fn leave_identity_open(root: &Path) -> Result<()> {
    for path in ["etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"] {
        remove(&root.join(path))?;
    }
    fs::write(root.join("etc/machine-id"), "")?;
    // kubelet refuses to start pods without the file, even where a machine has no resolver.
    fs::write(root.join("etc/resolv.conf"), "")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost ip6-localhost\n")?;
    Ok(())
}

/// Says, as systemd-update-done.service would, that `/etc` and `/var` fit what is in `/usr`: each first boot would find out
/// anew, and rebuild catalogues and users.
fn mark_up_to_date(root: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    for dir in ["etc", "var"] {
        fs::write(root.join(dir).join(".updated"), format!("TIMESTAMP_NSEC={now}\n"))?;
    }
    Ok(())
}

/// Copies a program and makes it executable.
fn install(source: &Path, target: &Path) -> Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(source, target).with_context(|| format!("cannot copy {} into the image", source.display()))?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn write(path: &Path, mode: u32, content: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    remove(path)?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn relink(target: &str, link: &Path) -> Result<()> {
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent)?;
    }
    remove(link)?;
    symlink(target, link).with_context(|| format!("cannot link {}", link.display()))
}

/// Removes a file or directory that may not exist. Never follows links.
pub fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    result.with_context(|| format!("cannot remove {}", path.display()))
}
