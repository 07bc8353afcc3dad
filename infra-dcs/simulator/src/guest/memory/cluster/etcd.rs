//! etcd's side of a cluster: which machine holds which member, and where a member's data lies on its disk.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Cluster, process::Surroundings};
use crate::guest::memory::{
    cable::Cable,
    kubeadm::{
        files::Files,
        host::{EtcdClient, Member},
        manifests, pki,
    },
    root::Root,
};

/// Where a member remembers who it is, below its data directory.
const IDENTITY: &str = "member/identity.json";

/// The members of a cluster's etcd.
pub struct ClusterEtcd {
    /// Pin of the authority of etcd's certificates.
    authority: String,
    members: Mutex<Vec<State>>,
}

struct State {
    member: Member,
    client_url: String,
    /// The machine that holds its data; none before it has started.
    machine: Option<Arc<Circumstances>>,
    is_running: bool,
}

/// What a machine's faults do to its member.
pub struct Circumstances {
    /// Id of the machine.
    pub machine: String,
    /// Its cable.
    pub cable: Cable,
    /// Whether its disk is slow.
    pub slow_disk: Arc<AtomicBool>,
}

impl ClusterEtcd {
    /// A cluster of one member, which starts now.
    fn new(authority: &str, name: &str, peer_url: &str, client_url: &str, machine: Arc<Circumstances>) -> (Self, u64) {
        let member = Member { id: fresh_id(), name: name.into(), peer_url: peer_url.into(), is_learner: false };
        let id = member.id;
        let first = State { member, client_url: client_url.into(), machine: Some(machine), is_running: true };
        (Self { authority: authority.into(), members: Mutex::new(vec![first]) }, id)
    }

    /// Whether enough voters are up and see each other.
    pub fn has_quorum(&self) -> bool {
        let members = self.members.lock();
        let voters: Vec<&State> = members.iter().filter(|state| !state.member.is_learner).collect();
        let is_alone = voters.len() == 1;
        let is_up = |state: &&&State| {
            state.is_running && state.machine.as_ref().is_some_and(|machine| is_alone || !machine.cable.is_unplugged())
        };
        voters.iter().filter(is_up).count() > voters.len() / 2
    }

    /// Whether the disk of the member that leads is slow.
    pub fn is_slow(&self) -> bool {
        let members = self.members.lock();
        let mut voters = members.iter().filter(|state| !state.member.is_learner && state.is_running);
        let leader = voters.find_map(|state| state.machine.as_ref().filter(|machine| !machine.cable.is_unplugged()));
        leader.is_some_and(|machine| machine.slow_disk.load(Ordering::Relaxed))
    }

    /// A machine's disk is gone. Answers whether no other machine holds any data.
    pub fn forget_machine(&self, machine: &str) -> bool {
        let mut members = self.members.lock();
        for state in members.iter_mut() {
            if state.machine.as_ref().is_some_and(|holder| holder.machine == machine) {
                (state.machine, state.is_running) = (None, false);
            }
        }
        members.iter().all(|state| state.machine.is_none())
    }

    fn start(&self, id: u64, name: &str, client_url: &str, machine: Arc<Circumstances>) -> bool {
        let mut members = self.members.lock();
        let Some(state) = members.iter_mut().find(|state| state.member.id == id) else { return false };
        state.member.name = name.to_owned();
        state.client_url = client_url.to_owned();
        (state.machine, state.is_running) = (Some(machine), true);
        true
    }

    fn stop(&self, id: u64) {
        let mut members = self.members.lock();
        if let Some(state) = members.iter_mut().find(|state| state.member.id == id) {
            state.is_running = false;
        }
    }

    fn by_peer_url(&self, url: &str) -> Option<Member> {
        let members = self.members.lock();
        members.iter().find(|state| state.member.peer_url == url).map(|state| state.member.clone())
    }

    fn is_voter(&self, id: u64) -> bool {
        self.members.lock().iter().any(|state| state.member.id == id && !state.member.is_learner)
    }

    fn serves(&self, url: &str) -> bool {
        self.members.lock().iter().any(|state| state.client_url == url)
    }
}

fn fresh_id() -> u64 {
    // Zero means none.
    rand::random::<u64>().max(1)
}

/// A member that runs. Dropping it stops it; its data stays.
pub struct EtcdMember {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    id: u64,
}

impl EtcdMember {
    /// Whether it has a leader.
    pub fn health(&self) -> Result<(), String> {
        if self.cluster.etcd.has_quorum() { Ok(()) } else { Err("etcdserver: no leader".into()) }
    }
}

impl Drop for EtcdMember {
    fn drop(&mut self) {
        self.cluster.etcd.stop(self.id);
        self.cluster.wake();
    }
}

/// Whether a machine's API server can use its own member.
pub fn is_usable(root: &Root, pod: &Value, cluster: &Cluster) -> Result<(), String> {
    let directory = manifests::flag(pod, "data-dir").unwrap_or_default();
    let identity = Files::text(root, &format!("{directory}/{IDENTITY}"))
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let id = identity
        .and_then(|identity| identity["member"].as_u64())
        .ok_or("dial tcp 127.0.0.1:2379: connect: connection refused")?;
    if !cluster.etcd.is_voter(id) {
        return Err("etcdserver: rpc not supported for learner".into());
    }
    if cluster.etcd.has_quorum() { Ok(()) } else { Err("etcdserver: request timed out".into()) }
}

/// Starts etcd as its flags and its data directory say: a new cluster, a member that was announced, or one that comes back.
pub fn start(pod: &Value, root: &mut Root, surroundings: &Surroundings<'_>) -> Result<EtcdMember, String> {
    let flag = |name: &str| manifests::flag(pod, name).unwrap_or_default();
    let (name, peer, client) = (flag("name"), flag("initial-advertise-peer-urls"), flag("advertise-client-urls"));
    let identity_file = format!("{}/{IDENTITY}", flag("data-dir").trim_end_matches('/'));
    let etcd_authority = pki::load_certificate(root, flag("trusted-ca-file"))?.pin();
    let kubelet = surroundings.kubelet;
    let machine = Arc::new(Circumstances {
        machine: kubelet.machine.machine_id.clone(),
        cable: kubelet.cable.clone(),
        slow_disk: Arc::clone(&kubelet.slow_disk),
    });
    let identity = Files::text(root, &identity_file).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if let Some(identity) = identity {
        let cluster = identity["cluster"].as_str().and_then(|id| surroundings.clusters.by_id(id));
        let cluster = cluster.ok_or("the data directory belongs to a cluster that is gone")?;
        let id = identity["member"].as_u64().unwrap_or_default();
        if !cluster.etcd.start(id, name, client, machine) {
            return Err("the member has been permanently removed from the cluster; the data-dir used by this member must be removed".into());
        }
        return Ok(began(cluster, id));
    }
    let (cluster, id) = if flag("initial-cluster-state") == "existing" {
        let cluster = surroundings.cluster.ok_or("there is no cluster to join")?;
        if cluster.etcd.authority != etcd_authority {
            return Err("remote error: tls: bad certificate: the other members have another authority".into());
        }
        let member = cluster.etcd.by_peer_url(peer).ok_or_else(|| {
            format!("error validating peerURLs: unmatched member while checking PeerURLs: {peer} is no member's")
        })?;
        cluster.etcd.start(member.id, name, client, machine);
        (Arc::clone(cluster), member.id)
    } else {
        let authority = pki::certificates_of(surroundings.authority)?;
        let pin = authority.first().map(pki::Certificate::pin).unwrap_or_default();
        let (etcd, id) = ClusterEtcd::new(&etcd_authority, name, peer, client, machine);
        (surroundings.clusters.create(&pin, etcd), id)
    };
    let identity = json!({"cluster": cluster.id, "member": id});
    Files::write(root, &identity_file, 0o600, identity.to_string().as_bytes());
    Ok(began(cluster, id))
}

fn began(cluster: Arc<Cluster>, id: u64) -> EtcdMember {
    cluster.wake();
    EtcdMember { cluster, id }
}

/// kubeadm's client of a cluster's etcd.
pub struct KubeadmEtcd(pub Arc<Cluster>);

impl KubeadmEtcd {
    /// Dials these URLs with this certificate.
    pub fn dial(
        cluster: Arc<Cluster>,
        urls: &[String],
        certificate: &[u8],
        authority: &pki::Certificate,
    ) -> Result<Self, String> {
        if !urls.iter().any(|url| cluster.etcd.serves(url)) {
            return Err("context deadline exceeded: no endpoint of etcd answers".into());
        }
        let is_trusted = cluster.etcd.authority == authority.pin()
            && pki::certificates_of(certificate)
                .is_ok_and(|found| found.iter().any(|leaf| leaf.is_signed_by(authority)));
        if !is_trusted {
            return Err("remote error: tls: bad certificate".into());
        }
        Ok(Self(cluster))
    }

    fn leader(&self) -> Result<&ClusterEtcd, String> {
        if self.0.etcd.has_quorum() { Ok(&self.0.etcd) } else { Err("etcdserver: request timed out".into()) }
    }
}

impl EtcdClient for KubeadmEtcd {
    fn members(&self) -> Result<Vec<Member>, String> {
        let members = self.leader()?.members.lock();
        Ok(members.iter().map(|state| state.member.clone()).collect())
    }

    fn add_learner(&self, peer_url: &str) -> Result<Member, String> {
        let mut members = self.leader()?.members.lock();
        if members.iter().any(|state| state.member.is_learner) {
            return Err("etcdserver: too many learner members in cluster".into());
        }
        let member = Member { id: fresh_id(), name: String::new(), peer_url: peer_url.into(), is_learner: true };
        members.push(State { member: member.clone(), client_url: String::new(), machine: None, is_running: false });
        Ok(member)
    }

    fn promote(&self, id: u64) -> Result<(), String> {
        let mut members = self.leader()?.members.lock();
        let state = members.iter_mut().find(|state| state.member.id == id).ok_or("etcdserver: member not found")?;
        if !state.is_running {
            return Err("etcdserver: can only promote a learner member which is in sync with leader".into());
        }
        state.member.is_learner = false;
        drop(members);
        self.0.wake();
        Ok(())
    }
}
