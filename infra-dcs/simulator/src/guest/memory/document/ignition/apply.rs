//! Applies a document to a machine, in the order of Ignition's stages: disks, file systems, accounts, directories, files,
//! links, units.

use super::{
    Directory, Document, File, Id, Link, NodeOwner, Unit,
    disks::{make_filesystems, partition},
};
use crate::guest::memory::{
    machine::Machine,
    root::{Errno, Kind, Owner, Root},
};

/// Where Ignition leaves presets for systemd's first boot.
const PRESET: &str = "/etc/systemd/system-preset/20-ignition.preset";

/// What could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct ApplyError {
    /// The stage and thing, for example `files: /etc/hostname`.
    pub what: String,
    /// Why.
    pub reason: String,
}

pub(super) fn failed<T>(what: impl Into<String>, reason: impl ToString) -> Result<T, ApplyError> {
    Err(ApplyError { what: what.into(), reason: reason.to_string() })
}

/// See the [module](self).
pub fn apply(document: &Document, machine: &mut Machine) -> Result<(), ApplyError> {
    if let Some(name) = document.raid.first() {
        return failed(format!("disks: raid {name:?}"), "this image has no mdadm");
    }
    if let Some(name) = document.luks.first() {
        return failed(format!("disks: luks {name:?}"), "this image has no cryptsetup");
    }
    for disk in &document.disks {
        partition(disk, machine)?;
        machine.say(&format!("ignition: disks: partitioned {}", disk.device));
    }
    let mounted = make_filesystems(document, machine)?;
    let result = write(document, machine);
    // Ignition mounts only for itself; mount units do it for the machine.
    for path in mounted.into_iter().rev() {
        if let Err(error) = machine.root.unmount(&path) {
            return failed(format!("umount: {path}"), error);
        }
    }
    result
}

fn write(document: &Document, machine: &mut Machine) -> Result<(), ApplyError> {
    let root = &mut machine.root;
    accounts(document, root)?;
    // Parents first, whatever the order in the document.
    let mut directories: Vec<_> = document.directories.iter().collect();
    directories.sort_by_key(|node| node.path.matches('/').count());
    for node in directories {
        directory(node, root).or_else(|reason| failed(format!("files: directory {:?}", node.path), reason))?;
    }
    for node in &document.files {
        file(node, root).or_else(|reason| failed(format!("files: {:?}", node.path), reason))?;
    }
    for node in &document.links {
        link(node, root).or_else(|reason| failed(format!("files: link {:?}", node.path), reason))?;
    }
    units(&document.units, root)?;
    machine.say(&format!(
        "ignition: files: {} files, {} directories, {} links, {} units, {} users",
        document.files.len(),
        document.directories.len(),
        document.links.len(),
        document.units.len(),
        document.users.len()
    ));
    Ok(())
}

fn accounts(document: &Document, root: &mut Root) -> Result<(), ApplyError> {
    for group in &document.groups {
        if group.absent {
            return failed(format!("passwd: group {:?}", group.name), "this image cannot delete groups");
        }
        let made = root.add_group(&group.name, group.gid, group.system);
        made.or_else(|error| failed(format!("passwd: group {:?}", group.name), error))?;
    }
    for user in &document.users {
        let what = || format!("passwd: user {:?}", user.account.name);
        if user.absent {
            return failed(what(), "this image cannot delete users");
        }
        let account = root.add_user(&user.account).or_else(|error| failed(what(), error))?;
        if !user.keys.is_empty() {
            let kept = root.authorize_keys(&account, "authorized_keys.d/ignition", &user.keys);
            kept.or_else(|error| failed(what(), error))?;
        }
    }
    Ok(())
}

/// Numbers of an owner; who is not named is `root`.
fn numbers(owner: &NodeOwner, root: &Root) -> Result<Owner, String> {
    let uid = match &owner.user {
        None => 0,
        Some(Id::Number(number)) => *number,
        Some(Id::Name(name)) => root.user(name).ok_or_else(|| format!("no such user {name:?}"))?.owner.uid,
    };
    let gid = match &owner.group {
        None => 0,
        Some(Id::Number(number)) => *number,
        Some(Id::Name(name)) => root.group(name).ok_or_else(|| format!("no such group {name:?}"))?.gid,
    };
    Ok(Owner { uid, gid })
}

fn present(path: &str, root: &Root) -> Result<Option<Kind>, Errno> {
    match root.link_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.kind)),
        Err(Errno::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(error: Errno) -> String {
    error.to_string()
}

fn directory(node: &Directory, root: &mut Root) -> Result<(), String> {
    let owner = numbers(&node.owner, root)?;
    let mut there = present(&node.path, root).map_err(text)?;
    if node.overwrite && there.is_some() {
        root.remove_all(&node.path).map_err(text)?;
        there = None;
    }
    match there {
        Some(Kind::Directory) => {}
        Some(_) => return Err("a non-directory exists there already and overwrite is false".to_owned()),
        None => root.make_directories(&node.path).map_err(text)?,
    }
    let mode = node.mode.or_else(|| there.is_none().then_some(0o755));
    if let Some(mode) = mode {
        root.set_mode(&node.path, mode).map_err(text)?;
    }
    root.set_owner(&node.path, owner).map_err(text)
}

fn file(node: &File, root: &mut Root) -> Result<(), String> {
    let owner = numbers(&node.owner, root)?;
    let mut there = present(&node.path, root).map_err(text)?;
    if node.overwrite && there.is_some() {
        root.remove_all(&node.path).map_err(text)?;
        there = None;
    }
    match (there, &node.content) {
        (Some(Kind::Directory), _) => return Err("a directory exists there already and overwrite is false".to_owned()),
        (Some(Kind::File), None) => {}
        (Some(_), _) => return Err("a file exists there already and overwrite is false".to_owned()),
        (None, content) => {
            let content = content.clone().unwrap_or_default();
            root.put(&node.path, content, 0o644, Owner::default()).map_err(text)?;
        }
    }
    for more in &node.append {
        root.append(&node.path, more).map_err(text)?;
    }
    if let Some(mode) = node.mode {
        root.set_mode(&node.path, mode).map_err(text)?;
    }
    root.set_owner(&node.path, owner).map_err(text)
}

fn link(node: &Link, root: &mut Root) -> Result<(), String> {
    let owner = numbers(&node.owner, root)?;
    if present(&node.path, root).map_err(text)?.is_some() {
        let same = !node.hard && root.read_link(&node.path).is_ok_and(|target| target == node.target);
        if !node.overwrite {
            return if same { Ok(()) } else { Err("a node exists there already and overwrite is false".to_owned()) };
        }
        root.remove_all(&node.path).map_err(text)?;
    }
    root.make_parents(&node.path).map_err(text)?;
    if node.hard {
        return root.hard_link(&node.target, &node.path).map_err(text);
    }
    root.symlink(&node.target, &node.path).map_err(text)?;
    root.set_link_owner(&node.path, owner).map_err(text)
}

fn units(units: &[Unit], root: &mut Root) -> Result<(), ApplyError> {
    let mut presets = String::new();
    for unit in units {
        let what = || format!("files: unit {:?}", unit.name);
        let path = format!("/etc/systemd/system/{}", unit.name);
        if let Some(contents) = &unit.contents {
            root.put(&path, contents.as_bytes(), 0o644, Owner::default()).or_else(|error| failed(what(), error))?;
        }
        for (name, contents) in &unit.drop_ins {
            let written = root.put(&format!("{path}.d/{name}"), contents.as_bytes(), 0o644, Owner::default());
            written.or_else(|error| failed(what(), error))?;
        }
        if unit.mask {
            if root.link_metadata(&path).is_ok() {
                root.remove_file(&path).or_else(|error| failed(what(), error))?;
            }
            let made = root.make_parents(&path).and_then(|()| root.symlink("/dev/null", &path));
            made.or_else(|error| failed(what(), error))?;
        }
        if let Some(enabled) = unit.enabled {
            presets.push_str(&format!("{} {}\n", if enabled { "enable" } else { "disable" }, unit.name));
        }
    }
    if !presets.is_empty() {
        let written = root.put(PRESET, presets.into_bytes(), 0o644, Owner::default());
        written.or_else(|error| failed("files: presets", error))?;
    }
    Ok(())
}
