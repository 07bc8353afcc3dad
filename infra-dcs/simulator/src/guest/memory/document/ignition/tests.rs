use serde_json::{Value, json};

use super::*;
use crate::guest::memory::{boot_testing::Vm, document::reader::testing::with_unknown_keys};

fn parse_json(document: &Value) -> Result<Document, DocumentError> {
    parse(document.to_string().as_bytes())
}

/// A document with this storage section.
fn storage(section: Value) -> Value {
    json!({"ignition": {"version": "3.3.0"}, "storage": section})
}

fn file(fields: Value) -> Value {
    let mut file = json!({"path": "/etc/a"});
    file.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    storage(json!({"files": [file]}))
}

fn contents(fields: Value) -> Value {
    file(json!({"contents": fields}))
}

fn refused(document: &Value, expected: &str) {
    let error = parse_json(document).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
}

#[test]
fn what_is_wrong_with_a_document_or_content_is_named_with_its_place() {
    for (document, expected) in [
        (json!([]), "document: must be a JSON object"),
        (json!({}), "ignition.version: is required: 3.0.0 to 3.3.0"),
        (
            json!({"ignition": {"version": "2.3.0"}}),
            "ignition.version: unsupported config version \"2.3.0\"; this image reads 3.0.0 to 3.3.0",
        ),
        (
            json!({"ignition": {"version": "3.4.0"}}),
            "ignition.version: unsupported config version \"3.4.0\"; this image reads 3.0.0 to 3.3.0",
        ),
        (json!({"ignition": {"version": "3.3.0"}, "networkd": {}}), "networkd: unknown key"),
        (json!({"ignition": {"version": "3.3.0", "extra": 1}}), "ignition.extra: unknown key"),
        (file(json!({"filesystem": "root"})), "storage.files[0].filesystem: unknown key"),
        (file(json!({"mode": "0644"})), "storage.files[0].mode: must be an integer, is a string"),
        (
            file(json!({"mode": 0o10000})),
            "storage.files[0].mode: illegal file mode 4096: a decimal of at most 4095, such as 420 for 0644",
        ),
        (
            file(json!({"mode": -1})),
            "storage.files[0].mode: illegal file mode -1: a decimal of at most 4095, such as 420 for 0644",
        ),
        (
            file(json!({"overwrite": true})),
            "storage.files[0].contents: overwrite must be false if source is unspecified",
        ),
        (file(json!({"user": {"id": 0, "name": "root"}})), "storage.files[0].user: cannot set both id and name"),
        (
            contents(json!({"source": "https://example.org/x"})),
            "storage.files[0].contents.source: cannot fetch from https: there is no network before the first boot; use a data: URL",
        ),
        (
            contents(json!({"source": "/etc/x"})),
            "storage.files[0].contents.source: invalid url scheme; use a data: URL",
        ),
        (contents(json!({"source": "data:text"})), "storage.files[0].contents.source: a data: URL without a comma"),
        (
            contents(json!({"source": "data:,100%"})),
            "storage.files[0].contents.source: a percent sign without two digits at 3",
        ),
        (
            contents(json!({"source": "data:;base64,a*"})),
            "storage.files[0].contents.source: not base64: Invalid symbol 42, offset 1.",
        ),
        (
            contents(json!({"source": "data:,x", "compression": "xz"})),
            "storage.files[0].contents.compression: unsupported compression \"xz\"; use gzip or none",
        ),
        (contents(json!({"source": "data:,x", "compression": "gzip"})), "storage.files[0].contents.source: not gzip:"),
        (
            contents(json!({"source": "data:,x", "verification": {"hash": "md5-00"}})),
            "storage.files[0].contents.verification.hash: hash function \"md5\" is not supported; use sha512",
        ),
        (
            contents(json!({"source": "data:,x", "verification": {"hash": format!("sha512-{}", "0".repeat(128))}})),
            "storage.files[0].contents.verification.hash: hash verification failed: the content has sha512-a4abd4448c49562d828115d13a1fccea927f52b4d5459297f8b43e42da89238bc13626e43dcb38ddb082488927ec904fb42057443983e88585179d50551afe62",
        ),
    ] {
        refused(&document, expected);
    }
    assert_eq!(parse(b" \n").unwrap_err().to_string(), "document: not a config (empty)");
    let error = parse(b"{\"ignition\": {\"version\": \"3.3.0\"}, \"secret-word\" }").unwrap_err().to_string();
    assert_eq!(error, "document: not JSON at line 1, column 50");
}

#[test]
fn what_is_wrong_with_storage_or_units_is_named_with_its_place() {
    let unit = |unit: Value| json!({"ignition": {"version": "3.3.0"}, "systemd": {"units": [unit]}});
    let filesystem = |fields: Value| {
        let mut filesystem = json!({"device": "/dev/vdb", "format": "xfs"});
        filesystem.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        storage(json!({"filesystems": [filesystem]}))
    };
    let partitions = |partitions: Value| storage(json!({"disks": [{"device": "/dev/vdb", "partitions": partitions}]}));
    for (document, expected) in [
        (storage(json!({"files": [{"path": "etc/a"}]})), "storage.files[0].path: path not absolute: \"etc/a\""),
        (storage(json!({"files": [{"path": "/a/../b"}]})), "storage.files[0].path: \"/a/../b\" must not contain .."),
        (
            storage(json!({"files": [{"path": "/a"}, {"path": "/a/"}]})),
            "storage.files[1].path: duplicate entry defined: \"/a\" is in storage.files[0] too",
        ),
        (
            storage(json!({"files": [{"path": "/a"}], "directories": [{"path": "/a"}]})),
            "storage.directories[0].path: duplicate entry defined: \"/a\" is in storage.files[0] too",
        ),
        (
            storage(json!({"files": [{"path": "/l/a"}], "links": [{"path": "/l", "target": "/x"}]})),
            "storage.files[0].path: path \"/l/a\" includes link \"/l\" in config",
        ),
        (storage(json!({"links": [{"path": "/l"}]})), "storage.links[0].target: is required"),
        (filesystem(json!({"format": "zfs"})), "storage.filesystems[0].format: invalid filesystem format \"zfs\""),
        (
            filesystem(json!({"label": "longer-than-12"})),
            "storage.filesystems[0].label: filesystem labels cannot be longer than 12 characters when using xfs",
        ),
        (
            filesystem(json!({"format": null, "label": "x"})),
            "storage.filesystems[0].format: format is empty but path, label, uuid, wipeFilesystem, or options is specified",
        ),
        (filesystem(json!({"device": "vdb"})), "storage.filesystems[0].device: path not absolute"),
        (
            partitions(json!([{"sizeMiB": 1}])),
            "storage.disks[0].partitions[0]: a partition number >= 1 or a label must be specified",
        ),
        (
            partitions(json!([{"number": 1}, {"number": 1}])),
            "storage.disks[0].partitions[1].number: partition number 1 is used twice",
        ),
        (
            partitions(json!([{"number": 1, "label": "a:b"}])),
            "storage.disks[0].partitions[0].label: partition label will be truncated to text before the colon",
        ),
        (
            partitions(json!([{"number": 1, "typeGuid": "83"}])),
            "storage.disks[0].partitions[0].typeGuid: \"83\" is no GUID",
        ),
        (unit(json!({"name": "kubeadm"})), "systemd.units[0].name: invalid systemd unit extension: \"kubeadm\""),
        (
            unit(json!({"name": "a.service", "contents": "x"})),
            "systemd.units[0].contents: invalid unit content: a.service:1: Missing '='.",
        ),
        (
            unit(json!({"name": "a.service", "contents": "[Service]\nExcStart=/bin/true\n"})),
            "systemd.units[0].contents: invalid unit content: a.service:2: Unknown key 'ExcStart' in section [Service]",
        ),
        (
            unit(json!({"name": "a.service", "enabled": true, "contents": "[Service]\nExecStart=/bin/true\n"})),
            "systemd.units[0].contents: unit \"a.service\" is enabled but has no install section, so enabling does nothing",
        ),
        (
            unit(json!({"name": "a.service", "dropins": [{"name": "x", "contents": ""}]})),
            "systemd.units[0].dropins[0].name: invalid systemd drop-in extension; it must be .conf",
        ),
        (
            json!({"ignition": {"version": "3.0.0"}, "storage": {"filesystems": [{"device": "/dev/vdb", "format": "xfs", "mountOptions": []}]}}),
            "storage.filesystems[0].mountOptions: unknown key",
        ),
        (json!({"ignition": {"version": "3.2.0"}, "kernelArguments": {}}), "kernelArguments: unknown key"),
        (
            json!({"ignition": {"version": "3.3.0", "config": {"merge": [{"source": "data:,{}"}]}}}),
            "ignition.config.merge[0]: ignition.version: is required: 3.0.0 to 3.3.0",
        ),
    ] {
        refused(&document, expected);
    }
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    let data = json!({"source": "data:,x", "verification": {}});
    let nobody = json!({"id": 0});
    let included = "data:,%7B%22ignition%22:%7B%22version%22:%223.0.0%22%7D%7D";
    let document = json!({
        "ignition": {
            "version": "3.3.0",
            "config": {"merge": [{"source": included}], "replace": {}},
            "timeouts": {"httpTotal": 1},
            "security": {"tls": {"certificateAuthorities": [data]}},
            "proxy": {"noProxy": []},
        },
        "kernelArguments": {"shouldExist": []},
        "passwd": {"users": [{"name": "u"}], "groups": [{"name": "g"}]},
        "storage": {
            "disks": [{"device": "/dev/vdb", "partitions": [{"number": 1}]}],
            "raid": [{"name": "r", "level": "raid1", "devices": ["/dev/vdb"]}],
            "luks": [{"name": "l", "device": "/dev/vdb", "clevis": {"tang": [{"url": "u"}], "custom": {}}, "keyFile": data}],
            "filesystems": [{"device": "/dev/vdb", "format": "xfs"}],
            "directories": [{"path": "/d", "user": nobody, "group": nobody}],
            "files": [{"path": "/f", "contents": data, "append": [data], "user": nobody}],
            "links": [{"path": "/l", "target": "/f", "group": nobody}],
        },
        "systemd": {"units": [{"name": "a.service", "dropins": [{"name": "x.conf", "contents": "[Unit]\n"}]}]},
    });
    parse_json(&document).unwrap();
    let changed = with_unknown_keys(&document);
    assert!(changed.len() > 30, "{}", changed.len());
    for (place, document) in changed {
        refused(&document, &format!("{place}: unknown key"));
    }
}

#[test]
fn what_a_real_image_would_heed_and_this_one_cannot_is_refused() {
    let of = |section: &str, content: Value| json!({"ignition": {"version": "3.3.0"}, section: content});
    let filesystem = json!({"device": "/dev/vdb", "format": "xfs", "options": ["-i", "size=512", "-L", "data"]});
    for (document, expected) in [
        (
            of("kernelArguments", json!({"shouldExist": ["quiet"]})),
            "kernelArguments.shouldExist: not modelled: the image has no ignition-kargs",
        ),
        (
            of("passwd", json!({"groups": [{"name": "g", "passwordHash": "x"}]})),
            "passwd.groups[0].passwordHash: the passwords of groups are not modelled; remove it",
        ),
        (
            storage(json!({"disks": [{"device": "/dev/vdb", "partitions": [{"number": 1, "guid": "x"}]}]})),
            "storage.disks[0].partitions[0].guid: the GUIDs of partitions are not modelled; remove it",
        ),
        (
            storage(json!({"filesystems": [filesystem]})),
            "storage.filesystems[0].options: the option \"-L\" is not modelled; use the fields label and uuid",
        ),
        (
            of("systemd", json!({"units": [{"name": "a.timer", "enabled": true, "contents": "[Install]\n"}]})),
            "systemd.units[0].enabled: not modelled: nothing fires here; enable the service itself",
        ),
        (
            of("systemd", json!({"units": [{"name": "a.service", "contents": "[Unit]\nOnFailure=b.service\n"}]})),
            "systemd.units[0].contents: invalid unit content: a.service:2: OnFailure= is not modelled; remove it",
        ),
        (
            of("systemd", json!({"units": [{"name": "a.service", "contents": "[Service]\nUser=app\n"}]})),
            "systemd.units[0].contents: invalid unit content: a.service:2: User=app is not modelled: services run as root \
             here",
        ),
    ] {
        refused(&document, expected);
    }
}

#[test]
fn contents_come_out_of_every_kind_of_url() {
    for (source, fields, expected) in [
        ("data:,a%20b%0A", json!({}), "a b\n"),
        ("data:text/plain;charset=utf-8,x+y", json!({}), "x+y"),
        ("data:;base64,aGk=", json!({}), "hi"),
        ("data:;base64,aGk%3D", json!({}), "hi"),
        ("", json!({}), ""),
        ("data:;base64,H4sIAAAAAAACA8vIBACsKpPYAgAAAA==", json!({"compression": "gzip"}), "hi"),
    ] {
        let mut resource = json!({"source": source});
        resource.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let document = parse_json(&contents(resource)).unwrap();
        assert_eq!(document.files[0].content.as_deref(), Some(expected.as_bytes()), "{source}");
    }
}

#[test]
fn included_documents_win() {
    let inner = json!({
        "ignition": {"version": "3.1.0"},
        "storage": {"files": [{"path": "/etc/a", "append": [{"source": "data:,more"}]}, {"path": "/etc/b"}]},
        "passwd": {"users": [{"name": "boot", "sshAuthorizedKeys": ["k2"]}]},
        "systemd": {"units": [{"name": "a.service", "dropins": [{"name": "1.conf", "contents": "[Unit]\n"}]}]},
    });
    let source = format!("data:,{}", inner.to_string().replace('"', "%22").replace('\n', "%5Cn").replace(' ', "%20"));
    let outer = json!({
        "ignition": {"version": "3.3.0", "config": {"merge": [{"source": source}]}},
        "storage": {"files": [{"path": "/etc/a", "contents": {"source": "data:,one"}}]},
        "passwd": {"users": [{"name": "boot", "sshAuthorizedKeys": ["k1"]}]},
        "systemd": {"units": [{"name": "a.service", "enabled": true, "contents": "[Install]\nWantedBy=x.target\n"}]},
    });
    let document = parse_json(&outer).unwrap();
    assert_eq!(document.files.len(), 2);
    assert_eq!(document.files[0].content.as_deref(), Some(&b"one"[..]));
    assert_eq!(&*document.files[0].append[0], b"more");
    assert_eq!(document.users[0].keys, ["k1", "k2"]);
    assert_eq!((document.units[0].enabled, document.units[0].drop_ins.len()), (Some(true), 1));
    let replace = json!({"ignition": {"version": "3.3.0", "config": {"replace": {"source": source}}}});
    assert_eq!(parse_json(&replace).unwrap().files.len(), 2);
}

#[test]
fn nothing_that_is_there_is_lost_unasked() {
    let apply_to = |document: &Value| {
        let mut machine = Vm::new().with_disk(10).machine();
        machine.root.put("/etc/there", b"old".as_slice(), 0o600, Default::default()).unwrap();
        machine.root.make_directories("/etc/folder").unwrap();
        // A machine that was not booted calls its first disk vda; data disks are to be told from it.
        machine.disks.insert(0, machine.disks[0].clone());
        machine.disks[0].name = "vda".to_owned();
        machine.settle_devices().unwrap();
        let result = apply(&parse_json(document).unwrap(), &mut machine);
        (machine, result.map_err(|error| error.to_string()))
    };
    let there = |fields: Value| {
        let mut file = json!({"path": "/etc/there", "contents": {"source": "data:,new"}});
        file.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        storage(json!({"files": [file]}))
    };
    let (_, result) = apply_to(&there(json!({})));
    assert_eq!(result.unwrap_err(), "files: \"/etc/there\": a file exists there already and overwrite is false");
    let (machine, result) = apply_to(&there(json!({"overwrite": true})));
    assert_eq!(result, Ok(()));
    assert_eq!(machine.root.read_text("/etc/there").unwrap(), "new");
    assert_eq!(machine.root.metadata("/etc/there").unwrap().mode, 0o644);
    let append = storage(json!({"files": [{"path": "/etc/there", "append": [{"source": "data:,%2B"}]}]}));
    let (machine, _) = apply_to(&append);
    assert_eq!(machine.root.read_text("/etc/there").unwrap(), "old+");
    for (document, expected) in [
        (
            storage(json!({"files": [{"path": "/etc/folder"}]})),
            "files: \"/etc/folder\": a directory exists there already and overwrite is false",
        ),
        (
            storage(json!({"directories": [{"path": "/etc/there"}]})),
            "files: directory \"/etc/there\": a non-directory exists there already and overwrite is false",
        ),
        (
            storage(json!({"links": [{"path": "/etc/there", "target": "/x"}]})),
            "files: link \"/etc/there\": a node exists there already and overwrite is false",
        ),
        (
            storage(json!({"files": [{"path": "/etc/n", "user": {"name": "who"}}]})),
            "files: \"/etc/n\": no such user \"who\"",
        ),
        (
            json!({"ignition": {"version": "3.3.0"}, "passwd": {"users": [{"name": "b", "groups": ["docker"]}]}}),
            "passwd: user \"b\": group 'docker' does not exist",
        ),
        (
            storage(json!({"filesystems": [{"device": "/dev/vdz", "format": "xfs"}]})),
            "disks: filesystem /dev/vdz: timed out waiting for the device: there is none of this name",
        ),
        (
            storage(json!({"disks": [{"device": "/dev/vda", "wipeTable": true}]})),
            "disks: /dev/vda: refusing to operate on a disk that is in use",
        ),
        (
            storage(json!({"raid": [{"name": "md", "level": "raid1", "devices": ["/dev/vdb"]}]})),
            "disks: raid \"md\": this image has no mdadm",
        ),
    ] {
        assert_eq!(apply_to(&document).1.unwrap_err(), expected);
    }
}

#[test]
fn disks_are_partitioned_and_what_fits_is_kept() {
    let mut machine = Vm::new().with_disk(10).machine();
    let document = |wipe: bool, format: &str| {
        storage(json!({
            "disks": [{"device": "/dev/vdb", "partitions": [{"number": 1, "sizeMiB": 1024, "label": "one"}, {"label": "rest"}]}],
            "filesystems": [{"device": "/dev/vdb1", "format": format, "label": "data", "path": "/var/data", "wipeFilesystem": wipe}],
            "files": [{"path": "/var/data/kept", "contents": {"source": "data:,x"}, "overwrite": true}],
        }))
    };
    // The helper's machine was not booted: give it a system disk before the data disk.
    let mut system = machine.disks[0].clone();
    system.name = "vda".to_owned();
    machine.disks.insert(0, system);
    machine.disks[0].disk = Default::default();
    machine.settle_devices().unwrap();
    apply(&parse_json(&document(false, "xfs")).unwrap(), &mut machine).unwrap();
    let first = machine.block("/dev/vdb1").unwrap();
    assert_eq!((first.size_bytes, first.numbers), (1 << 30, (252, 17)));
    assert_eq!(machine.block("/dev/vdb2").unwrap().size_bytes, (10 * 1024 - 1024 - 2) << 20);
    let uuid = first.disk.volume().unwrap().uuid();
    assert!(!machine.root.exists("/var/data/kept"), "mounted for Ignition only");
    apply(&parse_json(&document(false, "xfs")).unwrap(), &mut machine).unwrap();
    assert_eq!(machine.block("LABEL=data").unwrap().disk.volume().unwrap().uuid(), uuid);
    let error = apply(&parse_json(&document(false, "ext4")).unwrap(), &mut machine).unwrap_err().to_string();
    assert!(error.contains("is not of the correct type, label, or UUID (found xfs"), "{error}");
    apply(&parse_json(&document(true, "ext4")).unwrap(), &mut machine).unwrap();
    assert_ne!(machine.block("LABEL=data").unwrap().disk.volume().unwrap().uuid(), uuid);
}
