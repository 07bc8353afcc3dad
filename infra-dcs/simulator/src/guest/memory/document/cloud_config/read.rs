//! From YAML to [`CloudConfig`].

use std::io::Read as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::{CloudConfig, Disk, File, Filesystem, Mount, User};
use crate::guest::memory::{
    document::reader::{Fields, Item, Read, mkfs_options, wrong},
    root::NewUser,
};

/// What unpacks to more is a mistake, and must not fill the memory.
const LIMIT: u64 = 64 << 20;
/// Sections of cloud-init that have no effect on what is modelled: languages, the size of the system disk, sshd, what is
/// logged, and how several documents of one machine are merged.
const WITHOUT_EFFECT: [&str; 22] = [
    "locale",
    "locale_configfile",
    "keyboard",
    "growpart",
    "resize_rootfs",
    "ssh_pwauth",
    "ssh_deletekeys",
    "ssh_genkeytypes",
    "ssh_quiet_keygen",
    "ssh_publish_hostkeys",
    "ssh_fp_console_blacklist",
    "no_ssh_fingerprints",
    "disable_root",
    "disable_root_opts",
    "disable_ec2_metadata",
    "final_message",
    "output",
    "datasource",
    "datasource_list",
    "merge_how",
    "merge_type",
    "updates",
];
/// Sections of cloud-init that this image cannot do.
const NOT_PLAYED: [&str; 32] = [
    "ansible",
    "apk_repos",
    "apt",
    "apt_pipelining",
    "bootcmd_late",
    "byobu_by_default",
    "chef",
    "chpasswd",
    "drivers",
    "fan",
    "grub_dpkg",
    "landscape",
    "lxd",
    "mcollective",
    "packages",
    "password",
    "phone_home",
    "power_state",
    "puppet",
    "random_seed",
    "resolv_conf",
    "manage_resolv_conf",
    "rh_subscription",
    "rsyslog",
    "salt_minion",
    "snap",
    "spacewalk",
    "ssh_import_id",
    "ssh_keys",
    "swap",
    "wireguard",
    "yum_repos",
];

/// Fields of users that this image cannot do.
const NOT_PLAYED_OF_USERS: [&str; 8] = [
    "create_groups",
    "doas",
    "hashed_passwd",
    "plain_text_passwd",
    "selinux_user",
    "snapuser",
    "ssh_import_id",
    "ssh_redirect_user",
];

pub(super) fn document(value: &Value) -> Read<CloudConfig> {
    let item = Item::new("", value);
    if value.is_null() {
        return Ok(CloudConfig::default());
    }
    let fields = item.fields().or_else(|_| wrong("document", "must be a map"))?;
    for name in WITHOUT_EFFECT {
        fields.get(name);
    }
    for name in NOT_PLAYED {
        if let Some(section) = fields.get(name) {
            return section.wrong("not played by this image");
        }
    }
    for name in ["package_update", "package_upgrade", "package_reboot_if_required"] {
        if fields.boolean(name)? == Some(true) {
            return wrong(name, "not played by this image: there is no package repository to reach");
        }
    }
    if fields.boolean("prefer_fqdn_over_hostname")? == Some(true) {
        return wrong(
            "prefer_fqdn_over_hostname",
            "not modelled: host names are short here; give the name as hostname",
        );
    }
    if let Some(item) = fields.get("manage_etc_hosts")
        && *item.value != Value::Bool(false)
    {
        return item.wrong("not modelled: give /etc/hosts its lines by write_files with append");
    }
    if let Some(item) = fields.get("timezone")
        && !["UTC", "Etc/UTC"].contains(&item.text()?.as_str())
    {
        return item.wrong("not modelled: the time of this image is UTC");
    }
    let (hostname, fqdn) = (host_name(&fields, "hostname")?, host_name(&fields, "fqdn")?);
    let short = |fqdn: String| fqdn.split('.').next().unwrap_or_default().to_owned();
    let mut config = CloudConfig {
        files: fields.each("write_files", file)?,
        groups: groups(&fields)?,
        users: users(&fields)?,
        boot_commands: commands(&fields, "bootcmd")?,
        run_commands: commands(&fields, "runcmd")?,
        hostname: hostname.or_else(|| fqdn.map(short)),
        preserve_hostname: fields.boolean("preserve_hostname")?.unwrap_or_default(),
        keys: fields.texts("ssh_authorized_keys")?,
        filesystems: fields.each("fs_setup", filesystem)?,
        ..CloudConfig::default()
    };
    config.time_sources = fields.within("ntp", time_servers)?;
    for name in ["ca_certs", "ca-certs"] {
        let trusted = fields.within(name, |certificates| {
            certificates.boolean("remove_defaults")?;
            certificates.boolean("remove-defaults")?;
            certificates.texts("trusted")
        })?;
        config.trusted.extend(trusted);
    }
    if let Some(disks) = fields.get("disk_setup") {
        for (device, value) in disks.map()? {
            let item = Item::new(format!("disk_setup.{device}"), value);
            config.disks.push(disk(device, &item)?);
        }
    }
    config.mounts = mounts(&fields)?;
    fields.finish()?;
    Ok(config)
}

fn host_name(fields: &Fields<'_>, name: &'static str) -> Read<Option<String>> {
    match fields.text(name)? {
        Some(text) if !is_host_name(&text) => wrong(name, format!("{text:?} is no host name")),
        text => Ok(text),
    }
}

/// Whether a text is a host name: RFC 1123.
pub(in crate::guest::memory) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

pub(super) fn unzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = MultiGzDecoder::new(bytes).take(LIMIT + 1).read_to_end(&mut content);
    read.map_err(|error| format!("not gzip: {error}"))?;
    if content.len() as u64 > LIMIT { Err(format!("unpacks to more than {} MiB", LIMIT >> 20)) } else { Ok(content) }
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    let text: String = text.split_whitespace().collect();
    STANDARD.decode(text).map_err(|error| format!("not base64: {error}"))
}

fn file(fields: &Fields<'_>) -> Read<File> {
    let path = fields.required("path")?;
    if !path.starts_with('/') {
        return wrong(fields.path("path"), format!("path not absolute: {path:?}"));
    }
    let content = match fields.get("content") {
        // Bytes of YAML's own (`!!binary`) arrive as text.
        Some(item) => item.text()?,
        None => String::new(),
    };
    let encoding = fields.text("encoding")?.unwrap_or_else(|| "text/plain".to_owned());
    let content = match encoding.to_ascii_lowercase().trim() {
        "gz" | "gzip" => unzip(content.as_bytes()),
        "gz+base64" | "gzip+base64" | "gz+b64" | "gzip+b64" => base64(&content).and_then(|bytes| unzip(&bytes)),
        "b64" | "base64" => base64(&content),
        "text/plain" => Ok(content.into_bytes()),
        _ => return wrong(fields.path("encoding"), format!("{encoding:?} is no encoding that cloud-init knows")),
    };
    let content = content.or_else(|reason| wrong(fields.path("content"), reason))?;
    Ok(File {
        path,
        content: content.into(),
        mode: permissions(fields)?.unwrap_or(0o644),
        owner: fields.text("owner")?.unwrap_or_else(|| "root:root".to_owned()),
        append: fields.boolean("append")?.unwrap_or_default(),
        defer: fields.boolean("defer")?.unwrap_or_default(),
    })
}

/// A number is taken as it is (YAML has read its octal digits), a text is octal.
fn permissions(fields: &Fields<'_>) -> Read<Option<u32>> {
    let Some(item) = fields.get("permissions") else { return Ok(None) };
    let mode = match item.value {
        Value::Number(_) => u32::try_from(item.integer()?).ok(),
        _ => u32::from_str_radix(item.text()?.trim().trim_start_matches("0o"), 8).ok(),
    };
    match mode.filter(|mode| *mode <= 0o7777) {
        Some(mode) => Ok(Some(mode)),
        None => item.wrong(format!("{} is no octal mode such as '0644'", item.value)),
    }
}

/// A command: a line for the shell, or a list of words for it to leave as they are.
fn commands(fields: &Fields<'_>, name: &'static str) -> Read<Vec<String>> {
    let list = fields.list(name)?;
    list.iter()
        .filter(|item| !item.value.is_null())
        .map(|item| match item.value {
            Value::Array(_) => {
                let words = item.list()?.into_iter().map(|word| match word.value {
                    Value::Number(number) => Ok(number.to_string()),
                    _ => word.text(),
                });
                let words: Vec<String> = words.collect::<Read<_>>()?;
                if words.is_empty() {
                    return item.wrong("an empty command");
                }
                let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
                Ok(quoted.join(" "))
            }
            _ => item.text().or_else(|_| item.wrong("must be a string or a list of strings")),
        })
        .collect()
}

/// Names separated by commas, or a list of them.
fn names(item: &Item<'_>) -> Read<Vec<String>> {
    if item.value.is_array() {
        return item.texts();
    }
    let text = item.text()?;
    Ok(text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn groups(fields: &Fields<'_>) -> Read<Vec<(String, Vec<String>)>> {
    let Some(item) = fields.get("groups") else { return Ok(Vec::new()) };
    let with_members = |item: &Item<'_>| -> Read<Vec<(String, Vec<String>)>> {
        let entries = item.map()?.iter();
        entries
            .map(|(name, members)| Ok((name.clone(), names(&Item::new(format!("{}.{name}", item.path), members))?)))
            .collect()
    };
    let mut found = Vec::new();
    match item.value {
        Value::Object(_) => found = with_members(&item)?,
        Value::Array(_) => {
            for entry in item.list()? {
                if entry.value.is_object() {
                    found.extend(with_members(&entry)?);
                } else {
                    found.push((entry.text()?, Vec::new()));
                }
            }
        }
        _ => found.extend(names(&item)?.into_iter().map(|name| (name, Vec::new()))),
    }
    Ok(found)
}

fn users(fields: &Fields<'_>) -> Read<Vec<User>> {
    let mut found = Vec::new();
    for item in fields.list("users")? {
        match item.value {
            // The image's own user, of which this image has none.
            Value::String(name) if name == "default" => {}
            Value::String(name) => found.push(User {
                account: NewUser { name: name.clone(), create_home: true, ..NewUser::default() },
                lock: true,
                ..User::default()
            }),
            _ => {
                let fields = item.fields()?;
                found.push(user(&fields)?);
                fields.finish()?;
            }
        }
    }
    Ok(found)
}

fn user(fields: &Fields<'_>) -> Read<User> {
    let text = |name| Ok(fields.text(name)?.filter(|text| !text.is_empty()));
    let flag = |name| Ok(fields.boolean(name)?.unwrap_or_default());
    // When logins end is no matter of a machine that nobody logs in to.
    for name in ["inactive", "expiredate"] {
        // `inactive` is a number of days, or a boolean in older documents.
        if let Some(item) = fields.get(name)
            && !matches!(item.value, Value::Bool(_) | Value::Number(_) | Value::String(_))
        {
            return item.wrong("must be a scalar");
        }
    }
    flag("no_log_init")?;
    let primary = text("primary_group")?;
    let shared = flag("no_user_group")?.then(|| "users".to_owned());
    for name in NOT_PLAYED_OF_USERS {
        if let Some(item) = fields.get(name) {
            return item.wrong("not played by this image");
        }
    }
    let sudo = match fields.get("sudo") {
        None => Vec::new(),
        Some(item) => match item.value {
            Value::Bool(false) => Vec::new(),
            Value::Array(_) => item.texts()?,
            _ => vec![item.text()?],
        },
    };
    let uid = match fields.get("uid") {
        None => None,
        Some(item) => {
            let uid =
                if item.value.is_string() { item.text()?.parse().ok() } else { u32::try_from(item.integer()?).ok() };
            match uid {
                Some(uid) => Some(uid),
                None => return item.wrong("is no user number"),
            }
        }
    };
    Ok(User {
        account: NewUser {
            name: fields.required("name")?,
            uid,
            primary_group: primary.or(shared),
            groups: fields.get("groups").map_or(Ok(Vec::new()), |item| names(&item))?,
            gecos: text("gecos")?.unwrap_or_default(),
            home: text("homedir")?,
            create_home: !flag("no_create_home")? && !flag("system")?,
            shell: text("shell")?,
            password_hash: text("passwd")?,
            system: flag("system")?,
        },
        lock: fields.boolean("lock_passwd")?.unwrap_or(true),
        sudo: sudo.into_iter().filter(|line| !line.is_empty()).collect(),
        keys: fields.texts("ssh_authorized_keys")?,
    })
}

fn time_servers(fields: &Fields<'_>) -> Read<Option<Vec<String>>> {
    let enabled = fields.boolean("enabled")?.unwrap_or(true);
    let named = |kind: &str, names: Vec<String>| names.into_iter().map(|name| format!("{kind} {name}")).collect();
    let mut sources: Vec<String> = named("pool", fields.texts("pools")?);
    sources.extend::<Vec<String>>(named("server", fields.texts("servers")?));
    if let Some(client) = fields.text("ntp_client")?
        && !matches!(client.as_str(), "auto" | "chrony")
    {
        return wrong(fields.path("ntp_client"), format!("{client:?} is not in this image; use auto or chrony"));
    }
    for name in ["peers", "allow", "config"] {
        if let Some(item) = fields.get(name) {
            return item.wrong("not played by this image");
        }
    }
    Ok(enabled.then_some(sources))
}

fn disk(device: &str, item: &Item<'_>) -> Read<Disk> {
    let fields = item.fields()?;
    let gpt = match fields.text("table_type")?.as_deref() {
        Some("gpt") => true,
        Some("mbr" | "dos") | None => false,
        Some(other) => return wrong(fields.path("table_type"), format!("{other:?} is neither mbr nor gpt")),
    };
    let layout = match fields.get("layout") {
        None => Vec::new(),
        Some(layout) => match layout.value {
            Value::Bool(true) => vec![(100, None)],
            Value::Bool(false) => Vec::new(),
            Value::String(_) => return layout.wrong("removing tables is not played by this image"),
            _ => {
                let parts = layout.list()?.into_iter().map(|part| partition(&part));
                parts.collect::<Read<Vec<_>>>()?
            }
        },
    };
    if layout.iter().map(|(percent, _)| percent).sum::<u64>() > 100 {
        return wrong(fields.path("layout"), "the parts are more than 100 percent of the disk");
    }
    let overwrite = fields.boolean("overwrite")?.unwrap_or_default();
    fields.finish()?;
    Ok(Disk { device: device.to_owned(), gpt, layout, overwrite })
}

fn partition(part: &Item<'_>) -> Read<(u64, Option<String>)> {
    let percent =
        |item: &Item<'_>| match u64::try_from(item.integer()?).ok().filter(|percent| (1..=100).contains(percent)) {
            Some(percent) => Ok(percent),
            None => item.wrong("must be a number of percent"),
        };
    if !part.value.is_array() {
        return Ok((percent(part)?, None));
    }
    match part.list()?.as_slice() {
        [size, kind] => {
            let kind = match kind.value {
                Value::Number(number) => number.to_string(),
                _ => kind.text()?,
            };
            Ok((percent(size)?, Some(kind)))
        }
        _ => part.wrong("must be a size and a type"),
    }
}

fn filesystem(fields: &Fields<'_>) -> Read<Filesystem> {
    let kind = fields.required("filesystem")?;
    if !matches!(kind.as_str(), "ext4" | "ext3" | "xfs" | "btrfs" | "vfat" | "swap") {
        return wrong(fields.path("filesystem"), format!("{kind:?}: this image has no mkfs.{kind}"));
    }
    let partition = match fields.get("partition") {
        None => String::new(),
        Some(item) => match item.value {
            Value::Number(number) => number.to_string(),
            _ => item.text()?,
        },
    };
    let known =
        matches!(partition.as_str(), "" | "auto" | "any" | "none") || partition.bytes().all(|b| b.is_ascii_digit());
    if !known {
        return wrong(fields.path("partition"), format!("{partition:?} is neither auto, any, none nor a number"));
    }
    if let Some(item) = fields.get("cmd") {
        return item.wrong("not played by this image");
    }
    if let Some(item) = fields.get("extra_opts") {
        let options = item.texts().or_else(|_| item.text().map(|option| vec![option]));
        mkfs_options(&item, &options.or_else(|_| item.wrong("must be a string or a list of strings"))?)?;
    }
    Ok(Filesystem {
        label: fields.text("label")?.unwrap_or_default(),
        kind,
        device: fields.required("device")?,
        partition,
        overwrite: fields.boolean("overwrite")?.unwrap_or_default(),
        replaces: fields.text("replace_fs")?.filter(|kind| !kind.is_empty()),
    })
}

fn mounts(fields: &Fields<'_>) -> Read<Vec<Mount>> {
    let scalar = |item: &Item<'_>| -> Read<Option<String>> {
        match item.value {
            Value::Null => Ok(None),
            Value::Number(number) => Ok(Some(number.to_string())),
            _ => item.text().map(Some),
        }
    };
    let mut defaults: [Option<String>; 6] = [
        None,
        None,
        Some("auto".to_owned()),
        Some("defaults,nofail,x-systemd.requires=cloud-init.service,_netdev".to_owned()),
        Some("0".to_owned()),
        Some("2".to_owned()),
    ];
    for (default, item) in defaults.iter_mut().zip(fields.list("mount_default_fields")?) {
        *default = scalar(&item)?;
    }
    let mut found = Vec::new();
    for item in fields.list("mounts")? {
        let parts = item.list()?;
        if !(2..=6).contains(&parts.len()) {
            return item.wrong("must have two to six fields: device, mount point, type, options, dump, pass");
        }
        let mut mount = Mount::default();
        for (index, field) in mount.fields.iter_mut().enumerate() {
            let given = parts.get(index).map(&scalar).transpose()?.flatten();
            *field = given.or_else(|| defaults[index].clone()).unwrap_or_default();
        }
        let place = &mount.fields[1];
        if place != "none" && !place.starts_with('/') {
            return item.wrong(format!("the mount point {place:?} is no absolute path"));
        }
        found.push(mount);
    }
    Ok(found)
}
