//! What a document of specification 2.3 becomes in 3.3.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use ignition::{ParseError, TranslateError, data_url, parse, translate, v2, v3};
use proptest::prelude::*;
use serde_json::json;

fn old(document: &serde_json::Value) -> v2::Config {
    serde_json::from_value(document.clone()).unwrap()
}

fn with_storage(storage: &serde_json::Value) -> serde_json::Value {
    json!({"ignition": {"version": "2.3.0"}, "storage": storage})
}

#[test]
fn a_document_of_the_bootstrap_provider_is_translated() {
    let document = json!({
        "ignition": {"version": "2.3.0", "config": {}, "security": {"tls": {}}, "timeouts": {}},
        "networkd": {},
        "passwd": {"users": [{"name": "boot", "sshAuthorizedKeys": ["ssh-ed25519 AAAA"], "groups": ["wheel"]},
                             {"name": "old", "create": {"uid": 1001, "shell": "/bin/sh"}}]},
        "storage": {
            "disks": [{"device": "/dev/vdb", "wipeTable": true, "partitions": [{"number": 1, "size": 4096}]}],
            "filesystems": [{"name": "etcd", "mount": {"device": "/dev/vdb", "format": "ext4",
                             "wipeFilesystem": true, "label": "etcd_disk", "options": ["-E", "lazy_itable_init=1"]}}],
            "files": [
                {"filesystem": "root", "path": "/etc/kubeadm.yml", "contents": {"source": "data:,---%0A", "verification": {}},
                 "mode": 384, "user": {"name": "root"}, "group": {"id": 0}},
                {"filesystem": "root", "path": "/etc/motd", "append": true, "contents": {"source": "data:,hello"}},
                {"filesystem": "root", "path": "/etc/empty", "mode": 420}],
            "directories": [{"filesystem": "root", "path": "/opt/x", "mode": 493}],
            "links": [{"filesystem": "root", "path": "/opt/y", "target": "/opt/x"}]
        },
        "systemd": {"units": [
            {"name": "kubeadm.service", "enabled": true, "contents": "[Unit]\n"},
            {"name": "ntpd.service", "enable": true},
            {"name": "x.service", "mask": true, "dropins": [{"name": "10.conf", "contents": "[Service]\n"}]}]}
    });
    insta::assert_json_snapshot!(translate(old(&document)).unwrap());
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let networkd = json!({"ignition": {"version": "2.3.0"}, "networkd": {"units": [{"name": "00-eth.network"}]}});
    assert_eq!(translate(old(&networkd)), Err(TranslateError::Networkd("00-eth.network".to_owned())));
    for (storage, expected) in [
        (json!({"files": [{"filesystem": "data", "path": "/a"}]}), "which storage.filesystems does not name"),
        (
            json!({"filesystems": [{"name": "data", "mount": {"device": "/dev/vdb", "format": "xfs"}}],
                   "files": [{"filesystem": "data", "path": "/a"}]}),
            "which has no path",
        ),
        (json!({"files": [{"filesystem": "root", "path": "a"}]}), "must be absolute"),
        (json!({"disks": [{"device": "/dev/vdb", "partitions": [{"number": 2, "size": 100}]}]}), "whole number of MiB"),
    ] {
        let error = translate(old(&with_storage(&storage))).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_on_a_mounted_filesystem_gets_its_whole_path() {
    let document = with_storage(&json!({
        "filesystems": [{"name": "oem", "path": "/usr/share/oem/"}],
        "files": [{"filesystem": "oem", "path": "/grub.cfg"}]}));
    assert!(translate(old(&document)).unwrap().file("/usr/share/oem/grub.cfg").is_some());
}

#[test]
fn a_path_named_twice_becomes_one_file_with_the_later_content() {
    let file = |content: &str, append: bool| {
        json!({"filesystem": "root", "path": "/a", "append": append,
        "contents": {"source": format!("data:,{content}")}})
    };
    let document = with_storage(&json!({"files": [file("one", false), file("two", false), file("three", true)]}));
    let translated = translate(old(&document)).unwrap();
    assert_eq!(translated.storage.files.len(), 1);
    assert_eq!(translated.storage.files[0].content().unwrap(), b"two");
    assert_eq!(translated.storage.files[0].append.len(), 1);
}

#[test]
fn a_partition_without_a_number_gets_the_next_free_one() {
    let document = with_storage(&json!({"disks": [{"device": "/dev/vdb", "partitions": [
        {}, {"number": 1, "sizeMiB": 8}, {"label": "named"}, {"shouldExist": true}]}]}));
    let translated = translate(old(&document)).unwrap();
    let numbers: Vec<_> = translated.storage.disks[0].partitions.iter().map(|partition| partition.number).collect();
    assert_eq!(numbers, [2, 1, 0, 3]);
}

#[test]
fn arrays_groups_and_included_documents_arrive() {
    let document = json!({
        "ignition": {"version": "2.3.0", "timeouts": {"httpTotal": 30},
            "config": {"append": [{"source": "https://a", "verification": {"hash": "sha512-1"}}], "replace": {"source": "https://r"}},
            "security": {"tls": {"certificateAuthorities": [{"source": "https://ca"}]}}},
        "passwd": {"groups": [{"name": "ops", "gid": 1000, "system": true}]},
        "storage": {
            "raid": [{"name": "md", "level": "raid1", "devices": ["/dev/vdb", "/dev/vdc"], "spares": 1}],
            "filesystems": [{"name": "data", "path": "/data", "mount": {"device": "/dev/md/md", "format": "xfs",
                             "create": {"force": true, "options": ["-f"]}}}],
            "links": [{"filesystem": "data", "path": "/l", "target": "/t", "hard": true, "overwrite": true, "user": {"id": 5}}],
            "directories": [{"filesystem": "data", "path": "/d", "overwrite": true, "group": {"name": "ops"}}]}
    });
    insta::assert_json_snapshot!(translate(old(&document)).unwrap());
}

#[test]
fn versions_are_told_apart() {
    assert!(
        matches!(parse(br#"{"ignition":{"version":"4.0.0"}}"#), Err(ParseError::Version(version)) if version == "4.0.0")
    );
    assert!(matches!(parse(b"#cloud-config"), Err(ParseError::Malformed(_))));
    // What a specification does not know would silently be lost.
    let unknown = parse(br#"{"ignition":{"version":"2.3.0"},"storage":{"luks":[]}}"#).unwrap_err();
    assert!(unknown.to_string().contains("luks"), "{unknown}");
    assert_eq!(parse(br#"{"ignition":{"version":"3.0.0"}}"#).unwrap(), v3::Config::new());
    assert_eq!(parse(br#"{"ignition":{"version":"2.3.0"}}"#).unwrap(), v3::Config::new());
}

#[test]
fn merging_lets_the_second_win_and_keeps_the_rest() {
    let mut first = v3::Config::new();
    first.storage.files = vec![v3::File::new("/a", b"1", 420), v3::File::new("/b", b"1", 420)];
    first.passwd.users =
        vec![v3::User { name: "u".into(), ssh_authorized_keys: vec!["k1".into()], ..Default::default() }];
    let mut second = v3::Config::new();
    second.storage.files = vec![v3::File::new("/a", b"2", 384), v3::File::new("/c", b"2", 384)];
    second.passwd.users = vec![v3::User {
        name: "u".into(),
        ssh_authorized_keys: vec!["k1".into(), "k2".into()],
        shell: Some("/bin/sh".into()),
        ..Default::default()
    }];
    first.merge(second);
    let contents: Vec<_> =
        first.storage.files.iter().map(|file| (file.path.as_str(), file.content().unwrap())).collect();
    assert_eq!(contents, [("/a", b"2".to_vec()), ("/b", b"1".to_vec()), ("/c", b"2".to_vec())]);
    assert_eq!(first.passwd.users[0].ssh_authorized_keys, ["k1", "k2"]);
}

proptest! {
    /// Every file arrives with its content, mode and owner, whatever the encoding.
    #[test]
    fn files_survive_translation(
        files in prop::collection::btree_map("/[a-z]{1,8}", (prop::collection::vec(any::<u8>(), 0..200), 0..0o7777u32, any::<bool>()), 0..8)
    ) {
        let mut document = v2::Config::new();
        for (path, (content, mode, gzip)) in &files {
            let mut file = v2::File::new(path.clone(), content, *mode);
            if *gzip {
                file.contents.source = data_url::pack(content, "gzip").unwrap();
                file.contents.compression = "gzip".to_owned();
            }
            document.storage.files.push(file);
        }
        let json = serde_json::to_vec(&document).unwrap();
        let translated = parse(&json).unwrap();
        prop_assert_eq!(translated.storage.files.len(), files.len());
        for (path, (content, mode, _)) in &files {
            let file = translated.file(path).unwrap();
            prop_assert_eq!(&file.content().unwrap(), content);
            prop_assert_eq!(file.mode, Some(*mode));
            prop_assert_eq!(file.overwrite, Some(true));
        }
        // A translated document reads back as itself.
        prop_assert_eq!(parse(&serde_json::to_vec(&translated).unwrap()).unwrap(), translated);
    }
}
