//! The machine as kubeadm and the other programs of Kubernetes find it: kubelet, network, clock, etcd.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::{net::TcpStream, time::timeout};

use super::{
    cable::{Cable, Carried},
    cluster::{Clusters, DiskFaults, Kubelet, MachineFacts},
    kubeadm::{
        command,
        files::Files,
        host::{EtcdClient, Facts, Host},
        images::Registries,
        pki::{self, KeyStore},
        version::Version,
    },
    machine::Machine,
    machine_clock::MachineClock,
    root::Root,
    shell::{Call, Commands, Exit},
    systemd::State,
};

/// Go's.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const KUBELET_PORT: u16 = 10250;
const KUBELET_UNIT: &str = "kubelet.service";

/// Settings that all machines of a site share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Version of Kubernetes in images whose names do not tell one.
    pub kubernetes: Version,
    /// What can be pulled.
    pub registries: Registries,
    /// Factor on the times that kubeadm waits: 1 is its own.
    pub wait_scale: f64,
    /// Whether unknown fields of kubeadm's documents are errors, of which the real one only warns.
    pub strict_kubeadm: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kubernetes: Version::release(1, 36, 3),
            registries: Registries::default(),
            wait_scale: 1.0,
            strict_kubeadm: false,
        }
    }
}

impl Settings {
    /// The version of Kubernetes in an image: what its name says, such as `node-v1.34.5`, or the site's.
    pub fn version_of(&self, image: &str) -> Version {
        let starts = image.char_indices().filter(|(at, character)| {
            let before = image[..*at].chars().next_back();
            character.is_ascii_digit() && before.is_none_or(|before| !before.is_ascii_digit() && before != '.')
        });
        let candidates = starts.filter_map(|(at, _)| {
            let rest = &image[at..];
            let end =
                rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
            Version::parse(rest[..end].trim_end_matches('.'))
        });
        candidates.into_iter().find(|version| version.major == 1).unwrap_or_else(|| self.kubernetes.clone())
    }
}

/// What a machine has from its power-on to its end.
pub struct Powered {
    /// VRM's id.
    pub id: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Size of the system disk.
    pub disk_bytes: u64,
    /// Version of its Kubernetes programs.
    pub version: Version,
    /// What is wrong with its disk.
    pub disk: Arc<DiskFaults>,
    /// Its cable.
    pub cable: Cable,
    /// Its clock.
    pub clock: MachineClock,
    /// Settings of the site.
    pub settings: Arc<Settings>,
    /// Keys of leaf certificates.
    pub keys: Arc<KeyStore>,
    /// All clusters.
    pub clusters: Arc<Clusters>,
    kubelet: parking_lot::Mutex<Slot>,
}

/// The machine's kubelet, once it was started.
#[derive(Default)]
struct Slot {
    kubelet: Option<Arc<Kubelet>>,
    is_off: bool,
}

/// What a machine is made with.
pub struct Hardware {
    /// VRM's id.
    pub id: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Size of the system disk.
    pub disk_bytes: u64,
    /// Version of its Kubernetes programs.
    pub version: Version,
    /// What is wrong with its disk.
    pub disk: Arc<DiskFaults>,
}

impl Powered {
    /// A machine whose power has just come.
    pub fn new(
        hardware: Hardware,
        clock: MachineClock,
        settings: Arc<Settings>,
        keys: Arc<KeyStore>,
        clusters: Arc<Clusters>,
    ) -> Arc<Self> {
        let Hardware { id, cpus, memory_mb, disk_bytes, version, disk } = hardware;
        let cable = Cable::default();
        let kubelet = parking_lot::Mutex::default();
        Arc::new(Self {
            id,
            cpus,
            memory_mb,
            disk_bytes,
            version,
            disk,
            cable,
            clock,
            settings,
            keys,
            clusters,
            kubelet,
        })
    }

    /// Starts kubelet, or starts it again.
    pub fn start_kubelet(&self, root: &Root, hostname: &str, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        let kubelet = {
            let mut slot = self.kubelet.lock();
            if slot.is_off {
                return;
            }
            let kubelet = slot.kubelet.get_or_insert_with(|| {
                let facts = MachineFacts {
                    hostname: hostname.to_owned(),
                    address,
                    cpus: self.cpus,
                    memory_mb: self.memory_mb,
                    disk_bytes: self.disk_bytes,
                    version: self.version.clone(),
                    machine_id: self.id.clone(),
                    boot_id: uuid::Uuid::new_v4().to_string(),
                };
                let registries = self.settings.registries.clone();
                let (cable, clock, disk) = (self.cable.clone(), self.clock.clone(), Arc::clone(&self.disk));
                Kubelet::new(facts, cable, clock, disk, registries, Arc::clone(&self.clusters))
            });
            Arc::clone(kubelet)
        };
        kubelet.restart(root);
    }

    /// The kubelet, if it was started.
    pub fn kubelet(&self) -> Option<Arc<Kubelet>> {
        self.kubelet.lock().kubelet.clone()
    }

    /// Pulls the machine's plug from the network, or puts it back.
    pub fn set_partitioned(&self, partitioned: bool) {
        self.cable.set_unplugged(partitioned);
        if let Some(kubelet) = self.kubelet() {
            kubelet.nudge();
        }
    }

    /// Makes the machine's clock wrong by so many milliseconds.
    pub fn set_clock_skew_ms(&self, skew: i64) {
        self.clock.set_skew_ms(skew);
        if let Some(kubelet) = self.kubelet() {
            kubelet.nudge();
        }
    }

    /// The power is gone.
    pub fn power_off(&self) {
        self.end(true);
    }

    /// Everything that runs ends, and can begin again.
    pub fn reboot(&self) {
        self.end(false);
    }

    fn end(&self, is_off: bool) {
        let kubelet = {
            let mut slot = self.kubelet.lock();
            slot.is_off = is_off;
            slot.kubelet.take()
        };
        if let Some(kubelet) = kubelet {
            kubelet.power_off();
        }
    }
}

/// The programs of the image that speak to Kubernetes.
pub struct Programs(pub Arc<Powered>);

impl Commands for Programs {
    fn has(&self, name: &str) -> bool {
        matches!(name, "kubeadm" | "kubelet")
    }

    fn run<'a>(&'a mut self, call: Call<'a>) -> BoxFuture<'a, Exit> {
        Box::pin(async move {
            let Call { argv, machine, .. } = call;
            let (program, arguments) = (argv[0].as_str(), &argv[1..]);
            match (program, arguments) {
                ("kubelet", [flag]) if flag == "--version" => Exit::ok(format!("Kubernetes v{}\n", self.0.version)),
                ("kubelet", _) => Exit::fail(1, "kubelet: systemd runs it here; only --version is played"),
                _ => kubeadm(&self.0, arguments, machine).await,
            }
        })
    }
}

async fn kubeadm(powered: &Arc<Powered>, arguments: &[String], machine: &mut Machine) -> Exit {
    let host = OnMachine::new(Arc::clone(powered), machine);
    // What takes long is followed on the console as it comes; what answers a question goes to whoever asked.
    let speaks = matches!(arguments.first().map(String::as_str), Some("init" | "join"));
    let (mut stdout, observer) = (String::new(), Arc::clone(&machine.observer));
    let mut print = |line: String| {
        for line in line.lines() {
            if speaks {
                observer.console(&format!("kubeadm: {}", line.replace(|c: char| c.is_control() && c != '\t', " ")));
            } else {
                stdout.push_str(line);
                stdout.push('\n');
            }
        }
    };
    let code = command::run(arguments, &host, &mut machine.root, &mut print).await;
    if powered.kubelet().is_some() && !machine.services.is_active(KUBELET_UNIT) {
        machine.services.set(KUBELET_UNIT, State::Active);
    }
    if code == 0 { Exit::ok(stdout) } else { Exit { code, stdout: Vec::new(), stderr: stdout.into_bytes() } }
}

/// A machine while a program runs on it.
struct OnMachine {
    powered: Arc<Powered>,
    facts: Facts,
    names: Names,
    root: Root,
}

impl OnMachine {
    fn new(powered: Arc<Powered>, machine: &Machine) -> Self {
        let address = address(machine);
        let facts = Facts {
            version: powered.version.clone(),
            hostname: machine.hostname.clone(),
            address,
            cpus: powered.cpus,
            memory_mb: powered.memory_mb,
            registries: powered.settings.registries.clone(),
            wait_scale: powered.settings.wait_scale,
            is_strict: powered.settings.strict_kubeadm,
        };
        Self { facts, names: Names::of(&machine.root), root: machine.root.clone(), powered }
    }

    fn resolve(&self, name: &str) -> Result<IpAddr, String> {
        self.names.resolve(name).ok_or_else(|| format!("dial tcp: lookup {name}: no such host"))
    }
}

/// The names that a machine knows: those of `/etc/hosts`.
#[derive(Debug, Default)]
pub struct Names(Vec<(IpAddr, Vec<String>)>);

impl Names {
    /// A machine's.
    pub fn of(files: &dyn Files) -> Self {
        Self::read(&files.text("/etc/hosts").unwrap_or_default())
    }

    /// Reads lines of an address and its names.
    pub fn read(text: &str) -> Self {
        let hosts = text.lines().filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            Some((address, words.map(str::to_ascii_lowercase).collect()))
        });
        Self(hosts.collect())
    }

    /// The address of a name, or one that is written out.
    pub fn resolve(&self, name: &str) -> Option<IpAddr> {
        let wanted = name.to_ascii_lowercase();
        let named = || self.0.iter().find(|(_, names)| names.contains(&wanted)).map(|(address, _)| *address);
        name.parse().ok().or_else(named)
    }
}

/// The address on the default route; without a route the first.
pub fn address(machine: &Machine) -> Option<IpAddr> {
    let nics = &machine.network.nics;
    let routed = nics.iter().find(|nic| !nic.gateways.is_empty() && !nic.addresses.is_empty());
    let nic = routed.or_else(|| nics.iter().find(|nic| !nic.addresses.is_empty()))?;
    nic.addresses.first().map(ipnet::IpNet::addr)
}

impl Host for OnMachine {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn now(&self) -> Timestamp {
        self.powered.clock.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Carried<TcpStream>, String>> {
        Box::pin(async move {
            let address = SocketAddr::new(self.resolve(host)?, port);
            // Nothing of a machine's leaves this host.
            if !address.ip().is_loopback() {
                return Err(format!("dial tcp {address}: connect: network is unreachable"));
            }
            let dial = async {
                self.powered.cable.plugged().await;
                TcpStream::connect(address).await
            };
            let stream = match timeout(DIAL_TIMEOUT, dial).await {
                Err(_) => return Err(format!("dial tcp {address}: i/o timeout")),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    return Err(format!("dial tcp {address}: connect: connection refused"));
                }
                Ok(other) => other.map_err(|error| format!("dial tcp {address}: {error}"))?,
            };
            // Requests are small writes; without it each could wait for an acknowledgement.
            let _ = stream.set_nodelay(true);
            Ok(self.powered.cable.carry(stream))
        })
    }

    fn restart_kubelet(&self, _files: &mut dyn Files) {
        // Both see the same disks.
        self.powered.start_kubelet(&self.root, &self.facts.hostname, self.facts.address);
    }

    fn kubelet_health(&self) -> Result<(), String> {
        self.powered.kubelet().ok_or_else(|| "it was not started".to_owned())?.health()
    }

    fn component_health(&self, component: &str) -> Result<(), String> {
        self.powered.kubelet().ok_or_else(|| "kubelet does not run".to_owned())?.component_health(component)
    }

    fn etcd(&self, endpoints: &[String], certificate: &[u8]) -> Result<Box<dyn EtcdClient>, String> {
        let authority = pki::load_certificate(&self.root, "/etc/kubernetes/pki/etcd/ca.crt")?;
        let cluster = pki::load_certificate(&self.root, "/etc/kubernetes/pki/ca.crt")?;
        let cluster = self.powered.clusters.by_authority(&cluster.pin()).ok_or("context deadline exceeded")?;
        cluster.etcd_client(endpoints, certificate, &authority)
    }

    fn keys(&self) -> &KeyStore {
        &self.powered.keys
    }

    fn port_in_use(&self, port: u16) -> bool {
        let kubelet = self.powered.kubelet();
        let runs =
            |component: &str| kubelet.as_ref().is_some_and(|kubelet| kubelet.component_health(component).is_ok());
        match port {
            KUBELET_PORT => kubelet.is_some_and(|kubelet| kubelet.health().is_ok()),
            2379 | 2380 => runs("etcd"),
            10257 => runs("kube-controller-manager"),
            10259 => runs("kube-scheduler"),
            // The only one that is really open, on the machine's own address.
            other => self.facts.address.is_some_and(|address| {
                std::net::TcpListener::bind(SocketAddr::new(address, other))
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_name_may_tell_the_version() {
        let settings = Settings::default();
        for (image, version) in [
            ("basalt-node", "1.36.3"),
            ("kubeos-v1.34.5-3", "1.34.5"),
            ("ubuntu-22.04-k8s-1.35.0", "1.35.0"),
            ("v1.33.1", "1.33.1"),
            ("2.1.0-node", "1.36.3"),
        ] {
            assert_eq!(settings.version_of(image).to_string(), version, "{image}");
        }
    }
}
