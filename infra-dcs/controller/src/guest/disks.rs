//! `/etc/disk-setup.sh`: formats and mounts a machine's disks before kubeadm runs.
//!
//! Its contract: data is never formatted away. A file system that is there is kept, except on a disk that asks to be
//! wiped at the first boot of a new VM; a disk that should hold data and shows none stops the boot instead of being
//! formatted. Devices are found by serial number where the platform shows one, else by their place in the order of
//! sequence numbers, and only when the size fits.

use crate::{
    api::{machine::DiskSpec, pool::PersistentDisk},
    disks::sequence,
};

/// Template of the script; `@INSTANCE@` and `@DISKS@` are filled in.
const SCRIPT: &str = include_str!("disk-setup.sh");
/// File system of a disk with a mount point that names none.
const DEFAULT_FORMAT: &str = "ext4";
/// Mount point whose disk also takes the logs of pods.
const CONTAINERD: &str = "/var/lib/containerd";

/// A disk of a machine, as its guest must treat it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Sequence number on the bus; the system disk has 1.
    pub sequence: u32,
    /// Size in GiB.
    pub size_gb: i64,
    /// Mount point; without one the disk stays raw unless it has a format.
    pub path: Option<String>,
    /// File system.
    pub format: Option<String>,
    /// Options of mkfs.
    pub options: Vec<String>,
    /// Options of mount.
    pub mount_options: Vec<String>,
    /// Wiped at the first boot of a new VM.
    pub wipe: bool,
    /// It was in use before: no file system on it means that data is lost.
    pub expects_data: bool,
    /// Serial number that the guest sees, where known.
    pub serial: Option<String>,
    /// Slot of its pool entry; none for a disk of the template.
    pub slot: Option<i64>,
}

/// The disks that a `DCSMachine` itself declares, without the system disk, numbered from 2 in their order.
pub fn of_template(disks: &[DiskSpec]) -> Vec<Disk> {
    let data = disks.iter().filter(|disk| disk.system_volume != Some(true));
    data.zip(2..)
        .map(|(disk, sequence)| Disk {
            sequence,
            size_gb: disk.quantity,
            path: disk.path.clone(),
            format: disk.format.clone(),
            options: disk.options.clone(),
            mount_options: disk.mount_options.clone(),
            wipe: disk.wipe_filesystem == Some(true),
            expects_data: false,
            serial: None,
            slot: None,
        })
        .collect()
}

/// The persistent disks of a pool entry, in the order of their slots, which is that of their sequence numbers. A disk of
/// no sequence number is left out: its pool says so, and the machine is not started without it.
pub fn of_entry(disks: &[PersistentDisk], data_disks: u32, holds_data: impl Fn(i64) -> bool) -> Vec<Disk> {
    let mut found: Vec<Disk> = disks
        .iter()
        .filter_map(|disk| {
            Some(Disk {
                sequence: sequence(data_disks, disk).ok()?,
                size_gb: disk.quantity_gb,
                path: disk.path.clone(),
                format: disk.format.clone(),
                options: disk.options.clone(),
                mount_options: disk.mount_options.clone(),
                wipe: false,
                expects_data: holds_data(disk.slot),
                serial: None,
                slot: Some(disk.slot),
            })
        })
        .collect();
    found.sort_by_key(|disk| disk.sequence);
    found
}

/// The script, when any disk needs one.
pub(super) fn script(instance: &str, disks: &[Disk]) -> Option<String> {
    if disks.is_empty() {
        return None;
    }
    let lines: Vec<String> = disks.iter().zip(1..).map(|(disk, order)| line(disk, order)).collect();
    let mut calls = lines.join("\n");
    if disks.iter().any(|disk| disk.path.as_deref() == Some(CONTAINERD)) {
        calls.push_str("\nlink_pod_logs");
    }
    Some(SCRIPT.replace("@INSTANCE@", &quoted(instance)).replace("@DISKS@", &calls))
}

/// One call: order, sequence, GiB, serial, path, format, mkfs options, mount options, wipe, expects data.
fn line(disk: &Disk, order: u32) -> String {
    let format = match (&disk.format, &disk.path) {
        (Some(format), _) => format.as_str(),
        (None, Some(_)) => DEFAULT_FORMAT,
        (None, None) => "",
    };
    let mount_options =
        if disk.mount_options.is_empty() { "defaults".to_owned() } else { disk.mount_options.join(",") };
    let texts = [
        disk.serial.as_deref().unwrap_or_default(),
        disk.path.as_deref().unwrap_or_default(),
        format,
        &mount_options,
        if disk.wipe { "wipe" } else { "keep" },
        if disk.expects_data { "data" } else { "new" },
    ];
    let mut call = format!("setup_disk {order} {} {}", disk.sequence, disk.size_gb);
    for text in texts.into_iter().chain(disk.options.iter().map(String::as_str)) {
        call.push(' ');
        call.push_str(&quoted(text));
    }
    call
}

/// A text as one word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
