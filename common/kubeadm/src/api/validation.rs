//! What the schema of a `KubeadmConfigSpec` cannot say (bootstrap webhook rules; the control plane applies them too).

use std::collections::{BTreeMap, HashSet};

use super::{
    files::{DiskSetup, Encoding, File, TableType, User},
    spec::{Format, KubeadmConfigSpec},
    v1beta2::TemplateMeta,
};
use crate::token::Token;

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
    if let Some(setup) = &spec.disk_setup {
        disks(setup, path, &mut found);
    }
    let tokens = spec.init_configuration.iter().flat_map(|init| &init.bootstrap_tokens).enumerate();
    for (index, _) in tokens.filter(|(_, token)| Token::parse(&token.token).is_err()) {
        let field = format!("{path}.initConfiguration.bootstrapTokens[{index}].token");
        add(&mut found, field, "must be of the form [a-z0-9]{6}.[a-z0-9]{16}");
    }
    let discovery = spec.join_configuration.as_ref().and_then(|join| join.discovery.as_ref());
    let config = discovery.and_then(|discovery| discovery.file.as_ref()?.kube_config.as_ref());
    if config.is_some_and(|config| config.user.auth_provider.is_some() && config.user.exec.is_some()) {
        let field = format!("{path}.joinConfiguration.discovery.file.kubeConfig.user");
        add(&mut found, field, "authProvider and exec exclude each other");
    }
    found
}

/// A control plane's first machine and those that join it must have one limit: v1beta1 has no more.
pub fn validate_one_health_check(spec: &KubeadmConfigSpec, path: &str) -> Vec<Violation> {
    let limit = |timeouts: Option<&super::spec::Timeouts>| timeouts?.control_plane_component_health_check_seconds;
    let init = limit(spec.init_configuration.as_ref().and_then(|init| init.timeouts.as_ref()));
    let join = limit(spec.join_configuration.as_ref().and_then(|join| join.timeouts.as_ref()));
    let mut found = Vec::new();
    if init != join {
        let shown = |limit: Option<i32>| limit.map_or_else(|| "unset".to_owned(), |limit| limit.to_string());
        for section in ["initConfiguration", "joinConfiguration"] {
            let message = format!(
                "must be the same in initConfiguration ({}) and joinConfiguration ({})",
                shown(init),
                shown(join)
            );
            add(&mut found, format!("{path}.{section}.timeouts.controlPlaneComponentHealthCheckSeconds"), message);
        }
    }
    found
}

/// Everything that keeps a template's labels and annotations from being put on an object.
pub fn validate_metadata(metadata: &TemplateMeta, path: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (key, value) in &metadata.labels {
        if let Err(reason) = qualified_name(key) {
            add(&mut found, format!("{path}.labels[{key}]"), reason);
        }
        if !value.is_empty() && !is_name(value) {
            let reason = format!(
                "{value:?} must be at most 63 letters, digits, '-', '_' and '.', from a letter or digit to one"
            );
            add(&mut found, format!("{path}.labels[{key}]"), reason);
        }
    }
    for key in metadata.annotations.keys() {
        // Annotations may have capitals in their prefix.
        if let Err(reason) = qualified_name(&key.to_lowercase()) {
            add(&mut found, format!("{path}.annotations[{key}]"), reason);
        }
    }
    if size(&metadata.annotations) > ANNOTATIONS_LIMIT {
        add(&mut found, format!("{path}.annotations"), format!("are longer than {ANNOTATIONS_LIMIT} bytes together"));
    }
    found
}

/// Most bytes in all annotations of an object.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

fn size(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Whether a text can be the key of a label or taint; the error says what it must be.
pub fn qualified_name(key: &str) -> Result<(), &'static str> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if !is_name(name) {
        return Err("the name must be 1 to 63 letters, digits, '-', '_' and '.', from a letter or digit to one");
    }
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Err("the prefix before '/' must be a DNS name of lower-case letters, digits, '-' and '.'");
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let is_edge = |edge: Option<char>| edge.is_some_and(|edge| edge.is_ascii_alphanumeric());
    let is_inner = |inner: char| inner.is_ascii_alphanumeric() || "-_.".contains(inner);
    text.len() <= 63 && is_edge(text.chars().next()) && is_edge(text.chars().last()) && text.chars().all(is_inner)
}

/// Whether a text is a DNS-1123 subdomain: what names of objects are.
pub fn is_subdomain(text: &str) -> bool {
    let is_inner = |inner: char| inner.is_ascii_lowercase() || inner.is_ascii_digit() || inner == '-';
    let is_label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(is_inner)
    };
    text.len() <= 253 && text.split('.').all(is_label)
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

fn disks(setup: &DiskSetup, path: &str, found: &mut Vec<Violation>) {
    for (index, partition) in setup.partitions.iter().enumerate() {
        let field = format!("{path}.diskSetup.partitions[{index}]");
        let sum: i32 = partition.disk_layout.iter().map(|part| part.percentage).sum();
        if sum > 100 {
            add(found, format!("{field}.diskLayout"), format!("the percentages add up to {sum}, more than 100"));
        }
        // The schema of v1beta1 lets it through.
        if partition.layout.is_some() && !partition.disk_layout.is_empty() {
            add(found, field, "layout and diskLayout exclude each other");
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
    #[case(json!({"diskSetup": {"partitions": [{"device": "/dev/b", "layout": true, "diskLayout": [{"percentage": 70}]}]}}), "spec.diskSetup.partitions[0]")]
    #[case(json!({"files": [{"path": "/a", "contentFrom": {"secret": {"name": "s", "key": ""}}}]}), "spec.files[0].contentFrom.secret.key")]
    #[case(json!({"users": [{"name": "u", "passwd": "x", "passwdFrom": {"secret": {"name": "s", "key": "k"}}}]}), "spec.users[0]")]
    #[case(json!({"format": "ignition", "diskSetup": {"partitions": [{"device": "/dev/b", "layout": true, "tableType": "mbr"}]}}), "spec.diskSetup.partitions[0].tableType")]
    #[case(json!({"format": "ignition", "diskSetup": {"filesystems": [{"device": "/dev/b", "filesystem": "xfs", "replaceFS": "ntfs"}]}}), "spec.diskSetup.filesystems[0].replaceFS")]
    #[case(json!({"format": "ignition", "diskSetup": {"filesystems": [{"device": "/dev/b", "filesystem": "xfs", "partition": "auto"}]}}), "spec.diskSetup.filesystems[0].partition")]
    #[case(json!({"initConfiguration": {"bootstrapTokens": [{"token": "ABCDEF.0123456789abcdef"}]}}), "spec.initConfiguration.bootstrapTokens[0].token")]
    #[case(json!({"joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/a", "kubeConfig": {"user": {"exec": {"command": "a"}, "authProvider": {"name": "b"}}}}}}}), "spec.joinConfiguration.discovery.file.kubeConfig.user")]
    fn a_violation_names_its_field(#[case] spec: Value, #[case] field: &str) {
        let spec: KubeadmConfigSpec = serde_json::from_value(spec).unwrap();
        let fields: Vec<_> = validate(&spec, "spec", true).into_iter().map(|found| found.field).collect();
        assert_eq!(fields, [field]);
    }

    #[test]
    fn what_the_format_carries_is_let_through() {
        let spec = json!({
            "format": "ignition", "ignition": {"containerLinuxConfig": {"strict": true}},
            "files": [{"path": "/a", "encoding": "base64"}, {"path": "/b"}],
            "users": [{"name": "u", "inactive": false}],
            "diskSetup": {
                "partitions": [{"device": "/dev/b", "tableType": "gpt", "diskLayout": [{"percentage": 60}, {"percentage": 40}]}],
                "filesystems": [{"device": "/dev/b", "filesystem": "xfs"}],
            },
            "initConfiguration": {"bootstrapTokens": [{"token": "abcdef.0123456789abcdef"}]},
        });
        assert_eq!(validate(&serde_json::from_value(spec).unwrap(), "spec", true), []);
    }

    #[rstest]
    #[case(json!({}), true)]
    #[case(json!({"initConfiguration": {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}}}), false)]
    #[case(json!({"joinConfiguration": {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}}}), false)]
    #[case(json!({
        "initConfiguration": {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}},
        "joinConfiguration": {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}},
    }), true)]
    fn a_control_plane_has_one_health_check(#[case] spec: Value, #[case] fits: bool) {
        let found = validate_one_health_check(&serde_json::from_value(spec).unwrap(), "spec");
        assert_eq!(found.is_empty(), fits, "{found:?}");
        assert!(fits || found[1].field == "spec.joinConfiguration.timeouts.controlPlaneComponentHealthCheckSeconds");
    }

    #[rstest]
    #[case(json!({"labels": {"a": "", "node-role.kubernetes.io/control-plane": "", "x.y/Z_1": "v1.2-3"}, "annotations": {"Example.com/a": "any text: {}"}}), &[])]
    #[case(json!({"labels": {"-a": "b"}}), &["m.labels[-a]"])]
    #[case(json!({"labels": {"A.b/c": "d"}}), &["m.labels[A.b/c]"])]
    #[case(json!({"labels": {"a": "b c"}}), &["m.labels[a]"])]
    #[case(json!({"labels": {"a/b/c": ""}}), &["m.labels[a/b/c]"])]
    #[case(json!({"annotations": {"a b": ""}}), &["m.annotations[a b]"])]
    fn metadata_must_fit_an_object(#[case] metadata: Value, #[case] fields: &[&str]) {
        let found = validate_metadata(&serde_json::from_value(metadata).unwrap(), "m");
        assert_eq!(found.iter().map(|found| found.field.as_str()).collect::<Vec<_>>(), fields);
    }

    #[test]
    fn annotations_have_a_limit_together() {
        let metadata = TemplateMeta {
            annotations: [("a".to_owned(), "x".repeat(ANNOTATIONS_LIMIT))].into(),
            ..Default::default()
        };
        assert_eq!(validate_metadata(&metadata, "m")[0].field, "m.annotations");
    }

    #[test]
    fn the_gate_forbids_ignition() {
        let spec: KubeadmConfigSpec = serde_json::from_value(json!({"format": "ignition"})).unwrap();
        assert_eq!(validate(&spec, "spec", false)[0].field, "spec.format");
        assert!(validate(&spec, "spec", true).is_empty());
    }
}
