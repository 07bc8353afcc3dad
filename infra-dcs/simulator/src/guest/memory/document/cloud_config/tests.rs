use serde_json::json;

use super::*;
use crate::guest::memory::{boot_testing::Vm, document::reader::testing::with_unknown_keys};

fn parse_text(text: &str) -> Result<CloudConfig, DocumentError> {
    parse(format!("#cloud-config\n{text}").as_bytes(), &json!({}))
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, expected) in [
        ("write_file: []\n", "write_file: unknown key"),
        ("- a\n", "document: must be a map"),
        ("a: [", "document: not YAML at line 2"),
        ("write_files: {}\n", "write_files: must be a list, is a map"),
        ("write_files: [{content: x}]\n", "write_files[0].path: is required"),
        ("write_files: [{path: etc/x}]\n", "write_files[0].path: path not absolute: \"etc/x\""),
        ("write_files: [{path: /x, mode: '0644'}]\n", "write_files[0].mode: unknown key"),
        (
            "write_files: [{path: /x, permissions: rw}]\n",
            "write_files[0].permissions: \"rw\" is no octal mode such as '0644'",
        ),
        ("write_files: [{path: /x, permissions: '0999'}]\n", "write_files[0].permissions: \"0999\" is no octal mode"),
        ("write_files: [{path: /x, permissions: 77777}]\n", "write_files[0].permissions: 77777 is no octal mode"),
        ("write_files: [{path: /x, content: 1}]\n", "write_files[0].content: must be a string, is a number"),
        (
            "write_files: [{path: /x, encoding: rot13}]\n",
            "write_files[0].encoding: \"rot13\" is no encoding that cloud-init knows",
        ),
        ("write_files: [{path: /x, encoding: b64, content: '%'}]\n", "write_files[0].content: not base64"),
        ("write_files: [{path: /x, encoding: gz+b64, content: aGk=}]\n", "write_files[0].content: not gzip"),
        ("write_files: [{path: /x, append: 'true'}]\n", "write_files[0].append: must be a boolean, is a string"),
        ("runcmd: ls\n", "runcmd: must be a list, is a string"),
        ("runcmd: [{a: b}]\n", "runcmd[0]: must be a string or a list of strings"),
        ("runcmd: [[]]\n", "runcmd[0]: an empty command"),
        ("users: [{}]\n", "users[0].name: is required"),
        ("users: [{name: a, ssh-authorized-keys: [k]}]\n", "users[0].ssh-authorized-keys: unknown key"),
        ("users: [{name: a, ssh_authorized_keys: k}]\n", "users[0].ssh_authorized_keys: must be a list, is a string"),
        ("ntp: {server: [a]}\n", "ntp.server: unknown key"),
        ("hostname: not_a_name\n", "hostname: \"not_a_name\" is no host name"),
        ("packages: [curl]\n", "packages: not played by this image"),
        ("package_update: true\n", "package_update: not played by this image: there is no package repository to reach"),
        ("mounts: [[/dev/vdb]]\n", "mounts[0]: must have two to six fields"),
        ("mounts: [[/dev/vdb, mnt]]\n", "mounts[0]: the mount point \"mnt\" is no absolute path"),
        (
            "disk_setup: {/dev/vdb: {table_type: bsd}}\n",
            "disk_setup./dev/vdb.table_type: \"bsd\" is neither mbr nor gpt",
        ),
        (
            "disk_setup: {/dev/vdb: {layout: [60, 60]}}\n",
            "disk_setup./dev/vdb.layout: the parts are more than 100 percent of the disk",
        ),
        (
            "fs_setup: [{device: /dev/vdb, filesystem: zfs}]\n",
            "fs_setup[0].filesystem: \"zfs\": this image has no mkfs.zfs",
        ),
        ("fs_setup: [{filesystem: xfs}]\n", "fs_setup[0].device: is required"),
    ] {
        let error = parse_text(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
    }
    let error = parse(b"#!/bin/sh\n", &json!({})).unwrap_err().to_string();
    assert!(error.starts_with("user data: the first line must be \"#cloud-config\""), "{error}");
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    let document = json!({
        "write_files": [{"path": "/x", "content": "x"}],
        "users": [{"name": "a", "sudo": ["ALL"]}, "b"],
        "ntp": {"servers": ["t"]},
        "ca_certs": {"trusted": []},
        "disk_setup": {"/dev/vdb": {"layout": true}},
        "fs_setup": [{"device": "/dev/vdb", "filesystem": "xfs"}],
    });
    let parse_json = |document: &Value| parse_text(&document.to_string());
    parse_json(&document).unwrap();
    // Keys of this map are devices.
    let changed = with_unknown_keys(&document).into_iter().filter(|(place, _)| place != "disk_setup.unheard");
    let mut count = 0;
    for (place, document) in changed {
        assert_eq!(parse_json(&document).unwrap_err().to_string(), format!("{place}: unknown key"));
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn what_a_real_image_would_heed_and_this_one_cannot_is_refused() {
    for (text, expected) in [
        (
            "manage_etc_hosts: true\n",
            "manage_etc_hosts: not modelled: give /etc/hosts its lines by write_files with append",
        ),
        ("manage_etc_hosts: localhost\n", "manage_etc_hosts: not modelled"),
        ("timezone: Asia/Shanghai\n", "timezone: not modelled: the time of this image is UTC"),
        ("prefer_fqdn_over_hostname: true\n", "prefer_fqdn_over_hostname: not modelled"),
        ("users: [{name: a, snapuser: s}]\n", "users[0].snapuser: not played by this image"),
        ("users: [{name: a, selinux_user: s}]\n", "users[0].selinux_user: not played by this image"),
        (
            "fs_setup: [{device: /dev/vdb, filesystem: ext4, extra_opts: [-L, data]}]\n",
            "fs_setup[0].extra_opts: the option \"-L\" is not modelled; use the fields label and uuid",
        ),
    ] {
        let error = parse_text(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
    }
    let fine = "manage_etc_hosts: false\ntimezone: Etc/UTC\nprefer_fqdn_over_hostname: false\nlocale: C.UTF-8\n\
                fs_setup: [{device: /dev/vdb, filesystem: xfs, extra_opts: [-i, size=512]}]\n";
    parse_text(fine).unwrap();
}

#[test]
fn values_are_those_of_yaml_1_1() {
    let config = parse_text(
        "write_files:\n- {path: /a, permissions: 0640, content: x}\n- {path: /b, permissions: '755', append: yes}\n- {path: /c, encoding: gzip+b64, content: H4sIAAAAAAACA8vIBACsKpPYAgAAAA==}\nruncmd: [[echo, \"it's\", 1], 'a && b']\ngroups: [g, {h: [root]}]\n",
    )
    .unwrap();
    assert_eq!(config.files.iter().map(|file| file.mode).collect::<Vec<_>>(), [0o640, 0o755, 0o644]);
    assert_eq!((config.files[1].append, &*config.files[2].content), (true, &b"hi"[..]));
    assert_eq!(config.run_commands, [r"'echo' 'it'\''s' '1'", "a && b"]);
    assert_eq!(config.groups, [("g".to_owned(), vec![]), ("h".to_owned(), vec!["root".to_owned()])]);
    assert_eq!(parse_text("").unwrap(), CloudConfig::default());
}

#[test]
fn templates_know_the_machine_and_nothing_else() {
    let facts = json!({"ds": {"meta_data": {"local_hostname": "n1"}}, "v1": {"instance_id": "i"}});
    let header = "## template: jinja\n#cloud-config\n";
    let text = format!(
        "{header}hostname: {{{{ ds.meta_data.local_hostname }}}}\nwrite_files:\n{{% if v1.instance_id == 'i' %}}\n- path: /x\n  content: '{{{{ v1.instance_id | upper }}}}'\n{{% endif %}}\n"
    );
    let config = parse(text.as_bytes(), &facts).unwrap();
    assert_eq!((config.hostname.as_deref(), &*config.files[0].content), (Some("n1"), &b"I"[..]));
    let missing = format!("{header}hostname: {{{{ ds.meta_data.none }}}}\n");
    assert_eq!(parse(missing.as_bytes(), &facts).unwrap_err().to_string(), "template: line 3: undefined value");
    let broken = format!("{header}hostname: {{{{ x\n");
    assert!(parse(broken.as_bytes(), &facts).unwrap_err().to_string().starts_with("template: line 3: syntax error"));
    // Without the marker it is text.
    assert_eq!(parse_text("runcmd: ['echo {{ x }}']\n").unwrap().run_commands, ["echo {{ x }}"]);
}

#[test]
fn modules_fail_where_cloud_init_would_only_log() {
    let apply_text = |text: &str| {
        let mut machine = Vm::new().with_disk(10).machine();
        let mut system = machine.disks[0].clone();
        system.name = "vda".to_owned();
        system.disk = Default::default();
        machine.disks.insert(0, system);
        machine.settle_devices().unwrap();
        let result = apply_stage(&parse_text(text).unwrap(), Stage::Configure, &mut machine);
        (machine, result.map_err(|error| error.to_string()))
    };
    for (text, expected) in [
        ("write_files: [{path: /x, owner: 'who:root'}]\n", "write_files[0] (/x): invalid user: 'who:root'"),
        ("write_files: [{path: /etc/hosts/x}]\n", "write_files[0] (/etc/hosts/x): "),
        ("mounts: [[LABEL=none, /mnt/a]]\n", "mounts[0]: there is no device LABEL=none"),
        ("mounts: [[/dev/vdb, /mnt/a]]\n", "mounts[0]: /mnt/a: wrong fs type"),
        ("mounts: [[/dev/vdb, /mnt/a, noatime]]\n", "mounts[0]: unknown filesystem type 'noatime'"),
        ("fs_setup: [{device: /dev/vdz, filesystem: xfs}]\n", "fs_setup[0]: there is no device /dev/vdz"),
        ("groups: [{g: [who]}]\n", "groups.g: there is no user \"who\""),
    ] {
        let error = apply_text(text).1.unwrap_err();
        assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
    }
    let (machine, result) = apply_text(
        "disk_setup: {/dev/vdb: {table_type: gpt, layout: true}}\nfs_setup: [{label: data, filesystem: xfs, device: /dev/vdb1}]\nmounts: [[LABEL=data, /var/data, xfs]]\nusers: [{name: boot, groups: 'wheel, new', sudo: 'ALL=(ALL) NOPASSWD:ALL', ssh_authorized_keys: [k]}, {name: app, no_user_group: true}]\nntp: {servers: [t1], pools: [p1]}\n",
    );
    assert_eq!(result, Ok(()));
    assert_eq!(machine.root.mounted_at("/var/data").unwrap().volume.kind(), "xfs");
    assert!(machine.root.read_text("/etc/fstab").unwrap().contains("LABEL=data\t/var/data\txfs\tdefaults,nofail"));
    assert_eq!(machine.root.read_text("/etc/sudoers.d/90-cloud-init-users").unwrap(), "boot ALL=(ALL) NOPASSWD:ALL\n");
    assert_eq!(machine.root.group("new").unwrap().members, ["boot"]);
    assert_eq!(machine.root.read_text("/etc/chrony/chrony.conf").unwrap(), "pool p1 iburst\nserver t1 iburst\n");
    assert!(machine.root.group("app").is_none() && machine.root.group("boot").is_some());
}
