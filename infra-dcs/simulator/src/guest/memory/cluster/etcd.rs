//! etcd's side of a cluster: which machine holds which member, and where a member's data lies on its disk.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use super::{Cluster, DiskFaults, DiskState, process::Surroundings};
use crate::guest::{
    faults::GuestMember,
    memory::{
        cable::{Cable, Carried},
        etcd::{self, EtcdCluster, MemberId},
        kubeadm::{
            files::Files,
            host::{EtcdClient, Member},
            manifests, pki,
        },
        root::Root,
        time::TimeSource,
        tls::{self, ServerFiles},
    },
};

/// Where a member remembers who it is, below its data directory.
const IDENTITY: &str = "member/identity.json";
/// Bytes between the ends of a connection that does not leave the process.
const PIPE: usize = 64 * 1024;

/// The members of a cluster's etcd, and who holds them.
pub struct ClusterEtcd {
    /// The members.
    pub members: Arc<EtcdCluster>,
    /// Pin of the authority of etcd's certificates.
    authority: String,
    holders: Mutex<Vec<Holder>>,
}

/// A machine that holds a member's data.
struct Holder {
    member: MemberId,
    machine: String,
    cable: Cable,
    disk: Arc<DiskFaults>,
    client_url: String,
    /// What the cluster was told of cable and disk.
    told: (bool, DiskState),
}

/// A machine that holds a member's data, as it is kept over a restart of the simulator.
#[derive(Deserialize, Serialize)]
pub struct SavedHolder {
    member: MemberId,
    machine: String,
    client_url: String,
}

impl ClusterEtcd {
    /// A cluster without members yet. `authority` is the pin of etcd's own.
    pub fn new(members: Arc<EtcdCluster>, authority: &str) -> Self {
        Self { members, authority: authority.to_owned(), holders: Mutex::default() }
    }

    /// Pin of the authority of etcd's certificates.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Who holds data, to be kept.
    pub fn saved_holders(&self) -> Vec<SavedHolder> {
        let saved = |holder: &Holder| SavedHolder {
            member: holder.member,
            machine: holder.machine.clone(),
            client_url: holder.client_url.clone(),
        };
        self.holders.lock().iter().map(saved).collect()
    }

    /// Machines that were kept hold data again; each connects its cable when its member starts.
    pub fn restore_holders(&self, saved: Vec<SavedHolder>) {
        let restored = saved.into_iter().map(|SavedHolder { member, machine, client_url }| Holder {
            member,
            machine,
            client_url,
            cable: Cable::default(),
            disk: Arc::default(),
            told: Default::default(),
        });
        self.holders.lock().extend(restored);
    }

    /// Machines that hold data.
    pub fn machines(&self) -> Vec<String> {
        self.holders.lock().iter().map(|holder| holder.machine.clone()).collect()
    }

    /// The members, for people and tests.
    pub fn describe(&self) -> Vec<GuestMember> {
        let shown = |member: etcd::Member| GuestMember {
            running: self.members.is_running(member.id),
            alarms: self.members.alarms_of(member.id).iter().map(|alarm| alarm.name()).collect(),
            name: member.name,
            is_learner: member.is_learner,
        };
        self.members.members().into_iter().map(shown).collect()
    }

    /// Whether enough voters are up and see each other.
    pub fn has_quorum(&self) -> bool {
        self.members.leader().is_some()
    }

    /// Whether keys can be read: there is a quorum, and no data is corrupt.
    pub fn serves(&self) -> bool {
        self.has_quorum() && !self.members.has_alarm(etcd::Alarm::Corrupt)
    }

    /// Whether keys can be written: there is room for them too.
    pub fn takes_writes(&self) -> bool {
        self.serves() && !self.members.has_alarm(etcd::Alarm::NoSpace)
    }

    /// Passes on what the machines suffer from.
    pub fn feel(&self, slow: Duration) {
        for holder in self.holders.lock().iter_mut() {
            let (is_unplugged, disk) = (holder.cable.is_unplugged(), holder.disk.now());
            let (was_unplugged, told) = holder.told;
            if is_unplugged != was_unplugged {
                self.members.isolate(holder.member, is_unplugged);
            }
            if disk.is_slow != told.is_slow {
                self.members.slow_disk(holder.member, if disk.is_slow { slow } else { Duration::ZERO });
            }
            if disk.is_full != told.is_full {
                self.members.set_full(holder.member, disk.is_full);
            }
            if disk.is_corrupt != told.is_corrupt {
                self.members.set_corrupt(holder.member, disk.is_corrupt);
            }
            holder.told = (is_unplugged, disk);
        }
    }

    /// A machine's disk is gone. Answers whether no other machine holds any data.
    pub fn forget_machine(&self, machine: &str) -> bool {
        let mut holders = self.holders.lock();
        holders.retain(|holder| {
            let stays = holder.machine != machine;
            if !stays {
                self.members.destroy(holder.member);
            }
            stays
        });
        holders.is_empty()
    }

    fn hold(&self, member: MemberId, client_url: &str, surroundings: &Surroundings<'_>) {
        let kubelet = surroundings.kubelet;
        let holder = Holder {
            member,
            machine: kubelet.machine.machine_id.clone(),
            cable: kubelet.cable.clone(),
            disk: Arc::clone(&kubelet.disk),
            client_url: client_url.to_owned(),
            told: Default::default(),
        };
        let mut holders = self.holders.lock();
        holders.retain(|known| known.member != member);
        holders.push(holder);
    }

    /// A member that answers at one of these URLs.
    fn answering(&self, urls: &[String]) -> Option<MemberId> {
        let holders = self.holders.lock();
        let answers = |holder: &&Holder| {
            urls.contains(&holder.client_url) && !holder.cable.is_unplugged() && self.members.is_running(holder.member)
        };
        let leader = self.members.leader();
        let mut all = holders.iter().filter(answers).map(|holder| holder.member);
        // kubeadm's client goes on to the next where one does not help.
        all.clone().find(|member| Some(*member) == leader).or_else(|| all.next())
    }
}

/// A member that runs. Dropping it stops it; its data stays.
pub struct EtcdMember {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The member.
    pub id: MemberId,
    tls: Arc<ServerConfig>,
}

impl EtcdMember {
    /// Whether its process runs: one that was removed ends by itself.
    pub fn is_alive(&self) -> bool {
        self.cluster.etcd.members.is_running(self.id)
    }

    /// What its health endpoints say: whether it has a leader, and whether data is corrupt.
    pub fn health(&self) -> Result<(), String> {
        let etcd = &self.cluster.etcd;
        match (etcd.has_quorum(), etcd.serves()) {
            (false, _) => Err("etcdserver: no leader".into()),
            (true, false) => Err("[-]data_corruption failed: alarm activated: CORRUPT".into()),
            (true, true) => Ok(()),
        }
    }

    /// Opens a connection to its client port.
    pub fn connect(&self, cable: &Cable) -> Carried<DuplexStream> {
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(etcd::serve(Arc::clone(&self.cluster.etcd.members), self.id, far, Arc::clone(&self.tls)));
        cable.carry(near)
    }
}

impl Drop for EtcdMember {
    fn drop(&mut self) {
        self.cluster.etcd.members.stop(self.id);
        self.cluster.wake();
    }
}

/// Starts etcd as its flags and its data directory say: a new cluster, a member that was announced, or one that comes back.
pub fn start(pod: &Value, root: &mut Root, surroundings: &Surroundings<'_>) -> Result<EtcdMember, String> {
    let flag = |name: &str| manifests::flag(pod, name).unwrap_or_default();
    let (name, peer, client) = (flag("name"), flag("initial-advertise-peer-urls"), flag("advertise-client-urls"));
    let identity_file = format!("{}/{IDENTITY}", flag("data-dir").trim_end_matches('/'));
    let authority = pki::load_certificate(root, flag("trusted-ca-file"))?.pin();
    let tls = serving(pod, root, surroundings)?;
    let identity = Files::text(root, &identity_file).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let (cluster, id) = if let Some(identity) = identity {
        let cluster = identity["cluster"].as_str().and_then(|id| surroundings.clusters.by_id(id));
        let cluster = cluster.ok_or("the data directory belongs to a cluster that is gone")?;
        let id = MemberId(identity["member"].as_u64().unwrap_or_default());
        cluster.etcd.members.start(id).map_err(|error| error.to_string())?;
        (cluster, id)
    } else {
        let (cluster, id) = first_start(pod, &authority, surroundings, (name, peer, client))?;
        let identity = json!({"cluster": cluster.id, "member": id.0});
        Files::write(root, &identity_file, 0o600, identity.to_string().as_bytes());
        (cluster, id)
    };
    cluster.etcd.hold(id, client, surroundings);
    cluster.etcd.feel(surroundings.clusters.around.pace.slow_disk);
    cluster.wake();
    Ok(EtcdMember { cluster, id, tls })
}

fn first_start(
    pod: &Value,
    authority: &str,
    surroundings: &Surroundings<'_>,
    (name, peer, client): (&str, &str, &str),
) -> Result<(Arc<Cluster>, MemberId), String> {
    if manifests::flag(pod, "initial-cluster-state") != Some("existing") {
        let of_cluster = pki::certificates_of(surroundings.authority)?;
        let pin = of_cluster.first().map(pki::Certificate::pin).unwrap_or_default();
        let cluster = surroundings.clusters.create(&pin, authority, &version(pod));
        let id = cluster.etcd.members.bootstrap(name, peer, client).map_err(|error| error.to_string())?;
        return Ok((cluster, id));
    }
    let cluster = surroundings.cluster.ok_or("there is no cluster to join")?;
    if cluster.etcd.authority != authority {
        return Err("remote error: tls: bad certificate: the other members have another authority".into());
    }
    let listed = manifests::flag(pod, "initial-cluster").unwrap_or_default().split(',');
    let listed: Vec<(String, String)> =
        listed.filter_map(|pair| pair.split_once('=').map(|(name, url)| (name.to_owned(), url.to_owned()))).collect();
    let id = cluster.etcd.members.join(name, client, &listed).map_err(|error| error.to_string())?;
    Ok((Arc::clone(cluster), id))
}

/// Version of etcd by its image's tag, without what packaging added.
fn version(pod: &Value) -> String {
    let image = pod.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
    let tag = image.rsplit(':').next().unwrap_or_default();
    tag.strip_prefix('v').unwrap_or(tag).split('-').next().unwrap_or_default().to_owned()
}

/// TLS of the client port.
fn serving(pod: &Value, root: &Root, surroundings: &Surroundings<'_>) -> Result<Arc<ServerConfig>, String> {
    let read = |flag: &str| Files::read(root, manifests::flag(pod, flag).unwrap_or_default()).unwrap_or_default();
    let (certificate, key, client_ca) = (read("cert-file"), read("key-file"), read("trusted-ca-file"));
    let files = ServerFiles { certificate: &certificate, key: &key, client_ca: &client_ca };
    tls::mutual(files, &time(surroundings)).map_err(|error| error.to_string())
}

/// The machine's time.
pub fn time(surroundings: &Surroundings<'_>) -> TimeSource {
    surroundings.kubelet.clock.source()
}

/// kubeadm's client of a cluster's etcd.
pub struct KubeadmEtcd {
    cluster: Arc<Cluster>,
    urls: Vec<String>,
}

impl KubeadmEtcd {
    /// Dials these URLs with this certificate.
    pub fn dial(
        cluster: Arc<Cluster>,
        urls: &[String],
        certificate: &[u8],
        authority: &pki::Certificate,
    ) -> Result<Self, String> {
        let is_trusted = cluster.etcd.authority == authority.pin()
            && pki::certificates_of(certificate)
                .is_ok_and(|found| found.iter().any(|leaf| leaf.is_signed_by(authority)));
        if !is_trusted {
            return Err("remote error: tls: bad certificate".into());
        }
        Ok(Self { cluster, urls: urls.to_vec() })
    }

    fn via(&self) -> Result<MemberId, String> {
        self.cluster.etcd.answering(&self.urls).ok_or_else(|| "context deadline exceeded".to_owned())
    }
}

fn shown(member: etcd::Member) -> Member {
    let peer_url = member.peer_urls.into_iter().next().unwrap_or_default();
    Member { id: member.id.0, name: member.name, peer_url, is_learner: member.is_learner }
}

impl EtcdClient for KubeadmEtcd {
    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>, String>> {
        async move {
            let listed = self.cluster.etcd.members.member_list(self.via()?, true).await;
            Ok(listed.map_err(|error| error.to_string())?.into_iter().map(shown).collect())
        }
        .boxed()
    }

    fn add_learner<'a>(&'a self, peer_url: &'a str) -> BoxFuture<'a, Result<Member, String>> {
        async move {
            let added = self.cluster.etcd.members.member_add(self.via()?, &[peer_url.to_owned()], true).await;
            added.map(|(member, _)| shown(member)).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn promote(&self, id: u64) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let promoted = self.cluster.etcd.members.member_promote(self.via()?, MemberId(id)).await;
            promoted.map(drop).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn endpoints(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        async move {
            let listed = self.cluster.etcd.members.member_list(self.via()?, true).await;
            let listed = listed.map_err(|error| error.to_string())?.into_iter();
            let voters = listed.filter(|member| member.is_started() && !member.is_learner);
            Ok(voters.flat_map(|member| member.client_urls).collect())
        }
        .boxed()
    }

    fn status(&self, endpoint: &str) -> Result<(), String> {
        // A member tells it without a leader too.
        let answering = self.cluster.etcd.answering(&[endpoint.to_owned()]);
        answering.map(drop).ok_or_else(|| {
            format!("failed to dial endpoint {endpoint} with maintenance client: context deadline exceeded")
        })
    }
}
