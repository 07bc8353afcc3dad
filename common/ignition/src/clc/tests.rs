use serde_json::{Value, json};

use super::*;

const WHOLE: &str = r#"
ignition:
  timeouts: {http_total: 30}
  security: {tls: {certificate_authorities: [{source: "https://ca", verification: {hash: {function: sha512, sum: abc}}}]}}
passwd:
  groups: [{name: ops, gid: 1000}]
  users:
  - {name: boot, ssh_authorized_keys: [k], groups: [wheel], home_dir: /home/b, no_create_home: true}
storage:
  disks:
  - device: /dev/vdb
    wipe_table: true
    partitions:
    - {number: 1, label: data, size: 2GiB, type_guid: linux_filesystem_data}
  filesystems:
  - {name: data, mount: {device: /dev/vdb1, format: xfs, wipe_filesystem: true, label: data}}
  files:
  - path: /etc/a
    mode: 0640
    user: {name: root}
    contents: {inline: "x: 1\n"}
  - {filesystem: root, path: /etc/b, mode: 420, append: true, contents: {remote: {url: "https://b", compression: gzip}}}
  directories: [{path: /opt/d, mode: 0755}]
  links: [{path: /opt/l, target: /opt/d}]
systemd:
  units:
  - name: kubeadm.service
    dropins: [{name: 10.conf, contents: "[Service]\n"}]
  - {name: x.service, enabled: true, mask: false}
"#;

fn document(text: &str) -> Value {
    serde_json::to_value(parse(text).unwrap().0).unwrap()
}

#[test]
fn a_whole_config_becomes_a_document() {
    let (config, warnings) = parse(WHOLE).unwrap();
    assert_eq!(warnings, [""; 0]);
    insta::assert_json_snapshot!(config);
    // What it becomes is what machines read.
    assert!(crate::translate(config).is_ok());
}

#[test]
fn nothing_is_a_config_too() {
    for text in ["", "# only a comment\n", "{}", "storage: {}"] {
        assert_eq!(document(text), json!({"ignition": {"version": "2.3.0"}}), "{text:?}");
    }
}

#[test]
fn what_is_ignored_or_assumed_is_a_warning() {
    let text = "storage:\n  files:\n  - path: /a\n    contents: {inline: x}\n    permissions: 0600\nfoo: 1\n";
    let (config, warnings) = parse(text).unwrap();
    assert_eq!(config.storage.files[0].mode, Some(0o644));
    assert_eq!(
        warnings,
        [
            "storage.files.0.permissions is not known and is ignored",
            "foo is not known and is ignored",
            "storage.files[0].mode is not set, 0o644 is assumed",
        ]
    );
}

#[test]
fn what_is_impossible_is_named() {
    for (text, expected) in [
        ("etcd: {version: 3}", "section etcd is not supported"),
        ("locksmith: {}", "section locksmith is not supported"),
        ("storage: [", "not a Container Linux Config"),
        ("storage: text", "not a Container Linux Config"),
        ("systemd: {units: [{name: kubeadm}]}", "systemd.units[0].name"),
        ("storage: {files: [{path: /a, mode: rw}]}", "storage.files[0].mode"),
        ("storage: {files: [{path: /a, mode: 0999}]}", "storage.files[0].mode"),
        ("storage: {files: [{path: /a, mode: 0644, contents: {local: x}}]}", "storage.files[0].contents.local"),
        ("storage: {disks: [{device: /d, partitions: [{size: many}]}]}", "storage.disks[0].partitions[0].size"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_mode_is_read_as_yaml_reads_it() {
    for (text, mode) in [("0644", 0o644), ("0o644", 0o644), ("420", 420), ("0", 0), ("\"0600\"", 0o600)] {
        let (config, _) = parse(&format!("storage: {{files: [{{path: /a, mode: {text}}}]}}")).unwrap();
        assert_eq!(config.storage.files[0].mode, Some(mode), "{text}");
    }
}

#[test]
fn an_error_does_not_repeat_the_text() {
    let error = parse("passwd:\n  users:\n  - name: a\n    password_hash: [sup3rs3cret\n").unwrap_err();
    assert!(!error.to_string().contains("sup3rs3cret"), "{error}");
}

#[test]
fn appending_adds_lists_and_overrides_what_is_set() {
    let mut base = v2::Config::new();
    base.ignition.timeouts.http_total = Some(5);
    base.ignition.timeouts.http_response_headers = Some(6);
    base.systemd.units.push(v2::Unit { name: "kubeadm.service".into(), ..v2::Unit::default() });
    let (more, _) = parse(WHOLE).unwrap();
    base.append(more);
    let names: Vec<_> = base.systemd.units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["kubeadm.service", "kubeadm.service", "x.service"]);
    assert_eq!((base.ignition.timeouts.http_total, base.ignition.timeouts.http_response_headers), (Some(30), Some(6)));
    assert_eq!(base.storage.files.len(), 2);
}
