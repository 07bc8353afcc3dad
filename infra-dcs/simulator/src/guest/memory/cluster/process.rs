//! What a static pod runs once nothing keeps it from starting.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    Cluster, Clusters, Presence, bootstrap,
    controllers::Flags,
    etcd::{self, EtcdMember},
    front::{self, Front},
    kubelet::Kubelet,
    static_pod::Trouble,
};
use crate::guest::memory::{
    etcd::MemberId,
    kubeadm::{Cidr, config, files::Files, manifests, pki::Authority},
    root::Root,
};

/// Life of what a controller manager signs, unless it is told otherwise.
const SIGNING_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A running process. Dropping it ends it.
pub enum Process {
    /// A member of the cluster's etcd.
    Etcd(EtcdMember),
    /// An API server.
    ApiServer(Front),
    /// A controller manager or scheduler, which the cluster knows of as long as this is kept.
    Controller {
        /// Kept, never looked at.
        _presence: Presence,
    },
    /// Something that nobody here asks for anything.
    Other,
}

impl Process {
    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        match self {
            Self::Etcd(member) => member.is_alive(),
            _ => true,
        }
    }

    /// Whether it answers its health check; otherwise why not.
    pub fn health(&self) -> Result<(), String> {
        match self {
            Self::Etcd(member) => member.health(),
            Self::ApiServer(front) => front.health(),
            Self::Controller { .. } | Self::Other => Ok(()),
        }
    }
}

/// What a process finds around it.
pub struct Surroundings<'a> {
    /// The machine's kubelet.
    pub kubelet: &'a Arc<Kubelet>,
    /// All clusters.
    pub clusters: &'a Arc<Clusters>,
    /// The machine's cluster, if it is in one.
    pub cluster: Option<&'a Arc<Cluster>>,
    /// The machine's member of etcd, where it runs.
    pub member: Option<MemberId>,
    /// The cluster's authority by kubelet's kubeconfig, PEM.
    pub authority: &'a [u8],
}

fn crash(message: impl Into<String>) -> Trouble {
    Trouble { reason: "CrashLoopBackOff", message: message.into() }
}

/// Starts what a pod's first container runs.
pub fn start(pod: &Value, root: &mut Root, surroundings: &Surroundings<'_>) -> Result<Process, Trouble> {
    let program = pod.pointer("/spec/containers/0/command/0").and_then(Value::as_str).unwrap_or_default();
    let cluster = || surroundings.cluster.ok_or_else(|| crash("dial tcp: connect: connection refused"));
    match program {
        "etcd" => etcd::start(pod, root, surroundings).map(Process::Etcd).map_err(crash),
        "kube-apiserver" => {
            let cluster = cluster()?;
            let address = listen_address(pod).map_err(crash)?;
            front::start(pod, root, surroundings, cluster, surroundings.member, address)
                .map(Process::ApiServer)
                .map_err(crash)
        }
        "kube-controller-manager" => {
            Ok(Process::Controller { _presence: cluster()?.add_manager(manager_flags(pod, root), signer(pod, root)) })
        }
        "kube-scheduler" => Ok(Process::Controller { _presence: cluster()?.add_scheduler() }),
        _ => Ok(Process::Other),
    }
}

/// Where an API server listens. On every address of the machine would be on every machine's here: it is the advertised.
fn listen_address(pod: &Value) -> Result<SocketAddr, String> {
    let advertised = manifests::flag(pod, "advertise-address").unwrap_or_default();
    let port = manifests::flag(pod, "secure-port").unwrap_or("6443");
    let port: u16 = port.parse().map_err(|_| format!("--secure-port {port:?} is no port"))?;
    let address = advertised.parse().map_err(|_| format!("--advertise-address {advertised:?} is no address"))?;
    Ok(SocketAddr::new(address, port))
}

/// What the controller manager signs with; without the files it does not.
fn signer(pod: &Value, root: &Root) -> Option<Arc<Authority>> {
    let file = |flag: &str| manifests::flag(pod, flag).filter(|path| !path.is_empty());
    bootstrap::signer(root, file("cluster-signing-cert-file")?, file("cluster-signing-key-file")?).map(Arc::new)
}

fn manager_flags(pod: &Value, root: &Root) -> Flags {
    let mask =
        |flag: &str, default: u8| manifests::flag(pod, flag).and_then(|text| text.parse().ok()).unwrap_or(default);
    let ranges =
        manifests::flag(pod, "cluster-cidr").filter(|_| manifests::flag(pod, "allocate-node-cidrs") == Some("true"));
    let authority = manifests::flag(pod, "root-ca-file").and_then(|path| Files::text(root, path));
    Flags {
        root_authority: authority.unwrap_or_default(),
        cluster_cidrs: ranges.map(|text| text.split(',').filter_map(Cidr::parse).collect()).unwrap_or_default(),
        ipv4_mask: mask("node-cidr-mask-size-ipv4", mask("node-cidr-mask-size", 24)),
        ipv6_mask: mask("node-cidr-mask-size-ipv6", 64),
        signing_life: manifests::flag(pod, "cluster-signing-duration")
            .and_then(config::duration::parse)
            .unwrap_or(SIGNING_LIFE),
    }
}
