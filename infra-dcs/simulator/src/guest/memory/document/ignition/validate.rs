//! What a document must keep to as a whole: the checks of `ignition-validate`.

use std::collections::BTreeMap;

use super::{Document, Filesystem};
use crate::guest::memory::{
    document::reader::{Read, wrong},
    systemd::unit,
};

/// Suffixes that systemd knows.
const UNIT_SUFFIXES: [&str; 10] =
    [".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice"];

pub(super) fn check(document: &Document) -> Read<()> {
    nodes(document)?;
    units(document)?;
    filesystems(document)?;
    disks(document)?;
    unique("passwd.users", document.users.iter().map(|user| user.account.name.as_str()))?;
    unique("passwd.groups", document.groups.iter().map(|group| group.name.as_str()))
}

fn unique<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Read<()> {
    let mut seen = BTreeMap::new();
    for (index, name) in names.enumerate() {
        if let Some(first) = seen.insert(name, index) {
            return wrong(
                format!("{list}[{index}]"),
                format!("duplicate entry defined: {name:?} is in {list}[{first}] too"),
            );
        }
    }
    Ok(())
}

fn nodes(document: &Document) -> Read<()> {
    let all: Vec<(String, &str)> = document
        .files
        .iter()
        .enumerate()
        .map(|(index, node)| (format!("storage.files[{index}]"), node.path.as_str()))
        .chain(
            (0..)
                .zip(&document.directories)
                .map(|(index, node): (usize, _)| (format!("storage.directories[{index}]"), node.path.as_str())),
        )
        .chain(
            (0..)
                .zip(&document.links)
                .map(|(index, node): (usize, _)| (format!("storage.links[{index}]"), node.path.as_str())),
        )
        .collect();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (place, path) in &all {
        if *path == "/" {
            return wrong(format!("{place}.path"), "the root directory is no node of a document");
        }
        if let Some(first) = seen.insert(path, place) {
            return wrong(format!("{place}.path"), format!("duplicate entry defined: {path:?} is in {first} too"));
        }
    }
    for (place, path) in &all {
        for link in &document.links {
            if path.strip_prefix(link.path.as_str()).is_some_and(|rest| rest.starts_with('/')) {
                return wrong(
                    format!("{place}.path"),
                    format!("path {path:?} includes link {:?} in config", link.path),
                );
            }
        }
        for file in &document.files {
            if path.strip_prefix(file.path.as_str()).is_some_and(|rest| rest.starts_with('/')) {
                return wrong(format!("{place}.path"), format!("path {path:?} lies below the file {:?}", file.path));
            }
        }
    }
    for (index, link) in document.links.iter().enumerate() {
        if link.hard && document.directories.iter().any(|node| node.path == link.target) {
            return wrong(format!("storage.links[{index}].target"), "hard link target is a directory");
        }
    }
    Ok(())
}

fn units(document: &Document) -> Read<()> {
    unique("systemd.units", document.units.iter().map(|unit| unit.name.as_str()))?;
    for (index, found) in document.units.iter().enumerate() {
        let place = format!("systemd.units[{index}]");
        if found.name.contains('/') || !UNIT_SUFFIXES.iter().any(|suffix| found.name.ends_with(suffix)) {
            return wrong(format!("{place}.name"), format!("invalid systemd unit extension: {:?}", found.name));
        }
        let fires = [".timer", ".socket", ".path", ".automount"].iter().any(|suffix| found.name.ends_with(suffix));
        if fires && found.enabled == Some(true) {
            return wrong(format!("{place}.enabled"), "not modelled: nothing fires here; enable the service itself");
        }
        if let Some(contents) = &found.contents {
            syntax(&found.name, contents).or_else(|reason| wrong(format!("{place}.contents"), reason))?;
            if found.enabled == Some(true) && !contents.lines().any(|line| line.trim() == "[Install]") {
                return wrong(
                    format!("{place}.contents"),
                    format!("unit {:?} is enabled but has no install section, so enabling does nothing", found.name),
                );
            }
        }
        let drop_ins = format!("{place}.dropins");
        unique(&drop_ins, found.drop_ins.iter().map(|(name, _)| name.as_str()))?;
        for (index, (name, contents)) in found.drop_ins.iter().enumerate() {
            if name.strip_suffix(".conf").is_none() || name.contains('/') {
                return wrong(
                    format!("{drop_ins}[{index}].name"),
                    "invalid systemd drop-in extension; it must be .conf",
                );
            }
            syntax(&found.name, contents).or_else(|reason| wrong(format!("{drop_ins}[{index}].contents"), reason))?;
        }
    }
    Ok(())
}

/// Lines of a unit that are no unit file's. Whether the unit as a whole makes sense is for systemd to say.
fn syntax(name: &str, contents: &str) -> Result<(), String> {
    unit::check_syntax(name, contents).map_err(|error| format!("invalid unit content: {error}"))
}

fn filesystems(document: &Document) -> Read<()> {
    unique("storage.filesystems", document.filesystems.iter().map(|filesystem| filesystem.device.as_str()))?;
    for (index, filesystem) in document.filesystems.iter().enumerate() {
        filesystem_alone(&format!("storage.filesystems[{index}]"), filesystem)?;
    }
    Ok(())
}

fn filesystem_alone(place: &str, filesystem: &Filesystem) -> Read<()> {
    let Filesystem { format, path, label, uuid, wipe, options, mount_options, .. } = filesystem;
    if format.is_empty() {
        let needs = path.is_some() || label.is_some() || uuid.is_some() || *wipe;
        if needs || !options.is_empty() || !mount_options.is_empty() {
            return wrong(
                format!("{place}.format"),
                "format is empty but path, label, uuid, wipeFilesystem, or options is specified",
            );
        }
        return Ok(());
    }
    let longest = match format.as_str() {
        "ext4" => 16,
        "btrfs" => 256,
        "xfs" => 12,
        "swap" => 15,
        "vfat" => 11,
        _ => return wrong(format!("{place}.format"), format!("invalid filesystem format {format:?}")),
    };
    if label.as_ref().is_some_and(|label| label.len() > longest) {
        return wrong(
            format!("{place}.label"),
            format!("filesystem labels cannot be longer than {longest} characters when using {format}"),
        );
    }
    if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        return wrong(format!("{place}.path"), "path not absolute");
    }
    Ok(())
}

fn disks(document: &Document) -> Read<()> {
    unique("storage.disks", document.disks.iter().map(|disk| disk.device.as_str()))?;
    for (index, disk) in document.disks.iter().enumerate() {
        let place = format!("storage.disks[{index}].partitions");
        let mut numbers = BTreeMap::new();
        let mut labels = BTreeMap::new();
        for (index, partition) in disk.partitions.iter().enumerate() {
            let place = format!("{place}[{index}]");
            if partition.number == 0 && partition.label.is_none() {
                return wrong(place, "a partition number >= 1 or a label must be specified");
            }
            if partition.number > 128 {
                return wrong(format!("{place}.number"), "must be at most 128");
            }
            if partition.number != 0 && numbers.insert(partition.number, index).is_some() {
                return wrong(
                    format!("{place}.number"),
                    format!("partition number {} is used twice", partition.number),
                );
            }
            if let Some(label) = &partition.label {
                if label.len() > 36 {
                    return wrong(format!("{place}.label"), "partition labels may not exceed 36 characters");
                }
                if label.contains(':') {
                    return wrong(
                        format!("{place}.label"),
                        "partition label will be truncated to text before the colon",
                    );
                }
                if labels.insert(label, index).is_some() {
                    return wrong(format!("{place}.label"), format!("partition label {label:?} is used twice"));
                }
            }
            if partition.absent && (partition.label.is_some() || partition.size_mib.is_some_and(|size| size != 0)) {
                return wrong(place, "shouldExist is false, so nothing but a number may be specified");
            }
            if let Some(guid) = &partition.type_guid
                && uuid::Uuid::parse_str(guid).is_err()
            {
                return wrong(format!("{place}.typeGuid"), format!("{guid:?} is no GUID"));
            }
        }
    }
    Ok(())
}
