//! Ignition 2.3.0, made from typed data; what upstream's own transpiler yields from the same spec.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use ignition::{clc, data_url, v2};

use super::{Error, Input, Run, verbosity, wrong};
use crate::api::{
    files::{Encoding, File, Partition, PartitionSpec, User},
    spec::{KubeadmConfigSpec, Mount},
};

const KUBEADM_PATH: &str = "/etc/kubeadm.yml";
const SCRIPT_PATH: &str = "/etc/kubeadm.sh";
/// The condition keeps a second run from happening: the script moves the file away.
const UNIT: &str = "[Unit]\nDescription=kubeadm\n# Run only once. After successful run, this file is moved to /tmp/.\nConditionPathExists=/etc/kubeadm.yml\nAfter=network.target\n[Service]\n# To not restart the unit when it exits, as it is expected.\nType=oneshot\nExecStart=/bin/bash /etc/kubeadm.sh\n[Install]\nWantedBy=multi-user.target\n";
/// Mode of a file that says none: readable by all, as cloud-init has it.
const DEFAULT_MODE: u32 = 0o644;

pub(super) fn render(input: &Input<'_>) -> Result<Vec<u8>, Error> {
    let mut config = v2::Config {
        ignition: v2::Ignition { version: v2::VERSION.to_owned(), ..v2::Ignition::default() },
        ..v2::Config::default()
    };
    config.passwd.users = input.users.iter().map(user).collect();
    config.systemd.units.push(enabled("kubeadm.service", UNIT));
    if input.spec.ntp.as_ref().is_some_and(|ntp| ntp.enabled == Some(true)) {
        config.systemd.units.push(enabled("ntpd.service", ""));
    }
    disks(input.spec, &mut config)?;
    let mut files = Vec::new();
    for user in input.users.iter().filter(|user| !user.sudo.is_empty()) {
        files.push(plain(&format!("/etc/sudoers.d/{}", user.name), 0o600, &format!("{} {}\n", user.name, user.sudo)));
    }
    let open: Vec<_> =
        input.users.iter().filter(|user| user.lock_password == Some(false)).map(|user| user.name.as_str()).collect();
    if !open.is_empty() {
        files.push(plain("/etc/ssh/sshd_config", 0o600, &sshd_config(&open)));
    }
    for (index, file) in input.certificates.iter().chain(&input.files).enumerate() {
        let own = index.checked_sub(input.certificates.len());
        let field = own.map_or_else(|| file.path.clone(), |index| format!("files[{index}]"));
        files.push(user_file(file, &field)?);
    }
    files.push(plain(SCRIPT_PATH, 0o700, &script(input)));
    files.push(plain(KUBEADM_PATH, 0o600, &document(&input.run)));
    if let Some(ntp) = &input.spec.ntp
        && ntp.enabled.is_some()
        && !ntp.servers.is_empty()
    {
        files.push(plain("/etc/ntp.conf", 0o644, &ntp_conf(&ntp.servers)));
    }
    config.storage.files = files;
    if let Some(more) = additional(input.spec)? {
        config.append(more);
    }
    serde_json::to_vec(&config).map_err(|error| Error::Write(error.to_string()))
}

/// What the user adds as a Container Linux Config. Its warnings count only where the user wants it strict.
fn additional(spec: &KubeadmConfigSpec) -> Result<Option<v2::Config>, Error> {
    let settings = spec.ignition.as_ref().and_then(|ignition| ignition.container_linux_config.as_ref());
    let Some(settings) = settings.filter(|settings| !settings.additional_config.is_empty()) else { return Ok(None) };
    let field = "ignition.containerLinuxConfig.additionalConfig";
    let (config, warnings) =
        clc::parse(&settings.additional_config).map_err(|error| wrong(field, error.to_string()))?;
    match warnings.first() {
        Some(first) if settings.strict == Some(true) => Err(wrong(field, format!("{first} (strict is set)"))),
        _ => Ok(Some(config)),
    }
}

fn user(user: &User) -> v2::User {
    let groups = user.groups.split(',').map(str::trim).filter(|group| !group.is_empty());
    v2::User {
        name: user.name.clone(),
        gecos: user.gecos.clone(),
        groups: groups.map(str::to_owned).collect(),
        home_dir: user.home_dir.clone(),
        shell: user.shell.clone(),
        password_hash: (!user.passwd.is_empty()).then(|| user.passwd.clone()),
        primary_group: user.primary_group.clone(),
        ssh_authorized_keys: user.ssh_authorized_keys.clone(),
        ..v2::User::default()
    }
}

fn enabled(name: &str, contents: &str) -> v2::Unit {
    v2::Unit { name: name.to_owned(), enabled: Some(true), contents: contents.to_owned(), ..v2::Unit::default() }
}

fn plain(path: &str, mode: u32, content: &str) -> v2::File {
    v2::File {
        filesystem: "root".to_owned(),
        path: path.to_owned(),
        mode: Some(mode),
        contents: v2::Contents { source: data_url::encode_text(content), ..v2::Contents::default() },
        ..v2::File::default()
    }
}

fn user_file(file: &File, field: &str) -> Result<v2::File, Error> {
    let content = match file.encoding {
        None => with_newline(&file.content),
        Some(Encoding::Base64) => {
            // Tools break base64 into lines.
            let bytes = STANDARD.decode(file.content.split_whitespace().collect::<String>());
            let bytes = bytes.map_err(|error| wrong(format!("{field}.content"), format!("is not base64: {error}")))?;
            let (owner, group) = owners(&file.owner);
            return Ok(v2::File {
                contents: v2::Contents { source: data_url::encode_bytes(&bytes), ..v2::Contents::default() },
                user: owner,
                group,
                append: file.append == Some(true),
                ..plain(&file.path, mode(file, field)?, "")
            });
        }
        Some(Encoding::Gzip | Encoding::GzipBase64) => {
            return Err(wrong(format!("{field}.encoding"), "gzip is not supported when format is \"ignition\""));
        }
    };
    let (owner, group) = owners(&file.owner);
    let append = file.append == Some(true);
    Ok(v2::File { user: owner, group, append, ..plain(&file.path, mode(file, field)?, &content) })
}

/// Octal, with or without a leading zero, as cloud-init and every manual read it.
fn mode(file: &File, field: &str) -> Result<u32, Error> {
    if file.permissions.is_empty() {
        return Ok(DEFAULT_MODE);
    }
    let digits = file.permissions.trim_start_matches("0o");
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| {
        wrong(format!("{field}.permissions"), format!("{:?} is no octal mode such as 0640", file.permissions))
    })
}

fn owners(owner: &str) -> (Option<v2::Owner>, Option<v2::Owner>) {
    let named = |name: &str| {
        let name = name.trim();
        (!name.is_empty()).then(|| v2::Owner { name: name.to_owned(), id: None })
    };
    match owner.split_once(':') {
        Some((user, group)) => (named(user), named(group)),
        None => (named(owner), None),
    }
}

fn with_newline(content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("{}\n", content.trim_end_matches('\n')) }
}

fn script(input: &Input<'_>) -> String {
    let kubeadm = match input.run {
        Run::Init { .. } => "init",
        Run::Join { .. } => "join",
    };
    let mut lines = vec!["#!/bin/bash".to_owned(), "set -e".to_owned(), String::new()];
    lines.extend(input.spec.pre_kubeadm_commands.iter().cloned());
    lines.push(String::new());
    lines.push(format!("kubeadm {kubeadm} --config {KUBEADM_PATH} {}", verbosity(input.spec)));
    lines.push("mkdir -p /run/cluster-api && echo success > /run/cluster-api/bootstrap-success.complete".to_owned());
    lines.push(format!("mv {KUBEADM_PATH} /tmp/"));
    if !input.spec.post_kubeadm_commands.is_empty() {
        lines.push(String::new());
        lines.extend(input.spec.post_kubeadm_commands.iter().cloned());
    }
    with_newline(&lines.join("\n"))
}

fn document(run: &Run) -> String {
    match run {
        Run::Init { cluster, init } => with_newline(&format!("---\n{cluster}\n---\n{init}")),
        Run::Join { join, .. } => with_newline(&format!("---\n{join}")),
    }
}

fn disks(spec: &KubeadmConfigSpec, config: &mut v2::Config) -> Result<(), Error> {
    let mut labels = HashMap::new();
    if let Some(setup) = &spec.disk_setup {
        for (index, partition) in setup.partitions.iter().enumerate() {
            config.storage.disks.push(v2::Disk {
                device: partition.device.clone(),
                wipe_table: partition.overwrite == Some(true),
                partitions: partitions(partition, &format!("diskSetup.partitions[{index}].diskLayout"))?,
            });
        }
        for filesystem in &setup.filesystems {
            if !filesystem.label.is_empty() {
                labels.insert(filesystem.label.as_str(), filesystem.device.as_str());
            }
            config.storage.filesystems.push(v2::Filesystem {
                name: filesystem.label.clone(),
                path: None,
                mount: Some(v2::FilesystemMount {
                    device: filesystem.device.clone(),
                    format: filesystem.filesystem.clone(),
                    wipe_filesystem: filesystem.overwrite == Some(true),
                    label: (!filesystem.label.is_empty()).then(|| filesystem.label.clone()),
                    options: filesystem.extra_opts.clone(),
                    ..v2::FilesystemMount::default()
                }),
            });
        }
    }
    for (index, Mount(parts)) in spec.mounts.iter().enumerate() {
        let [what, place, options @ ..] = parts.as_slice() else {
            return Err(wrong(format!("mounts[{index}]"), "needs a device and a mount point"));
        };
        if !place.starts_with('/') {
            return Err(wrong(format!("mounts[{index}]"), format!("the mount point {place:?} is no absolute path")));
        }
        let label = what.strip_prefix("LABEL=").unwrap_or(what);
        let device = labels.get(label).copied().unwrap_or(what);
        let name = format!("{}.mount", unit_name(place));
        let options = if options.is_empty() { String::new() } else { format!("Options={}\n", options.join(",")) };
        let contents = format!(
            "[Unit]\nDescription=Mount {what}\n[Mount]\nWhat={device}\nWhere={place}\n{options}[Install]\nWantedBy=multi-user.target\n"
        );
        config.systemd.units.push(enabled(&name, &contents));
    }
    Ok(())
}

/// One partition over the whole disk, or none. Ignition sizes partitions in MiB: parts of a disk whose size nobody knows
/// cannot be said.
fn partitions(setup: &Partition, field: &str) -> Result<Vec<v2::Partition>, Error> {
    let type_guid = match setup.disk_layout.as_slice() {
        [] if setup.layout == Some(true) => String::new(),
        [] => return Ok(Vec::new()),
        [PartitionSpec { percentage: 100, partition_type }] => partition_guid(partition_type).to_owned(),
        _ => {
            let cure =
                "use one part of 100 percent, or partition the disk by ignition.containerLinuxConfig.additionalConfig";
            return Err(wrong(field, format!("Ignition has no parts of a disk in percent; {cure}")));
        }
    };
    Ok(vec![v2::Partition { number: 1, type_guid, ..v2::Partition::default() }])
}

/// GUID of a partition type that users name; a GUID is its own.
fn partition_guid(name: &str) -> &str {
    match name {
        "Linux" => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
        "LinuxSwap" => "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
        "LinuxRAID" => "A19D880F-05FC-4D3B-A006-743F0F84911E",
        "LVM" => "E6D6D379-F507-44C2-A23C-238F2A3DF928",
        "Fat32" | "NTFS" => "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
        // Extended partitions are the old table's way around its limit of four; this one has none.
        "LinuxExtended" => "",
        guid => guid,
    }
}

/// Name of the unit of a path, as `systemd-escape --path` writes it.
fn unit_name(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    let mut name = String::new();
    for byte in parts.join("/").bytes() {
        match byte {
            b'/' => name.push('-'),
            b'.' if name.is_empty() => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(char::from(byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

fn sshd_config(users: &[&str]) -> String {
    format!(
        "# Use most defaults for sshd configuration.\nSubsystem sftp internal-sftp\nClientAliveInterval 180\nUseDNS no\nUsePAM yes\nPrintLastLog no # handled by PAM\nPrintMotd no # handled by PAM\n\nMatch User {}\n  PasswordAuthentication yes\n",
        users.join(",")
    )
}

fn ntp_conf(servers: &[String]) -> String {
    let mut text = String::from("# Common pool\n");
    for server in servers {
        text.push_str(&format!("server {server}\n"));
    }
    text.push_str(
        "\n# Only serve time to this machine.\nrestrict default nomodify nopeer noquery notrap limited kod\nrestrict 127.0.0.1\nrestrict [::1]\n",
    );
    text
}
