//! Machines for tests.

use std::{net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    clock::Clock,
    guest::{
        GuestNic,
        memory::{
            cluster::{
                Around, Cluster, Clusters, Pace,
                api::{Api, Kind},
                node,
            },
            host::{Hardware, Powered, Programs, Settings},
            image,
            kubeadm::{files::Files, pki::KeyStore, version::Version},
            machine::{Machine, Observer},
            machine_clock::MachineClock,
            network::Network,
            root::Volume,
            shell::{Call, Commands},
        },
    },
};

/// How long a test waits for something that comes within milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a site has.
pub struct Site {
    pub clock: Arc<Clock>,
    pub clusters: Arc<Clusters>,
    pub settings: Arc<Settings>,
    keys: Arc<KeyStore>,
    network: [u8; 2],
}

impl Site {
    /// A site that waits a hundredth of what Kubernetes waits.
    pub fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock = Arc::new(Clock::default());
        let pace = Pace { scale: 0.01, slow_disk: Duration::from_millis(50) };
        Self {
            clusters: Clusters::new(Around { clock: Arc::clone(&clock), pace, ..Around::default() }),
            clock,
            settings: Arc::new(Settings { wait_scale: 0.01, ..Settings::default() }),
            keys: Arc::default(),
            // Tests run side by side, and each needs addresses of its own.
            network: [rand::random_range(1..=250), rand::random_range(1..=250)],
        }
    }

    /// The same site once its simulator was started again: nothing is known of what ran.
    pub fn restarted(&self) -> Self {
        let pace = Pace { scale: 0.01, slow_disk: Duration::from_millis(50) };
        Self {
            clusters: Clusters::new(Around { clock: Arc::clone(&self.clock), pace, ..Around::default() }),
            clock: Arc::clone(&self.clock),
            settings: Arc::clone(&self.settings),
            keys: Arc::default(),
            network: self.network,
        }
    }

    /// An address of this site.
    pub fn address(&self, host: u8) -> String {
        format!("127.{}.{}.{host}", self.network[0], self.network[1])
    }

    /// A machine that has booted and done nothing yet.
    pub fn machine(&self, name: &str, host: u8) -> Guest {
        self.machine_with(name, host, image::system_disk(), "v1.36.3")
    }

    /// A machine with this disk and these programs.
    pub fn machine_with(&self, name: &str, host: u8, system: Volume, version: &str) -> Guest {
        let hardware = Hardware {
            id: format!("i-{name}"),
            cpus: 2,
            memory_mb: 4096,
            disk_bytes: 40 << 30,
            version: Version::parse(version).unwrap(),
            disk: Arc::default(),
        };
        let clock = MachineClock::new(Arc::clone(&self.clock));
        let powered = Powered::new(
            hardware,
            clock.clone(),
            Arc::clone(&self.settings),
            Arc::clone(&self.keys),
            Arc::clone(&self.clusters),
        );
        let observer = Arc::new(Console::default());
        let nic = GuestNic { index: 0, mac: "02:00:00:00:00:01".into(), port_group: String::new() };
        let mut network = Network::bare(&[nic]);
        network.nics[0].addresses = vec![format!("{}/8", self.address(host)).parse().unwrap()];
        let mut machine = Machine::new(
            system.clone(),
            Vec::new(),
            network,
            Arc::new(clock),
            Arc::clone(&observer) as Arc<dyn Observer>,
        );
        machine.hostname = name.to_owned();
        // What its boot would have set.
        Files::write(&mut machine.root, "/proc/sys/net/ipv4/ip_forward", 0o644, b"1\n");
        Guest { powered, machine, observer, system }
    }

    /// An init's documents.
    pub fn init_documents(endpoint: &str) -> String {
        format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: c1\nkubernetesVersion: \
             v1.36.3\ncontrolPlaneEndpoint: {endpoint}\nencryptionAlgorithm: ECDSA-P256\nnetworking:\n  podSubnet: \
             10.244.0.0/16\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n- token: \
             abcdef.0123456789abcdef\nnodeRegistration:\n  kubeletExtraArgs:\n  - name: provider-id\n    value: dcs://m\n  - \
             name: node-labels\n    value: a=b\n"
        )
    }

    /// A join's document.
    pub fn join_document(endpoint: &str, pin: &str, control_plane: bool) -> String {
        let more = if control_plane { "controlPlane: {}\n" } else { "" };
        format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n{more}discovery:\n  bootstrapToken:\n    token: \
             abcdef.0123456789abcdef\n    apiServerEndpoint: {endpoint}\n    caCertHashes: ['{pin}']\nnodeRegistration:\n  \
             kubeletExtraArgs:\n  - name: provider-id\n    value: dcs://w\n"
        )
    }
}

#[derive(Default)]
pub struct Console(Mutex<Vec<String>>);

impl Observer for Console {
    fn console(&self, line: &str) {
        self.0.lock().push(line.to_owned());
    }

    fn online(&self, _hostname: &str, _addresses: &[(String, IpAddr)]) {}
}

/// A machine.
pub struct Guest {
    pub powered: Arc<Powered>,
    pub machine: Machine,
    pub observer: Arc<Console>,
    pub system: Volume,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.powered.power_off();
    }
}

impl Guest {
    /// Everything on the console.
    pub fn console(&self) -> String {
        self.observer.0.lock().join("\n")
    }

    pub fn write(&mut self, path: &str, content: &str) {
        Files::write(&mut self.machine.root, path, 0o600, content.as_bytes());
    }

    pub fn read(&self, path: &str) -> String {
        Files::text(&self.machine.root, path).unwrap_or_else(|| panic!("{path} is missing"))
    }

    /// Runs kubeadm with a configuration.
    pub async fn kubeadm(&mut self, verb: &str, configuration: &str) -> u8 {
        self.write("/run/kubeadm/kubeadm.yaml", configuration);
        let argv: Vec<String> = ["kubeadm", verb, "--config", "/run/kubeadm/kubeadm.yaml"].map(str::to_owned).to_vec();
        let mut programs = Programs(Arc::clone(&self.powered));
        let call =
            Call { argv: &argv, stdin: &[], env: &Default::default(), directory: "/", machine: &mut self.machine };
        programs.run(call).await.code
    }

    /// Runs kubeadm to its success.
    pub async fn succeeds(&mut self, verb: &str, configuration: &str) {
        assert_eq!(self.kubeadm(verb, configuration).await, 0, "{}", self.console());
    }

    /// Runs kubeadm to its failure, and answers what it said.
    pub async fn fails(&mut self, verb: &str, configuration: &str) -> String {
        assert_eq!(self.kubeadm(verb, configuration).await, 1, "{}", self.console());
        self.console()
    }

    /// What Cluster API writes on a machine that joins a control plane.
    pub fn copy_authorities(&mut self, from: &Guest) {
        for file in ["ca", "etcd/ca", "front-proxy-ca", "sa"] {
            for end in ["crt", "key", "pub"] {
                let path = format!("/etc/kubernetes/pki/{file}.{end}");
                if let Some(text) = Files::text(&from.machine.root, &path) {
                    self.write(&path, &text);
                }
            }
        }
    }

    /// Pin of the cluster's authority.
    pub fn pin(&self) -> String {
        let path = "/etc/kubernetes/pki/ca.crt";
        crate::guest::memory::kubeadm::pki::load_certificate(&self.machine.root, path).unwrap().pin()
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// An object of a cluster.
pub fn get(cluster: &Cluster, kind: Kind, namespace: &str, name: &str) -> Value {
    let api = Api::new(&cluster.server, "test");
    api.get(kind, namespace, name).map(|object| (*object).clone()).unwrap_or_default()
}

/// Whether a node is ready.
pub fn is_ready(cluster: &Cluster, name: &str) -> bool {
    node::condition_status(&get(cluster, crate::guest::memory::cluster::api::NODES, "", name), "Ready") == "True"
}
