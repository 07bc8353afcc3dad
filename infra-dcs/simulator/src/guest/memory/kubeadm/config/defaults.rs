//! What kubeadm fills in: fixed values, and what it finds on the machine.

use std::net::IpAddr;

use super::{
    ConfigError,
    types::{
        ApiEndpoint, ClusterConfiguration, InitConfiguration, JoinConfiguration, LocalEtcd, NodeRegistration, Taint,
    },
    wrong,
};
use crate::guest::memory::kubeadm::version::Version;

const CRI_SOCKET: &str = "unix:///var/run/containerd/containerd.sock";
const CA_CERT_PATH: &str = "/etc/kubernetes/pki/ca.crt";
/// What bootstrap tokens authenticate as.
pub const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// What defaults come from.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// This kubeadm.
    pub version: &'a Version,
    /// The machine's host name.
    pub hostname: &'a str,
    /// The machine's address on its default route.
    pub address: Option<IpAddr>,
    /// A token, for where one has to be made.
    pub fresh_token: &'a str,
    /// Whether fields that nobody knows are errors, of which kubeadm only warns.
    pub is_strict: bool,
}

/// What control plane nodes have where nothing else is said.
pub fn control_plane_taint() -> Taint {
    Taint { key: "node-role.kubernetes.io/control-plane".into(), effect: "NoSchedule".into(), ..Taint::default() }
}

impl Defaults<'_> {
    /// Completes the documents of an init.
    pub fn init(&self, node: &mut InitConfiguration, cluster: &mut ClusterConfiguration) -> Result<(), ConfigError> {
        if node.bootstrap_tokens.is_empty() {
            node.bootstrap_tokens.push(Default::default());
        }
        for token in &mut node.bootstrap_tokens {
            if token.token.is_empty() {
                token.token = self.fresh_token.to_owned();
            }
            if token.ttl.is_none() && token.expires.is_none() {
                token.ttl = Some(std::time::Duration::from_secs(24 * 3600));
            }
            if token.usages.is_empty() {
                token.usages = vec!["signing".into(), "authentication".into()];
            }
            if token.groups.is_empty() && token.usages.iter().any(|usage| usage == "authentication") {
                token.groups = vec![NODE_GROUP.into()];
            }
        }
        self.registration(&mut node.node_registration, true)?;
        self.endpoint(&mut node.local_api_endpoint)?;
        self.cluster(cluster)
    }

    /// Completes the document of a join.
    pub fn join(&self, node: &mut JoinConfiguration) -> Result<(), ConfigError> {
        or(&mut node.ca_cert_path, CA_CERT_PATH);
        let is_control_plane = node.control_plane.is_some();
        self.registration(&mut node.node_registration, is_control_plane)?;
        if let Some(control_plane) = &mut node.control_plane {
            self.endpoint(&mut control_plane.local_api_endpoint)?;
        }
        if let Some(token) = &node.discovery.bootstrap_token
            && node.discovery.tls_bootstrap_token.is_empty()
        {
            node.discovery.tls_bootstrap_token.clone_from(&token.token);
        }
        Ok(())
    }

    /// Completes a cluster's part and refuses versions that this kubeadm cannot deploy.
    pub fn cluster(&self, cluster: &mut ClusterConfiguration) -> Result<(), ConfigError> {
        or(&mut cluster.cluster_name, "kubernetes");
        or(&mut cluster.image_repository, "registry.k8s.io");
        or(&mut cluster.certificates_dir, "/etc/kubernetes/pki");
        or(&mut cluster.networking.service_subnet, "10.96.0.0/12");
        or(&mut cluster.networking.dns_domain, "cluster.local");
        or(&mut cluster.encryption_algorithm, "RSA-2048");
        let day = 24 * 3600;
        cluster.certificate_validity_period.get_or_insert(std::time::Duration::from_secs(365 * day));
        cluster.ca_certificate_validity_period.get_or_insert(std::time::Duration::from_secs(3650 * day));
        if cluster.etcd.external.is_none() {
            or(&mut cluster.etcd.local.get_or_insert_with(LocalEtcd::default).data_dir, "/var/lib/etcd");
        }
        // Labels such as `stable-1` need the Internet; without it kubeadm falls back to its own version.
        if cluster.kubernetes_version.is_empty() || cluster.kubernetes_version.starts_with("stable") {
            cluster.kubernetes_version = format!("v{}", self.version);
        }
        let wanted = &cluster.kubernetes_version;
        let version = Version::parse(wanted)
            .ok_or_else(|| wrong(format!("couldn't parse Kubernetes version {wanted:?}: version does not fit")))?;
        if !wanted.starts_with('v') {
            cluster.kubernetes_version = format!("v{wanted}");
        }
        let lowest = Version::release(self.version.major, self.version.minor.saturating_sub(1), 0);
        if version < lowest {
            return Err(wrong(format!(
                "this version of kubeadm only supports deploying clusters with the control plane version >= {lowest}. \
                 Current version: {}",
                cluster.kubernetes_version
            )));
        }
        cluster.api_server.cert_sans.iter_mut().for_each(|name| name.make_ascii_lowercase());
        Ok(())
    }

    fn registration(&self, node: &mut NodeRegistration, is_control_plane: bool) -> Result<(), ConfigError> {
        or(&mut node.name, self.hostname);
        node.name = node.name.trim().to_lowercase();
        if node.name.is_empty() {
            return Err(wrong("empty hostname is invalid"));
        }
        or(&mut node.cri_socket, CRI_SOCKET);
        if !node.cri_socket.starts_with("unix:") {
            node.cri_socket = format!("unix://{}", node.cri_socket);
        }
        or(&mut node.image_pull_policy, "IfNotPresent");
        if is_control_plane && node.taints.is_none() {
            node.taints = Some(vec![control_plane_taint()]);
        }
        Ok(())
    }

    /// The address of the default route, unless one is given. A real kubeadm looks elsewhere when it is given one of
    /// loopback; here the machines' own addresses are of loopback.
    fn endpoint(&self, endpoint: &mut ApiEndpoint) -> Result<(), ConfigError> {
        let given = endpoint.advertise_address.as_str();
        if endpoint.bind_port == 0 {
            endpoint.bind_port = 6443;
        }
        match (given.parse::<IpAddr>(), self.address) {
            (Ok(address), _) if !address.is_unspecified() => Ok(()),
            (Err(_), _) if !given.is_empty() => Err(wrong(format!(
                "couldn't use {given:?} as \"apiserver-advertise-address\", must be ipv4 or ipv6 address"
            ))),
            (_, Some(address)) => {
                endpoint.advertise_address = address.to_string();
                Ok(())
            }
            (_, None) => {
                Err(wrong("unable to select an IP from default routes: no default routes found on this machine"))
            }
        }
    }
}

fn or(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}
