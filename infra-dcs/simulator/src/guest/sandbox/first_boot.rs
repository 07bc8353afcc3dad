//! Hands the medium in the CD-ROM drive to whatever in the guest reads it.
//!
//! An Ignition medium is applied once, before the first boot, by the image's own `ignition` in a small root of its own,
//! as an initial RAM disk would. A config drive is laid where cloud-init looks for one, at each boot.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};
use serde::{Deserialize, Serialize};

use super::launch::Launch;
use crate::guest::iso;

/// Label of an Ignition medium.
const IGNITION_LABEL: &str = "ignition";
/// The document on it.
const IGNITION_FILE: &str = "ignition/config.ign";
/// Label of a config drive, in both cases that are in use.
const CONFIG_DRIVE_LABELS: [&str; 2] = ["config-2", "CONFIG-2"];
/// Where cloud-init looks for the tree of a config drive.
const SEED: &str = "var/lib/cloud/seed/config_drive";
/// Marks, in a machine's directory, a system disk that has been through its first boot.
const DONE: &str = "first-boot-done";

/// What is in the CD-ROM drive, its content unpacked beside the machine's disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Medium {
    /// Nothing, or nothing that this image reads.
    None,
    /// An Ignition document.
    Ignition(PathBuf),
    /// The tree of a config drive.
    ConfigDrive(PathBuf),
}

/// Unpacks an ISO image into `dir` (emptied before) and says what it is.
pub fn insert(image: Option<&Path>, dir: &Path) -> Result<Medium> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let Some(image) = image else { return Ok(Medium::None) };
    let content = iso::read(image).with_context(|| image.display().to_string())?;
    fs::create_dir_all(dir)?;
    // Keys and tokens.
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for (path, bytes) in &content.files {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes)?;
    }
    match content.label.as_str() {
        label if label.eq_ignore_ascii_case(IGNITION_LABEL) => {
            let document = dir.join(IGNITION_FILE);
            if !document.is_file() {
                bail!("the medium is labelled `{label}` but has no file {IGNITION_FILE}");
            }
            Ok(Medium::Ignition(document))
        }
        label if CONFIG_DRIVE_LABELS.contains(&label) => {
            if !dir.join("openstack").is_dir() {
                bail!("the medium is labelled `{label}` but has no directory openstack");
            }
            Ok(Medium::ConfigDrive(dir.to_owned()))
        }
        label => {
            eprintln!("CD-ROM: no reader in this image for a medium labelled `{label}`");
            Ok(Medium::None)
        }
    }
}

/// Makes the medium known to the machine whose root is mounted at `root`.
pub fn provide(launch: &Launch, machine: &Path, root: &Path) -> Result<()> {
    let done = machine.join(DONE);
    match &launch.medium {
        Medium::Ignition(document) if !done.exists() => apply_ignition(&launch.golden, machine, root, document)?,
        Medium::ConfigDrive(tree) => lay_config_drive(tree, root)?,
        _ => {}
    }
    // cloud-init without a source would wait for one, and would make the machine its own on guesses.
    let disabled = root.join("etc/cloud/cloud-init.disabled");
    match &launch.medium {
        Medium::ConfigDrive(_) => match fs::remove_file(&disabled) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        },
        _ => fs::write(&disabled, "")?,
    }
    fs::write(done, "")?;
    Ok(())
}

fn lay_config_drive(tree: &Path, root: &Path) -> Result<()> {
    let seed = root.join(SEED);
    fs::create_dir_all(&seed)?;
    fs::set_permissions(&seed, Permissions::from_mode(0o700))?;
    // A bind mount: the medium is read-only to the guest and gone when it is taken out.
    mount_bind(tree, &seed).context("config drive")
}

/// Runs the image's ignition against the machine's root.
fn apply_ignition(golden: &Path, machine: &Path, root: &Path, document: &Path) -> Result<()> {
    let initial = machine.join("initial");
    fs::create_dir_all(&initial)?;
    mount_bind(golden, &initial).context("initial root")?;
    for dir in ["run", "tmp"] {
        mount("tmpfs", initial.join(dir), "tmpfs", MountFlags::empty(), Some(c"mode=755"))?;
    }
    mount("proc", initial.join("proc"), "proc", MountFlags::empty(), None)?;
    mount_bind_recursive("/dev", initial.join("dev"))?;
    fs::create_dir_all(initial.join("run/sysroot"))?;
    mount_bind_recursive(root, initial.join("run/sysroot"))?;
    fs::copy(document, initial.join("run/config.ign"))?;
    for stage in ["fetch", "files"] {
        let mut command = Command::new("chroot");
        command
            .arg(&initial)
            .arg("/usr/lib/dracut/modules.d/30ignition/ignition")
            .args(["-platform=file", "-root=/run/sysroot", "-config-cache=/run/ignition.json", "-neednet=/run/neednet"])
            .args(["-log-to-stdout", &format!("-stage={stage}")])
            .env("IGNITION_CONFIG_FILE", "/run/config.ign")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let output = command.output().context("cannot start chroot")?;
        let log = String::from_utf8_lossy(&output.stdout);
        fs::write(machine.join(format!("ignition-{stage}.log")), log.as_bytes())?;
        if !output.status.success() {
            // Its reasons stand in the last lines, before a long state dump of the document it refuses.
            let tail: Vec<&str> =
                log.lines().filter(|line| line.contains("CRITICAL") || line.contains("rror")).collect();
            let tail = if tail.is_empty() { log.lines().rev().take(3).collect() } else { tail };
            for line in &tail {
                println!("{line}");
            }
            bail!("ignition, stage {stage}: {}", tail.join("; "));
        }
        println!("ignition: stage {stage} done");
    }
    preset_units(&initial, root)
}

/// Enables the units that Ignition only presets: a real image's systemd does it in its first boot.
fn preset_units(initial: &Path, root: &Path) -> Result<()> {
    let presets = fs::read_to_string(root.join("etc/systemd/system-preset/20-ignition.preset")).unwrap_or_default();
    let units: Vec<&str> = presets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(verb, _)| matches!(*verb, "enable" | "disable"))
        .map(|(_, unit)| unit.trim())
        .collect();
    if units.is_empty() {
        return Ok(());
    }
    let output = Command::new("chroot")
        .arg(initial)
        .args(["systemctl", "--root=/run/sysroot", "preset"])
        .args(&units)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .context("cannot start chroot")?;
    if !output.status.success() {
        bail!("cannot enable {}: {}", units.join(", "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
