use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::api::{machine::DiskSpec, pool};

fn network() -> NetworkConfig {
    let nic = pool::Nic { ip: Some("192.168.7.11".into()), mask: Some("24".into()), ..pool::Nic::default() };
    NetworkConfig {
        ip: Some("10.77.1.1".into()),
        mask: Some("16".into()),
        gateway: Some("10.77.0.1".into()),
        dns: Some("10.77.0.1;10.77.0.2".into()),
        ipv6: Some("fd00::11".into()),
        addition_nic: vec![nic],
        ..NetworkConfig::default()
    }
}

fn disk(quantity: i64, path: &str) -> DiskSpec {
    DiskSpec { quantity, path: Some(path.into()), format: Some("xfs".into()), ..DiskSpec::default() }
}

fn template_disks() -> Vec<Disk> {
    let system = DiskSpec { system_volume: Some(true), ..DiskSpec::default() };
    let etcd = DiskSpec {
        wipe_filesystem: Some(true),
        options: vec!["-m".into(), "it's 1".into()],
        ..disk(10, "/var/lib/etcd")
    };
    disks::of_template(&[disk(100, "/var/lib/kubelet"), system, disk(100, "/var/lib/containerd"), etcd])
}

fn rendered(format: Format, value: &[u8], encryption: Option<&str>) -> BootData {
    let kubelet = KubeletCertificate { certificate: "CERTIFICATE\n".into(), key: Zeroizing::new("KEY\n".to_owned()) };
    let network = network();
    let disks = template_disks();
    let input = Input {
        machine: "c1-cp-x7k2p",
        instance: "0b7c1f0e-8d2f-4a39-9c1a-2f6d3b5a9e10",
        hostname: "node-1",
        network: &network,
        disks: &disks,
        kubelet: Some(&kubelet),
        encryption,
        format,
        value,
    };
    render(&input).unwrap()
}

fn ignition_data() -> Vec<u8> {
    let file = |path: &str, content: &str| {
        json!({"filesystem": "root", "path": path, "mode": 384,
        "contents": {"source": ::ignition::data_url::encode_bytes(content.as_bytes())}})
    };
    serde_json::to_vec(&json!({
        "ignition": {"version": "2.3.0"},
        "storage": {"files": [
            file("/etc/kubeadm.yml", "provider-id: PROVIDER_ID\nnode-ip: NODE_IP\n"),
            file("/etc/kubernetes/encryption-provider.conf", "the user's own\n"),
        ]},
        "systemd": {"units": [{"name": "kubeadm.service", "enabled": true, "contents": "[Unit]\n"}]},
    }))
    .unwrap()
}

/// Path, mode and content of every file.
fn readable(document: &[u8]) -> Value {
    let document = ::ignition::parse(document).unwrap();
    let files = document.storage.files.iter().map(|file| {
        let content = String::from_utf8(file.content().unwrap()).unwrap();
        let lines: Vec<_> = content.lines().collect();
        let shown = if file.path == DISK_SETUP_PATH { json!("(its own snapshot)") } else { json!(lines) };
        (file.path.clone(), json!({"mode": format!("{:o}", file.mode.unwrap()), "content": shown}))
    });
    Value::Object(files.collect())
}

#[test]
fn an_ignition_machine_gets_its_identity() {
    let data = rendered(Format::Ignition, &ignition_data(), Some("generated"));
    insta::assert_json_snapshot!("ignition", readable(&data.user_data));
    assert!(data.meta_data.is_empty() && data.network_data.is_empty());
}

#[test]
fn a_cloud_init_machine_gets_the_same_files_and_a_config_drive() {
    let value = b"## template: jinja\n#cloud-config\n\nwrite_files:\n-   path: /run/kubeadm/kubeadm.yaml\n    content: |\n      node-ip: NODE_IP\nruncmd:\n  - 'kubeadm init'\n";
    let data = rendered(Format::CloudConfig, value, Some("generated"));
    let text = String::from_utf8(data.user_data).unwrap();
    assert!(text.starts_with("## template: jinja\n#cloud-config\n"));
    let document: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(document["runcmd"], json!(["kubeadm init"]));
    let files: Vec<_> = document["write_files"].as_array().unwrap().iter().map(|file| file["path"].clone()).collect();
    insta::assert_json_snapshot!(
        "cloud",
        json!({
            "files": files,
            "kubeadm": document["write_files"][0],
            "meta_data": serde_json::from_slice::<Value>(&data.meta_data).unwrap(),
            "network_data": serde_json::from_slice::<Value>(&data.network_data).unwrap(),
        })
    );
}

#[test]
fn the_encryption_configuration_of_the_user_wins() {
    let data = rendered(Format::Ignition, &ignition_data(), Some("generated"));
    let document = ::ignition::parse(&data.user_data).unwrap();
    assert_eq!(document.file(ENCRYPTION_PATH).unwrap().content().unwrap(), b"the user's own\n");
    let plain = br#"{"ignition":{"version":"3.2.0"}}"#;
    let data = rendered(Format::Ignition, plain, Some("generated"));
    let document = ::ignition::parse(&data.user_data).unwrap();
    assert_eq!(document.file(ENCRYPTION_PATH).unwrap().content().unwrap(), b"generated");
}

#[test]
fn rendering_is_repeatable() {
    for format in [Format::Ignition, Format::CloudConfig] {
        let value: Vec<u8> = if format == Format::Ignition { ignition_data() } else { b"#cloud-config\n{}\n".to_vec() };
        assert_eq!(rendered(format, &value, None).user_data, rendered(format, &value, None).user_data);
    }
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(
        Format::parse(Some("shell")).unwrap_err().to_string(),
        "invalid format, expected ignition or cloud-config, got shell"
    );
    for (change, expected) in [
        (NetworkConfig { ip: None, ..network() }, "ip must be given"),
        (NetworkConfig { mask: Some("255.0.0.0".into()), ..network() }, "mask \"255.0.0.0\""),
        (NetworkConfig { dns: Some("10.0.0.1,10.0.0.2".into()), ..network() }, "separate servers by ';'"),
    ] {
        let error = network::nics(&change).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn entry_disks(used: bool) -> Vec<Disk> {
    let disk = |slot: i64, path: Option<&str>| pool::PersistentDisk {
        slot,
        quantity_gb: 40,
        path: path.map(str::to_owned),
        format: path.map(|_| "xfs".to_owned()),
        ..pool::PersistentDisk::default()
    };
    disks::of_entry(&[disk(2, None), disk(0, Some("/var/cpaas"))], 3, |_| used)
}

#[test]
fn disks_of_the_entry_follow_those_of_the_template() {
    let all = entry_disks(true);
    let placed: Vec<_> = all.iter().map(|disk| (disk.sequence, disk.slot, disk.expects_data)).collect();
    assert_eq!(placed, [(5, Some(0), true), (7, Some(2), true)], "system, three disks, one empty number, then slots");
    let script = disks::script("an-instance", &[template_disks(), all].concat()).unwrap();
    assert!(script.contains("setup_disk 4 5 40 '' '/var/cpaas' 'xfs' 'defaults' 'keep' 'data'\n"), "{script}");
    assert!(script.contains("setup_disk 5 7 40 '' '' '' 'defaults' 'keep' 'data'\n"), "no path, no format: left raw");
}

/// What the script does with a disk on which `blkid` finds this: success, and what it was heard to do.
fn set_up(used: bool, blkid: &str) -> (bool, String) {
    let script = disks::script("an-instance", &entry_disks(used)[..1]).unwrap();
    let heard = "find_device() { echo /dev/vdx; }\nmounted_disk() { :; }\nmkfs.xfs() { echo MKFS; }\nmount_disk() { echo MOUNT; }\n";
    let script = script.replace("setup_disk 1 ", &format!("{heard}blkid() {{ {blkid}; }}\nsetup_disk 1 "));
    let run = Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn data_is_never_formatted_away() {
    const BLANK: &str = "return 2";
    const FILE_SYSTEM: &str = r#"case "$*" in *" TYPE "*) echo xfs ;; esac"#;
    const PARTITIONS: &str = r#"case "$*" in *PTTYPE*) echo gpt ;; *) return 2 ;; esac"#;
    for (used, blkid, expected, formats) in [
        (false, BLANK, true, true),
        // It held data, and shows none.
        (true, BLANK, false, false),
        (true, FILE_SYSTEM, true, false),
        (false, FILE_SYSTEM, true, false),
        (false, PARTITIONS, false, false),
        // Several signatures at once: blkid does not choose.
        (false, "return 8", false, false),
    ] {
        let (succeeded, said) = set_up(used, blkid);
        assert_eq!((succeeded, said.contains("MKFS")), (expected, formats), "{used} {blkid}: {said}");
        assert_eq!(said.contains("MOUNT"), expected, "{said}");
    }
}

#[test]
fn the_disk_script_is_valid_and_complete() {
    let script = disks::script("an-instance", &template_disks()).unwrap();
    let calls = script.split("ln -s /var/lib/containerd/pods /var/log/pods\n}\n").nth(1).unwrap();
    insta::assert_snapshot!("disk_calls", calls);
    let checked = Command::new("bash").args(["-n", "-c", &script]).status().unwrap();
    assert!(checked.success());
    assert!(disks::script("an-instance", &[]).is_none());
}
