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
    let paths: Vec<_> = certificate_files(Purpose::EtcdCa, &pair, "").into_iter().map(|file| file.path).collect();
    assert_eq!(paths, ["/etc/kubernetes/pki/etcd/ca.crt"]);
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
