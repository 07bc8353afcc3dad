//! Modules `disk_setup` and `mounts`.

use super::{Disk, Filesystem, Mount};
use crate::guest::memory::{
    disk::{Block, Content, Partition, Table, TableKind},
    machine::Machine,
};

const MIB: u64 = 1 << 20;
const FSTAB: &str = "/etc/fstab";
/// Ends the lines of `/etc/fstab` that are cloud-init's.
const MARK: &str = "comment=cloudconfig";

fn find(machine: &Machine, device: &str) -> Result<Block, String> {
    let path =
        if device.starts_with('/') || device.contains('=') { device.to_owned() } else { format!("/dev/{device}") };
    machine.block(&path).ok_or_else(|| format!("there is no device {device}"))
}

pub(super) fn partition(disk: &Disk, machine: &mut Machine) -> Result<(), String> {
    let block = find(machine, &disk.device)?;
    if disk.layout.is_empty() {
        return Ok(());
    }
    match block.disk.content() {
        Content::Blank => {}
        _ if disk.overwrite && machine.mounts_of(&block).is_empty() && block.name != "vda" => {}
        // What is in use is left as it is, and cloud-init is content with that.
        _ => {
            machine.say(&format!("cloud-init: {} is in use already; its partitions stay as they are", disk.device));
            return Ok(());
        }
    }
    let usable = (block.size_bytes / MIB).saturating_sub(2);
    let mut start = 1;
    let mut partitions = Vec::new();
    for (number, (percent, kind)) in (1..).zip(&disk.layout) {
        let size = usable * percent / 100;
        partitions.push(Partition {
            number,
            label: String::new(),
            type_code: kind.clone().unwrap_or_else(|| "83".to_owned()),
            start_mib: start,
            size_bytes: size * MIB,
            disk: Default::default(),
        });
        start += size;
    }
    let kind = if disk.gpt { TableKind::Gpt } else { TableKind::Dos };
    block.disk.set(Content::Partitioned(Table { kind, partitions }));
    machine.settle_devices().map_err(|error| error.to_string())
}

pub(super) fn make(wanted: &Filesystem, machine: &mut Machine) -> Result<(), String> {
    let device = if wanted.partition.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{}{}", wanted.device, wanted.partition)
    } else {
        wanted.device.clone()
    };
    let block = find(machine, &device)?;
    if !machine.mounts_of(&block).is_empty() || block.name == "vda" {
        return Err(format!("{device} is in use"));
    }
    let fits = |block: &Block| {
        block.disk.volume().is_some_and(|volume| {
            volume.kind() == wanted.kind && (volume.label() == wanted.label || wanted.partition == "any")
        })
    };
    let parts = crate::guest::memory::disk::blocks(&machine.disks);
    let related = parts.iter().filter(|part| part.name == block.name || part.parent.as_ref() == Some(&block.name));
    let searched = matches!(wanted.partition.as_str(), "auto" | "any");
    let present = if searched { related.clone().any(fits) } else { fits(&block) };
    if present && !wanted.overwrite {
        machine.say(&format!("cloud-init: keeping the {} on {device}", wanted.kind));
        return Ok(());
    }
    let is_disk = block.parent.is_none();
    match block.disk.content() {
        Content::Blank => {}
        Content::FileSystem(volume) if wanted.replaces.as_ref() == Some(&volume.kind()) => {}
        // Over a whole disk, and where it is told to, cloud-init calls mkfs with force.
        _ if is_disk || wanted.overwrite => {}
        _ => return Err(format!("{device} appears to contain an existing filesystem; use overwrite: true")),
    }
    machine.say(&format!("cloud-init: making {} on {device}", wanted.kind));
    if wanted.kind == "swap" {
        let uuid = machine.new_uuid(&block.name);
        block.disk.set(Content::Swap(uuid));
    } else {
        machine.format(&block, &wanted.kind, &wanted.label, None);
    }
    machine.settle_devices().map_err(|error| error.to_string())
}

/// Writes `/etc/fstab` and mounts what is in it.
pub(super) fn mount(mounts: &[Mount], machine: &mut Machine) -> Result<(), (usize, String)> {
    if mounts.is_empty() {
        return Ok(());
    }
    let old = machine.root.read_text(FSTAB).unwrap_or_default();
    let mut lines: Vec<String> = old.lines().filter(|line| !line.contains(MARK)).map(str::to_owned).collect();
    for (index, Mount { fields }) in mounts.iter().enumerate() {
        let fail = |reason: String| (index, reason);
        let [device, place, kind, options, dump, pass] = fields;
        let device =
            if device.starts_with('/') || device.contains('=') { device.clone() } else { format!("/dev/{device}") };
        let known = ["auto", "ext3", "ext4", "xfs", "btrfs", "vfat", "swap", "tmpfs"];
        if !known.contains(&kind.as_str()) {
            return Err(fail(format!("unknown filesystem type '{kind}'")));
        }
        if kind == "swap" || place == "none" || kind == "tmpfs" {
            lines.push(format!("{device}\t{place}\t{kind}\t{options},{MARK}\t{dump}\t{pass}"));
            continue;
        }
        find(machine, &device).map_err(fail)?;
        machine.root.make_directories(place).map_err(|error| fail(format!("{place}: {error}")))?;
        lines.push(format!("{device}\t{place}\t{kind}\t{options},{MARK}\t{dump}\t{pass}"));
    }
    let text = lines.join("\n") + "\n";
    machine.root.write(FSTAB, text.into_bytes()).map_err(|error| (0, format!("{FSTAB}: {error}")))?;
    // Here the machine sees what `nofail` would hide.
    for (index, Mount { fields: [device, place, kind, options, ..] }) in mounts.iter().enumerate() {
        if kind == "swap" || place == "none" || machine.root.mounted_at(place).is_some() {
            continue;
        }
        let device =
            if device.starts_with('/') || device.contains('=') { device.clone() } else { format!("/dev/{device}") };
        crate::guest::memory::shell::mount_one(machine, &device, place, Some(kind), options)
            .map_err(|reason| (index, reason))?;
    }
    Ok(())
}
