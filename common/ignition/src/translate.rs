//! Specification 2.3 to 3.3. The rules that changed between them: the specification's page "Migrating to 3.0.0".

use crate::{v2, v3};

/// What a document of specification 2.3 says that 3.3 cannot. Each names the place and the cure.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TranslateError {
    /// networkd units.
    #[error("networkd.units[{0}] cannot be translated to Ignition 3; configure the network by files instead")]
    Networkd(String),
    /// A reference to an unknown file system.
    #[error("{path} refers to filesystem {filesystem:?}, which storage.filesystems does not name")]
    UnknownFilesystem {
        /// Path of the file, directory or link.
        path: String,
        /// Name of the file system.
        filesystem: String,
    },
    /// A reference to a file system without a mount point.
    #[error(
        "{path} lies on filesystem {filesystem:?}, which has no path; give it a path or put the file on filesystem root"
    )]
    UnmountedFilesystem {
        /// Path of the file, directory or link.
        path: String,
        /// Name of the file system.
        filesystem: String,
    },
    /// A path that is not absolute.
    #[error("path {0:?} must be absolute")]
    RelativePath(String),
    /// A partition that does not lie on MiB boundaries.
    #[error("partition {number} of {device}: {sectors} sectors are no whole number of MiB; use sizeMiB and startMiB")]
    PartitionAlignment {
        /// Device of the disk.
        device: String,
        /// Number of the partition.
        number: i64,
        /// The size or start given, in sectors of 512 bytes.
        sectors: i64,
    },
}

/// Sectors of 512 bytes in a MiB.
const SECTORS_PER_MIB: i64 = 2048;

/// Translates a whole document. Entries that name the same thing twice, which 2.3 allows and 3.3 refuses, become one.
pub fn translate(old: v2::Config) -> Result<v3::Config, TranslateError> {
    if let Some(unit) = old.networkd.units.first() {
        return Err(TranslateError::Networkd(unit.name.clone()));
    }
    let mut document = v3::Config::new();
    document.ignition.timeouts = old.ignition.timeouts;
    document.ignition.security.tls.certificate_authorities = old.ignition.security.tls.certificate_authorities;
    document.ignition.config = v3::IncludedDocuments {
        merge: old.ignition.config.append.into_iter().map(reference).collect(),
        replace: old.ignition.config.replace.map(reference),
    };
    document.passwd = v3::Passwd { groups: old.passwd.groups, users: old.passwd.users.into_iter().map(user).collect() };
    document.storage = storage(old.storage)?;
    document.systemd.units = old.systemd.units.into_iter().map(unit).collect();
    // Merging into an empty document joins what is named twice.
    let mut single = v3::Config::new();
    single.merge(document);
    Ok(single)
}

fn reference(old: v2::DocumentReference) -> v3::Resource {
    v3::Resource { source: Some(old.source), verification: old.verification, ..v3::Resource::default() }
}

fn user(old: v2::User) -> v3::User {
    let create = old.create.unwrap_or_default();
    let text = |new: String, deprecated: String| some(if new.is_empty() { deprecated } else { new });
    v3::User {
        gecos: text(old.gecos, create.gecos),
        groups: if old.groups.is_empty() { create.groups } else { old.groups },
        home_dir: text(old.home_dir, create.home_dir),
        name: old.name,
        no_create_home: set(old.no_create_home || create.no_create_home),
        no_log_init: set(old.no_log_init || create.no_log_init),
        no_user_group: set(old.no_user_group || create.no_user_group),
        password_hash: old.password_hash,
        primary_group: text(old.primary_group, create.primary_group),
        shell: text(old.shell, create.shell),
        should_exist: None,
        ssh_authorized_keys: old.ssh_authorized_keys,
        system: set(old.system || create.system),
        uid: old.uid.or(create.uid),
    }
}

fn storage(old: v2::Storage) -> Result<v3::Storage, TranslateError> {
    let filesystems = old.filesystems;
    let place = |path: &str, filesystem: &str| place(&filesystems, path, filesystem);
    Ok(v3::Storage {
        directories: old
            .directories
            .into_iter()
            .map(|directory| {
                Ok(v3::Directory {
                    path: place(&directory.path, &directory.filesystem)?,
                    group: directory.group,
                    mode: directory.mode,
                    overwrite: directory.overwrite,
                    user: directory.user,
                })
            })
            .collect::<Result<_, _>>()?,
        files: old
            .files
            .into_iter()
            .map(|old| {
                let path = place(&old.path, &old.filesystem)?;
                Ok(file(old, path))
            })
            .collect::<Result<_, _>>()?,
        links: old
            .links
            .into_iter()
            .map(|link| {
                Ok(v3::Link {
                    path: place(&link.path, &link.filesystem)?,
                    group: link.group,
                    hard: set(link.hard),
                    overwrite: link.overwrite,
                    target: link.target,
                    user: link.user,
                })
            })
            .collect::<Result<_, _>>()?,
        disks: old.disks.into_iter().map(disk).collect::<Result<_, _>>()?,
        filesystems: filesystems.into_iter().filter_map(|old| Some(filesystem(old.mount?, old.path))).collect(),
        luks: Vec::new(),
        raid: old.raid,
    })
}

/// The absolute path of something on a named file system.
fn place(filesystems: &[v2::Filesystem], path: &str, filesystem: &str) -> Result<String, TranslateError> {
    if !path.starts_with('/') {
        return Err(TranslateError::RelativePath(path.to_owned()));
    }
    let owned = || (path.to_owned(), filesystem.to_owned());
    // `root` is predefined; upstream's format leaves the name out for nothing else.
    if filesystem == "root" || filesystem.is_empty() {
        return Ok(path.to_owned());
    }
    let Some(found) = filesystems.iter().find(|candidate| candidate.name == filesystem) else {
        let (path, filesystem) = owned();
        return Err(TranslateError::UnknownFilesystem { path, filesystem });
    };
    if let Some(mounted) = &found.path {
        Ok(format!("{}{path}", mounted.trim_end_matches('/')))
    } else {
        let (path, filesystem) = owned();
        Err(TranslateError::UnmountedFilesystem { path, filesystem })
    }
}

fn file(old: v2::File, path: String) -> v3::File {
    // An empty source means an empty file in 2.3; 3.3 wants that said when it overwrites.
    let source = if old.contents.source.is_empty() { "data:,".to_owned() } else { old.contents.source };
    let contents = v3::Resource {
        compression: some(old.contents.compression),
        source: Some(source),
        verification: old.contents.verification,
        ..v3::Resource::default()
    };
    let (append, contents, overwrite) = if old.append {
        (vec![contents], None, None)
    } else {
        // 2.3 overwrites unless told not to, 3.3 only when told to.
        (Vec::new(), Some(contents), Some(old.overwrite.unwrap_or(true)))
    };
    v3::File { append, contents, group: old.group, mode: old.mode, overwrite, path, user: old.user }
}

fn disk(old: v2::Disk) -> Result<v3::Disk, TranslateError> {
    let device = old.device;
    let mut partitions: Vec<_> =
        old.partitions.into_iter().map(|old| partition(&device, old)).collect::<Result<_, _>>()?;
    // 2.3 takes the next free number where none is given; 3.3 wants a number or a label.
    let last = i64::try_from(partitions.len()).unwrap_or(i64::MAX);
    for index in 0..partitions.len() {
        if partitions[index].number == 0 && partitions[index].label.is_none() {
            let is_free = |number: &i64| partitions.iter().all(|partition| partition.number != *number);
            partitions[index].number = (1..=last).find(is_free).unwrap_or_default();
        }
    }
    Ok(v3::Disk { partitions, wipe_table: set(old.wipe_table), device })
}

fn partition(device: &str, old: v2::Partition) -> Result<v3::Partition, TranslateError> {
    let number = old.number;
    let mebibytes = |new: Option<i64>, sectors: i64| match (new, sectors) {
        (Some(new), _) => Ok(Some(new)),
        (None, 0) => Ok(None),
        (None, sectors) if sectors % SECTORS_PER_MIB == 0 => Ok(Some(sectors / SECTORS_PER_MIB)),
        (None, sectors) => Err(TranslateError::PartitionAlignment { device: device.to_owned(), number, sectors }),
    };
    Ok(v3::Partition {
        guid: some(old.guid),
        label: old.label,
        number,
        resize: None,
        should_exist: old.should_exist,
        size_mib: mebibytes(old.size_mib, old.size)?,
        start_mib: mebibytes(old.start_mib, old.start)?,
        type_guid: some(old.type_guid),
        wipe_partition_entry: set(old.wipe_partition_entry),
    })
}

fn filesystem(mount: v2::FilesystemMount, path: Option<String>) -> v3::Filesystem {
    let create = mount.create;
    let deprecated = create.unwrap_or_default();
    v3::Filesystem {
        device: mount.device,
        format: some(mount.format),
        label: mount.label,
        mount_options: Vec::new(),
        options: if mount.options.is_empty() { deprecated.options } else { mount.options },
        path,
        uuid: mount.uuid,
        wipe_filesystem: set(mount.wipe_filesystem || deprecated.force),
    }
}

fn unit(old: v2::Unit) -> v3::Unit {
    v3::Unit {
        contents: some(old.contents),
        dropins: old.dropins,
        enabled: old.enabled.or(old.enable.then_some(true)),
        mask: set(old.mask),
        name: old.name,
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn set(flag: bool) -> Option<bool> {
    flag.then_some(true)
}
