//! Ignition configuration specification 3.3.0. Fields and defaults: the specification's page "Configuration v3.3.0".
//!
//! What a document says beyond these fields is refused while reading: a section that would silently be lost is a machine
//! that silently lacks something.

use serde::{Deserialize, Serialize};

use crate::data_url;

/// The version written into documents.
pub const VERSION: &str = "3.3.0";

/// A whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Version, included documents, timeouts.
    pub ignition: Ignition,
    /// Users and groups.
    #[serde(skip_serializing_if = "Passwd::is_empty")]
    pub passwd: Passwd,
    /// Disks, file systems, files.
    #[serde(skip_serializing_if = "Storage::is_empty")]
    pub storage: Storage,
    /// Units for systemd.
    #[serde(skip_serializing_if = "Systemd::is_empty")]
    pub systemd: Systemd,
    /// Kernel arguments that must or must not be there.
    #[serde(skip_serializing_if = "KernelArguments::is_empty")]
    pub kernel_arguments: KernelArguments,
}

/// Section `ignition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Ignition {
    /// Documents to read as well.
    #[serde(skip_serializing_if = "IncludedDocuments::is_empty")]
    pub config: IncludedDocuments,
    /// Proxy for fetching.
    #[serde(skip_serializing_if = "Proxy::is_empty")]
    pub proxy: Proxy,
    /// Certificate authorities for fetching.
    #[serde(skip_serializing_if = "Security::is_empty")]
    pub security: Security,
    /// Limits for fetching.
    #[serde(skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// Version of the specification.
    pub version: String,
}

/// Documents merged into this one, or read instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct IncludedDocuments {
    /// Merged documents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merge: Vec<Resource>,
    /// The document read instead of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<Resource>,
}

impl IncludedDocuments {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Section `ignition.proxy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxy {
    /// For HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<String>,
    /// For HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_proxy: Option<String>,
    /// Hosts reached without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<String>,
}

impl Proxy {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Section `ignition.security`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// TLS settings.
    pub tls: Tls,
}

impl Security {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
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

/// A certificate authority.
pub type Certificate = Resource;

/// Section `ignition.timeouts`, in seconds.
pub type Timeouts = crate::v2::Timeouts;

/// Something that lies at a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource {
    /// `gzip` or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// Headers for fetching.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<HttpHeader>,
    /// URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Hash.
    #[serde(skip_serializing_if = "Verification::is_empty")]
    pub verification: Verification,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpHeader {
    /// Name.
    pub name: String,
    /// Value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How a content is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Verification {
    /// `sha512-` or `sha256-` and the digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl Verification {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Section `kernelArguments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KernelArguments {
    /// Must be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub should_exist: Vec<String>,
    /// Must not be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub should_not_exist: Vec<String>,
}

impl KernelArguments {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Section `passwd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Passwd {
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
}

impl Passwd {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Numeric id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<i64>,
    /// Name.
    pub name: String,
    /// Hashed password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// It must exist, or must not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub should_exist: Option<bool>,
    /// A system group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<bool>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gecos: Option<String>,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Home directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_dir: Option<String>,
    /// Login name.
    pub name: String,
    /// No home directory is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_create_home: Option<bool>,
    /// Not added to lastlog and faillog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_log_init: Option<bool>,
    /// No group of the user's name is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_user_group: Option<bool>,
    /// Hashed password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Primary group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_group: Option<String>,
    /// Login shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// It must exist, or must not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub should_exist: Option<bool>,
    /// Keys for SSH.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
    /// A system account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<bool>,
    /// Numeric id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
}

/// Section `storage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
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
    /// File systems to make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    /// Links.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// LUKS volumes, passed through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub luks: Vec<serde_json::Value>,
    /// RAID arrays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub raid: Vec<Raid>,
}

impl Storage {
    pub(crate) fn is_empty(&self) -> bool {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe_table: Option<bool>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Partition {
    /// GPT GUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// Label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Number; 0 is the next free one.
    pub number: i64,
    /// An existing one is resized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<bool>,
    /// It must exist, or must not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub should_exist: Option<bool>,
    /// Size in MiB; 0 is the largest free block.
    #[serde(rename = "sizeMiB", skip_serializing_if = "Option::is_none")]
    pub size_mib: Option<i64>,
    /// Start in MiB.
    #[serde(rename = "startMiB", skip_serializing_if = "Option::is_none")]
    pub start_mib: Option<i64>,
    /// Type GUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_guid: Option<String>,
    /// An entry that differs is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe_partition_entry: Option<bool>,
}

/// A RAID array.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Raid {
    /// Member devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Level.
    pub level: String,
    /// Name.
    pub name: String,
    /// Options of mdadm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Spare devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spares: Option<i64>,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Filesystem {
    /// Device path.
    pub device: String,
    /// Format, e.g. `xfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Options of mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// Options of mkfs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Where it is mounted while files are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// An existing file system is wiped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe_filesystem: Option<bool>,
}

/// Owner of a file: by id or by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// Numeric id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Contents appended to what is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<Resource>,
    /// Content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Resource>,
    /// Owning group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
    /// Mode, as a decimal number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// What is there is replaced; false when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// Absolute path.
    pub path: String,
    /// Owning user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
}

/// A directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
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
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Link {
    /// Owning group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
    /// A hard link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard: Option<bool>,
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
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Systemd {
    /// Units.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
}

impl Systemd {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Unit {
    /// Content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// Drop-ins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropins: Vec<Dropin>,
    /// Enabled or disabled by preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<bool>,
    /// Name.
    pub name: String,
}

/// A drop-in of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Dropin {
    /// Content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// File name.
    pub name: String,
}

impl Config {
    /// An empty document of this version.
    pub fn new() -> Self {
        Self { ignition: Ignition { version: VERSION.to_owned(), ..Ignition::default() }, ..Self::default() }
    }

    /// The file of this path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.storage.files.iter().find(|file| file.path == path)
    }
}

impl File {
    /// A file with this content that replaces what is there.
    pub fn new(path: impl Into<String>, content: &[u8], mode: u32) -> Self {
        Self {
            path: path.into(),
            contents: Some(Resource { source: Some(data_url::encode_bytes(content)), ..Resource::default() }),
            mode: Some(mode),
            overwrite: Some(true),
            ..Self::default()
        }
    }

    /// The content, when the document carries it.
    pub fn content(&self) -> Option<Vec<u8>> {
        let contents = self.contents.as_ref()?;
        data_url::unpack(contents.source.as_deref()?, contents.compression.as_deref().unwrap_or_default()).ok()
    }
}
