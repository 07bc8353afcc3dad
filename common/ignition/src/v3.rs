//! Ignition 3.3.0, as far as 2.3 documents translate to it and the DCS provider adds to them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::v2;

/// The version that [`Config`] is.
pub const VERSION: &str = "3.3.0";

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Version.
    pub ignition: Ignition,
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

/// Version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignition {
    /// `3.x.y`.
    pub version: String,
}

/// Users and groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Passwd {
    /// Users; the form is that of 2.3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<v2::User>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Value>,
}

/// Disks, file systems, files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// Partition tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<v2::Disk>,
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

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filesystem {
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
    /// Path.
    pub path: String,
    /// Whether a file that is there is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
    /// Content; absent where content is only added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Contents added to the file's end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<Contents>,
    /// Mode, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<v2::Owner>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<v2::Owner>,
}

impl File {
    /// A file with a content of ours, owned by root; it replaces one that is there.
    pub fn new(path: impl Into<String>, mode: u32, content: &[u8]) -> Self {
        let contents = Contents { source: crate::data_url::encode_bytes(content), ..Contents::default() };
        Self { path: path.into(), overwrite: true, contents: Some(contents), mode: Some(mode), ..Self::default() }
    }
}

/// Content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// URL.
    #[serde(default)]
    pub source: String,
    /// `gzip`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// Hash that the content must have.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub verification: Value,
}

/// A folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Path.
    pub path: String,
    /// Whether what is there is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
    /// Mode, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<v2::Owner>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<v2::Owner>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Path.
    pub path: String,
    /// What it leads to.
    pub target: String,
    /// Whether what is there is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
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
    /// Whether it cannot be started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mask: bool,
    /// Its file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contents: String,
    /// Files that add to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropins: Vec<v2::Dropin>,
}
