//! What happens in a machine's own process before its systemd runs.
//!
//! ```text
//! simulator ── spawns ──► `guest-enter`   joins the machine's control groups, becomes
//!                         `unshare`       makes the namespaces, forks
//!                           └─► `guest-init`   process 1 of the machine: builds the root, becomes systemd
//! ```

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{Mode, makedev, mknodat},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount},
    process::pivot_root,
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};
use serde::{Deserialize, Serialize};

use super::{
    disk::{Device, LOOP_MAJOR},
    first_boot::{self, Medium},
};

/// Exit code of `guest-init` when the machine could not be brought to its systemd; the reason is in [`FAILURE`].
pub const BOOT_FAILED: i32 = 90;
/// File in a machine's directory with the reason of [`BOOT_FAILED`].
pub const FAILURE: &str = "boot-failure";
/// File in a machine's directory that says that its NICs are plugged.
pub const GO: &str = "go";
/// File in a machine's directory with its [`Launch`].
pub const LAUNCH: &str = "launch.json";

/// Directories of the system disk that are no overlay: containerd's snapshots cannot lie on one, and etcd and kubelet
/// write much.
pub const PLAIN_DIRS: &[&str] = &["containerd", "etcd", "kubelet"];

/// Kernel settings that kubelet insists on: shown with the wanted value, never set on the host.
const SHOWN_SETTINGS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What would let a machine act on the host's clock, modules, hardware or security policy.
const DROPPED: &[CapabilitySet] = &[
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::AUDIT_CONTROL,
    CapabilitySet::AUDIT_READ,
    CapabilitySet::WAKE_ALARM,
];

/// Everything that a machine's first process needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The golden root.
    pub golden: PathBuf,
    /// The machine's control groups, to be joined.
    pub groups: Vec<PathBuf>,
    /// Names of the hierarchies, to be mounted.
    pub hierarchies: Vec<String>,
    /// Data disks.
    pub disks: Vec<Device>,
    /// Device node of the console.
    pub console: String,
    /// What is in the CD-ROM drive.
    pub medium: Medium,
}

impl Launch {
    /// Reads what the simulator wrote.
    pub fn read(machine: &Path) -> Result<Self> {
        let path = machine.join(LAUNCH);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }
}

/// `guest-enter`: returns only in failure.
pub fn enter(machine: &Path) -> Result<()> {
    let launch = Launch::read(machine)?;
    for group in &launch.groups {
        fs::write(group.join("cgroup.procs"), "0").with_context(|| format!("cannot join {}", group.display()))?;
    }
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--propagation", "private"])
        .args(["--fork", "--kill-child", "--"])
        .arg(std::env::current_exe()?)
        .arg("guest-init")
        .arg(machine)
        .exec();
    Err(error).context("cannot start unshare (package util-linux)")
}

/// `guest-init`: returns only in failure, after leaving the reason in the machine's directory.
pub fn init(machine: &Path) -> Result<()> {
    let result = boot(machine);
    if let Err(error) = &result {
        eprintln!("boot failed: {error:#}");
        // Without it the console's last lines say the same.
        let _ = fs::write(machine.join(FAILURE), format!("{error:#}"));
    }
    result
}

fn boot(machine: &Path) -> Result<()> {
    let launch = Launch::read(machine)?;
    wait_for_nics(machine)?;
    let root = machine.join("root");
    mount_root(&launch, machine, &root)?;
    first_boot::provide(&launch, machine, &root)?;
    mount_kernel(&launch, machine, &root)?;
    mount_devices(&launch, &root)?;
    rustix::system::sethostname(b"localhost")?;
    enter_root(&root)?;
    drop_capabilities()?;
    let error = Command::new("/lib/systemd/systemd")
        .args(["--log-target=journal", "--show-status=yes"])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", "dumb")
        // systemd asks for this to know that it has no hardware of its own.
        .env("container", "basalt")
        .exec();
    Err(error).context("cannot start systemd")
}

/// Gives up for good what a machine must not be able to do to its host. Every program that enters a machine does this
/// first: root in a machine's namespaces is root on the host but for these.
pub fn drop_capabilities() -> Result<()> {
    for capability in DROPPED {
        remove_capability_from_bounding_set(*capability).context("cannot drop a capability")?;
    }
    Ok(())
}

fn wait_for_nics(machine: &Path) -> Result<()> {
    let started = Instant::now();
    while !machine.join(GO).exists() {
        if started.elapsed() > Duration::from_secs(60) {
            bail!("the NICs were not plugged");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The system disk: an overlay on the golden root, and plain directories where an overlay will not do.
fn mount_root(launch: &Launch, machine: &Path, root: &Path) -> Result<()> {
    let mut options = OsString::from("lowerdir=");
    options.push(&launch.golden);
    options.push(",upperdir=");
    options.push(machine.join("upper"));
    options.push(",workdir=");
    options.push(machine.join("work"));
    let options = std::ffi::CString::new(options.into_encoded_bytes())?;
    mount("overlay", root, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .context("overlay of the system disk")?;
    for name in PLAIN_DIRS {
        let target = root.join("var/lib").join(name);
        fs::create_dir_all(&target)?;
        mount_bind(machine.join("plain").join(name), &target).with_context(|| format!("bind mount of {name}"))?;
    }
    Ok(())
}

fn file_system(kind: &str, target: &Path, flags: MountFlags, data: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("mount point {}", target.display()))?;
    let data = std::ffi::CString::new(data)?;
    mount(kind, target, kind, flags, Some(data.as_c_str()))
        .with_context(|| format!("mount of {kind} at {}", target.display()))
}

/// `/proc`, `/sys` and the control groups, with the host's settings out of reach.
fn mount_kernel(launch: &Launch, machine: &Path, root: &Path) -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    file_system("proc", &root.join("proc"), safe, "")?;
    file_system("sysfs", &root.join("sys"), safe | MountFlags::RDONLY, "")?;

    let settings = root.join("proc/sys");
    mount_bind(&settings, &settings)?;
    // What belongs to the network namespace is the machine's own.
    mount_bind(settings.join("net"), settings.join("net"))?;
    mount_remount(&settings, MountFlags::BIND | MountFlags::RDONLY | safe, "").context("read-only /proc/sys")?;
    let shown = machine.join("settings");
    fs::create_dir_all(&shown)?;
    for (name, value) in SHOWN_SETTINGS {
        let file = shown.join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n"))?;
        mount_bind(&file, settings.join(name)).with_context(|| format!("setting {name}"))?;
    }
    let sysrq = root.join("proc/sysrq-trigger");
    if sysrq.exists() {
        mount_bind("/dev/null", &sysrq)?;
    }

    let groups = root.join("sys/fs/cgroup");
    mount("tmpfs", &groups, "tmpfs", MountFlags::empty(), Some(c"mode=755"))?;
    for name in &launch.hierarchies {
        let (kind, data) = match name.as_str() {
            "unified" => ("cgroup2", String::new()),
            "systemd" => ("cgroup", "none,name=systemd".to_owned()),
            controllers => ("cgroup", controllers.to_owned()),
        };
        file_system(kind, &groups.join(name), safe, &data)?;
    }
    mount_remount(&groups, MountFlags::RDONLY, "mode=755").context("read-only /sys/fs/cgroup")?;
    Ok(())
}

/// `/dev`, `/run` and `/tmp`.
fn mount_devices(launch: &Launch, root: &Path) -> Result<()> {
    let dev = root.join("dev");
    file_system("tmpfs", &dev, MountFlags::NOSUID, "mode=755,size=1m")?;
    for (name, mode, major, minor) in [
        ("null", 0o666, 1, 3),
        ("zero", 0o666, 1, 5),
        ("full", 0o666, 1, 7),
        ("random", 0o666, 1, 8),
        ("urandom", 0o666, 1, 9),
        ("kmsg", 0o600, 1, 11),
        ("tty", 0o666, 5, 0),
        ("fuse", 0o666, 10, 229),
    ] {
        node(&dev.join(name), rustix::fs::FileType::CharacterDevice, mode, major, minor)?;
    }
    fs::create_dir_all(dev.join("net"))?;
    node(&dev.join("net/tun"), rustix::fs::FileType::CharacterDevice, 0o666, 10, 200)?;
    for disk in &launch.disks {
        node(&dev.join(&disk.name), rustix::fs::FileType::BlockDevice, 0o660, LOOP_MAJOR, disk.minor)?;
    }
    file_system(
        "devpts",
        &dev.join("pts"),
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "newinstance,ptmxmode=0666,mode=620,gid=5",
    )?;
    file_system("tmpfs", &dev.join("shm"), MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")?;
    file_system("mqueue", &dev.join("mqueue"), MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, "")?;
    for (target, link) in
        [("pts/ptmx", "ptmx"), ("/proc/self/fd", "fd"), ("fd/0", "stdin"), ("fd/1", "stdout"), ("fd/2", "stderr")]
    {
        std::os::unix::fs::symlink(target, dev.join(link))?;
    }
    let console = dev.join("console");
    fs::File::create(&console)?;
    mount_bind(&launch.console, &console).context("console")?;
    file_system("tmpfs", &root.join("run"), MountFlags::NOSUID | MountFlags::NODEV, "mode=755")?;
    file_system("tmpfs", &root.join("tmp"), MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")
}

fn node(path: &Path, kind: rustix::fs::FileType, mode: u32, major: u32, minor: u32) -> Result<()> {
    mknodat(rustix::fs::CWD, path, kind, Mode::from_raw_mode(mode), makedev(major, minor))
        .and_then(|()| rustix::fs::chmod(path, Mode::from_raw_mode(mode)))
        .with_context(|| format!("device node {}", path.display()))
}

/// Leaves the host's root behind.
fn enter_root(root: &Path) -> io::Result<()> {
    // pivot_root wants the old root to have a place below the new one; stacking both on one place needs no directory.
    std::env::set_current_dir(root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    // kubelet hands mounts on to containers.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    Ok(())
}
