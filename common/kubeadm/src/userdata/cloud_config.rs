//! cloud-init's `#cloud-config`. Section order, key order and layout are upstream's, byte for byte where machines of
//! users may depend on them; scalars are quoted where YAML would read something else.

use std::fmt::Write;

use super::{Input, Run, verbosity};
use crate::api::files::{DiskSetup, File, Ntp, User};

const INIT_PATH: &str = "/run/kubeadm/kubeadm.yaml";
const JOIN_PATH: &str = "/run/kubeadm/kubeadm-join-config.yaml";
const SENTINEL: &str = "echo success > /run/cluster-api/bootstrap-success.complete";
/// Exists only so that its folder does, on every system.
const PLACEHOLDER: &str = "/run/cluster-api/placeholder";

pub(super) fn render(input: &Input<'_>) -> String {
    // Jinja lets users write machine facts such as `{{ ds.meta_data.local_hostname }}` into their configuration.
    let mut text = String::from("## template: jinja\n#cloud-config\n\n");
    text.push_str("write_files:\n");
    for file in input.certificates.iter().chain(&input.files).chain([&kubeadm_file(&input.run)]) {
        write_file(&mut text, file);
    }
    let _ = write!(
        text,
        "-   path: {PLACEHOLDER}\n    owner: root:root\n    permissions: '0640'\n    content: \"This placeholder file is used to create the /run/cluster-api sub directory in a way that is compatible with both Linux and Windows (mkdir -p /run/cluster-api does not work with Windows)\"\n"
    );
    commands(&mut text, "bootcmd", &input.spec.boot_commands);
    text.push_str("runcmd:\n");
    list(&mut text, &input.spec.pre_kubeadm_commands);
    let verbosity = verbosity(input.spec);
    let _ = match input.run {
        Run::Init { .. } => writeln!(text, "  - 'kubeadm init --config {INIT_PATH} {verbosity} && {SENTINEL}'"),
        Run::Join { .. } => writeln!(text, "  - kubeadm join --config {JOIN_PATH} {verbosity} && {SENTINEL}"),
    };
    list(&mut text, &input.spec.post_kubeadm_commands);
    if let Some(ntp) = &input.spec.ntp {
        time_servers(&mut text, ntp);
    }
    if !input.users.is_empty() {
        text.push_str("users:\n");
        input.users.iter().for_each(|user| write_user(&mut text, user));
    }
    if let Some(setup) = &input.spec.disk_setup {
        disks(&mut text, setup);
    }
    if !input.spec.mounts.is_empty() {
        text.push_str("mounts:\n");
        for mount in &input.spec.mounts {
            for (index, part) in mount.0.iter().enumerate() {
                let _ = writeln!(text, "{}- {}", if index == 0 { "  - " } else { "    " }, scalar(part));
            }
        }
    }
    text
}

fn kubeadm_file(run: &Run) -> File {
    let (path, content) = match run {
        Run::Init { cluster, init } => (INIT_PATH, format!("---\n{cluster}\n---\n{init}")),
        Run::Join { join, control_plane: true } => (JOIN_PATH, join.clone()),
        Run::Join { join, control_plane: false } => (JOIN_PATH, format!("---\n{join}")),
    };
    File {
        path: path.to_owned(),
        owner: "root:root".to_owned(),
        permissions: "0640".to_owned(),
        content,
        ..File::default()
    }
}

fn write_file(text: &mut String, file: &File) {
    let _ = writeln!(text, "-   path: {}", scalar(&file.path));
    if let Some(encoding) = file.encoding {
        let _ = writeln!(text, "    encoding: \"{}\"", encoding.as_str());
    }
    if !file.owner.is_empty() {
        let _ = writeln!(text, "    owner: {}", scalar(&file.owner));
    }
    if !file.permissions.is_empty() {
        let _ = writeln!(text, "    permissions: '{}'", file.permissions.replace('\'', "''"));
    }
    if let Some(append) = file.append {
        let _ = writeln!(text, "    append: {append}");
    }
    if !file.content.chars().all(|c| c == '\n' || c == '\t' || is_printable(c)) {
        // A block cannot say it: a carriage return would become a line feed, and readers refuse control characters.
        let _ = writeln!(text, "    content: {}", quoted(&file.content));
        return;
    }
    // A first line that begins with a space would be taken for the block's indentation.
    let indentation = if file.content.starts_with([' ', '\t', '\n']) { "2" } else { "" };
    let _ = writeln!(text, "    content: |{indentation}");
    for line in file.content.split('\n') {
        let _ = writeln!(text, "      {line}");
    }
}

fn commands(text: &mut String, section: &str, commands: &[String]) {
    if !commands.is_empty() {
        let _ = writeln!(text, "{section}:");
        list(text, commands);
    }
}

fn list(text: &mut String, commands: &[String]) {
    for command in commands {
        let _ = writeln!(text, "  - {}", quoted(command));
    }
}

fn time_servers(text: &mut String, ntp: &Ntp) {
    text.push_str("ntp:\n");
    if let Some(enabled) = ntp.enabled {
        let _ = writeln!(text, "  enabled: {enabled}");
    }
    text.push_str("  servers:\n");
    for server in &ntp.servers {
        let _ = writeln!(text, "    - {}", scalar(server));
    }
}

fn write_user(text: &mut String, user: &User) {
    let _ = writeln!(text, "  - name: {}", scalar(&user.name));
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "    {name}: {}", scalar(value));
        }
    };
    field("passwd", &user.passwd);
    field("gecos", &user.gecos);
    field("groups", &user.groups);
    field("homedir", &user.home_dir);
    if let Some(inactive) = user.inactive {
        let _ = writeln!(text, "    inactive: {inactive}");
    }
    if let Some(lock) = user.lock_password {
        let _ = writeln!(text, "    lock_passwd: {lock}");
    }
    for (name, value) in [("shell", &user.shell), ("primary_group", &user.primary_group), ("sudo", &user.sudo)] {
        if !value.is_empty() {
            let _ = writeln!(text, "    {name}: {}", scalar(value));
        }
    }
    if !user.ssh_authorized_keys.is_empty() {
        text.push_str("    ssh_authorized_keys:\n");
        for key in &user.ssh_authorized_keys {
            let _ = writeln!(text, "      - {}", scalar(key));
        }
    }
}

fn disks(text: &mut String, setup: &DiskSetup) {
    text.push_str("disk_setup:\n");
    for partition in &setup.partitions {
        let _ = writeln!(text, "  {}:", scalar(&partition.device));
        if let Some(table) = partition.table_type {
            let _ = writeln!(
                text,
                "    table_type: {}",
                if table == crate::api::files::TableType::Gpt { "gpt" } else { "mbr" }
            );
        }
        if !partition.disk_layout.is_empty() {
            text.push_str("    layout:\n");
            for part in &partition.disk_layout {
                let _ = match type_code(&part.partition_type) {
                    "" => writeln!(text, "      - {}", part.percentage),
                    code => writeln!(text, "      - [{}, {code}]", part.percentage),
                };
            }
        } else if let Some(layout) = partition.layout {
            let _ = writeln!(text, "    layout: {layout}");
        }
        if let Some(overwrite) = partition.overwrite {
            let _ = writeln!(text, "    overwrite: {overwrite}");
        }
    }
    text.push_str("fs_setup:\n");
    for filesystem in &setup.filesystems {
        let _ = writeln!(text, "  - label: {}", scalar(&filesystem.label));
        let _ = writeln!(text, "    filesystem: {}", scalar(&filesystem.filesystem));
        let _ = writeln!(text, "    device: {}", scalar(&filesystem.device));
        if !filesystem.partition.is_empty() {
            let _ = writeln!(text, "    partition: {}", scalar(&filesystem.partition));
        }
        if let Some(overwrite) = filesystem.overwrite {
            let _ = writeln!(text, "    overwrite: {overwrite}");
        }
        if !filesystem.replace_fs.is_empty() {
            let _ = writeln!(text, "    replace_fs: {}", scalar(&filesystem.replace_fs));
        }
        if !filesystem.extra_opts.is_empty() {
            text.push_str("    extra_opts:\n");
            for option in &filesystem.extra_opts {
                let _ = writeln!(text, "      - {}", scalar(option));
            }
        }
    }
}

/// cloud-init's code of a partition type; a GUID is its own.
fn type_code(name: &str) -> &str {
    match name {
        "Linux" => "83",
        "LinuxSwap" => "82",
        "LinuxRAID" => "fd",
        "LVM" => "8e",
        "Fat32" => "0c",
        "NTFS" => "07",
        "LinuxExtended" => "85",
        other => other,
    }
}

/// A value as it is where YAML reads it as the same text, quoted elsewhere.
fn scalar(text: &str) -> String {
    let plain_start = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '$');
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+=@%,$ ()*~^".contains(c) || c == ':';
    let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_plain = plain_start
        && text.chars().all(harmless)
        && !text.contains(": ")
        && !text.ends_with(':')
        && !text.ends_with(' ')
        && !reserved.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// What YAML 1.1 (cloud-init's) takes as it is, line breaks and tabs apart.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A double-quoted scalar.
fn quoted(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 2);
    result.push('"');
    for c in text.chars() {
        match c {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\t' => result.push_str("\\t"),
            '\r' => result.push_str("\\r"),
            c if !is_printable(c) => {
                let _ = write!(result, "\\u{:04x}", u32::from(c));
            }
            c => result.push(c),
        }
    }
    result.push('"');
    result
}
