//! Container Linux Configs: the YAML in which users of the kubeadm bootstrap provider write what they add to a machine's
//! Ignition document (`ignition.containerLinuxConfig.additionalConfig`), and what it means in specification 2.3.0.
//!
//! Source: the format's page "Container Linux Config, configuration specification 0.9". Sections that only Container Linux
//! had (`etcd`, `flannel`, `docker`, `locksmith`, `update`) and what needs facts of a platform or local files are refused.

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    data_url,
    v2::{self, Owner},
    v3::{Certificate, Dropin, Group, Raid, Verification},
};

/// Why a text is no Container Linux Config.
#[derive(Debug, thiserror::Error)]
pub enum ClcError {
    /// Not YAML, or YAML of another shape.
    #[error("not a Container Linux Config: {0}")]
    Malformed(String),
    /// A section that is not supported.
    #[error("section {0} is not supported; write systemd units and files instead")]
    Section(&'static str),
    /// A value that is not possible.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field.
        field: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
}

fn wrong(field: impl Into<String>, reason: impl Into<String>) -> ClcError {
    ClcError::Field { field: field.into(), reason: reason.into() }
}

/// Reads a Container Linux Config. The texts are warnings: what was ignored, and what was assumed.
pub fn parse(text: &str) -> Result<(v2::Config, Vec<String>), ClcError> {
    let mut warnings = Vec::new();
    // Without the snippet: an error must not repeat what may be a password.
    let options = serde_saphyr::options! { with_snippet: false };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        let ignored = |path: serde_ignored::Path<'_>| {
            // The root is optional, which the path would show as a question mark.
            let path = path.to_string();
            warnings.push(format!("{} is not known and is ignored", path.trim_start_matches("?.")));
        };
        serde_ignored::deserialize::<_, _, Option<Config>>(deserializer, ignored)
    });
    let config = read.map_err(|error| ClcError::Malformed(error.to_string()))?.unwrap_or_default();
    let document = config.into_document(&mut warnings)?;
    Ok((document, warnings))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    ignition: Ignition,
    storage: Storage,
    systemd: Systemd,
    networkd: Networkd,
    passwd: Passwd,
    etcd: Option<IgnoredAny>,
    flannel: Option<IgnoredAny>,
    docker: Option<IgnoredAny>,
    update: Option<IgnoredAny>,
    locksmith: Option<IgnoredAny>,
}

impl Config {
    fn into_document(self, warnings: &mut Vec<String>) -> Result<v2::Config, ClcError> {
        let refused = [
            ("etcd", self.etcd),
            ("flannel", self.flannel),
            ("docker", self.docker),
            ("update", self.update),
            ("locksmith", self.locksmith),
        ];
        if let Some((section, _)) = refused.into_iter().find(|(_, given)| given.is_some()) {
            return Err(ClcError::Section(section));
        }
        let mut document = v2::Config::new();
        document.ignition = self.ignition.into_document();
        document.networkd.units = self.networkd.units;
        document.passwd = self.passwd.into_document();
        document.storage = self.storage.into_document(warnings)?;
        document.systemd.units = self.systemd.into_document()?;
        Ok(document)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ignition {
    config: IncludedDocuments,
    timeouts: Timeouts,
    security: Security,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IncludedDocuments {
    append: Vec<Reference>,
    replace: Option<Reference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Timeouts {
    http_response_headers: Option<i64>,
    http_total: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Security {
    tls: Tls,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tls {
    certificate_authorities: Vec<Reference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    source: String,
    verification: Hashed,
}

/// A hash: function and sum.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Hashed {
    hash: Hash,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Hash {
    function: String,
    sum: String,
}

impl Hashed {
    fn into_document(self) -> Verification {
        let Hash { function, sum } = self.hash;
        Verification { hash: (!function.is_empty()).then(|| format!("{function}-{sum}")) }
    }
}

impl Ignition {
    fn into_document(self) -> v2::Ignition {
        let reference = |given: Reference| v2::DocumentReference {
            source: given.source,
            verification: given.verification.into_document(),
        };
        let authority = |given: Reference| Certificate {
            source: Some(given.source),
            verification: given.verification.into_document(),
            ..Certificate::default()
        };
        v2::Ignition {
            config: v2::IncludedDocuments {
                append: self.config.append.into_iter().map(reference).collect(),
                replace: self.config.replace.map(reference),
            },
            security: v2::Security {
                tls: v2::Tls {
                    certificate_authorities: self
                        .security
                        .tls
                        .certificate_authorities
                        .into_iter()
                        .map(authority)
                        .collect(),
                },
            },
            timeouts: v2::Timeouts {
                http_response_headers: self.timeouts.http_response_headers,
                http_total: self.timeouts.http_total,
            },
            version: v2::VERSION.to_owned(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Networkd {
    units: Vec<v2::NetworkdUnit>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Passwd {
    users: Vec<User>,
    groups: Vec<NewGroup>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NewGroup {
    name: String,
    gid: Option<i64>,
    password_hash: Option<String>,
    system: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    name: String,
    password_hash: Option<String>,
    ssh_authorized_keys: Vec<String>,
    uid: Option<i64>,
    gecos: String,
    home_dir: String,
    no_create_home: bool,
    primary_group: String,
    groups: Vec<String>,
    no_user_group: bool,
    system: bool,
    no_log_init: bool,
    shell: String,
    create: Option<UserCreate>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserCreate {
    uid: Option<i64>,
    gecos: String,
    home_dir: String,
    no_create_home: bool,
    primary_group: String,
    groups: Vec<String>,
    no_user_group: bool,
    system: bool,
    no_log_init: bool,
    shell: String,
}

impl Passwd {
    fn into_document(self) -> v2::Passwd {
        let group = |given: NewGroup| Group {
            gid: given.gid,
            name: given.name,
            password_hash: given.password_hash,
            should_exist: None,
            system: given.system.then_some(true),
        };
        v2::Passwd {
            groups: self.groups.into_iter().map(group).collect(),
            users: self.users.into_iter().map(User::into_document).collect(),
        }
    }
}

impl User {
    fn into_document(self) -> v2::User {
        v2::User {
            create: self.create.map(|create| v2::UserCreate {
                gecos: create.gecos,
                groups: create.groups,
                home_dir: create.home_dir,
                no_create_home: create.no_create_home,
                no_log_init: create.no_log_init,
                no_user_group: create.no_user_group,
                primary_group: create.primary_group,
                shell: create.shell,
                system: create.system,
                uid: create.uid,
            }),
            gecos: self.gecos,
            groups: self.groups,
            home_dir: self.home_dir,
            name: self.name,
            no_create_home: self.no_create_home,
            no_log_init: self.no_log_init,
            no_user_group: self.no_user_group,
            password_hash: self.password_hash,
            primary_group: self.primary_group,
            shell: self.shell,
            ssh_authorized_keys: self.ssh_authorized_keys,
            system: self.system,
            uid: self.uid,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Systemd {
    units: Vec<Unit>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Unit {
    name: String,
    enable: bool,
    enabled: Option<bool>,
    mask: bool,
    contents: String,
    dropins: Vec<Dropin>,
}

/// Kinds of systemd units.
const UNITS: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

impl Systemd {
    fn into_document(self) -> Result<Vec<v2::Unit>, ClcError> {
        let unit = |(index, given): (usize, Unit)| {
            if !given.name.rsplit_once('.').is_some_and(|(_, kind)| UNITS.contains(&kind)) {
                let field = format!("systemd.units[{index}].name");
                return Err(wrong(field, format!("{:?} must end in a kind of unit such as .service", given.name)));
            }
            Ok(v2::Unit {
                contents: given.contents,
                dropins: given.dropins,
                enable: given.enable,
                enabled: given.enabled,
                mask: given.mask,
                name: given.name,
            })
        };
        self.units.into_iter().enumerate().map(unit).collect()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Storage {
    disks: Vec<Disk>,
    raid: Vec<Raid>,
    filesystems: Vec<Filesystem>,
    files: Vec<File>,
    directories: Vec<Node>,
    links: Vec<Link>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Disk {
    device: String,
    wipe_table: bool,
    partitions: Vec<Partition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Partition {
    label: Option<String>,
    number: i64,
    size: Option<String>,
    start: Option<String>,
    size_mib: Option<i64>,
    start_mib: Option<i64>,
    guid: String,
    type_guid: String,
    should_exist: Option<bool>,
    wipe_partition_entry: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Filesystem {
    name: String,
    mount: Option<FilesystemMount>,
    path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FilesystemMount {
    device: String,
    format: String,
    create: Option<v2::FilesystemCreate>,
    wipe_filesystem: bool,
    label: Option<String>,
    uuid: Option<String>,
    options: Vec<String>,
}

/// What files, directories and links share.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Node {
    filesystem: String,
    path: String,
    user: Option<Owner>,
    group: Option<Owner>,
    overwrite: Option<bool>,
    /// As it is written: a leading zero makes it octal.
    mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    filesystem: String,
    path: String,
    user: Option<Owner>,
    group: Option<Owner>,
    overwrite: Option<bool>,
    mode: Option<String>,
    append: bool,
    contents: Contents,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Contents {
    inline: Option<String>,
    remote: Option<Remote>,
    local: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Remote {
    url: String,
    compression: String,
    verification: Hashed,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Link {
    filesystem: String,
    path: String,
    user: Option<Owner>,
    group: Option<Owner>,
    overwrite: Option<bool>,
    hard: bool,
    target: String,
}

impl Storage {
    fn into_document(self, warnings: &mut Vec<String>) -> Result<v2::Storage, ClcError> {
        let disks = self.disks.into_iter().enumerate().map(disk).collect::<Result<_, _>>()?;
        let files = self.files.into_iter().enumerate().map(|given| file(given, warnings)).collect::<Result<_, _>>()?;
        let directories = self
            .directories
            .into_iter()
            .enumerate()
            .map(|given| directory(given, warnings))
            .collect::<Result<_, _>>()?;
        let link = |given: Link| v2::Link {
            filesystem: or_root(given.filesystem),
            group: given.group,
            hard: given.hard,
            overwrite: given.overwrite,
            path: given.path,
            target: given.target,
            user: given.user,
        };
        Ok(v2::Storage {
            directories,
            disks,
            files,
            filesystems: self.filesystems.into_iter().map(filesystem).collect(),
            links: self.links.into_iter().map(link).collect(),
            raid: self.raid,
        })
    }
}

fn or_root(filesystem: String) -> String {
    if filesystem.is_empty() { "root".to_owned() } else { filesystem }
}

fn filesystem(given: Filesystem) -> v2::Filesystem {
    let mount = given.mount.map(|mount| v2::FilesystemMount {
        create: mount.create,
        device: mount.device,
        format: mount.format,
        label: mount.label,
        options: mount.options,
        uuid: mount.uuid,
        wipe_filesystem: mount.wipe_filesystem,
    });
    v2::Filesystem { mount, name: given.name, path: given.path }
}

fn directory((index, given): (usize, Node), warnings: &mut Vec<String>) -> Result<v2::Directory, ClcError> {
    let field = format!("storage.directories[{index}]");
    Ok(v2::Directory {
        mode: Some(mode(given.mode.as_deref(), 0o755, &field, warnings)?),
        filesystem: or_root(given.filesystem),
        group: given.group,
        overwrite: given.overwrite,
        path: given.path,
        user: given.user,
    })
}

fn file((index, given): (usize, File), warnings: &mut Vec<String>) -> Result<v2::File, ClcError> {
    let field = format!("storage.files[{index}]");
    let contents = match given.contents {
        Contents { local: Some(_), .. } => {
            return Err(wrong(format!("{field}.contents.local"), "there are no local files here; use inline"));
        }
        Contents { inline: Some(_), remote: Some(_), .. } => {
            return Err(wrong(format!("{field}.contents"), "inline and remote exclude each other"));
        }
        Contents { inline: Some(text), .. } => {
            v2::Contents { source: data_url::encode_text(&text), ..v2::Contents::default() }
        }
        Contents { remote: Some(remote), .. } => v2::Contents {
            compression: remote.compression,
            source: remote.url,
            verification: remote.verification.into_document(),
        },
        Contents { .. } => v2::Contents::default(),
    };
    Ok(v2::File {
        append: given.append,
        contents,
        mode: Some(mode(given.mode.as_deref(), 0o644, &field, warnings)?),
        filesystem: or_root(given.filesystem),
        group: given.group,
        overwrite: given.overwrite,
        path: given.path,
        user: given.user,
    })
}

/// A mode as YAML 1.1 reads it: octal with a leading zero or `0o`, decimal otherwise.
fn mode(given: Option<&str>, default: u32, field: &str, warnings: &mut Vec<String>) -> Result<u32, ClcError> {
    let Some(text) = given else {
        warnings.push(format!("{field}.mode is not set, {default:#o} is assumed"));
        return Ok(default);
    };
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0')).filter(|digits| !digits.is_empty());
    let read = octal.map_or_else(|| text.parse().ok(), |digits| u32::from_str_radix(digits, 8).ok());
    read.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| wrong(format!("{field}.mode"), format!("{text:?} is no file mode such as 0644")))
}

fn disk((index, given): (usize, Disk)) -> Result<v2::Disk, ClcError> {
    let partition = |(number, given): (usize, Partition)| {
        let field = format!("storage.disks[{index}].partitions[{number}]");
        Ok(v2::Partition {
            guid: given.guid,
            label: given.label,
            number: given.number,
            should_exist: given.should_exist,
            size: sectors(given.size.as_deref(), &format!("{field}.size"))?,
            size_mib: given.size_mib,
            start: sectors(given.start.as_deref(), &format!("{field}.start"))?,
            start_mib: given.start_mib,
            type_guid: type_guid(&given.type_guid).to_owned(),
            wipe_partition_entry: given.wipe_partition_entry,
        })
    };
    let partitions = given.partitions.into_iter().enumerate().map(partition).collect::<Result<_, ClcError>>()?;
    Ok(v2::Disk { device: given.device, partitions, wipe_table: given.wipe_table })
}

/// A size such as `512MiB` in sectors of 512 bytes; without a unit it is in sectors.
fn sectors(given: Option<&str>, field: &str) -> Result<i64, ClcError> {
    let Some(text) = given else { return Ok(0) };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let per_unit = match &text[digits.len()..] {
        "" => Some(1),
        "KiB" => Some(2),
        "MiB" => Some(2 * 1024),
        "GiB" => Some(2 * 1024 * 1024),
        "TiB" => Some(2 * 1024 * 1024 * 1024),
        _ => None,
    };
    let number: Option<i64> = digits.trim().parse().ok().filter(|number| *number >= 0);
    per_unit
        .zip(number)
        .and_then(|(unit, number)| number.checked_mul(unit))
        .ok_or_else(|| wrong(field, format!("{text:?} is no size such as 512MiB or 2GiB")))
}

/// The GUID behind a short name of a partition type.
fn type_guid(name: &str) -> &str {
    match name {
        "raid_containing_root" => "be9067b9-ea49-4f15-b4f6-f36f8c9e1818",
        "linux_filesystem_data" => "0fc63daf-8483-4772-8e79-3d69d8477de4",
        "swap_partition" => "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
        "raid_partition" => "a19d880f-05fc-4d3b-a006-743f0f84911e",
        guid => guid,
    }
}

#[cfg(test)]
mod tests;
