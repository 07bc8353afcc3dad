//! Ignition configuration specification 2.3.0. Fields and defaults: the specification's page "Configuration v2.3.0".
//!
//! As in [`crate::v3`], what a document says beyond these fields is refused while reading.

use serde::{Deserialize, Serialize};

use crate::v3::{Certificate, Group, Raid, Verification};

/// The version written into documents.
pub const VERSION: &str = "2.3.0";

/// A whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Version, included documents, timeouts.
    pub ignition: Ignition,
    /// Units for networkd; not translatable to specification 3.
    #[serde(skip_serializing_if = "Networkd::is_empty")]
    pub networkd: Networkd,
    /// Users and groups.
    #[serde(skip_serializing_if = "Passwd::is_empty")]
    pub passwd: Passwd,
    /// Disks, file systems, files.
    #[serde(skip_serializing_if = "Storage::is_empty")]
    pub storage: Storage,
    /// Units for systemd.
    #[serde(skip_serializing_if = "Systemd::is_empty")]
    pub systemd: Systemd,
}

impl Config {
    /// An empty document of this version.
    pub fn new() -> Self {
        Self { ignition: Ignition { version: VERSION.to_owned(), ..Ignition::default() }, ..Self::default() }
    }

    /// Adds what `more` says, as Ignition 2 appends documents: lists one after the other, even if they name the same
    /// thing; single values where they are set; included documents wholly from `more`.
    pub fn append(&mut self, more: Self) {
        self.ignition.config = more.ignition.config;
        let (timeouts, newer) = (&mut self.ignition.timeouts, more.ignition.timeouts);
        timeouts.http_response_headers = newer.http_response_headers.or(timeouts.http_response_headers);
        timeouts.http_total = newer.http_total.or(timeouts.http_total);
        let authorities = &mut self.ignition.security.tls.certificate_authorities;
        authorities.extend(more.ignition.security.tls.certificate_authorities);
        self.networkd.units.extend(more.networkd.units);
        self.passwd.groups.extend(more.passwd.groups);
        self.passwd.users.extend(more.passwd.users);
        self.storage.directories.extend(more.storage.directories);
        self.storage.disks.extend(more.storage.disks);
        self.storage.files.extend(more.storage.files);
        self.storage.filesystems.extend(more.storage.filesystems);
        self.storage.links.extend(more.storage.links);
        self.storage.raid.extend(more.storage.raid);
        self.systemd.units.extend(more.systemd.units);
    }
}

/// Section `ignition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ignition {
    /// Documents to read as well.
    #[serde(skip_serializing_if = "IncludedDocuments::is_empty")]
    pub config: IncludedDocuments,
    /// Certificate authorities for fetching.
    #[serde(skip_serializing_if = "Security::is_empty")]
    pub security: Security,
    /// Limits for fetching.
    #[serde(skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// Version of the specification.
    pub version: String,
}

/// Documents that are appended to this one or replace it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IncludedDocuments {
    /// Appended documents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<DocumentReference>,
    /// The document read instead of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<DocumentReference>,
}

impl IncludedDocuments {
    fn is_empty(&self) -> bool {
        self.append.is_empty() && self.replace.is_none()
    }
}

/// Where a document lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DocumentReference {
    /// URL.
    pub source: String,
    /// Its hash.
    #[serde(skip_serializing_if = "Verification::is_empty")]
    pub verification: Verification,
}

/// Section `ignition.security`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// TLS settings.
    pub tls: Tls,
}

impl Security {
    fn is_empty(&self) -> bool {
        self.tls.certificate_authorities.is_empty()
    }
}

/// Section `ignition.security.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Further authorities to trust.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificate_authorities: Vec<Certificate>,
}

/// Section `ignition.timeouts`, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// Until the response's headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_response_headers: Option<i64>,
    /// For the whole request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_total: Option<i64>,
}

impl Timeouts {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Section `networkd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Networkd {
    /// Units.
    pub units: Vec<NetworkdUnit>,
}

impl Networkd {
    fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

/// A networkd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkdUnit {
    /// Content.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contents: String,
    /// Drop-ins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropins: Vec<crate::v3::Dropin>,
    /// File name.
    pub name: String,
}

/// Section `passwd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Passwd {
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
}

impl Passwd {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.users.is_empty()
    }
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Old place of the account's details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<UserCreate>,
    /// Full name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gecos: String,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Home directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub home_dir: String,
    /// Login name.
    pub name: String,
    /// No home directory is made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_create_home: bool,
    /// Not added to lastlog and faillog.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_log_init: bool,
    /// No group of the user's name is made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_user_group: bool,
    /// Hashed password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Primary group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub primary_group: String,
    /// Login shell.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// Keys for SSH.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
    /// A system account.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub system: bool,
    /// Numeric id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
}

/// The deprecated `create` object of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UserCreate {
    /// Full name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gecos: String,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Home directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub home_dir: String,
    /// No home directory is made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_create_home: bool,
    /// Not added to lastlog and faillog.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_log_init: bool,
    /// No group of the user's name is made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_user_group: bool,
    /// Primary group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub primary_group: String,
    /// Login shell.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// A system account.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub system: bool,
    /// Numeric id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
}

/// Section `storage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Directories.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<Directory>,
    /// Disks to partition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// File systems to make or to name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    /// Links.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// RAID arrays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub raid: Vec<Raid>,
}

impl Storage {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Disk {
    /// Device path.
    pub device: String,
    /// Partitions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Partition>,
    /// The partition table is wiped first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wipe_table: bool,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Partition {
    /// GPT GUID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub guid: String,
    /// Label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Number; 0 is the next free one.
    #[serde(skip_serializing_if = "is_zero")]
    pub number: i64,
    /// It must exist, or must not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub should_exist: Option<bool>,
    /// Size in sectors of 512 bytes, the deprecated form.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: i64,
    /// Size in MiB; 0 is the largest free block.
    #[serde(rename = "sizeMiB", skip_serializing_if = "Option::is_none")]
    pub size_mib: Option<i64>,
    /// Start in sectors of 512 bytes, the deprecated form.
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    /// Start in MiB.
    #[serde(rename = "startMiB", skip_serializing_if = "Option::is_none")]
    pub start_mib: Option<i64>,
    /// Type GUID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub type_guid: String,
    /// An entry that differs is replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wipe_partition_entry: bool,
}

/// A file system: one to be made (`mount`) or one that is mounted already (`path`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filesystem {
    /// What is to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<FilesystemMount>,
    /// Name that files refer to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// How a file system is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesystemMount {
    /// Deprecated creation options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<FilesystemCreate>,
    /// Device path.
    pub device: String,
    /// Format, e.g. `xfs`.
    pub format: String,
    /// Label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Options of mkfs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// An existing file system is wiped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wipe_filesystem: bool,
}

/// Deprecated creation options of a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesystemCreate {
    /// An existing file system is overwritten.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Options of mkfs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Owner of a file: by id or by name.
pub type Owner = crate::v3::Owner;

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The content is appended to what is there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub append: bool,
    /// Content.
    #[serde(skip_serializing_if = "Contents::is_empty")]
    pub contents: Contents,
    /// Name of the file system; `root` is the root file system.
    pub filesystem: String,
    /// Owning group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
    /// Mode, as a decimal number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// What is there is replaced; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// Absolute path in the file system.
    pub path: String,
    /// Owning user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
}

impl File {
    /// A file on the root file system with this content.
    pub fn new(path: impl Into<String>, content: &[u8], mode: u32) -> Self {
        Self {
            path: path.into(),
            filesystem: "root".to_owned(),
            contents: Contents { source: crate::data_url::encode_bytes(content), ..Contents::default() },
            mode: Some(mode),
            ..Self::default()
        }
    }
}

/// Content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contents {
    /// `gzip` or nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// URL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Hash.
    #[serde(skip_serializing_if = "Verification::is_empty")]
    pub verification: Verification,
}

impl Contents {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Directory {
    /// Name of the file system.
    pub filesystem: String,
    /// Owning group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
    /// Mode, as a decimal number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// What is there is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// Absolute path.
    pub path: String,
    /// Owning user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// Name of the file system.
    pub filesystem: String,
    /// Owning group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
    /// A hard link.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hard: bool,
    /// What is there is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// Absolute path.
    pub path: String,
    /// What it points to.
    pub target: String,
    /// Owning user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
}

/// Section `systemd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Systemd {
    /// Units.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
}

impl Systemd {
    fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unit {
    /// Content.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contents: String,
    /// Drop-ins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropins: Vec<crate::v3::Dropin>,
    /// Deprecated form of `enabled: true`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable: bool,
    /// Enabled or disabled by preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Masked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mask: bool,
    /// Name.
    pub name: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}
