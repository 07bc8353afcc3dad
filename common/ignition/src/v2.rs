//! Ignition 2.3.0, as far as Cluster API's bootstrap providers and Container Linux Configs yield it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that [`Config`] is.
pub const VERSION: &str = "2.3.0";

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Version, and where further documents come from.
    pub ignition: Ignition,
    /// Units of systemd-networkd; not translatable.
    #[serde(default, skip_serializing_if = "Networkd::is_empty")]
    pub networkd: Networkd,
    /// Users and groups.
    #[serde(default)]
    pub passwd: Passwd,
    /// Disks, file systems, files.
    #[serde(default)]
    pub storage: Storage,
    /// Units of systemd.
    #[serde(default)]
    pub systemd: Systemd,
}

/// Version, and where further documents come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ignition {
    /// `2.x.y`.
    pub version: String,
    /// Documents to merge or to take instead.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// Certificate authorities, proxies, time limits.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// Units of systemd-networkd.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Networkd {
    /// The units.
    #[serde(default)]
    pub units: Vec<Value>,
}

impl Networkd {
    fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

/// Users and groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Passwd {
    /// Users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Value>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Login name.
    pub name: String,
    /// Full name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gecos: String,
    /// Further groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Home folder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub home_dir: String,
    /// Login shell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// Hash of the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Primary group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub primary_group: String,
    /// Public keys that may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
}

/// Disks, file systems, files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// Partition tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// RAID arrays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raid: Vec<Value>,
    /// File systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Folders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<Directory>,
    /// Links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// A disk's partition table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Path.
    pub device: String,
    /// Whether the table is made anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wipe_table: bool,
    /// Partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Value>,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Name by which files refer to it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it is and how it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<FilesystemMount>,
    /// Path at which it is mounted already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Where a file system is and how it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesystemMount {
    /// Path of the device.
    pub device: String,
    /// Type.
    pub format: String,
    /// Whether what is there is wiped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wipe_filesystem: bool,
    /// Label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Options of the tool that makes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Name of the file system it is in: `root`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filesystem: String,
    /// Path.
    pub path: String,
    /// Whether a file that is there is replaced (2.3: `true` when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// Whether the content is added to the file's end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub append: bool,
    /// Content.
    #[serde(default)]
    pub contents: Contents,
    /// Mode, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
}

/// Content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// `gzip`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// Hash that the content must have.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub verification: Value,
}

/// A user or group, by name or number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
}

/// A folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Name of the file system it is in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filesystem: String,
    /// Path.
    pub path: String,
    /// Mode, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Name of the file system it is in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filesystem: String,
    /// Path.
    pub path: String,
    /// What it leads to.
    pub target: String,
    /// Whether it is a hard link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hard: bool,
}

/// Units of systemd.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Systemd {
    /// The units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
}

/// A unit of systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Name with its suffix.
    pub name: String,
    /// Whether it starts at boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Older spelling of `enabled`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enable: bool,
    /// Whether it cannot be started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mask: bool,
    /// Its file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contents: String,
    /// Files that add to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropins: Vec<Dropin>,
}

/// A file that adds to a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropin {
    /// Name of the file.
    pub name: String,
    /// Its content.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contents: String,
}
