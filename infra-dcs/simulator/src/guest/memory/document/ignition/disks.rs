//! The disks stage: partitions and file systems. What is there and matches is kept; what does not match is replaced only
//! where the document says so.

use super::{
    Disk, Document, Filesystem, Partition,
    apply::{ApplyError, failed},
};
use crate::guest::memory::{
    disk::{self, Block, Content, Table, TableKind},
    machine::Machine,
};

/// Type of a partition that names none: Linux file system data.
const LINUX_DATA: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
const MIB: u64 = 1 << 20;

pub(super) fn partition(disk: &Disk, machine: &mut Machine) -> Result<(), ApplyError> {
    let what = || format!("disks: {}", disk.device);
    let Some(block) = machine.block(&disk.device) else {
        return failed(what(), "timed out waiting for the device: there is none of this name");
    };
    let in_use = machine.mounts_of(&block).len() + in_use(&block, machine);
    if in_use > 0 || block.name == "vda" {
        return failed(what(), "refusing to operate on a disk that is in use");
    }
    let mut table = match block.disk.content() {
        Content::Partitioned(table) if !disk.wipe_table => table,
        _ => Table { kind: TableKind::Gpt, partitions: Vec::new() },
    };
    for wanted in &disk.partitions {
        place(wanted, &mut table, block.size_bytes).or_else(|reason| failed(what(), reason))?;
    }
    table.partitions.sort_by_key(|partition| partition.number);
    block.disk.set(Content::Partitioned(table));
    machine.settle_devices().or_else(|error| failed(what(), error))
}

fn in_use(block: &Block, machine: &Machine) -> usize {
    let parts = disk::blocks(&machine.disks).into_iter().filter(|part| part.parent.as_ref() == Some(&block.name));
    parts.filter(|part| !machine.mounts_of(part).is_empty()).count()
}

fn place(wanted: &Partition, table: &mut Table, disk_size: u64) -> Result<(), String> {
    let by_number = |part: &disk::Partition| wanted.number != 0 && part.number == wanted.number;
    let by_label = |part: &disk::Partition| wanted.number == 0 && Some(&part.label) == wanted.label.as_ref();
    let present = table.partitions.iter().position(|part| by_number(part) || by_label(part));
    if wanted.absent {
        return match present {
            Some(index) if wanted.wipe_entry => {
                table.partitions.remove(index);
                Ok(())
            }
            Some(_) => Err(format!("partition {} exists, should not, and wipePartitionEntry is false", wanted.number)),
            None => Ok(()),
        };
    }
    let mut kept = None;
    if let Some(index) = present {
        let part = &table.partitions[index];
        let size_fits = wanted.size_mib.is_none_or(|size| size == 0 || size * MIB == part.size_bytes);
        let rest_fits = wanted.start_mib.is_none_or(|start| start == 0 || start == part.start_mib)
            && wanted.label.as_ref().is_none_or(|label| *label == part.label)
            && wanted.type_guid.as_ref().is_none_or(|guid| guid.eq_ignore_ascii_case(&part.type_code));
        match (size_fits, rest_fits) {
            (true, true) => return Ok(()),
            (false, true) if wanted.resize => kept = Some(table.partitions.remove(index).disk),
            _ if wanted.wipe_entry => {
                table.partitions.remove(index);
            }
            _ => {
                return Err(format!(
                    "partition {} didn't match: neither wipePartitionEntry nor a fitting resize is given",
                    part.number
                ));
            }
        }
    }
    let number = if wanted.number == 0 {
        (1..=128)
            .find(|number| table.partitions.iter().all(|part| part.number != *number))
            .ok_or("the table is full")?
    } else {
        wanted.number
    };
    // The table itself takes the first MiB, and its copy the last.
    let end = (disk_size / MIB).saturating_sub(1);
    let start = match wanted.start_mib {
        Some(start) if start > 0 => start,
        _ => first_free(table, end),
    };
    let limit = table.partitions.iter().map(|part| part.start_mib).filter(|other| *other >= start).min().unwrap_or(end);
    let size = match wanted.size_mib {
        Some(size) if size > 0 => size,
        _ => limit.saturating_sub(start),
    };
    if size == 0 || start + size > limit {
        return Err(format!(
            "partition {number} of {size} MiB from {start} MiB on does not fit: free up to {limit} MiB"
        ));
    }
    table.partitions.push(disk::Partition {
        number,
        label: wanted.label.clone().unwrap_or_default(),
        type_code: wanted.type_guid.clone().unwrap_or_else(|| LINUX_DATA.to_owned()),
        start_mib: start,
        size_bytes: size * MIB,
        disk: kept.unwrap_or_default(),
    });
    Ok(())
}

/// Where the largest hole begins, as `sgdisk` chooses for a begin of 0.
fn first_free(table: &Table, end: u64) -> u64 {
    let mut taken: Vec<(u64, u64)> =
        table.partitions.iter().map(|part| (part.start_mib, part.start_mib + part.size_bytes / MIB)).collect();
    taken.sort_unstable();
    taken.push((end, end));
    let (mut at, mut best) = (1, (0, 1));
    for (from, to) in taken {
        let hole = from.saturating_sub(at);
        if hole > best.0 {
            best = (hole, at);
        }
        at = at.max(to);
    }
    best.1
}

/// Makes what is missing and mounts what has a path; where it mounted, parents first.
pub(super) fn make_filesystems(document: &Document, machine: &mut Machine) -> Result<Vec<String>, ApplyError> {
    let mut mounts = Vec::new();
    for wanted in document.filesystems.iter().filter(|wanted| !wanted.format.is_empty()) {
        let what = || format!("disks: filesystem {}", wanted.device);
        let Some(block) = machine.block(&wanted.device) else {
            return failed(what(), "timed out waiting for the device: there is none of this name");
        };
        if !machine.mounts_of(&block).is_empty() || block.name == "vda" {
            return failed(what(), "refusing to operate on a device that is in use");
        }
        make(wanted, &block, machine).or_else(|reason| failed(what(), reason))?;
        if let Some(path) = &wanted.path
            && wanted.format != "swap"
        {
            mounts.push((path.clone(), block, wanted.mount_options.join(",")));
        }
    }
    mounts.sort_by_key(|(path, ..)| path.matches('/').count());
    let mut mounted = Vec::new();
    for (path, block, options) in mounts {
        let done = machine.root.make_directories(&path).and_then(|()| machine.mount(&block, &path, &options));
        done.or_else(|error| failed(format!("mount: {path}"), error))?;
        mounted.push(path);
    }
    Ok(mounted)
}

fn make(wanted: &Filesystem, block: &Block, machine: &mut Machine) -> Result<(), String> {
    let found = block.disk.content();
    if !wanted.wipe {
        match &found {
            Content::Blank => {}
            Content::FileSystem(volume) => {
                let fits = volume.kind() == wanted.format
                    && wanted.label.as_ref().is_none_or(|label| *label == volume.label())
                    && wanted.uuid.as_ref().is_none_or(|uuid| *uuid == volume.uuid());
                if fits {
                    machine.say(&format!("ignition: disks: keeping the {} on {}", wanted.format, wanted.device));
                    return Ok(());
                }
                return Err(format!(
                    "is not of the correct type, label, or UUID (found {}, {:?}, {}) and a filesystem wipe was not requested",
                    volume.kind(),
                    volume.label(),
                    volume.uuid()
                ));
            }
            Content::Swap(_) if wanted.format == "swap" => return Ok(()),
            Content::Swap(_) => return Err("found swap, and a filesystem wipe was not requested".to_owned()),
            Content::Partitioned(table) => {
                return Err(format!(
                    "found a partition table ({}), and a filesystem wipe was not requested",
                    table.kind.name()
                ));
            }
        }
    }
    machine.say(&format!("ignition: disks: making {} on {}", wanted.format, wanted.device));
    if wanted.format == "swap" {
        let uuid = wanted.uuid.clone().unwrap_or_else(|| machine.new_uuid(&block.name));
        block.disk.set(Content::Swap(uuid));
    } else {
        machine.format(block, &wanted.format, wanted.label.as_deref().unwrap_or_default(), wanted.uuid.as_deref());
    }
    machine.settle_devices().map_err(|error| error.to_string())
}
