//! Checks before anything is changed.

use std::net::Ipv4Addr;

use super::{
    config::{
        host_port,
        types::{ApiEndpoint, ClusterConfiguration, JoinConfiguration},
    },
    files::{Entry, Files},
    host::Host,
    images, manifests,
    version::Version,
};

const SCHEDULER_PORT: u16 = 10259;
const CONTROLLER_MANAGER_PORT: u16 = 10257;
const KUBELET_PORT: u16 = 10250;
/// Fewest CPUs and MiB of a control plane machine.
const CONTROL_PLANE: (u32, u64) = (2, 1700);

/// What checks found.
#[derive(Default)]
struct Findings {
    warnings: Vec<(String, String)>,
    errors: Vec<(String, String)>,
}

impl Findings {
    fn error(&mut self, check: impl Into<String>, why: impl Into<String>) {
        self.errors.push((check.into(), why.into()));
    }

    fn warn(&mut self, check: impl Into<String>, why: impl Into<String>) {
        self.warnings.push((check.into(), why.into()));
    }

    fn file_available(&mut self, files: &dyn Files, path: &str) {
        if files.entry(path).is_some() {
            self.error(format!("FileAvailable-{}", path.replace('/', "-")), format!("{path} already exists"));
        }
    }

    /// A machine that does not forward packets has no pod network: checked where addresses are IPv4.
    fn forwarding(&mut self, files: &dyn Files) {
        const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
        let why = match files.read(PATH) {
            None => "does not exist",
            Some(content) if !content.starts_with(b"1") => "contents are not set to 1",
            Some(_) => return,
        };
        self.error(format!("FileContent-{}", PATH.replace('/', "-")), format!("{PATH} {why}"));
    }

    fn port_open(&mut self, host: &dyn Host, port: u16) {
        if host.port_in_use(port) {
            self.error(format!("Port-{port}"), format!("Port {port} is in use"));
        }
    }

    /// Prints what was found; the error of the phase, if there is one.
    fn finish(mut self, ignored: &[String], print: &mut dyn FnMut(String)) -> Result<(), String> {
        let is_ignored = |check: &str| ignored.iter().any(|name| name == "all" || name.eq_ignore_ascii_case(check));
        let errors = std::mem::take(&mut self.errors);
        let (ignored, fatal): (Vec<_>, Vec<_>) = errors.into_iter().partition(|(check, _)| is_ignored(check));
        for (check, why) in self.warnings.into_iter().chain(ignored) {
            print(format!("\t[WARNING {check}]: {why}"));
        }
        if fatal.is_empty() {
            return Ok(());
        }
        print("[preflight] Some fatal errors occurred:".to_owned());
        for (check, why) in fatal {
            print(format!("\t[ERROR {check}]: {why}"));
        }
        print(
            "[preflight] If you know what you are doing, you can make a check non-fatal with \
             `--ignore-preflight-errors=...`"
                .to_owned(),
        );
        Err("preflight checks failed".to_owned())
    }
}

/// The checks of a machine that becomes part of a control plane. `joins`: beside others.
pub fn control_plane(
    host: &dyn Host,
    files: &dyn Files,
    cluster: &ClusterConfiguration,
    endpoint: &ApiEndpoint,
    joins: bool,
    ignored: &[String],
    print: &mut dyn FnMut(String),
) -> Result<(), String> {
    let facts = host.facts();
    let mut found = Findings::default();
    let (cpus, memory) = CONTROL_PLANE;
    if facts.cpus < cpus {
        let why = format!("the number of available CPUs {} is less than the required {cpus}", facts.cpus);
        found.error("NumCPU", why);
    }
    if facts.memory_mb < memory {
        let why = format!("the system RAM ({} MB) is less than the minimum {memory} MB", facts.memory_mb);
        found.error("Mem", why);
    }
    if let Some(wanted) = Version::parse(&cluster.kubernetes_version)
        && wanted >= Version::floor(facts.version.major, facts.version.minor + 1)
    {
        found.warn(
            "KubernetesVersion",
            format!(
                "Kubernetes version is greater than kubeadm version. Please consider to upgrade kubeadm. Kubernetes \
                 version: {wanted}. Kubeadm version: {}.{}.x",
                facts.version.major, facts.version.minor
            ),
        );
    }
    for port in [u16::try_from(endpoint.bind_port).unwrap_or_default(), SCHEDULER_PORT, CONTROLLER_MANAGER_PORT] {
        found.port_open(host, port);
    }
    for component in manifests::COMPONENTS.into_iter().chain(["etcd"]) {
        found.file_available(files, &manifests::path(component));
    }
    if !joins {
        common(host, files, &cluster.kubernetes_version, &mut found);
        if endpoint.advertise_address.parse::<Ipv4Addr>().is_ok() {
            found.forwarding(files);
        }
    }
    if let Some(etcd) = &cluster.etcd.local {
        found.port_open(host, 2379);
        found.port_open(host, 2380);
        let directory = &etcd.data_dir;
        if files.entry(directory) == Some(Entry::Directory) && !files.list(directory).is_empty() {
            found.error(format!("DirAvailable-{}", directory.replace('/', "-")), format!("{directory} is not empty"));
        }
    }
    found.finish(ignored, print)
}

/// The checks of a machine that joins, before it knows the cluster.
pub fn join(
    host: &dyn Host,
    files: &dyn Files,
    node: &JoinConfiguration,
    ignored: &[String],
    print: &mut dyn FnMut(String),
) -> Result<(), String> {
    let mut found = Findings::default();
    for file in ["kubelet.conf", "bootstrap-kubelet.conf"] {
        found.file_available(files, &format!("/etc/kubernetes/{file}"));
    }
    common(host, files, "", &mut found);
    if node.control_plane.is_none() {
        found.file_available(files, &node.ca_cert_path);
    }
    // By the address that it will speak to; a name tells nothing of addresses.
    let endpoint = node.discovery.bootstrap_token.as_ref().map(|token| token.api_server_endpoint.as_str());
    if endpoint.and_then(host_port).is_some_and(|(host, _)| host.parse::<Ipv4Addr>().is_ok()) {
        found.forwarding(files);
    }
    found.finish(ignored, print)
}

/// Checks of every machine.
fn common(host: &dyn Host, files: &dyn Files, kubernetes: &str, found: &mut Findings) {
    let kubelet = &host.facts().version;
    if let Some(wanted) = Version::parse(kubernetes)
        && (kubelet.major, kubelet.minor) > (wanted.major, wanted.minor)
    {
        found.error(
            "KubeletVersion",
            format!(
                "the kubelet version is higher than the control plane version. This is not a supported version skew and \
                 may lead to a malfunctional cluster. Kubelet version: \"{kubelet}\" Control plane version: \"{wanted}\""
            ),
        );
    }
    let swaps = files.text("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() > 1 {
        found.warn(
            "Swap",
            "swap is supported for cgroup v2 only. The kubelet must be properly configured to use swap. Please refer to \
             https://kubernetes.io/docs/concepts/architecture/nodes/#swap-memory, or disable swap on the node",
        );
    }
    found.port_open(host, KUBELET_PORT);
}

/// Pulls what a control plane machine runs.
pub fn pull(
    host: &dyn Host,
    cluster: &ClusterConfiguration,
    policy: &str,
    ignored: &[String],
    print: &mut dyn FnMut(String),
) -> Result<(), String> {
    if policy == "Never" {
        return Ok(());
    }
    let facts = host.facts();
    let mut found = Findings::default();
    for image in images::control_plane(cluster, &facts.version) {
        if let Err(why) = facts.registries.pull(&image) {
            found.error("ImagePull", format!("failed to pull image {image}: failed to pull image {image}: {why}"));
        }
    }
    found.finish(ignored, print)
}
