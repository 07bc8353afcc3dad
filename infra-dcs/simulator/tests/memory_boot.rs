//! Memory guests boot what the bootstrap provider and the DCS controller render for real.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::IpAddr, sync::Arc, time::Duration};

use dcs_controller::{
    api::{
        machine::{DiskSpec, NetworkConfig},
        pool::Nic,
    },
    guest as controller,
};
use dcs_simulator::guest::{
    GuestNic,
    iso::Medium,
    memory::{
        boot::{BootFailure, Booted, PowerOn, boot},
        clock::GuestClock,
        disk::{BlockDevice, Disk},
        image,
        machine::Observer,
        root::{Owner, Volume},
        shell::{Call, Commands, Exit, Limits},
        systemd::State,
    },
};
use futures::future::BoxFuture;
use kubeadm::{
    api::spec::KubeadmConfigSpec,
    userdata::{self, Run},
};
use parking_lot::Mutex;
use serde_json::json;

const GIB: u64 = 1 << 30;

/// Time that passes only while somebody sleeps.
#[derive(Default)]
struct Clock(Mutex<u64>);

impl GuestClock for Clock {
    fn now(&self) -> u64 {
        *self.0.lock()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        *self.0.lock() += u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Box::pin(std::future::ready(()))
    }
}

#[derive(Default)]
struct Console(Mutex<Vec<String>>);

impl Observer for Console {
    fn console(&self, line: &str) {
        self.0.lock().push(line.to_owned());
    }

    fn online(&self, _hostname: &str, _addresses: &[(String, IpAddr)]) {}
}

/// Sees what kubeadm would read, and leaves what the machine sees of it.
#[derive(Default)]
struct Kubeadm {
    calls: Vec<(Vec<String>, String)>,
}

impl Commands for Kubeadm {
    fn has(&self, name: &str) -> bool {
        name == "kubeadm"
    }

    fn run<'a>(&'a mut self, call: Call<'a>) -> BoxFuture<'a, Exit> {
        Box::pin(async move {
            let root = &mut call.machine.root;
            let config = call.argv.iter().skip_while(|arg| *arg != "--config").nth(1).unwrap();
            self.calls.push((call.argv.to_vec(), root.read_text(config).unwrap()));
            for path in ["/etc/kubernetes/pki/kubelet.crt", "/etc/kubernetes/pki/kubelet.key"] {
                assert!(root.is_file(path), "{path}");
            }
            let content = b"kind: KubeletConfiguration\n".as_slice();
            root.put("/var/lib/kubelet/config.yaml", content, 0o644, Owner::default()).unwrap();
            call.machine.services.set("kubelet.service", State::Active);
            Exit::default()
        })
    }
}

struct Vm {
    system: Volume,
    disks: Vec<BlockDevice>,
    console: Arc<Console>,
}

impl Vm {
    fn new(sizes: &[u64]) -> Self {
        let disks = sizes.iter().zip('b'..).map(|(gib, letter)| BlockDevice {
            name: format!("vd{letter}"),
            size_bytes: gib * GIB,
            serial: String::new(),
            disk: Disk::default(),
        });
        Self { system: image::system_disk(), disks: disks.collect(), console: Arc::default() }
    }

    async fn boot(&self, medium: Option<Medium>, kubeadm: &mut Kubeadm) -> Result<Booted, BootFailure> {
        let nics = (0..2).map(|index| GuestNic {
            index,
            mac: format!("28:6e:d4:00:00:0{index}"),
            port_group: "pg".to_owned(),
        });
        let power_on = PowerOn {
            system: self.system.clone(),
            system_size: 40 * GIB,
            disks: self.disks.clone(),
            nics: nics.collect(),
            medium,
            clock: Arc::new(Clock::default()),
            observer: self.console.clone(),
            limits: Limits::default(),
        };
        boot(power_on, kubeadm).await
    }

    fn said(&self) -> String {
        self.console.0.lock().join("\n")
    }
}

/// What the published manifests say, and what else users can.
fn spec(format: &str) -> KubeadmConfigSpec {
    serde_json::from_value(json!({
        "format": format,
        "users": [{"name": "boot", "sshAuthorizedKeys": ["ssh-ed25519 AAAA a@b"], "sudo": "ALL=(ALL) NOPASSWD:ALL", "groups": "wheel"}],
        "files": [
            {"path": "/etc/kubernetes/admission/psa-config.yaml", "owner": "root:root", "permissions": "0644", "content": "kind: AdmissionConfiguration\n"},
            {"path": "/etc/kubernetes/patches/kubeletconfiguration0+strategic.json", "owner": "root:root", "permissions": "0644", "content": "{\"kind\": \"KubeletConfiguration\"}\n"},
            {"path": "/etc/kubernetes/encryption-provider.conf", "owner": "root:root", "append": false, "permissions": "0644", "content": "kind: EncryptionConfiguration\n"},
            {"path": "/etc/encoded", "encoding": "base64", "content": "aGk=", "permissions": "600"},
            {"path": "/etc/motd", "append": true, "content": "welcome\n"},
        ],
        "preKubeadmCommands": [
            "while ! ip route | grep -q \"default via\"; do sleep 1; done; echo \"NetworkManager started\"",
            "mkdir -p /run/cluster-api && restorecon -Rv /run/cluster-api",
            "if [ -f /etc/disk-setup.sh ]; then bash /etc/disk-setup.sh; fi",
        ],
        "postKubeadmCommands": ["chmod 600 /var/lib/kubelet/config.yaml"],
        "ntp": {"enabled": true, "servers": ["t1.example.org"]},
        "verbosity": 5,
    }))
    .unwrap()
}

fn bootstrap_data(format: &str, run: Run) -> Vec<u8> {
    let spec = spec(format);
    let input = userdata::Input {
        spec: &spec,
        certificates: Vec::new(),
        files: spec.files.clone(),
        users: spec.users.clone(),
        run,
    };
    userdata::render(&input).unwrap()
}

fn init() -> Run {
    let init = "kind: InitConfiguration\nnodeRegistration:\n  kubeletExtraArgs:\n    node-ip: NODE_IP\n    provider-id: PROVIDER_ID\n";
    Run::Init { cluster: "kind: ClusterConfiguration\n".into(), init: init.into() }
}

fn network() -> NetworkConfig {
    let second = Nic { ip: Some("192.168.7.11".into()), mask: Some("24".into()), ..Nic::default() };
    NetworkConfig {
        ip: Some("10.77.1.1".into()),
        mask: Some("16".into()),
        gateway: Some("10.77.0.1".into()),
        dns: Some("10.77.0.1;10.77.0.2".into()),
        ipv6: Some("fd00::11".into()),
        addition_nic: vec![second],
        ..NetworkConfig::default()
    }
}

fn disks() -> Vec<controller::Disk> {
    let disk = |quantity: i64, path: &str| DiskSpec {
        quantity,
        path: Some(path.into()),
        format: Some("xfs".into()),
        ..DiskSpec::default()
    };
    let system = DiskSpec { system_volume: Some(true), ..DiskSpec::default() };
    let etcd = DiskSpec {
        wipe_filesystem: Some(true),
        options: vec!["-m".into(), "crc=1".into()],
        ..disk(10, "/var/lib/etcd")
    };
    controller::disks_of_template(&[system, disk(100, "/var/lib/kubelet"), disk(100, "/var/lib/containerd"), etcd])
}

/// The medium that the adapter would make of what the controller renders.
fn medium(format: &str, instance: &str, value: &[u8]) -> Medium {
    let certificate =
        controller::KubeletCertificate { certificate: "CERTIFICATE\n".into(), key: "KEY\n".to_owned().into() };
    let (network, disks) = (network(), disks());
    let input = controller::Input {
        machine: "c1-cp-x7k2p",
        instance,
        hostname: "node-1",
        network: &network,
        disks: &disks,
        kubelet: Some(&certificate),
        encryption: Some("generated"),
        format: controller::Format::parse(Some(format)).unwrap(),
        value,
    };
    let data = controller::render(&input).unwrap();
    let files: Vec<(&str, Vec<u8>)> = match data.format {
        controller::Format::Ignition => vec![("ignition/config.ign", data.user_data)],
        controller::Format::CloudConfig => vec![
            ("openstack/latest/user_data", data.user_data),
            ("openstack/latest/meta_data.json", data.meta_data),
            ("openstack/latest/network_data.json", data.network_data),
        ],
    };
    let label = if format == "ignition" { "ignition" } else { "config-2" };
    Medium { label: label.to_owned(), files: files.into_iter().map(|(path, bytes)| (path.into(), bytes)).collect() }
}

#[tokio::test]
async fn what_both_providers_render_boots_in_both_formats() {
    for format in ["ignition", "cloud-config"] {
        let vm = Vm::new(&[100, 100, 10]);
        let mut kubeadm = Kubeadm::default();
        let medium = medium(format, "an-instance", &bootstrap_data(format, init()));
        let booted = vm.boot(Some(medium), &mut kubeadm).await.unwrap_or_else(|error| panic!("{error}\n{}", vm.said()));
        let said = vm.said();
        assert_eq!(kubeadm.calls.len(), 1, "{said}");
        let (argv, config) = &kubeadm.calls[0];
        assert_eq!(argv[1], "init");
        assert!(config.contains("node-ip: 10.77.1.1") && config.contains("provider-id: dcs://c1-cp-x7k2p"), "{config}");
        assert_eq!(booted.hostname, "node-1");
        let addresses: Vec<_> = booted.addresses.iter().map(|(_, address)| address.to_string()).collect();
        assert_eq!(addresses, ["10.77.1.1", "fd00::11", "192.168.7.11"], "{said}");
        let root = &booted.machine.root;
        for (path, device) in
            [("/var/lib/kubelet", "/dev/vdb"), ("/var/lib/containerd", "/dev/vdc"), ("/var/lib/etcd", "/dev/vdd")]
        {
            let mount = root.mounted_at(path).unwrap_or_else(|| panic!("{path} is not mounted\n{said}"));
            assert_eq!((mount.source.as_str(), mount.volume.kind().as_str()), (device, "xfs"));
        }
        assert_eq!(root.read_link("/var/log/pods").unwrap(), "/var/lib/containerd/pods");
        assert_eq!(root.read_text("/run/cluster-api/bootstrap-success.complete").unwrap(), "success\n");
        assert_eq!(root.metadata("/var/lib/kubelet/config.yaml").unwrap().mode, 0o600);
        assert_eq!(
            root.read_text("/etc/kubernetes/encryption-provider.conf").unwrap().trim_end(),
            "kind: EncryptionConfiguration"
        );
        assert_eq!(root.read_text("/etc/encoded").unwrap(), "hi");
        assert!(root.read_text("/etc/motd").unwrap().starts_with("welcome\n"));
        assert!(root.user("boot").is_some());
        for secret in ["CERTIFICATE", "EncryptionConfiguration", "InitConfiguration"] {
            assert!(!said.contains(secret), "{secret} is on the console");
        }

        // A power cycle: kubeadm does not run again, and kubelet starts from what it left.
        let again = vm.boot(None, &mut kubeadm).await.unwrap_or_else(|error| panic!("{error}\n{}", vm.said()));
        assert_eq!(kubeadm.calls.len(), 1);
        assert!(again.kubelet.is_some(), "{}", vm.said());
        assert_eq!(again.addresses, booted.addresses);
        assert!(again.machine.root.mounted_at("/var/lib/etcd").is_some());
    }
}

#[tokio::test]
async fn a_worker_joins() {
    for format in ["ignition", "cloud-config"] {
        let vm = Vm::new(&[100, 100, 10]);
        let mut kubeadm = Kubeadm::default();
        let run = Run::Join { join: "kind: JoinConfiguration\n".into(), control_plane: false };
        let medium = medium(format, "an-instance", &bootstrap_data(format, run));
        vm.boot(Some(medium), &mut kubeadm).await.unwrap_or_else(|error| panic!("{error}\n{}", vm.said()));
        assert_eq!(kubeadm.calls[0].0[1], "join");
    }
}

#[tokio::test]
async fn disks_keep_their_data_in_the_next_machine_but_for_those_to_be_wiped() {
    let first = Vm::new(&[100, 100, 10]);
    let data = bootstrap_data("ignition", init());
    let booted = first.boot(Some(medium("ignition", "one", &data)), &mut Kubeadm::default()).await.unwrap();
    let mut root = booted.machine.root;
    for path in ["/var/lib/kubelet/mark", "/var/lib/etcd/mark"] {
        root.write(path, b"x".as_slice()).unwrap();
    }
    let next = Vm { disks: first.disks.clone(), ..Vm::new(&[]) };
    let booted = next.boot(Some(medium("ignition", "two", &data)), &mut Kubeadm::default()).await.unwrap();
    assert!(booted.machine.root.exists("/var/lib/kubelet/mark"), "{}", next.said());
    assert!(!booted.machine.root.exists("/var/lib/etcd/mark"), "{}", next.said());
}

#[tokio::test]
async fn a_disk_of_another_size_stops_the_boot() {
    let vm = Vm::new(&[100, 100, 20]);
    let data = bootstrap_data("ignition", init());
    let error = vm.boot(Some(medium("ignition", "one", &data)), &mut Kubeadm::default()).await.unwrap_err();
    assert_eq!(error.step, "kubeadm.service");
    assert!(error.message.contains("disk 4 of 10 GiB did not appear in 120 s"), "{error}\n{}", vm.said());
}
