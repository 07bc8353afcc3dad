//! What a workload cluster does by itself: kubelets, static pods, nodes, controllers.
//!
//! A cluster begins with the first etcd member that starts with an empty disk, and ends with the last machine that holds
//! its data. Its API server's content is one model in this process, shared by the API servers of all its control plane
//! machines, as the real ones share etcd.
//!
//! ```text
//!  machine ── kubelet ── static pods ── etcd ──► membership, quorum
//!                │             ├─ kube-apiserver ──► front: TLS, who may do what ──► model
//!                │             └─ controller manager, scheduler ──► controllers/
//!                └─ node, lease, mirror pods, pods ───────────────────────────────► model
//! ```
//! Nothing polls: a pass over a cluster follows a change, and a timer for leases and for what is due.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube_model::{After, ApiError, Call, Faults, Server, Sources};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

mod admission;
mod api;
mod bootstrap;
mod certificates;
mod containers;
mod controllers;
mod disk_faults;
mod etcd;
mod flags;
mod front;
mod kubelet;
mod kubelet_settings;
mod node;
mod process;
mod reach;
mod roster;
mod saved;
mod service_addresses;
mod static_pod;

pub use disk_faults::{DiskFaults, DiskState};
pub use kubelet::Kubelet;
pub use node::MachineFacts;
pub use saved::SavedCluster;

use self::{
    api::Api,
    controllers::Flags,
    etcd::ClusterEtcd,
    reach::Listening,
    roster::{Heir, Roster},
    service_addresses::ServiceAddresses,
};
use super::{
    api_server::{self, MODEL_OPTIONS},
    etcd::{EtcdCluster, Keys, Model, REQUEST_TIMEOUT, Rules},
    kubeadm::{
        Cidr,
        host::EtcdClient,
        pki::{Authority, Certificate},
    },
    time::TimeSource,
};
use crate::{clock::Clock, fabric::signals::Signals, guest::faults::GuestCluster};

/// How often nodes renew their leases, as kubelet does.
const LEASE_PERIOD: Duration = Duration::from_secs(10);
/// How often a cluster is looked at in which nothing changes: kubelets renew what they say of their nodes every five
/// minutes.
const LOOK_PERIOD: Duration = Duration::from_secs(60);
/// How often history is forgotten: etcd keeps that of five minutes, which a thousand clusters in one process cannot.
const COMPACTION_PERIOD: Duration = Duration::from_secs(60);
/// How long a node may be silent before the node controller calls it unknown, as kube-controller-manager's default.
const GRACE_PERIOD: Duration = Duration::from_secs(40);
/// Several writes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// Passes after one change; more means that two controllers undo each other.
const PASSES: usize = 32;

/// Habits of all clusters.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Factor on periods and grace periods: 1 is Kubernetes' own.
    pub scale: f64,
    /// What a write waits for on a slow disk.
    pub slow_disk: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { scale: 1.0, slow_disk: Duration::from_millis(500) }
    }
}

/// What clusters have around them.
#[derive(Clone, Default)]
pub struct Around {
    /// Time.
    pub clock: Arc<Clock>,
    /// Habits.
    pub pace: Pace,
    /// Who is told when an API server comes, goes or stops answering.
    pub signals: Signals,
}

/// All clusters of the site.
pub struct Clusters {
    known: Mutex<HashMap<String, Arc<Cluster>>>,
    around: Around,
    heir: Heir,
}

impl Clusters {
    /// None yet.
    pub fn new(around: Around) -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), around, heir: Heir::default() })
    }

    /// Begins a cluster. Two may have one authority, as two machines that both run `kubeadm init` with it make two.
    fn create(&self, authority: &str, etcd_authority: &str, etcd_version: &str) -> Arc<Cluster> {
        let id = uuid::Uuid::new_v4().to_string();
        let etcd = (etcd_authority, etcd_version);
        let cluster = Cluster::start(id.clone(), authority.to_owned(), etcd, self.around.clone());
        self.known.lock().insert(id, Arc::clone(&cluster));
        cluster
    }

    /// The cluster of this authority; of several, one that serves.
    pub fn by_authority(&self, pin: &str) -> Option<Arc<Cluster>> {
        let known = self.known.lock();
        let mut all: Vec<&Arc<Cluster>> = known.values().filter(|cluster| cluster.authority == pin).collect();
        all.sort_by_key(|cluster| !cluster.is_serving());
        all.first().map(|cluster| Arc::clone(cluster))
    }

    /// The cluster whose data a machine holds.
    fn by_id(&self, id: &str) -> Option<Arc<Cluster>> {
        self.known.lock().get(id).cloned()
    }

    /// Number of clusters.
    pub fn count(&self) -> usize {
        self.known.lock().len()
    }

    /// What an observer of the site is told of them, by their ids.
    pub fn describe(&self) -> Vec<GuestCluster> {
        let mut all: Vec<GuestCluster> = self.all().iter().map(|cluster| cluster.describe()).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        self.known.lock().values().cloned().collect()
    }

    /// Puts clusters that were saved in the place of those that are known.
    pub fn restore(&self, saved: impl IntoIterator<Item = SavedCluster>) {
        let restored = saved.into_iter().map(|saved| {
            let cluster = Cluster::restored(saved, self.around.clone());
            (cluster.id.clone(), cluster)
        });
        let restored = restored.collect();
        *self.known.lock() = restored;
    }

    /// Machines that hold data of any cluster.
    pub fn machines(&self) -> BTreeSet<String> {
        self.all().iter().flat_map(|cluster| cluster.etcd.machines()).collect()
    }

    /// The circumstances of a machine have changed that may hold data, whether it is on or off.
    pub fn feel(&self, machine: &str) {
        let holds = |cluster: &&Arc<Cluster>| cluster.etcd.machines().iter().any(|holder| holder == machine);
        self.all().iter().filter(holds).for_each(|cluster| cluster.feel());
    }

    /// A machine's disk is gone for good: clusters that nobody holds any more end.
    pub fn forget_machine(&self, machine: &str) {
        self.known.lock().retain(|_, cluster| {
            cluster.roster.remove(machine);
            !cluster.etcd.forget_machine(machine)
        });
    }
}

/// One workload cluster.
pub struct Cluster {
    /// Identity of its data.
    pub id: String,
    /// Pin of its authority.
    pub authority: String,
    /// What its API servers serve.
    pub server: Arc<Server>,
    /// Who holds its data.
    pub etcd: ClusterEtcd,
    /// Addresses of its Services.
    addresses: Arc<ServiceAddresses>,
    clock: Arc<Clock>,
    pace: Pace,
    signals: Signals,
    wake: Arc<Notify>,
    kubelets: Mutex<Vec<Weak<Kubelet>>>,
    roster: Roster,
    present: Mutex<Present>,
    /// Since when pods, by UID, have to go from tainted nodes.
    noticed: Mutex<HashMap<String, Timestamp>>,
    tickets: AtomicU64,
}

/// What runs at present, by ticket.
#[derive(Default)]
struct Present {
    fronts: BTreeMap<u64, Listening>,
    managers: BTreeMap<u64, (Flags, Option<Arc<Authority>>)>,
    schedulers: BTreeSet<u64>,
    /// Since when nothing is heard of a node.
    silent: BTreeMap<String, Instant>,
    /// API servers that answer, as was told last.
    answering: BTreeSet<SocketAddr>,
}

/// Something that runs, until this is dropped.
pub struct Presence {
    cluster: Weak<Cluster>,
    ticket: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.upgrade() {
            let mut present = cluster.present.lock();
            present.fronts.remove(&self.ticket);
            present.managers.remove(&self.ticket);
            present.schedulers.remove(&self.ticket);
            drop(present);
            cluster.announce();
            cluster.wake();
        }
    }
}

impl Cluster {
    fn start(id: String, authority: String, (etcd_authority, etcd_version): (&str, &str), around: Around) -> Arc<Self> {
        let Around { clock, pace, .. } = &around;
        let server = Server::new(Arc::new(SiteSources(Arc::clone(clock))), MODEL_OPTIONS);
        let factor = pace.scale.clamp(0.001, 1000.0);
        let scaled = |milliseconds: u64| Duration::from_millis(milliseconds).mul_f64(factor).as_millis();
        let scaled = |milliseconds| u64::try_from(scaled(milliseconds)).unwrap_or(u64::MAX);
        let usual = Rules::default();
        let rules = Rules {
            version: etcd_version.to_owned(),
            learner_catch_up: scaled(usual.learner_catch_up),
            health_interval: scaled(usual.health_interval),
            ..usual
        };
        Self::of(id, authority, (etcd_authority, Model::new(rules)), server, around)
    }

    /// A cluster with these objects and this state of etcd.
    fn of(
        id: String,
        authority: String,
        (etcd_authority, members): (&str, Model),
        server: Server,
        Around { clock, pace, signals }: Around,
    ) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let server = Arc::new(server.with_faults(Arc::new(WakeOnWrite(Arc::clone(&wake)))));
        let addresses = ServiceAddresses::install(&server);
        admission::install(&server);
        api_server::install(&server);
        let keys = Arc::clone(&server) as Arc<dyn Keys>;
        let time = TimeSource::from(Arc::clone(&clock));
        // At a quick pace too, a slow disk makes writes slow and not impossible.
        let timeout = REQUEST_TIMEOUT.mul_f64(pace.scale.clamp(0.001, 1000.0)).max(pace.slow_disk * 2);
        let members = EtcdCluster::new(members, timeout, time, keys);
        let cluster = Arc::new(Self {
            id,
            authority,
            server,
            etcd: ClusterEtcd::new(members, etcd_authority),
            addresses,
            clock,
            pace,
            signals,
            wake,
            kubelets: Mutex::default(),
            roster: Roster::default(),
            present: Mutex::default(),
            noticed: Mutex::default(),
            tickets: AtomicU64::default(),
        });
        let changes = cluster.etcd.members.watch();
        tokio::spawn(run(Arc::downgrade(&cluster), Arc::clone(&cluster.wake), changes, pace));
        cluster
    }

    /// Something has changed: a pass follows.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The circumstances of a machine have changed.
    fn feel(&self) {
        self.etcd.feel(self.pace.slow_disk);
        self.wake();
    }

    fn presence(self: &Arc<Self>, add: impl FnOnce(&mut Present, u64)) -> Presence {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        add(&mut self.present.lock(), ticket);
        self.wake();
        Presence { cluster: Arc::downgrade(self), ticket }
    }

    fn add_manager(self: &Arc<Self>, flags: Flags, signer: Option<Arc<Authority>>) -> Presence {
        self.presence(|present, ticket| drop(present.managers.insert(ticket, (flags, signer))))
    }

    /// The time of the site, by which its API servers and controllers run.
    fn now(&self) -> Timestamp {
        SiteSources(Arc::clone(&self.clock)).now()
    }

    fn add_scheduler(self: &Arc<Self>) -> Presence {
        self.presence(|present, ticket| {
            present.schedulers.insert(ticket);
        })
    }

    /// A kubelet is looked after in passes from now on.
    fn adopt(&self, kubelet: &Arc<Kubelet>) {
        let mut kubelets = self.kubelets.lock();
        kubelets.retain(|known| known.strong_count() > 0);
        if !kubelets.iter().any(|known| known.as_ptr() == Arc::as_ptr(kubelet)) {
            kubelets.push(Arc::downgrade(kubelet));
        }
    }

    fn kubelets(&self) -> Vec<Arc<Kubelet>> {
        self.kubelets.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// A client of the cluster's etcd that dials these URLs with this certificate.
    pub fn etcd_client(
        self: &Arc<Self>,
        urls: &[String],
        certificate: &[u8],
        authority: &Certificate,
    ) -> Result<Box<dyn EtcdClient>, String> {
        Ok(Box::new(etcd::KubeadmEtcd::dial(Arc::clone(self), urls, certificate, authority)?))
    }

    fn describe(&self) -> GuestCluster {
        let mut machines: Vec<String> = self
            .kubelets()
            .iter()
            .filter(|kubelet| kubelet.health().is_ok())
            .map(|kubelet| kubelet.machine.machine_id.clone())
            .collect();
        machines.sort();
        GuestCluster {
            id: self.id.clone(),
            authority: self.authority.clone(),
            serving: self.is_serving(),
            machines,
            members: self.etcd.describe(),
        }
    }

    /// The kubelet of a node, where it is alive.
    fn kubelet_of(&self, node: &str) -> Option<Arc<Kubelet>> {
        self.kubelets().into_iter().find(|kubelet| kubelet.node() == node && kubelet.health().is_ok())
    }

    fn scaled(&self, period: Duration) -> Duration {
        period.mul_f64(self.pace.scale.clamp(0.001, 1000.0))
    }

    /// Passes until nothing changes any more. Answers when the next is due by itself.
    fn settle(&self) -> Option<Duration> {
        let mut due = None;
        for _ in 0..PASSES {
            let before = self.server.version();
            due = self.pass();
            if self.server.version() == before {
                break;
            }
        }
        self.announce();
        due
    }

    fn pass(&self) -> Option<Duration> {
        self.etcd.feel(self.pace.slow_disk);
        let kubelets = self.kubelets();
        kubelets.iter().for_each(Kubelet::sync);
        let retry = kubelets.iter().filter_map(|kubelet| kubelet.due_after()).min();
        if !self.is_serving() || !self.etcd.takes_writes() {
            return retry;
        }
        let connected: BTreeMap<String, bool> =
            kubelets.iter().map(|kubelet| (kubelet.node(), kubelet.is_connected())).collect();
        let api = Api::new(&self.server, "kube-controller-manager");
        let grace = self.scaled(GRACE_PERIOD);
        let now = Instant::now();
        let mut next = retry;
        let (heard, manager, schedules, servers) = {
            let mut present = self.present.lock();
            let servers: Vec<SocketAddr> = present.fronts.values().map(|front| front.address).collect();
            let mut heard = BTreeMap::new();
            let names: Vec<String> = api.list(api::NODES, "").iter().map(|node| api::name(node).to_owned()).collect();
            present.silent.retain(|node, _| names.contains(node));
            for node in names {
                if connected.get(&node).copied().unwrap_or(false) {
                    present.silent.remove(&node);
                    heard.insert(node, true);
                    continue;
                }
                let end = *present.silent.entry(node.clone()).or_insert(now) + grace;
                if end > now {
                    next = Some(next.map_or(end - now, |next| next.min(end - now)));
                }
                heard.insert(node, end > now);
            }
            // Of several the first leads.
            (heard, present.managers.values().next().cloned(), !present.schedulers.is_empty(), servers)
        };
        controllers::endpoints::publish_api_servers(&api.by("kube-apiserver"), &servers);
        self.addresses.look(&api);
        let now = self.now();
        let context = controllers::Context {
            api,
            server: &self.server,
            signer: manager.as_ref().and_then(|(_, signer)| signer.as_deref()),
            now,
            manager: manager.as_ref().map(|(flags, _)| flags),
            schedules,
            noticed: &self.noticed,
            heard: &heard,
        };
        let due = controllers::pass(&context).map(|due| {
            let left = u64::try_from((due.as_millisecond() - now.as_millisecond()).max(0)).unwrap_or_default();
            Duration::from_millis(left + 1)
        });
        match (next, due) {
            (Some(next), Some(due)) => Some(next.min(due)),
            (next, due) => next.or(due),
        }
    }

    /// Leases of all nodes that are heard of.
    fn pulse(&self) {
        if !self.is_serving() || !self.etcd.takes_writes() {
            return;
        }
        for kubelet in self.kubelets() {
            if kubelet.is_connected() {
                kubelet.renew_lease();
            }
        }
    }
}

/// The life of a cluster: passes and pulses, until nobody holds it.
async fn run(cluster: Weak<Cluster>, wake: Arc<Notify>, mut changes: watch::Receiver<()>, pace: Pace) {
    let scaled = |period: Duration| period.mul_f64(pace.scale.clamp(0.001, 1000.0));
    let (period, look) = (scaled(LEASE_PERIOD), scaled(LOOK_PERIOD));
    // Clusters that were made together must not beat together.
    let spread = |period: Duration| Instant::now() + period.mul_f64(rand::random::<f64>());
    let (mut pulse, mut due, mut compaction) = (spread(period), spread(look), spread(COMPACTION_PERIOD));
    loop {
        let is_change = tokio::select! {
            () = wake.notified() => true,
            // Members tell of no more changes when the cluster is gone.
            changed = changes.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = tokio::time::sleep_until(due.min(pulse)) => false,
        };
        if is_change {
            tokio::time::sleep(GATHER).await;
        }
        let Some(cluster) = cluster.upgrade() else { return };
        let now = Instant::now();
        if now >= pulse {
            pulse = now + period;
            cluster.pulse();
            if now >= compaction {
                compaction = now + COMPACTION_PERIOD;
                cluster.server.compact();
            }
        }
        if is_change || now >= due {
            due = now + cluster.settle().map_or(look, |left| left.min(look));
        }
    }
}

/// Time and chance of a cluster's API servers: they run by the site's clock.
struct SiteSources(Arc<Clock>);

impl Sources for SiteSources {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(i64::try_from(self.0.now()).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX)
    }

    fn uid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }

    fn name_suffix(&self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let random: [u8; 5] = rand::random();
        random.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
    }
}

/// Lets a pass follow what clients write.
struct WakeOnWrite(Arc<Notify>);

impl Faults for WakeOnWrite {
    fn after(&self, call: &Call, refused: Option<&ApiError>) -> BoxFuture<'static, After> {
        let is_write = matches!(call.verb, "create" | "update" | "patch" | "delete" | "deletecollection");
        if is_write && refused.is_none() {
            self.0.notify_one();
        }
        Box::pin(std::future::ready(After::Answer))
    }
}

/// Classes of pods without which a cluster does not work (`pkg/apis/scheduling/v1`).
const SYSTEM_PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// What the API server makes by itself when it starts for the first time.
fn first_objects(cluster: &Cluster, range: Cidr) {
    let Some(service_address) = range.address(1).map(|address| address.to_string()) else { return };
    let api = Api::new(&cluster.server, "kube-apiserver");
    cluster.addresses.set_range(range);
    cluster.addresses.look(&api);
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": service_address,
            "clusterIPs": [service_address],
            "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    });
    let _ = api.create(api::SERVICES, "default", service);
    for (name, value, description) in SYSTEM_PRIORITIES {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description,
        });
        let _ = api.create(api::PRIORITY_CLASSES, "", class);
    }
}

#[cfg(test)]
mod tests;
