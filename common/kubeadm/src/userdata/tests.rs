use ::ignition::{data_url, v2};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn spec(value: Value) -> KubeadmConfigSpec {
    serde_json::from_value(value).unwrap()
}

fn input(spec: &KubeadmConfigSpec, run: Run) -> Input<'_> {
    Input { spec, certificates: Vec::new(), files: spec.files.clone(), users: spec.users.clone(), run }
}

fn init() -> Run {
    Run::Init { cluster: "kind: ClusterConfiguration\n".into(), init: "kind: InitConfiguration\n".into() }
}

fn worker() -> Run {
    Run::Join { join: "kind: JoinConfiguration\n".into(), control_plane: false }
}

fn cloud(spec: &KubeadmConfigSpec, run: Run) -> Value {
    let text = String::from_utf8(render(&input(spec, run)).unwrap()).unwrap();
    assert!(
        text.starts_with("## template: jinja\n#cloud-config\n\nwrite_files:\n"),
        "cloud-init reads the first lines"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn files(spec: &KubeadmConfigSpec, run: Run) -> v2::Config {
    serde_json::from_slice(&render(&input(spec, run)).unwrap()).unwrap()
}

fn content(config: &v2::Config, path: &str) -> String {
    let file = config.storage.files.iter().find(|file| file.path == path).unwrap();
    String::from_utf8(data_url::decode(&file.contents.source).unwrap()).unwrap()
}

#[test]
fn cloud_config_runs_commands_around_kubeadm() {
    let spec = spec(json!({
        "preKubeadmCommands": ["echo \"a: b\"\n# not a comment", "- x"], "postKubeadmCommands": ["true"], "verbosity": 5,
        "bootCommands": ["early"], "ntp": {"enabled": true, "servers": ["t1"]}, "mounts": [["LABEL=d", "/d", "defaults"]],
        "users": [{"name": "boot", "sudo": "ALL=(ALL) NOPASSWD:ALL", "sshAuthorizedKeys": ["ssh-ed25519 AAAA a@b"], "lockPassword": false}],
        "diskSetup": {"partitions": [{"device": "/dev/vdb", "diskLayout": [{"percentage": 30, "partitionType": "Linux"}, {"percentage": 70}]}],
                      "filesystems": [{"device": "/dev/vdb", "filesystem": "xfs", "label": "d", "extraOpts": ["-F"]}]},
    }));
    let document = cloud(&spec, init());
    assert_eq!(
        document["runcmd"],
        json!([
            "echo \"a: b\"\n# not a comment",
            "- x",
            "kubeadm init --config /run/kubeadm/kubeadm.yaml --v 5 && echo success > /run/cluster-api/bootstrap-success.complete",
            "true"
        ])
    );
    assert_eq!(
        document["write_files"][0]["content"],
        "---\nkind: ClusterConfiguration\n\n---\nkind: InitConfiguration\n"
    );
    assert_eq!(document["write_files"][1]["path"], "/run/cluster-api/placeholder");
    assert_eq!(document["users"][0]["sudo"], "ALL=(ALL) NOPASSWD:ALL");
    assert_eq!(document["disk_setup"]["/dev/vdb"]["layout"], json!([[30, 83], 70]));
    assert_eq!(document["mounts"], json!([["LABEL=d", "/d", "defaults"]]));
    assert_eq!(document["bootcmd"], json!(["early"]));
}

#[test]
fn a_worker_and_a_control_plane_machine_join() {
    let empty = spec(json!({}));
    let worker = cloud(&empty, worker());
    assert_eq!(worker["write_files"][0]["path"], "/run/kubeadm/kubeadm-join-config.yaml");
    assert_eq!(worker["write_files"][0]["content"], "---\nkind: JoinConfiguration\n");
    let run = Run::Join { join: "kind: JoinConfiguration\n".into(), control_plane: true };
    assert_eq!(cloud(&empty, run)["write_files"][0]["content"], "kind: JoinConfiguration\n");
}

#[test]
fn ignition_runs_kubeadm_once_from_a_unit() {
    let spec = spec(json!({
        "format": "ignition",
        "files": [{"path": "/etc/a", "owner": "root:adm", "permissions": "0640", "content": "x"},
                  {"path": "/etc/b", "encoding": "base64", "content": "aGk=", "permissions": "600"}],
        "users": [{"name": "boot", "sshAuthorizedKeys": ["k"], "sudo": "ALL=(ALL) NOPASSWD:ALL"}],
        "preKubeadmCommands": ["one", "two"], "postKubeadmCommands": ["three"],
        "mounts": [["/dev/vdb", "/var/lib/etcd-data", "noatime"]],
    }));
    let config = files(&spec, init());
    assert_eq!(config.ignition.version, "2.3.0");
    assert_eq!(
        content(&config, "/etc/kubeadm.sh"),
        "#!/bin/bash\nset -e\n\none\ntwo\n\nkubeadm init --config /etc/kubeadm.yml \nmkdir -p /run/cluster-api && echo success > /run/cluster-api/bootstrap-success.complete\nmv /etc/kubeadm.yml /tmp/\n\nthree\n"
    );
    assert_eq!(
        content(&config, "/etc/kubeadm.yml"),
        "---\nkind: ClusterConfiguration\n\n---\nkind: InitConfiguration\n"
    );
    assert_eq!((content(&config, "/etc/a").as_str(), content(&config, "/etc/b").as_str()), ("x\n", "hi"));
    let file = |path: &str| config.storage.files.iter().find(|file| file.path == path).unwrap();
    assert_eq!(
        (file("/etc/a").mode, file("/etc/b").mode, file("/etc/kubeadm.sh").mode),
        (Some(0o640), Some(0o600), Some(0o700))
    );
    assert_eq!(file("/etc/a").group.as_ref().unwrap().name, "adm");
    assert_eq!(config.systemd.units[0].name, "kubeadm.service");
    assert_eq!(config.systemd.units[1].name, "var-lib-etcd\\x2ddata.mount");
}

#[test]
fn what_ignition_cannot_carry_is_named() {
    for (given, field) in [
        (json!({"files": [{"path": "/a", "permissions": "rw", "content": "x"}]}), "files[0].permissions"),
        (json!({"files": [{"path": "/a", "encoding": "gzip", "content": "x"}]}), "files[0].encoding"),
        (json!({"files": [{"path": "/a", "encoding": "base64", "content": "%"}]}), "files[0].content"),
        (json!({"mounts": [["/dev/vdb"]]}), "mounts[0]"),
        (json!({"mounts": [["swap", "none"]]}), "mounts[0]"),
        (
            json!({"diskSetup": {"partitions": [{"device": "/dev/vdb", "diskLayout": [{"percentage": 30}, {"percentage": 70}]}]}}),
            "diskSetup.partitions[0].diskLayout",
        ),
    ] {
        let mut spec = spec(given);
        spec.format = Some(Format::Ignition);
        let error = render(&input(&spec, init())).unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

#[test]
fn a_missing_key_yields_no_file() {
    let pair = Pair { certificate: "C".into(), key: String::new().into() };
    let files = certificate_files(Purpose::EtcdCa, &pair, &ClusterConfiguration::default());
    let paths: Vec<_> = files.into_iter().map(|file| file.path).collect();
    assert_eq!(paths, ["/etc/kubernetes/pki/etcd/ca.crt"]);
}

/// Everything that a user can say in both formats.
fn whole(format: &str) -> KubeadmConfigSpec {
    spec(json!({
        "format": format,
        "files": [
            {"path": "/etc/plain", "owner": "root:adm", "permissions": "0640", "content": "one\ntwo"},
            {"path": "/etc/encoded", "encoding": "base64", "content": "aGk=", "permissions": "600"},
            {"path": "/etc/appended", "append": true, "content": "more\n"},
            {"path": "/etc/indented", "append": false, "content": "  first\nsecond\n"},
        ],
        "users": [
            {"name": "boot", "gecos": "Boot User", "groups": "wheel, adm", "homeDir": "/home/b", "shell": "/bin/bash",
             "passwd": "$6$salt$hash", "primaryGroup": "users", "sudo": "ALL=(ALL) NOPASSWD:ALL", "lockPassword": false,
             "sshAuthorizedKeys": ["ssh-ed25519 AAAA a@b"]},
            {"name": "second", "lockPassword": true},
        ],
        "ntp": {"enabled": true, "servers": ["t1.example.org", "10.0.0.1"]},
        "diskSetup": {
            "partitions": [{"device": "/dev/vdb", "layout": true, "overwrite": false, "tableType": "gpt"},
                           {"device": "/dev/vdc", "diskLayout": [{"percentage": 100, "partitionType": "Linux"}], "overwrite": true}],
            "filesystems": [{"device": "/dev/vdb1", "filesystem": "xfs", "label": "data", "overwrite": true, "extraOpts": ["-f"]},
                            {"device": "/dev/vdc1", "filesystem": "ext4"}],
        },
        "mounts": [["LABEL=data", "/var/lib/data-1", "noatime", "nodev"], ["/dev/vdc1", "/srv"]],
        "preKubeadmCommands": ["echo \"a: b\"", "if true; then\n  x\nfi"],
        "postKubeadmCommands": ["chmod 600 /var/lib/kubelet/config.yaml"],
        "verbosity": 5,
    }))
}

#[test]
fn a_whole_cloud_config_is_stable() {
    let mut spec = whole("cloud-config");
    spec.boot_commands = vec!["early".to_owned()];
    insta::assert_snapshot!(String::from_utf8(render(&input(&spec, init())).unwrap()).unwrap());
}

#[test]
fn a_whole_ignition_document_is_stable_and_what_machines_read() {
    let spec = whole("ignition");
    let bytes = render(&input(&spec, worker())).unwrap();
    insta::assert_json_snapshot!(serde_json::from_slice::<Value>(&bytes).unwrap());
    let read = ::ignition::parse(&bytes).unwrap();
    insta::assert_json_snapshot!("a_whole_ignition_document_as_3_3", read);
}

#[test]
fn empty_is_as_good_as_absent() {
    let empty = spec(json!({"files": [], "users": [], "mounts": [], "bootCommands": [], "preKubeadmCommands": []}));
    for format in ["cloud-config", "ignition"] {
        let (mut empty, mut absent) = (empty.clone(), spec(json!({})));
        empty.format = spec(json!({"format": format})).format;
        absent.format = empty.format;
        assert_eq!(render(&input(&empty, init())).unwrap(), render(&input(&absent, init())).unwrap());
    }
}

fn adding(config: &str, strict: bool) -> KubeadmConfigSpec {
    let settings = json!({"additionalConfig": config, "strict": strict});
    spec(json!({"format": "ignition", "ignition": {"containerLinuxConfig": settings}}))
}

#[test]
fn an_additional_config_is_added_after_what_we_write() {
    let more = "systemd: {units: [{name: kubeadm.service, dropins: [{name: 10.conf, contents: x}]}]}\nstorage: {files: [{path: /more, mode: 0600, contents: {inline: y}}]}";
    let bytes = render(&input(&adding(more, true), init())).unwrap();
    let config: v2::Config = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(config.storage.files.last().unwrap().path, "/more");
    // The machine sees one unit, with its drop-in.
    let read = ::ignition::parse(&bytes).unwrap();
    let units: Vec<_> = read.systemd.units.iter().filter(|unit| unit.name == "kubeadm.service").collect();
    assert_eq!((units.len(), units[0].dropins[0].name.as_str(), units[0].enabled), (1, "10.conf", Some(true)));
    assert!(units[0].contents.as_ref().unwrap().contains("ExecStart=/bin/bash /etc/kubeadm.sh"));
}

#[test]
fn a_warning_counts_only_where_the_user_is_strict() {
    let careless = "storage: {files: [{path: /a, contents: {inline: x}}]}";
    assert!(render(&input(&adding(careless, false), init())).is_ok());
    let error = render(&input(&adding(careless, true), init())).unwrap_err().to_string();
    assert_eq!(
        error,
        "ignition.containerLinuxConfig.additionalConfig: storage.files[0].mode is not set, 0o644 is assumed (strict is set)"
    );
    let error = render(&input(&adding("etcd: {}", false), init())).unwrap_err().to_string();
    assert!(error.starts_with("ignition.containerLinuxConfig.additionalConfig: section etcd"), "{error}");
}

#[test]
fn a_mount_unit_is_named_as_systemd_names_it() {
    for (path, unit) in [
        ("/", "-.mount"),
        ("/var/lib/etcd", "var-lib-etcd.mount"),
        ("//srv//a/", "srv-a.mount"),
        ("/a-b_c.d", "a\\x2db_c.d.mount"),
        ("/.hidden", "\\x2ehidden.mount"),
        ("/ä b", "\\xc3\\xa4\\x20b.mount"),
    ] {
        let spec = spec(json!({"format": "ignition", "mounts": [["/dev/vdb", path]]}));
        assert_eq!(files(&spec, worker()).systemd.units[1].name, unit, "{path}");
    }
}

#[test]
fn awkward_contents_arrive_through_cloud_init() {
    for text in ["a\r\nb\r\n", "\u{1b}[0m", "a\u{85}b\u{2028}c", "\u{feff}x", "\n\n  x", "\tx", "ü😀", "- a: b # c"]
    {
        let spec = spec(json!({"files": [{"path": "/a", "content": text}]}));
        let document = cloud(&spec, worker());
        let arrived = document["write_files"][0]["content"].as_str().unwrap();
        assert_eq!(arrived.trim_end_matches('\n'), text.trim_end_matches('\n'), "{text:?}");
    }
}

proptest! {
    /// Whatever a user writes into a file or a command arrives as it was written, in both formats.
    #[test]
    fn texts_arrive(lines in prop::collection::vec("[ -z{|}~\\t]{0,12}", 1..5), command in "[ -~]{1,20}") {
        let text = lines.join("\n");
        prop_assume!(!text.trim().is_empty());
        let mut spec = spec(json!({"files": [{"path": "/a", "content": text, "permissions": "0644"}], "preKubeadmCommands": [command]}));
        let document = cloud(&spec, worker());
        let arrived = document["write_files"][0]["content"].as_str().unwrap();
        prop_assert_eq!(arrived.trim_end_matches('\n'), text.trim_end_matches('\n'));
        prop_assert_eq!(document["runcmd"][0].as_str().unwrap(), command.as_str());
        spec.format = Some(Format::Ignition);
        let config = files(&spec, worker());
        let arrived = content(&config, "/a");
        prop_assert_eq!(arrived.trim_end_matches('\n'), text.trim_end_matches('\n'));
    }
}
