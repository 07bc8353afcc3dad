//! What the schema of a `KubeadmConfigSpec` cannot say (bootstrap webhook rules; the control plane applies them too).

use std::collections::HashSet;

use super::{
    files::{Encoding, File, TableType, User},
    spec::{Format, KubeadmConfigSpec},
};

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field.
    pub field: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Everything that is wrong with a spec at `path`. `ignition` says whether the Ignition format is switched on.
pub fn validate(spec: &KubeadmConfigSpec, path: &str, ignition: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    files(&spec.files, path, &mut found);
    users(&spec.users, path, &mut found);
    formats(spec, path, ignition, &mut found);
    let partitions = spec.disk_setup.iter().flat_map(|setup| &setup.partitions).enumerate();
    for (index, partition) in partitions {
        let sum: i32 = partition.disk_layout.iter().map(|part| part.percentage).sum();
        if sum > 100 {
            let field = format!("{path}.diskSetup.partitions[{index}].diskLayout");
            add(&mut found, field, format!("the percentages add up to {sum}, more than 100"));
        }
    }
    let discovery = spec.join_configuration.as_ref().and_then(|join| join.discovery.as_ref());
    let config = discovery.and_then(|discovery| discovery.file.as_ref()?.kube_config.as_ref());
    if let Some(user) = config.map(|config| &config["user"])
        && user.get("authProvider").is_some()
        && user.get("exec").is_some()
    {
        let field = format!("{path}.joinConfiguration.discovery.file.kubeConfig.user");
        add(&mut found, field, "authProvider and exec exclude each other");
    }
    found
}

fn add(found: &mut Vec<Violation>, field: String, message: impl Into<String>) {
    found.push(Violation { field, message: message.into() });
}

fn files(files: &[File], path: &str, found: &mut Vec<Violation>) {
    let mut paths = HashSet::new();
    for (index, file) in files.iter().enumerate() {
        let field = format!("{path}.files[{index}]");
        if !file.content.is_empty() && file.content_from.is_some() {
            add(found, field.clone(), "content and contentFrom exclude each other");
        }
        if let Some(source) = &file.content_from {
            required(&source.secret.name, format!("{field}.contentFrom.secret.name"), found);
            required(&source.secret.key, format!("{field}.contentFrom.secret.key"), found);
        }
        if !paths.insert(&file.path) {
            add(found, format!("{field}.path"), format!("{} is written by an earlier file already", file.path));
        }
    }
}

fn users(users: &[User], path: &str, found: &mut Vec<Violation>) {
    for (index, user) in users.iter().enumerate() {
        let field = format!("{path}.users[{index}]");
        if !user.passwd.is_empty() && user.passwd_from.is_some() {
            add(found, field.clone(), "passwd and passwdFrom exclude each other");
        }
        if let Some(source) = &user.passwd_from {
            required(&source.secret.name, format!("{field}.passwdFrom.secret.name"), found);
            required(&source.secret.key, format!("{field}.passwdFrom.secret.key"), found);
        }
    }
}

fn required(value: &str, field: String, found: &mut Vec<Violation>) {
    if value.is_empty() {
        add(found, field, "must not be empty");
    }
}

fn formats(spec: &KubeadmConfigSpec, path: &str, enabled: bool, found: &mut Vec<Violation>) {
    let is_ignition = spec.format == Some(Format::Ignition);
    if !enabled {
        let gate = "can be set only if the KubeadmBootstrapFormatIgnition feature gate is enabled";
        if is_ignition {
            add(found, format!("{path}.format"), gate);
        }
        if spec.ignition.is_some() {
            add(found, format!("{path}.ignition"), gate);
        }
        return;
    }
    if !is_ignition {
        if spec.ignition.is_some() {
            add(found, format!("{path}.format"), "must be \"ignition\" when the ignition field is set");
        }
        return;
    }
    let unsupported = "is not supported when format is \"ignition\"";
    for (index, user) in spec.users.iter().enumerate().filter(|(_, user)| user.inactive == Some(true)) {
        add(found, format!("{path}.users[{index}].inactive"), format!("{unsupported} (user {})", user.name));
    }
    for (index, file) in spec.files.iter().enumerate() {
        if matches!(file.encoding, Some(Encoding::Gzip | Encoding::GzipBase64)) {
            add(found, format!("{path}.files[{index}].encoding"), unsupported);
        }
    }
    if !spec.boot_commands.is_empty() {
        add(found, format!("{path}.bootCommands"), unsupported);
    }
    let Some(setup) = &spec.disk_setup else { return };
    for (index, partition) in setup.partitions.iter().enumerate() {
        if partition.table_type.is_some_and(|table| table != TableType::Gpt) {
            let field = format!("{path}.diskSetup.partitions[{index}].tableType");
            add(found, field, "must be \"gpt\" when format is \"ignition\"");
        }
    }
    for (index, filesystem) in setup.filesystems.iter().enumerate() {
        let field = format!("{path}.diskSetup.filesystems[{index}]");
        if !filesystem.replace_fs.is_empty() {
            add(found, format!("{field}.replaceFS"), unsupported);
        }
        if !filesystem.partition.is_empty() {
            add(found, format!("{field}.partition"), unsupported);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case(json!({"files": [{"path": "/a", "content": "x", "contentFrom": {"secret": {"name": "s", "key": "k"}}}]}), "spec.files[0]")]
    #[case(json!({"files": [{"path": "/a"}, {"path": "/a"}]}), "spec.files[1].path")]
    #[case(json!({"users": [{"name": "u", "passwdFrom": {"secret": {"name": "", "key": "k"}}}]}), "spec.users[0].passwdFrom.secret.name")]
    #[case(json!({"ignition": {"containerLinuxConfig": {"strict": true}}}), "spec.format")]
    #[case(json!({"format": "ignition", "bootCommands": ["x"]}), "spec.bootCommands")]
    #[case(json!({"format": "ignition", "files": [{"path": "/a", "encoding": "gzip"}]}), "spec.files[0].encoding")]
    #[case(json!({"format": "ignition", "users": [{"name": "u", "inactive": true}]}), "spec.users[0].inactive")]
    #[case(json!({"diskSetup": {"partitions": [{"device": "/dev/b", "diskLayout": [{"percentage": 70}, {"percentage": 31}]}]}}), "spec.diskSetup.partitions[0].diskLayout")]
    fn a_violation_names_its_field(#[case] spec: Value, #[case] field: &str) {
        let spec: KubeadmConfigSpec = serde_json::from_value(spec).unwrap();
        let fields: Vec<_> = validate(&spec, "spec", true).into_iter().map(|found| found.field).collect();
        assert_eq!(fields, [field]);
    }

    #[test]
    fn the_gate_forbids_ignition() {
        let spec: KubeadmConfigSpec = serde_json::from_value(json!({"format": "ignition"})).unwrap();
        assert_eq!(validate(&spec, "spec", false)[0].field, "spec.format");
        assert!(validate(&spec, "spec", true).is_empty());
    }
}
