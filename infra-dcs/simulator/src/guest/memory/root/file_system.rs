//! One file system: inodes in a table, as a disk would hold them. Paths, mounts and links belong to
//! [`Root`](super::Root).

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::{Errno, Metadata, Owner};

/// Bytes that a file system takes before it is full: machines of a test hold documents and certificates, and a script
/// that writes without end must not fill the memory.
const CAPACITY: u64 = 64 << 20;
/// Inodes that a file system takes before it is full.
const MAX_INODES: usize = 1 << 16;

/// Number of an inode.
pub(super) type Inode = u32;
/// The directory that everything else hangs on.
pub(super) const ROOT: Inode = 0;

/// A file system that several may hold: the machine that has it mounted, and the disk on which it lies.
#[derive(Clone)]
pub struct Volume(Arc<Mutex<FileSystem>>);

impl Volume {
    /// Wraps a file system.
    pub fn new(file_system: FileSystem) -> Self {
        Self(Arc::new(Mutex::new(file_system)))
    }

    /// An empty file system in memory, such as the one at `/run`.
    pub fn memory() -> Self {
        Self::new(FileSystem::new("tmpfs", String::new(), String::new()))
    }

    /// A file system with the same content, which then goes its own way; contents of files are shared.
    pub fn duplicate(&self) -> Self {
        Self::new(self.lock().clone())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, FileSystem> {
        self.0.lock()
    }

    /// Its type, for example `xfs`.
    pub fn kind(&self) -> String {
        self.lock().kind.clone()
    }

    /// Its UUID; empty where it has none.
    pub fn uuid(&self) -> String {
        self.lock().uuid.clone()
    }

    /// Its label; empty where it has none.
    pub fn label(&self) -> String {
        self.lock().label.clone()
    }

    /// Whether both are the same file system.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Contents are secrets as often as not: only what kind it is.
impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Volume").field(&self.kind()).finish()
    }
}

/// See the [module](self).
#[derive(Clone, Deserialize, Serialize)]
pub struct FileSystem {
    kind: String,
    uuid: String,
    label: String,
    entries: Vec<Option<Entry>>,
    free: Vec<Inode>,
    bytes: u64,
}

#[derive(Clone, Deserialize, Serialize)]
struct Entry {
    node: Node,
    mode: u32,
    owner: Owner,
    links: u32,
}

/// What an inode is.
#[derive(Clone, Deserialize, Serialize)]
pub(super) enum Node {
    File(#[serde(with = "super::saved")] Arc<[u8]>),
    Directory(BTreeMap<Box<str>, Inode>),
    Link(Box<str>),
    /// A block device, by its major and minor number.
    Block(u32, u32),
    /// A character device, by its major and minor number.
    Character(u32, u32),
}

impl FileSystem {
    /// An empty file system.
    pub fn new(kind: impl Into<String>, uuid: impl Into<String>, label: impl Into<String>) -> Self {
        let root = Entry { node: Node::Directory(BTreeMap::new()), mode: 0o755, owner: Owner::default(), links: 1 };
        Self {
            kind: kind.into(),
            uuid: uuid.into(),
            label: label.into(),
            entries: vec![Some(root)],
            free: Vec::new(),
            bytes: 0,
        }
    }

    fn entry(&self, inode: Inode) -> Result<&Entry, Errno> {
        self.entries.get(inode as usize).and_then(Option::as_ref).ok_or(Errno::NotFound)
    }

    fn entry_mut(&mut self, inode: Inode) -> Result<&mut Entry, Errno> {
        self.entries.get_mut(inode as usize).and_then(Option::as_mut).ok_or(Errno::NotFound)
    }

    fn children(&self, directory: Inode) -> Result<&BTreeMap<Box<str>, Inode>, Errno> {
        match &self.entry(directory)?.node {
            Node::Directory(children) => Ok(children),
            _ => Err(Errno::NotADirectory),
        }
    }

    fn children_mut(&mut self, directory: Inode) -> Result<&mut BTreeMap<Box<str>, Inode>, Errno> {
        match &mut self.entry_mut(directory)?.node {
            Node::Directory(children) => Ok(children),
            _ => Err(Errno::NotADirectory),
        }
    }

    pub(super) fn node(&self, inode: Inode) -> Result<&Node, Errno> {
        Ok(&self.entry(inode)?.node)
    }

    pub(super) fn child(&self, directory: Inode, name: &str) -> Result<Option<Inode>, Errno> {
        Ok(self.children(directory)?.get(name).copied())
    }

    pub(super) fn names(&self, directory: Inode) -> Result<Vec<String>, Errno> {
        Ok(self.children(directory)?.keys().map(ToString::to_string).collect())
    }

    pub(super) fn metadata(&self, inode: Inode) -> Result<Metadata, Errno> {
        let entry = self.entry(inode)?;
        Ok(Metadata {
            kind: match &entry.node {
                Node::File(_) => super::Kind::File,
                Node::Directory(_) => super::Kind::Directory,
                Node::Link(_) => super::Kind::Link,
                Node::Block(..) => super::Kind::Block,
                Node::Character(..) => super::Kind::Character,
            },
            size: match &entry.node {
                Node::File(content) => content.len() as u64,
                Node::Link(target) => target.len() as u64,
                _ => 0,
            },
            device: match entry.node {
                Node::Block(major, minor) | Node::Character(major, minor) => Some((major, minor)),
                _ => None,
            },
            mode: entry.mode,
            owner: entry.owner,
        })
    }

    /// Makes an inode with a name. The name must be free.
    pub(super) fn add(
        &mut self,
        directory: Inode,
        name: &str,
        node: Node,
        mode: u32,
        owner: Owner,
    ) -> Result<Inode, Errno> {
        if name.is_empty() || name.len() > 255 || name.contains(['/', '\0']) || matches!(name, "." | "..") {
            return Err(Errno::Invalid);
        }
        if self.children(directory)?.contains_key(name) {
            return Err(Errno::Exists);
        }
        if self.free.is_empty() && self.entries.len() >= MAX_INODES {
            return Err(Errno::NoSpace);
        }
        if let Node::File(content) = &node {
            self.reserve(0, content.len())?;
        }
        let entry = Some(Entry { node, mode: mode & 0o7777, owner, links: 1 });
        let inode = if let Some(inode) = self.free.pop() {
            self.entries[inode as usize] = entry;
            inode
        } else {
            self.entries.push(entry);
            Inode::try_from(self.entries.len() - 1).map_err(|_| Errno::NoSpace)?
        };
        self.children_mut(directory)?.insert(name.into(), inode);
        Ok(inode)
    }

    /// A second name for a file.
    pub(super) fn link(&mut self, directory: Inode, name: &str, inode: Inode) -> Result<(), Errno> {
        if matches!(self.entry(inode)?.node, Node::Directory(_)) {
            return Err(Errno::NotPermitted);
        }
        if self.children(directory)?.contains_key(name) {
            return Err(Errno::Exists);
        }
        self.children_mut(directory)?.insert(name.into(), inode);
        self.entry_mut(inode)?.links += 1;
        Ok(())
    }

    fn reserve(&mut self, old: usize, new: usize) -> Result<(), Errno> {
        let bytes = self.bytes.saturating_sub(old as u64) + new as u64;
        if bytes > CAPACITY {
            return Err(Errno::NoSpace);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Replaces the content of a file.
    pub(super) fn set_content(&mut self, inode: Inode, content: Arc<[u8]>) -> Result<(), Errno> {
        let old = match &self.entry(inode)?.node {
            Node::File(old) => old.len(),
            Node::Directory(_) => return Err(Errno::IsADirectory),
            // What is written to /dev/null is gone, and disks are written by mkfs alone.
            Node::Character(..) => return Ok(()),
            Node::Link(_) | Node::Block(..) => return Err(Errno::NotPermitted),
        };
        self.reserve(old, content.len())?;
        self.entry_mut(inode)?.node = Node::File(content);
        Ok(())
    }

    pub(super) fn set_mode(&mut self, inode: Inode, mode: u32) -> Result<(), Errno> {
        self.entry_mut(inode)?.mode = mode & 0o7777;
        Ok(())
    }

    pub(super) fn set_owner(&mut self, inode: Inode, owner: Owner) -> Result<(), Errno> {
        self.entry_mut(inode)?.owner = owner;
        Ok(())
    }

    /// Takes a name away; with the last one goes the inode. Directories must be empty.
    pub(super) fn remove(&mut self, directory: Inode, name: &str) -> Result<(), Errno> {
        let inode = self.child(directory, name)?.ok_or(Errno::NotFound)?;
        if let Node::Directory(children) = self.node(inode)?
            && !children.is_empty()
        {
            return Err(Errno::NotEmpty);
        }
        self.children_mut(directory)?.remove(name);
        let entry = self.entry_mut(inode)?;
        entry.links -= 1;
        if entry.links == 0 {
            let size = if let Node::File(content) = &entry.node { content.len() as u64 } else { 0 };
            self.bytes = self.bytes.saturating_sub(size);
            self.entries[inode as usize] = None;
            self.free.push(inode);
        }
        Ok(())
    }

    /// Gives an inode another name, in the same file system. A file of that name is replaced.
    pub(super) fn rename(&mut self, from: (Inode, &str), to: (Inode, &str)) -> Result<(), Errno> {
        let inode = self.child(from.0, from.1)?.ok_or(Errno::NotFound)?;
        if self.is_below(to.0, inode)? {
            return Err(Errno::Invalid);
        }
        if let Some(present) = self.child(to.0, to.1)? {
            if present == inode {
                return Ok(());
            }
            let (old, new) = (self.is_directory(present)?, self.is_directory(inode)?);
            match (old, new) {
                (true, false) => return Err(Errno::IsADirectory),
                (false, true) => return Err(Errno::NotADirectory),
                _ => self.remove(to.0, to.1)?,
            }
        }
        self.children_mut(from.0)?.remove(from.1);
        self.children_mut(to.0)?.insert(to.1.into(), inode);
        Ok(())
    }

    pub(super) fn is_directory(&self, inode: Inode) -> Result<bool, Errno> {
        Ok(matches!(self.node(inode)?, Node::Directory(_)))
    }

    /// Whether `inode` is `above` or lies somewhere below it.
    fn is_below(&self, inode: Inode, above: Inode) -> Result<bool, Errno> {
        let mut left = vec![above];
        while let Some(next) = left.pop() {
            if next == inode {
                return Ok(true);
            }
            if let Node::Directory(children) = self.node(next)? {
                left.extend(children.values());
            }
        }
        Ok(false)
    }
}
