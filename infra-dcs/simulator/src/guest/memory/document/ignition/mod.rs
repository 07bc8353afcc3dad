//! Ignition, specification 3.0 to 3.3, as `ignition` 2.14 applies it, with the difference that what `ignition-validate`
//! warns about (unknown keys) is refused.
//!
//! Read from the specification's pages "Configuration v3.0.0" to "v3.3.0" and the operator notes.

mod apply;
mod content;
mod disks;
mod read;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;

pub use apply::{ApplyError, apply};

use super::DocumentError;

/// A document with everything that it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Minor version of the specification, 0 to 3.
    pub minor: u32,
    /// Groups.
    pub groups: Vec<Group>,
    /// Users.
    pub users: Vec<User>,
    /// Disks to partition.
    pub disks: Vec<Disk>,
    /// Software RAIDs, by name.
    pub raid: Vec<String>,
    /// Encrypted volumes, by name.
    pub luks: Vec<String>,
    /// File systems to make.
    pub filesystems: Vec<Filesystem>,
    /// Directories.
    pub directories: Vec<Directory>,
    /// Files.
    pub files: Vec<File>,
    /// Links.
    pub links: Vec<Link>,
    /// Units.
    pub units: Vec<Unit>,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: Option<u32>,
    /// A service's group.
    pub system: bool,
    /// Whether it is removed instead.
    pub absent: bool,
}

/// A user.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct User {
    /// What `useradd` is told.
    pub account: crate::guest::memory::root::NewUser,
    /// Keys that may log in.
    pub keys: Vec<String>,
    /// Whether it is removed instead.
    pub absent: bool,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The account has a password hash.
        f.debug_struct("User").field("name", &self.account.name).finish_non_exhaustive()
    }
}

/// A disk to partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Device.
    pub device: String,
    /// Whether its table is thrown away.
    pub wipe_table: bool,
    /// Partitions.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Number; 0 takes the next free one.
    pub number: u32,
    /// Label.
    pub label: Option<String>,
    /// Begin in MiB; 0 takes the first free place.
    pub start_mib: Option<u64>,
    /// Size in MiB; 0 takes all that is free.
    pub size_mib: Option<u64>,
    /// Type.
    pub type_guid: Option<String>,
    /// Whether one that does not match is replaced.
    pub wipe_entry: bool,
    /// Whether it is removed instead.
    pub absent: bool,
    /// Whether one that matches but for its size is resized.
    pub resize: bool,
}

/// A file system to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Device.
    pub device: String,
    /// Type.
    pub format: String,
    /// Where it is mounted while files are written; none is nowhere.
    pub path: Option<String>,
    /// Label.
    pub label: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
    /// Whether what is there is thrown away.
    pub wipe: bool,
    /// Options of mkfs.
    pub options: Vec<String>,
    /// Options of mount.
    pub mount_options: Vec<String>,
}

/// Owner of a node: user and group, each by number or name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOwner {
    /// User.
    pub user: Option<Id>,
    /// Group.
    pub group: Option<Id>,
}

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// By number.
    Number(u32),
    /// By name.
    Name(String),
}

/// A directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Path.
    pub path: String,
    /// Whether what is there is removed.
    pub overwrite: bool,
    /// Permission bits; none is 0755, or what one that is there has.
    pub mode: Option<u32>,
    /// Owner.
    pub owner: NodeOwner,
}

/// A file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Path.
    pub path: String,
    /// Whether what is there is removed.
    pub overwrite: bool,
    /// Content; none keeps what is there, or makes an empty file.
    pub content: Option<Arc<[u8]>>,
    /// What is added to the end.
    pub append: Vec<Arc<[u8]>>,
    /// Permission bits; none is 0644, or what one that is there has.
    pub mode: Option<u32>,
    /// Owner.
    pub owner: NodeOwner,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Contents are secrets as often as not.
        f.debug_struct("File").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Path.
    pub path: String,
    /// Whether what is there is removed.
    pub overwrite: bool,
    /// Target.
    pub target: String,
    /// Whether it is a second name instead of a symbolic link.
    pub hard: bool,
    /// Owner.
    pub owner: NodeOwner,
}

/// A unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Name.
    pub name: String,
    /// Enabled or disabled by a preset; none leaves it as it is.
    pub enabled: Option<bool>,
    /// Whether it is masked.
    pub mask: bool,
    /// File; none leaves the image's.
    pub contents: Option<String>,
    /// Drop-ins: name and content.
    pub drop_ins: Vec<(String, String)>,
}

/// Reads and validates a document with everything that it includes.
pub fn parse(bytes: &[u8]) -> Result<Document, DocumentError> {
    let document = read::document(bytes, 0)?;
    validate::check(&document)?;
    Ok(document)
}
