//! What a machine sees under `/`: its system disk, file systems in memory and the data disks that are mounted.
//!
//! A [`Root`] is made at power-on and dropped at power-off. What survives lies in the [`Volume`]s under it: the system
//! disk's, and those of mounted disks. Everything runs as `root`, so modes are kept and shown but stop nobody.

mod accounts;
mod file_system;
mod saved;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

pub use accounts::{Group, NewUser, User};
pub use file_system::{FileSystem, Volume};
use file_system::{Inode, Node, ROOT};
use serde::{Deserialize, Serialize};

/// Links followed in one path before it counts as a circle; Linux's number.
const MAX_LINKS: usize = 40;
/// Longest path; Linux's number.
const MAX_PATH: usize = 4096;

/// What a call to the kernel answers, in the C library's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// ENOENT.
    #[error("No such file or directory")]
    NotFound,
    /// ENOTDIR.
    #[error("Not a directory")]
    NotADirectory,
    /// EISDIR.
    #[error("Is a directory")]
    IsADirectory,
    /// EEXIST.
    #[error("File exists")]
    Exists,
    /// ENOTEMPTY.
    #[error("Directory not empty")]
    NotEmpty,
    /// ELOOP.
    #[error("Too many levels of symbolic links")]
    LinkLoop,
    /// EINVAL.
    #[error("Invalid argument")]
    Invalid,
    /// EPERM.
    #[error("Operation not permitted")]
    NotPermitted,
    /// EXDEV.
    #[error("Invalid cross-device link")]
    CrossDevice,
    /// EBUSY.
    #[error("Device or resource busy")]
    Busy,
    /// ENOSPC.
    #[error("No space left on device")]
    NoSpace,
    /// ENAMETOOLONG.
    #[error("File name too long")]
    NameTooLong,
}

/// Numeric owner and group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kind of what a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Link,
    /// Block device.
    Block,
    /// Character device.
    Character,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Kind.
    pub kind: Kind,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}

/// A mounted file system.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where, without links.
    pub path: String,
    /// What, as `mount` was told: a device, or the type's name.
    pub source: String,
    /// Options, separated by commas.
    pub options: String,
    /// Major and minor number of its device.
    pub device: Option<(u32, u32)>,
    /// The file system.
    pub volume: Volume,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Root {
    mounts: Vec<Mount>,
}

/// Where a path leads.
#[derive(Clone)]
struct Place {
    mount: usize,
    inode: Inode,
    /// The path without links.
    path: String,
}

/// The directory in which a path's last name is or would be.
struct Slot {
    directory: Place,
    name: String,
}

impl Root {
    /// A machine that has this file system on its system disk, and nothing else mounted.
    pub fn new(system: Volume) -> Self {
        let mount = Mount {
            path: "/".to_owned(),
            source: "/dev/root".to_owned(),
            options: "rw,relatime".to_owned(),
            device: None,
            volume: system,
        };
        Self { mounts: vec![mount] }
    }

    // === reading ===

    /// Content of a file. Links are followed, as by all that follows except where said.
    pub fn read(&self, path: &str) -> Result<Arc<[u8]>, Errno> {
        let place = self.resolve(path)?;
        match self.mounts[place.mount].volume.lock().node(place.inode)? {
            Node::File(content) => Ok(Arc::clone(content)),
            Node::Directory(_) => Err(Errno::IsADirectory),
            Node::Character(..) | Node::Block(..) => Ok(Arc::default()),
            Node::Link(_) => Err(Errno::LinkLoop),
        }
    }

    /// Content of a file as text; bytes that are none become replacement characters.
    pub fn read_text(&self, path: &str) -> Result<String, Errno> {
        Ok(String::from_utf8_lossy(&self.read(path)?).into_owned())
    }

    /// Whether a path leads to anything.
    pub fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_ok()
    }

    /// Whether a path leads to a directory.
    pub fn is_directory(&self, path: &str) -> bool {
        self.metadata(path).is_ok_and(|metadata| metadata.kind == Kind::Directory)
    }

    /// Whether a path leads to a regular file.
    pub fn is_file(&self, path: &str) -> bool {
        self.metadata(path).is_ok_and(|metadata| metadata.kind == Kind::File)
    }

    /// What a path leads to.
    pub fn metadata(&self, path: &str) -> Result<Metadata, Errno> {
        let place = self.resolve(path)?;
        self.mounts[place.mount].volume.lock().metadata(place.inode)
    }

    /// What a path names; a link at its end is not followed.
    pub fn link_metadata(&self, path: &str) -> Result<Metadata, Errno> {
        let place = self.walk(path, false)?;
        self.mounts[place.mount].volume.lock().metadata(place.inode)
    }

    /// Target of a link.
    pub fn read_link(&self, path: &str) -> Result<String, Errno> {
        let place = self.walk(path, false)?;
        match self.mounts[place.mount].volume.lock().node(place.inode)? {
            Node::Link(target) => Ok(target.to_string()),
            _ => Err(Errno::Invalid),
        }
    }

    /// Names in a directory, sorted.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Errno> {
        let place = self.resolve(path)?;
        self.mounts[place.mount].volume.lock().names(place.inode)
    }

    /// The path without links.
    pub fn canonical(&self, path: &str) -> Result<String, Errno> {
        Ok(self.resolve(path)?.path)
    }

    // === writing ===

    /// Gives a file a content, as a shell's `>` does: a new file gets mode 0644, one that is there keeps its own. The
    /// directory must exist.
    pub fn write(&mut self, path: &str, content: impl Into<Arc<[u8]>>) -> Result<(), Errno> {
        let content = content.into();
        match self.resolve(path) {
            Ok(place) => self.mounts[place.mount].volume.lock().set_content(place.inode, content),
            Err(Errno::NotFound) => {
                let slot = self.slot_through_links(path)?;
                self.add(&slot, Node::File(content), 0o644, Owner::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Adds to the end of a file, which is made if it is not there.
    pub fn append(&mut self, path: &str, content: &[u8]) -> Result<(), Errno> {
        let old = match self.read(path) {
            Err(Errno::NotFound) => Arc::default(),
            other => other?,
        };
        if content.is_empty() && self.exists(path) { Ok(()) } else { self.write(path, [&old, content].concat()) }
    }

    /// Puts a file with all that belongs to it, and the directories above it where they are missing. What has the name,
    /// unless it is a directory, is replaced; a link is not followed.
    pub fn put(&mut self, path: &str, content: impl Into<Arc<[u8]>>, mode: u32, owner: Owner) -> Result<(), Errno> {
        self.make_parents(path)?;
        let slot = self.slot(path)?;
        match self.link_metadata(path) {
            Ok(metadata) if metadata.kind == Kind::Directory => return Err(Errno::IsADirectory),
            Ok(_) => self.remove_file(path)?,
            Err(Errno::NotFound) => {}
            Err(error) => return Err(error),
        }
        self.add(&slot, Node::File(content.into()), mode, owner)
    }

    /// Makes a directory; the one above must exist.
    pub fn make_directory(&mut self, path: &str, mode: u32) -> Result<(), Errno> {
        let slot = match self.slot(path) {
            Err(Errno::Invalid) => return Err(Errno::Exists),
            other => other?,
        };
        self.add(&slot, Node::Directory(Default::default()), mode, Owner::default())
    }

    /// Makes a directory and those above it, mode 0755, where they are missing.
    pub fn make_directories(&mut self, path: &str) -> Result<(), Errno> {
        match self.metadata(path) {
            Ok(metadata) if metadata.kind == Kind::Directory => return Ok(()),
            Ok(_) => return Err(Errno::Exists),
            Err(Errno::NotFound) => {}
            Err(error) => return Err(error),
        }
        // Each step shortens the path, so a deep one costs no stack.
        let mut missing = Vec::new();
        let mut rest = path.trim_end_matches('/');
        while !rest.is_empty() && !self.exists(rest) {
            missing.push(rest);
            rest = rest.rfind('/').map_or("", |at| rest[..at].trim_end_matches('/'));
        }
        missing.into_iter().rev().try_for_each(|path| match self.make_directory(path, 0o755) {
            // `a/.` and `a/..` come into being with `a`.
            Err(Errno::Exists) if self.is_directory(path) => Ok(()),
            other => other,
        })
    }

    /// Makes the directories above a path.
    pub fn make_parents(&mut self, path: &str) -> Result<(), Errno> {
        match path.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => self.make_directories(parent),
            _ => Ok(()),
        }
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, target: &str, path: &str) -> Result<(), Errno> {
        let slot = self.slot(path)?;
        self.add(&slot, Node::Link(target.into()), 0o777, Owner::default())
    }

    /// Gives a file a second name.
    pub fn hard_link(&mut self, present: &str, path: &str) -> Result<(), Errno> {
        let place = self.walk(present, false)?;
        let slot = self.slot(path)?;
        if place.mount != slot.directory.mount {
            return Err(Errno::CrossDevice);
        }
        self.mounts[place.mount].volume.lock().link(slot.directory.inode, &slot.name, place.inode)
    }

    /// Makes a block device.
    pub(super) fn block_device(&mut self, path: &str, major: u32, minor: u32) -> Result<(), Errno> {
        self.make_parents(path)?;
        let slot = self.slot(path)?;
        self.add(&slot, Node::Block(major, minor), 0o660, Owner::default())
    }

    /// Makes a character device.
    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Result<(), Errno> {
        self.make_parents(path)?;
        let slot = self.slot(path)?;
        self.add(&slot, Node::Character(major, minor), 0o666, Owner::default())
    }

    /// Sets permission bits.
    pub fn set_mode(&mut self, path: &str, mode: u32) -> Result<(), Errno> {
        let place = self.resolve(path)?;
        self.mounts[place.mount].volume.lock().set_mode(place.inode, mode)
    }

    /// Sets owner and group.
    pub fn set_owner(&mut self, path: &str, owner: Owner) -> Result<(), Errno> {
        let place = self.resolve(path)?;
        self.mounts[place.mount].volume.lock().set_owner(place.inode, owner)
    }

    /// Sets owner and group; a link at the path's end is not followed.
    pub fn set_link_owner(&mut self, path: &str, owner: Owner) -> Result<(), Errno> {
        let place = self.walk(path, false)?;
        self.mounts[place.mount].volume.lock().set_owner(place.inode, owner)
    }

    /// Removes a file or link.
    pub fn remove_file(&mut self, path: &str) -> Result<(), Errno> {
        let slot = self.slot(path)?;
        if self.link_metadata(path)?.kind == Kind::Directory {
            return Err(Errno::IsADirectory);
        }
        self.mounts[slot.directory.mount].volume.lock().remove(slot.directory.inode, &slot.name)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&mut self, path: &str) -> Result<(), Errno> {
        let place = self.walk(path, false)?;
        let slot = self.slot(path)?;
        if self.mounts.iter().any(|mount| mount.path == place.path) {
            return Err(Errno::Busy);
        }
        let volume = &self.mounts[slot.directory.mount].volume;
        let mut volume = volume.lock();
        if !volume.is_directory(place.inode)? {
            return Err(Errno::NotADirectory);
        }
        volume.remove(slot.directory.inode, &slot.name)
    }

    /// Removes a path and everything below it. Mounted file systems are emptied and stay.
    pub fn remove_all(&mut self, path: &str) -> Result<(), Errno> {
        let mut order = Vec::new();
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            if self.link_metadata(&path)?.kind == Kind::Directory {
                left.extend(self.list(&path)?.into_iter().map(|name| format!("{}/{name}", path.trim_end_matches('/'))));
            }
            order.push(path);
        }
        for path in order.iter().rev() {
            match self.link_metadata(path)?.kind {
                Kind::Directory => self.remove_directory(path)?,
                _ => self.remove_file(path)?,
            }
        }
        Ok(())
    }

    /// Moves within one file system; across two, [`Errno::CrossDevice`].
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        let place = self.walk(from, false)?;
        if self.mounts.iter().any(|mount| mount.path == place.path) {
            return Err(Errno::Busy);
        }
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        if from.directory.mount != to.directory.mount {
            return Err(Errno::CrossDevice);
        }
        let volume = &self.mounts[from.directory.mount].volume;
        volume.lock().rename((from.directory.inode, &from.name), (to.directory.inode, &to.name))
    }

    // === mounts ===

    /// All mounted file systems, in the order in which they were mounted; the first is `/`.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The file system mounted at exactly this place.
    pub fn mounted_at(&self, path: &str) -> Option<&Mount> {
        let path = self.canonical(path).ok()?;
        self.mounts.iter().rev().find(|mount| mount.path == path)
    }

    /// The file system on which a path lies.
    pub fn mount_of(&self, path: &str) -> Result<&Mount, Errno> {
        Ok(&self.mounts[self.resolve(path)?.mount])
    }

    /// Mounts a file system on a directory.
    pub fn mount(&mut self, mut mount: Mount) -> Result<(), Errno> {
        let place = self.resolve(&mount.path)?;
        if !self.mounts[place.mount].volume.lock().is_directory(place.inode)? {
            return Err(Errno::NotADirectory);
        }
        mount.path = place.path;
        self.mounts.push(mount);
        Ok(())
    }

    /// Takes away what was mounted last at a place.
    pub fn unmount(&mut self, path: &str) -> Result<Mount, Errno> {
        let path = self.canonical(path)?;
        let at = self.mounts.iter().rposition(|mount| mount.path == path).ok_or(Errno::Invalid)?;
        let below = format!("{}/", path.trim_end_matches('/'));
        if at == 0 || self.mounts[at + 1..].iter().any(|mount| mount.path.starts_with(&below)) {
            return Err(Errno::Busy);
        }
        Ok(self.mounts.remove(at))
    }

    // === paths ===

    fn resolve(&self, path: &str) -> Result<Place, Errno> {
        self.walk(path, true)
    }

    fn top(&self) -> Place {
        let mount = self.mounts.iter().rposition(|mount| mount.path == "/").unwrap_or_default();
        Place { mount, inode: ROOT, path: "/".to_owned() }
    }

    fn walk(&self, path: &str, follow_last: bool) -> Result<Place, Errno> {
        if !path.starts_with('/') {
            return Err(if path.is_empty() { Errno::NotFound } else { Errno::Invalid });
        }
        if path.len() > MAX_PATH {
            return Err(Errno::NameTooLong);
        }
        let mut parts: VecDeque<String> = split(path).collect();
        let mut trail = vec![self.top()];
        let mut links = 0;
        while let Some(name) = parts.pop_front() {
            let here = &trail[trail.len() - 1];
            let volume = self.mounts[here.mount].volume.lock();
            if name == ".." {
                // `..` of the top is the top itself.
                if trail.len() > 1 {
                    drop(volume);
                    trail.pop();
                }
                continue;
            }
            let inode = volume.child(here.inode, &name)?.ok_or(Errno::NotFound)?;
            // A slash at the end asks for the directory behind the link.
            let is_last = parts.is_empty() && !path.ends_with('/');
            if let Node::Link(target) = volume.node(inode)?
                && (follow_last || !is_last)
            {
                links += 1;
                if links > MAX_LINKS || parts.len() > MAX_PATH {
                    return Err(Errno::LinkLoop);
                }
                split(target).collect::<Vec<_>>().into_iter().rev().for_each(|part| parts.push_front(part));
                let from_top = target.starts_with('/');
                drop(volume);
                if from_top {
                    trail.truncate(1);
                }
                continue;
            }
            let path = format!("{}/{name}", here.path.trim_end_matches('/'));
            let mounted = self.mounts.iter().rposition(|mount| mount.path == path);
            let place = match mounted {
                Some(mount) => Place { mount, inode: ROOT, path },
                None => Place { mount: here.mount, inode, path },
            };
            drop(volume);
            trail.push(place);
        }
        let last = trail.pop().unwrap_or_else(|| self.top());
        if path.ends_with('/') && !self.mounts[last.mount].volume.lock().is_directory(last.inode)? {
            return Err(Errno::NotADirectory);
        }
        Ok(last)
    }

    fn slot(&self, path: &str) -> Result<Slot, Errno> {
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').ok_or(Errno::Invalid)?;
        if matches!(name, "" | "." | "..") {
            return Err(Errno::Invalid);
        }
        let directory = self.resolve(if parent.is_empty() { "/" } else { parent })?;
        if !self.mounts[directory.mount].volume.lock().is_directory(directory.inode)? {
            return Err(Errno::NotADirectory);
        }
        Ok(Slot { directory, name: name.to_owned() })
    }

    /// The slot into which a write goes: behind links whose target does not exist yet.
    fn slot_through_links(&self, path: &str) -> Result<Slot, Errno> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let slot = self.slot(&path)?;
            let Ok(target) = self.read_link(&path) else { return Ok(slot) };
            path = if target.starts_with('/') {
                target
            } else {
                format!("{}/{target}", slot.directory.path.trim_end_matches('/'))
            };
        }
        Err(Errno::LinkLoop)
    }

    fn add(&self, slot: &Slot, node: Node, mode: u32, owner: Owner) -> Result<(), Errno> {
        let volume = &self.mounts[slot.directory.mount].volume;
        volume.lock().add(slot.directory.inode, &slot.name, node, mode, owner).map(|_| ())
    }
}

fn split(path: &str) -> impl Iterator<Item = String> + '_ {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
}
