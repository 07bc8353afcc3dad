//! From JSON to [`Document`].

use serde_json::Value;

use super::{
    Directory, Disk, Document, File, Filesystem, Group, Id, Link, NodeOwner, Partition, Unit, User, content::resource,
};
use crate::guest::memory::{
    document::reader::{Fields, Item, Read, mkfs_options, wrong},
    root::NewUser,
};

/// Documents that include documents: deeper is a mistake.
const MAX_DEPTH: usize = 8;

/// Levels of a software RAID, in all their spellings.
const LEVELS: [&str; 15] = [
    "linear", "raid0", "0", "stripe", "raid1", "1", "mirror", "raid4", "4", "raid5", "5", "raid6", "6", "raid10", "10",
];

pub(super) fn document(bytes: &[u8], depth: usize) -> Read<Document> {
    if depth > MAX_DEPTH {
        return wrong("ignition.config", "documents include one another too deep");
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return wrong("document", "not a config (empty)");
    }
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        // The position only: serde_json's words may quote a piece of a secret.
        Err(error) => {
            return wrong("document", format!("not JSON at line {}, column {}", error.line(), error.column()));
        }
    };
    let item = Item::new("", &value);
    let fields = item.fields().or_else(|_| wrong("document", "must be a JSON object"))?;
    let minor = version(&fields)?;
    let mut document = Document { minor, ..Document::default() };
    let mut included = Vec::new();
    let mut replaced = None;
    fields.within("ignition", |ignition| {
        ignition.get("version");
        ignition.within("config", |config| {
            included = config.each("merge", |fields| resource(fields, minor))?;
            replaced = config.within("replace", |fields| resource(fields, minor))?;
            Ok(())
        })?;
        ignition.within("timeouts", |timeouts| {
            timeouts.integer("httpResponseHeaders")?;
            timeouts.integer("httpTotal")?;
            Ok(())
        })?;
        ignition.within("security", |security| {
            security.within("tls", |tls| {
                tls.each("certificateAuthorities", |fields| resource(fields, minor))?;
                Ok(())
            })
        })?;
        if minor >= 1 {
            ignition.within("proxy", |proxy| {
                proxy.text("httpProxy")?;
                proxy.text("httpsProxy")?;
                proxy.texts("noProxy")?;
                Ok(())
            })?;
        }
        Ok(())
    })?;
    fields.within("passwd", |passwd| {
        document.groups = passwd.each("groups", |fields| group(fields, minor))?;
        document.users = passwd.each("users", |fields| user(fields, minor))?;
        Ok(())
    })?;
    fields.within("storage", |fields| storage(fields, &mut document))?;
    fields.within("systemd", |systemd| {
        document.units = systemd.each("units", unit)?;
        Ok(())
    })?;
    if minor >= 3 {
        fields.within("kernelArguments", |arguments| {
            for name in ["shouldExist", "shouldNotExist"] {
                if !arguments.texts(name)?.is_empty() {
                    return wrong(arguments.path(name), "not modelled: the image has no ignition-kargs");
                }
            }
            Ok(())
        })?;
    }
    fields.finish()?;
    if let Some(bytes) = replaced {
        return self::document(&bytes, depth + 1).or_else(|error| within("ignition.config.replace", error));
    }
    // Later documents win over earlier ones, and all of them over this one.
    for (index, bytes) in included.into_iter().enumerate() {
        if let Some(bytes) = bytes {
            let place = format!("ignition.config.merge[{index}]");
            let other = self::document(&bytes, depth + 1).or_else(|error| within(&place, error))?;
            super::validate::check(&other).or_else(|error| within(&place, error))?;
            merge(&mut document, other);
        }
    }
    Ok(document)
}

fn within<T>(place: &str, error: crate::guest::memory::document::DocumentError) -> Read<T> {
    wrong(format!("{place}: {}", error.path), error.reason)
}

fn version(fields: &Fields<'_>) -> Read<u32> {
    let path = "ignition.version";
    let ignition = match fields.get("ignition") {
        Some(item) => item.fields()?,
        None => return wrong(path, "is required: 3.0.0 to 3.3.0"),
    };
    match ignition.text("version")?.as_deref() {
        Some("3.0.0") => Ok(0),
        Some("3.1.0") => Ok(1),
        Some("3.2.0") => Ok(2),
        Some("3.3.0") => Ok(3),
        None | Some("") => wrong(path, "is required: 3.0.0 to 3.3.0"),
        Some(other) => wrong(path, format!("unsupported config version {other:?}; this image reads 3.0.0 to 3.3.0")),
    }
}

fn group(fields: &Fields<'_>, minor: u32) -> Read<Group> {
    not_modelled(fields, "passwordHash", "the passwords of groups")?;
    Ok(Group {
        name: fields.required("name")?,
        gid: number(fields, "gid")?,
        system: fields.boolean("system")?.unwrap_or_default(),
        absent: absent(fields, minor, 2)?,
    })
}

/// Refuses a text that a real image would heed.
fn not_modelled(fields: &Fields<'_>, name: &'static str, what: &str) -> Read<()> {
    match fields.text(name)? {
        Some(text) if !text.is_empty() => wrong(fields.path(name), format!("{what} are not modelled; remove it")),
        _ => Ok(()),
    }
}

fn absent(fields: &Fields<'_>, minor: u32, since: u32) -> Read<bool> {
    Ok(minor >= since && fields.boolean("shouldExist")? == Some(false))
}

fn number(fields: &Fields<'_>, name: &'static str) -> Read<Option<u32>> {
    match fields.integer(name)? {
        None => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => wrong(fields.path(name), format!("{value} is out of range")),
        },
    }
}

fn user(fields: &Fields<'_>, minor: u32) -> Read<User> {
    let flag = |name| Ok(fields.boolean(name)?.unwrap_or_default());
    flag("noLogInit")?;
    let no_user_group = flag("noUserGroup")?;
    let primary = fields.text("primaryGroup")?.filter(|group| !group.is_empty());
    let text = |name| Ok(fields.text(name)?.filter(|text| !text.is_empty()));
    Ok(User {
        account: NewUser {
            name: fields.required("name")?,
            uid: number(fields, "uid")?,
            primary_group: primary.or_else(|| no_user_group.then(|| "users".to_owned())),
            groups: fields.texts("groups")?,
            gecos: fields.text("gecos")?.unwrap_or_default(),
            home: text("homeDir")?,
            create_home: !flag("noCreateHome")?,
            shell: text("shell")?,
            password_hash: text("passwordHash")?,
            system: flag("system")?,
        },
        keys: fields.texts("sshAuthorizedKeys")?,
        absent: absent(fields, minor, 2)?,
    })
}

fn storage(fields: &Fields<'_>, document: &mut Document) -> Read<()> {
    let minor = document.minor;
    document.disks = fields.each("disks", |fields| disk(fields, minor))?;
    document.raid = fields.each("raid", |raid| {
        let level = raid.required("level")?;
        if !LEVELS.contains(&level.as_str()) {
            return wrong(raid.path("level"), format!("unrecognized raid level {level:?}"));
        }
        let devices = raid.texts("devices")?;
        if devices.is_empty() {
            return wrong(raid.path("devices"), "raid devices required");
        }
        raid.integer("spares")?;
        raid.texts("options")?;
        raid.required("name")
    })?;
    if minor >= 2 {
        document.luks = fields.each("luks", |luks| {
            for name in ["device", "label", "uuid"] {
                luks.text(name)?;
            }
            luks.within("keyFile", |fields| resource(fields, minor))?;
            luks.texts("options")?;
            luks.boolean("wipeVolume")?;
            luks.within("clevis", |clevis| {
                clevis.boolean("tpm2")?;
                clevis.integer("threshold")?;
                clevis.each("tang", |tang| {
                    tang.required("url")?;
                    tang.text("thumbprint")?;
                    Ok(())
                })?;
                clevis.within("custom", |custom| {
                    custom.text("pin")?;
                    custom.text("config")?;
                    custom.boolean("needsNetwork")?;
                    Ok(())
                })
            })?;
            luks.required("name")
        })?;
    }
    document.filesystems = fields.each("filesystems", |fields| filesystem(fields, minor))?;
    document.directories = fields.each("directories", |fields| {
        Ok(Directory {
            path: node_path(fields)?,
            overwrite: fields.boolean("overwrite")?.unwrap_or_default(),
            mode: mode(fields)?,
            owner: owner(fields)?,
        })
    })?;
    document.files = fields.each("files", |fields| file(fields, minor))?;
    document.links = fields.each("links", |fields| {
        Ok(Link {
            path: node_path(fields)?,
            overwrite: fields.boolean("overwrite")?.unwrap_or_default(),
            target: fields.required("target")?,
            hard: fields.boolean("hard")?.unwrap_or_default(),
            owner: owner(fields)?,
        })
    })?;
    Ok(())
}

fn disk(fields: &Fields<'_>, minor: u32) -> Read<Disk> {
    Ok(Disk {
        device: device(fields)?,
        wipe_table: fields.boolean("wipeTable")?.unwrap_or_default(),
        partitions: fields.each("partitions", |fields| {
            let mebibytes = |name| match fields.integer(name)? {
                None => Ok(None),
                Some(value) => match u64::try_from(value) {
                    Ok(value) => Ok(Some(value)),
                    Err(_) => wrong(fields.path(name), "must not be negative"),
                },
            };
            not_modelled(fields, "guid", "the GUIDs of partitions")?;
            Ok(Partition {
                number: number(fields, "number")?.unwrap_or_default(),
                label: fields.text("label")?,
                start_mib: mebibytes("startMiB")?,
                size_mib: mebibytes("sizeMiB")?,
                type_guid: fields.text("typeGuid")?.filter(|guid| !guid.is_empty()),
                wipe_entry: fields.boolean("wipePartitionEntry")?.unwrap_or_default(),
                absent: absent(fields, minor, 0)?,
                resize: minor >= 2 && fields.boolean("resize")?.unwrap_or_default(),
            })
        })?,
    })
}

fn filesystem(fields: &Fields<'_>, minor: u32) -> Read<Filesystem> {
    let options = fields.texts("options")?;
    if let Some(item) = fields.get("options") {
        mkfs_options(&item, &options)?;
    }
    Ok(Filesystem {
        device: device(fields)?,
        format: fields.text("format")?.unwrap_or_default(),
        path: fields.text("path")?.filter(|path| !path.is_empty()),
        label: fields.text("label")?.filter(|label| !label.is_empty()),
        uuid: fields.text("uuid")?.filter(|uuid| !uuid.is_empty()),
        wipe: fields.boolean("wipeFilesystem")?.unwrap_or_default(),
        options,
        mount_options: if minor >= 1 { fields.texts("mountOptions")? } else { Vec::new() },
    })
}

fn device(fields: &Fields<'_>) -> Read<String> {
    let device = fields.required("device")?;
    if device.starts_with('/') { Ok(device) } else { wrong(fields.path("device"), "path not absolute") }
}

fn node_path(fields: &Fields<'_>) -> Read<String> {
    let path = fields.required("path")?;
    if !path.starts_with('/') {
        return wrong(fields.path("path"), format!("path not absolute: {path:?}"));
    }
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return wrong(fields.path("path"), format!("{path:?} must not contain .."));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn mode(fields: &Fields<'_>) -> Read<Option<u32>> {
    match fields.integer("mode")? {
        None => Ok(None),
        Some(mode) => match u32::try_from(mode).ok().filter(|mode| *mode <= 0o7777) {
            // Set-id and sticky bits are for specification 3.4; before, they are dropped.
            Some(mode) => Ok(Some(mode & 0o777)),
            None => wrong(
                fields.path("mode"),
                format!("illegal file mode {mode}: a decimal of at most 4095, such as 420 for 0644"),
            ),
        },
    }
}

fn owner(fields: &Fields<'_>) -> Read<NodeOwner> {
    let id = |name| -> Read<Option<Id>> {
        fields.within(name, |fields| match (number(fields, "id")?, fields.text("name")?) {
            (Some(_), Some(name)) if !name.is_empty() => fields.wrong("cannot set both id and name"),
            (Some(number), _) => Ok(Some(Id::Number(number))),
            (None, name) => Ok(name.filter(|name| !name.is_empty()).map(Id::Name)),
        })
    };
    Ok(NodeOwner { user: id("user")?, group: id("group")? })
}

fn file(fields: &Fields<'_>, minor: u32) -> Read<File> {
    let content = fields.within("contents", |fields| resource(fields, minor))?;
    let append = fields.each("append", |fields| resource(fields, minor))?;
    let overwrite = fields.boolean("overwrite")?.unwrap_or_default();
    if overwrite && content.is_none() {
        return wrong(fields.path("contents"), "overwrite must be false if source is unspecified");
    }
    Ok(File {
        path: node_path(fields)?,
        overwrite,
        content,
        append: append.into_iter().flatten().collect(),
        mode: mode(fields)?,
        owner: owner(fields)?,
    })
}

fn unit(fields: &Fields<'_>) -> Read<Unit> {
    Ok(Unit {
        name: fields.required("name")?,
        enabled: fields.boolean("enabled")?,
        mask: fields.boolean("mask")?.unwrap_or_default(),
        contents: fields.text("contents")?.filter(|text| !text.is_empty()),
        drop_ins: fields
            .each("dropins", |fields| Ok((fields.required("name")?, fields.text("contents")?.unwrap_or_default())))?,
    })
}

/// What has the same key is replaced, whatever list it was in; the rest is added.
fn merge(document: &mut Document, other: Document) {
    fn join<T, K: PartialEq>(list: &mut Vec<T>, others: Vec<T>, key: impl Fn(&T) -> K) {
        for other in others {
            match list.iter().position(|item| key(item) == key(&other)) {
                Some(index) => list[index] = other,
                None => list.push(other),
            }
        }
    }
    let Document { minor, groups, users, disks, raid, luks, filesystems, directories, files, links, units } = other;
    document.minor = document.minor.max(minor);
    let paths: Vec<String> = directories
        .iter()
        .map(|node| &node.path)
        .chain(files.iter().map(|node| &node.path))
        .chain(links.iter().map(|node| &node.path))
        .cloned()
        .collect();
    document
        .directories
        .retain(|node| !paths.contains(&node.path) || directories.iter().any(|it| it.path == node.path));
    document.files.retain(|node| !paths.contains(&node.path) || files.iter().any(|it| it.path == node.path));
    document.links.retain(|node| !paths.contains(&node.path) || links.iter().any(|it| it.path == node.path));
    join(&mut document.groups, groups, |group| group.name.clone());
    for user in users {
        match document.users.iter_mut().find(|present| present.account.name == user.account.name) {
            Some(present) => {
                let keys = present.keys.iter().chain(&user.keys).cloned().collect();
                *present = User { keys, ..user };
            }
            None => document.users.push(user),
        }
    }
    join(&mut document.disks, disks, |disk| disk.device.clone());
    join(&mut document.raid, raid, Clone::clone);
    join(&mut document.luks, luks, Clone::clone);
    join(&mut document.filesystems, filesystems, |filesystem| filesystem.device.clone());
    join(&mut document.directories, directories, |node| node.path.clone());
    for file in files {
        match document.files.iter_mut().find(|present| present.path == file.path) {
            // What is appended adds up; a new content replaces the old one.
            Some(present) => {
                present.append.extend(file.append);
                present.content = file.content.or(present.content.take());
                present.mode = file.mode.or(present.mode);
                present.overwrite |= file.overwrite;
                if file.owner != NodeOwner::default() {
                    present.owner = file.owner;
                }
            }
            None => document.files.push(file),
        }
    }
    join(&mut document.links, links, |node| node.path.clone());
    for unit in units {
        match document.units.iter_mut().find(|present| present.name == unit.name) {
            Some(present) => {
                present.enabled = unit.enabled.or(present.enabled);
                present.mask |= unit.mask;
                present.contents = unit.contents.or(present.contents.take());
                join(&mut present.drop_ins, unit.drop_ins, |(name, _)| name.clone());
            }
            None => document.units.push(unit),
        }
    }
}
