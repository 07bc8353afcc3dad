use serde_json::{Value, json};

use super::*;
use crate::guest::memory::{
    boot_testing::{Kubeadm, Vm, medium},
    shell::NoCommands,
};

const KEYFILE: &str = "[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n\n[ethernet]\n\n[ipv4]\nmethod=manual\naddress1=10.77.1.1/16,10.77.0.1\ndns=10.77.0.1;\n\n[ipv6]\nmethod=disabled\n";
const UNIT: &str = "[Unit]\nDescription=kubeadm\nConditionPathExists=/etc/kubeadm.yml\nAfter=network.target\n[Service]\nType=oneshot\nExecStart=/bin/bash /etc/kubeadm.sh\n[Install]\nWantedBy=multi-user.target\n";

fn encoded(text: &str) -> String {
    use base64::Engine as _;
    format!("data:;base64,{}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn file(path: &str, content: &str, mode: u32) -> Value {
    json!({"path": path, "mode": mode, "overwrite": true, "contents": {"source": encoded(content)}})
}

/// An Ignition medium that runs this script once.
fn ignition(script: &str) -> Medium {
    ignition_with(script, Vec::new(), Vec::new())
}

fn ignition_with(script: &str, files: Vec<Value>, units: Vec<Value>) -> Medium {
    let mut all = vec![
        file("/etc/hostname", "node-1\n", 0o644),
        file(&format!("{}/eth0.nmconnection", keyfile::FOLDER), KEYFILE, 0o600),
        file("/etc/kubeadm.yml", "kind: InitConfiguration\n", 0o600),
        file("/etc/kubeadm.sh", &format!("#!/bin/bash\nset -e\n\n{script}\n"), 0o700),
    ];
    // What a test gives replaces what is there.
    all.retain(|file| files.iter().all(|other| other["path"] != file["path"]));
    all.extend(files);
    let mut unit = vec![json!({"name": "kubeadm.service", "enabled": true, "contents": UNIT})];
    unit.extend(units);
    let document = json!({"ignition": {"version": "3.3.0"}, "storage": {"files": all}, "systemd": {"units": unit}});
    medium("ignition", &[("ignition/config.ign", document.to_string().as_bytes())])
}

const SCRIPT: &str = "while ! ip route | grep -q \"default via\"; do sleep 1; done; echo \"NetworkManager started\"\nmkdir -p /run/cluster-api && restorecon -Rv /run/cluster-api\nkubeadm init --config /etc/kubeadm.yml \nmkdir -p /run/cluster-api && echo success > /run/cluster-api/bootstrap-success.complete\nmv /etc/kubeadm.yml /tmp/\n\nchmod 600 /var/lib/kubelet/config.yaml";

#[tokio::test]
async fn an_ignition_machine_boots_once_and_comes_back() {
    let vm = Vm::new();
    let mut kubeadm = Kubeadm::default();
    let booted = vm.boot(Some(ignition(SCRIPT)), &mut kubeadm).await.unwrap();
    let console = vm.recorder.text();
    assert_eq!(kubeadm.calls, [["kubeadm", "init", "--config", "/etc/kubeadm.yml"]], "{console}");
    assert_eq!(booted.hostname, "node-1");
    let address: IpAddr = "10.77.1.1".parse().unwrap();
    assert_eq!(booted.addresses, [("28:6e:d4:00:00:00".to_owned(), address)]);
    assert_eq!(vm.recorder.online(), [("node-1".to_owned(), booted.addresses.clone())]);
    assert_eq!(booted.machine.root.metadata("/var/lib/kubelet/config.yaml").unwrap().mode, 0o600);
    assert_eq!(booted.machine.root.read_text("/etc/resolv.conf").unwrap(), "nameserver 10.77.0.1\n");
    let kubelet = booted.kubelet.unwrap();
    assert!(kubelet.argv.contains(&"--node-ip=10.0.0.5".to_owned()), "{kubelet:?}");
    assert_eq!(kubelet.argv[1], "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf");
    for line in [
        "kubeadm.service: NetworkManager started",
        "kubeadm.service: Your Kubernetes control-plane has initialized successfully!",
        "[  OK  ] Finished kubeadm.service - kubeadm",
    ] {
        assert!(console.contains(line), "{line} is missing from\n{console}");
    }
    assert!(!console.contains("InitConfiguration"), "contents are nobody's business");
    // The power is cut and comes again, the medium gone.
    let again = vm.boot(None, &mut kubeadm).await.unwrap();
    assert_eq!(kubeadm.calls.len(), 1, "kubeadm ran once");
    assert!(again.kubelet.is_some() && again.hostname == "node-1" && !again.addresses.is_empty());
    assert!(!again.machine.root.exists("/run/cluster-api"), "/run is new");
}

#[tokio::test]
async fn what_fails_is_on_the_console_and_in_the_failure() {
    let insecure = file(&format!("{}/eth0.nmconnection", keyfile::FOLDER), KEYFILE, 0o644);
    let wrong_nic =
        file(&format!("{}/eth0.nmconnection", keyfile::FOLDER), &KEYFILE.replace("name=eth0", "name=ens3"), 0o600);
    let far =
        file(&format!("{}/eth0.nmconnection", keyfile::FOLDER), &KEYFILE.replace(",10.77.0.1", ",10.78.0.1"), 0o600);
    let missing = file("/etc/hostname", "no_name\n", 0o644);
    let unit = |contents: &str| vec![json!({"name": "a.service", "enabled": true, "contents": contents})];
    let failing = "[Unit]\nBefore=kubeadm.service\n[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nRequiredBy=kubeadm.service\nWantedBy=multi-user.target\n";
    let cycle = "[Unit]\nBefore=kubeadm.service\nAfter=kubeadm.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    let absent = "[Unit]\nRequires=gone.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    for (medium, expected) in [
        (
            ignition("kubadm init"),
            "kubeadm.service: exit status 127: /etc/kubeadm.sh: line 4: kubadm: command not found",
        ),
        (ignition("false\nkubeadm init"), "kubeadm.service: exit status 1"),
        (ignition("cat /etc/none"), "kubeadm.service: exit status 1: cat: /etc/none: No such file or directory"),
        (
            ignition("if then"),
            "kubeadm.service: exit status 2: /etc/kubeadm.sh: line 4: syntax error near unexpected token `then'",
        ),
        (
            ignition("while ! ip route | grep -q 10.99; do sleep 1; done"),
            "kubeadm.service: stopped after 1800 s: what it waits for has not come",
        ),
        (
            ignition_with("", vec![insecure], vec![]),
            "network: /etc/NetworkManager/system-connections/eth0.nmconnection: NetworkManager ignores it: it must belong to root with mode 0600, and has 0644 of user 0",
        ),
        (
            ignition_with("", vec![wrong_nic], vec![]),
            "network: /etc/NetworkManager/system-connections/eth0.nmconnection: no NIC ens3; there are: eth0 (28:6e:d4:00:00:00), eth1 (28:6e:d4:00:00:01)",
        ),
        (
            ignition_with("", vec![far], vec![]),
            "network: /etc/NetworkManager/system-connections/eth0.nmconnection: gateway 10.78.0.1 lies in no network of its addresses: nothing would reach it",
        ),
        (ignition_with("", vec![missing], vec![]), "hostname: /etc/hostname: \"no_name\" is no host name"),
        (ignition_with("kubeadm init", vec![], unit(failing)), "a.service: exit status 1"),
        (
            ignition_with("", vec![], unit(cycle)),
            "systemd: a.service: Found ordering cycle on a.service, kubeadm.service",
        ),
        (ignition_with("", vec![], unit(absent)), "systemd: a.service: Unit gone.service not found."),
        (
            medium("ignition", &[("config.ign", b"{}")]),
            "medium: it is labelled \"ignition\" but has no file ignition/config.ign",
        ),
        (
            medium("ignition", &[("ignition/config.ign", b"{}")]),
            "ignition: ignition.version: is required: 3.0.0 to 3.3.0",
        ),
        (
            medium("config-2", &[("latest/user_data", b"")]),
            "medium: it is labelled \"config-2\" but has no openstack/latest",
        ),
        (
            medium("config-2", &[("openstack/latest/user_data", b"")]),
            "medium: openstack/latest/meta_data.json is missing",
        ),
        (medium("cidata", &[("meta-data", b"local-hostname: a\n")]), "cloud-init: the metadata has no \"instance-id\""),
    ] {
        let vm = Vm::new();
        let mut kubeadm = Kubeadm::default();
        let error = vm.boot(Some(medium), &mut kubeadm).await.unwrap_err().to_string();
        assert_eq!(error, expected, "{}", vm.recorder.text());
        assert!(vm.recorder.text().ends_with(&format!("boot failed: {error}")));
        if expected.starts_with("a.service: exit") {
            assert!(kubeadm.calls.is_empty(), "what requires a failed unit does not start");
        }
    }
    let vm = Vm::new();
    let mut kubeadm = Kubeadm { code: 1, ..Kubeadm::default() };
    let error = vm.boot(Some(ignition(SCRIPT)), &mut kubeadm).await.unwrap_err().to_string();
    assert_eq!(error, "kubeadm.service: exit status 1: error execution phase preflight");
}

#[tokio::test]
async fn a_machine_without_a_medium_runs_and_has_no_address() {
    let vm = Vm::new();
    let booted = vm.boot(None, &mut NoCommands).await.unwrap();
    assert_eq!((booted.hostname.as_str(), booted.addresses.len()), ("localhost", 0));
    assert!(booted.kubelet.is_none() && booted.machine.services.is_active("containerd.service"));
    let other = vm.boot(Some(medium("tools", &[])), &mut NoCommands).await.unwrap();
    assert!(
        other.addresses.is_empty()
            && vm.recorder.text().contains("no reader in this image for a medium labelled \"tools\"")
    );
}

/// A config drive with this user data.
fn config_drive(id: &str, user_data: &str) -> Medium {
    let meta = json!({"uuid": id, "hostname": "node-7", "name": "node-7"}).to_string();
    let network = json!({
        "links": [{"id": "eth0", "name": "eth0", "type": "phy", "mtu": null}, {"id": "b", "type": "phy", "ethernet_mac_address": "28:6E:D4:00:00:01"}],
        "networks": [
            {"id": "n", "link": "eth0", "type": "ipv4", "ip_address": "10.77.1.7", "netmask": "255.255.0.0",
             "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.77.0.1"}], "dns_nameservers": ["10.77.0.1"]},
            {"id": "m", "link": "b", "type": "ipv6", "ip_address": "fd00::7/64", "routes": []},
        ],
        "services": [{"type": "dns", "address": "10.77.0.2"}],
    });
    medium(
        "config-2",
        &[
            ("openstack/latest/meta_data.json", meta.as_bytes()),
            ("openstack/latest/network_data.json", network.to_string().as_bytes()),
            ("openstack/latest/user_data", user_data.as_bytes()),
        ],
    )
}

const USER_DATA: &str = "## template: jinja\n#cloud-config\nwrite_files:\n- path: /run/kubeadm/kubeadm.yaml\n  owner: root:root\n  permissions: '0640'\n  content: |\n    name: {{ ds.meta_data.local_hostname }}\n- path: /run/cluster-api/placeholder\n  content: x\n- {path: /etc/late, owner: 'boot:boot', defer: true, content: x}\nusers: [{name: boot}]\nbootcmd: ['echo early >> /var/log/boots']\nruncmd:\n- 'kubeadm init --config /run/kubeadm/kubeadm.yaml  && echo success > /run/cluster-api/bootstrap-success.complete'\n- chmod 600 /var/lib/kubelet/config.yaml\n";

#[tokio::test]
async fn a_cloud_init_machine_boots_once_for_an_instance() {
    let vm = Vm::new();
    let mut kubeadm = Kubeadm::default();
    let booted = vm.boot(Some(config_drive("i-1", USER_DATA)), &mut kubeadm).await.unwrap();
    let root = &booted.machine.root;
    assert_eq!(kubeadm.calls, [["kubeadm", "init", "--config", "/run/kubeadm/kubeadm.yaml"]]);
    assert_eq!(root.read_text("/run/kubeadm/kubeadm.yaml").unwrap(), "name: node-7\n");
    assert_eq!(root.read_text("/run/cluster-api/bootstrap-success.complete").unwrap(), "success\n");
    assert_eq!(root.metadata("/etc/late").unwrap().owner.uid, 1000);
    assert_eq!(booted.hostname, "node-7");
    let addresses: Vec<_> = booted.addresses.iter().map(|(_, address)| address.to_string()).collect();
    assert_eq!(addresses, ["10.77.1.7", "fd00::7"], "{}", vm.recorder.text());
    assert_eq!(root.read_text("/etc/resolv.conf").unwrap(), "nameserver 10.77.0.1\nnameserver 10.77.0.2\n");
    assert!(booted.kubelet.is_some());
    let again = vm.boot(Some(config_drive("i-1", USER_DATA)), &mut kubeadm).await.unwrap();
    assert_eq!(kubeadm.calls.len(), 1);
    assert_eq!(again.machine.root.read_text("/var/log/boots").unwrap(), "early\nearly\n");
    assert_eq!(again.addresses, booted.addresses);
    // Another instance on the same disk is another machine.
    vm.boot(Some(config_drive("i-2", USER_DATA)), &mut kubeadm).await.unwrap();
    assert_eq!(kubeadm.calls.len(), 2);
}

#[tokio::test]
async fn a_failing_command_of_cloud_init_fails_the_boot_after_the_rest_has_run() {
    for (user_data, expected) in [
        (
            "#cloud-config\nruncmd: ['true', 'cat /none', 'touch /var/log/after']\n",
            "runcmd[1]: exit status 1: cat: /none: No such file or directory",
        ),
        (
            "#cloud-config\nbootcmd: ['nonsense']\n",
            "bootcmd[0]: exit status 127: /run/cloud-init/bootcmd: line 2: nonsense: command not found",
        ),
        (
            "#cloud-config\nruncmd: ['echo a\n\n    echo b', 'if [ 1 = 1 ]; then\n\n  false\n\n  fi']\n",
            "runcmd[1]: exit status 1",
        ),
        ("#cloud-config\nwrite_file: []\n", "cloud-init: write_file: unknown key"),
        (
            "## template: jinja\n#cloud-config\nhostname: '{{ ds.none }}'\n",
            "cloud-init: template: line 3: undefined value",
        ),
        (
            "#cloud-config\nwrite_files: [{path: /x, owner: 'who:who'}]\n",
            "cloud-init: write_files[0] (/x): invalid user: 'who:who'",
        ),
    ] {
        let vm = Vm::new();
        let error = vm.boot(Some(config_drive("i", user_data)), &mut Kubeadm::default()).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{}", vm.recorder.text());
        if user_data.contains("after") {
            assert!(vm.machine().root.exists("/var/log/after"));
        }
    }
}

#[tokio::test]
async fn no_cloud_and_network_configurations_are_read_too() {
    for network in [
        "version: 2\nethernets:\n  eth0:\n    addresses: [10.0.0.9/24]\n    gateway4: 10.0.0.1\n    nameservers: {addresses: [10.0.0.2]}\n",
        "network:\n  version: 2\n  ethernets:\n    any:\n      match: {macaddress: '28:6e:d4:00:00:00'}\n      addresses: [10.0.0.9/24]\n      routes: [{to: default, via: 10.0.0.1}]\n      nameservers: {addresses: [10.0.0.2]}\n",
        "version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets: [{type: static, address: 10.0.0.9, netmask: 255.255.255.0, gateway: 10.0.0.1}]\n- {type: nameserver, address: 10.0.0.2}\n",
    ] {
        let vm = Vm::new();
        let files = [
            ("meta-data", &b"{instance-id: i, local-hostname: n.example.org}"[..]),
            ("user-data", b"#cloud-config\n{}\n"),
            ("network-config", network.as_bytes()),
        ];
        let booted = vm.boot(Some(medium("CIDATA", &files)), &mut NoCommands).await.unwrap();
        assert_eq!((booted.hostname.as_str(), booted.addresses[0].1.to_string().as_str()), ("n", "10.0.0.9"));
        assert_eq!(
            booted.machine.network.routes(true).lines().next(),
            Some("default via 10.0.0.1 dev eth0 proto static metric 100")
        );
        assert_eq!(booted.machine.root.read_text("/etc/resolv.conf").unwrap(), "nameserver 10.0.0.2\n");
    }
}

#[tokio::test]
async fn units_run_in_their_order_and_mounts_before_what_needs_them() {
    let vm = Vm::new().with_disk(10);
    let mount = "[Unit]\nDescription=data\nBefore=b.service\n[Mount]\nWhat=/dev/vdb\nWhere=/var/lib/my-data\nType=xfs\n[Install]\nWantedBy=multi-user.target\n";
    let unit = |after: &str, line: &str| {
        format!(
            "[Unit]\nAfter={after}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nEnvironment=\"W=two words\" X=1\nExecStart=/bin/sh -c 'echo \"{line} ${{W}} $$X\" >> /var/lib/my-data/order'\n[Install]\nWantedBy=multi-user.target\n"
        )
    };
    let units = vec![
        json!({"name": "var-lib-my\\x2ddata.mount", "enabled": true, "contents": mount}),
        json!({"name": "b.service", "enabled": true, "contents": unit("", "b")}),
        json!({"name": "a.service", "enabled": true, "contents": unit("b.service", "a"), "dropins": [{"name": "x.conf", "contents": "[Service]\nEnvironment=X=2\n"}]}),
        json!({"name": "ntpd.service", "enabled": true}),
        json!({"name": "sshd.service", "mask": true}),
    ];
    let mut medium = ignition_with("kubeadm init", vec![], units);
    let bytes = medium.files.values_mut().next().unwrap();
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    document["storage"]["filesystems"] = json!([{"device": "/dev/vdb", "format": "xfs"}]);
    *bytes = document.to_string().into_bytes();
    let booted = vm.boot(Some(medium), &mut Kubeadm::default()).await.unwrap();
    let root = &booted.machine.root;
    assert_eq!(root.read_text("/var/lib/my-data/order").unwrap(), "b two words 1\na two words 2\n");
    assert_eq!(root.mounted_at("/var/lib/my-data").unwrap().source, "/dev/vdb");
    assert!(booted.machine.services.is_active("a.service") && !booted.machine.services.is_active("sshd.service"));
    assert!(vm.recorder.text().contains("ntpd.service is preset to be enabled, but this image has no such unit"));
}
