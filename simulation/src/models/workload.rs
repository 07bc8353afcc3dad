//! The workload cluster: hosts that boot and run kubeadm, its API server, its nodes and static pods, its etcd.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use kube_model::Server;
use manager::clock::Clock;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Model,
    etcd::Etcd,
    kubeadm::{self, Boot},
};
use crate::{
    chance::Chance,
    journal::{Journal, Violation},
    kinds::{CONFIG_MAP, NODE, POD, SECRET},
    store::{Store, secret_value, text},
};

/// Time that one stage of a boot takes.
const STAGE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));
/// Time between two tries of a join.
const RETRY: Duration = Duration::from_secs(5);
/// How long kubeadm tries to join.
const JOIN_LIMIT: Duration = Duration::from_secs(300);
/// A moment that does not come.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Label and taint of control plane nodes.
const ROLE: &str = "node-role.kubernetes.io/control-plane";

/// How far a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It reads its boot data.
    Booting,
    /// It asks the API server to let it in.
    Joining,
    /// Its etcd learner was added.
    Added,
    /// Its etcd learner has started, its node is registered.
    Learner,
    /// All of it runs.
    Running,
    /// Its boot failed; nobody tries again.
    Failed,
}

#[derive(Clone, Debug)]
struct Host {
    id: String,
    boot: Boot,
    stage: Stage,
    due: Instant,
    gives_up: Instant,
}

impl Host {
    fn is_control_plane(&self) -> bool {
        matches!(self.boot, Boot::Init | Boot::Join { control_plane: true, .. })
    }
}

#[derive(Default)]
struct State {
    /// Who made the cluster.
    made_by: Option<String>,
    /// Whether core has seen a node of it: from then on it is known to exist, for ever.
    is_known: bool,
    /// Hosts that are never switched on.
    given_up: BTreeSet<String>,
    hosts: BTreeMap<String, Host>,
    etcd: Etcd,
}

/// The workload cluster.
pub struct WorkloadCluster {
    store: Store,
    journal: Arc<Journal>,
    chance: Chance,
    state: Mutex<State>,
    /// Until when its API server does not answer.
    silent: Arc<Mutex<Option<Instant>>>,
    /// Until when it does not answer by a fault.
    silenced: Mutex<Instant>,
    /// Whether somebody sees to it that etcd members join one after the other (I2).
    is_managed: AtomicBool,
}

impl WorkloadCluster {
    /// One without hosts, whose objects are in this server.
    pub fn new(server: Arc<Server>, journal: Arc<Journal>, chance: Chance) -> Arc<Self> {
        let silent = Arc::new(Mutex::new(Some(Instant::now() + NEVER)));
        let store = Store::new("workload", server, Arc::clone(&journal), "kube-system");
        let silenced = Mutex::new(Instant::now());
        let (state, is_managed) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { store, journal, chance, state, silent, silenced, is_managed })
    }

    /// From now on a control plane provider sees to it that etcd members join one after the other (I2).
    pub fn is_managed(&self) {
        self.is_managed.store(true, Ordering::Relaxed);
    }

    /// Until when its API server does not answer.
    pub fn silence(&self) -> Arc<Mutex<Option<Instant>>> {
        Arc::clone(&self.silent)
    }

    /// Its API server does not answer for a while.
    pub fn fall_silent(&self, time: Duration) {
        *self.silenced.lock() = Instant::now() + time;
        self.settle(&mut self.state.lock());
    }

    /// Its objects.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A host is switched on for the first time, with this identity and boot data.
    pub fn power_on(&self, host: &str, id: &str, boot_data: &[u8]) {
        let mut state = self.state.lock();
        if state.hosts.contains_key(host) || state.given_up.contains(host) {
            return;
        }
        let Some(boot) = kubeadm::read(boot_data) else {
            self.journal.violate(Violation::new("boots", format!("the boot data of {host} tells kubeadm nothing")));
            return;
        };
        let shown = match &boot {
            Boot::Init => "init".to_owned(),
            Boot::Join { token, control_plane } => {
                let id = token.split('.').next().unwrap_or_default();
                format!("join by token {id}{}", if *control_plane { " as control plane" } else { "" })
            }
        };
        self.journal.note(self.store.actor(), format!("host {host} boots"), shown);
        let due = Instant::now() + self.takes();
        let gives_up = Instant::now() + NEVER;
        state.hosts.insert(host.to_owned(), Host { id: id.to_owned(), boot, stage: Stage::Booting, due, gives_up });
        self.journal.changed();
    }

    /// A host that has not been switched on never is.
    pub fn give_up(&self, host: &str) {
        self.state.lock().given_up.insert(host.to_owned());
    }

    /// A host is taken away because its machine is deleted: etcd must not need it any more (I1), where a provider looks after
    /// etcd.
    pub fn take_away(&self, host: &str) {
        if self.is_managed.load(Ordering::Relaxed) {
            let state = self.state.lock();
            let before = running(&state);
            let after = before.iter().filter(|running| *running != host).cloned().collect();
            if state.etcd.has_quorum(&before) && !state.etcd.has_quorum(&after) {
                let what = format!("{host} is taken away, and etcd loses its quorum");
                self.journal.violate(Violation::new("I1", what));
            }
        }
        self.power_off(host);
    }

    /// A host is gone.
    pub fn power_off(&self, host: &str) {
        let mut state = self.state.lock();
        if state.hosts.remove(host).is_some() {
            self.journal.note(self.store.actor(), format!("host {host} is gone"), "");
            self.lose_with(host, &mut state);
            self.settle(&mut state);
            drop(state);
            self.say_not_ready(host);
        }
    }

    /// With its only member a cluster is gone. Another may be made in its place if nobody can know that there was one: no
    /// control plane provider, and not core, which has not seen a node.
    fn lose_with(&self, host: &str, state: &mut State) {
        let is_lost = state.etcd.members().iter().all(|member| member.host == host);
        if is_lost && !state.is_known && !self.is_managed.load(Ordering::Relaxed) {
            state.made_by = None;
        }
    }

    /// Whether a host has been switched on and is not gone.
    pub fn has_host(&self, host: &str) -> bool {
        self.state.lock().hosts.contains_key(host)
    }

    /// Whether any host is there.
    pub fn has_hosts(&self) -> bool {
        !self.state.lock().hosts.is_empty()
    }

    /// Hosts whose boot failed for good.
    pub fn failed(&self) -> Vec<String> {
        let state = self.state.lock();
        let failed = state.hosts.iter().filter(|(_, host)| host.stage == Stage::Failed);
        failed.map(|(name, _)| name.clone()).collect()
    }

    /// Hosts that are nodes and run everything.
    pub fn running(&self) -> Vec<String> {
        running(&self.state.lock()).into_iter().collect()
    }

    /// Name of the node of an identity, as core finds it while the API server answers.
    pub fn node_of(&self, id: &str) -> Option<String> {
        if self.is_silent() {
            return None;
        }
        let nodes = self.store.within("").list(NODE);
        let found = nodes.iter().find(|node| text(node, "/spec/providerID") == id)?;
        self.state.lock().is_known = true;
        Some(text(found, "/metadata/name").to_owned())
    }

    /// Deletes a node; false while the API server does not answer.
    pub fn delete_node(&self, name: &str) -> bool {
        // A cluster of which nothing is left cannot be asked, and need not.
        if self.is_silent() && self.has_hosts() {
            return false;
        }
        self.store.within("").delete(NODE, name);
        true
    }

    /// Whether its API server does not answer.
    pub fn is_silent(&self) -> bool {
        self.silent.lock().is_some_and(|until| until > Instant::now())
    }

    /// Looks at etcd.
    pub fn with_etcd<T>(&self, look: impl FnOnce(&mut Etcd, &BTreeSet<String>) -> T) -> T {
        let state = &mut *self.state.lock();
        let running = running(state);
        let outcome = look(&mut state.etcd, &running);
        self.settle(state);
        outcome
    }

    fn takes(&self) -> Duration {
        self.chance.between(STAGE.0, STAGE.1)
    }

    /// Elects a leader, and answers or falls silent.
    fn settle(&self, state: &mut State) {
        let running = running(state);
        state.etcd.elect(&running);
        let by_fault = *self.silenced.lock();
        let answers = state.made_by.is_some() && state.etcd.has_quorum(&running);
        *self.silent.lock() = if answers { Some(by_fault) } else { Some(Instant::now() + NEVER) };
    }

    /// Brings one host a stage further.
    fn advance(&self, state: &mut State, name: &str) {
        let now = Instant::now();
        let Some(host) = state.hosts.get(name).cloned() else { return };
        let control_plane = host.is_control_plane();
        let mut stage = host.stage;
        let mut next = self.takes();
        match (host.stage, &host.boot) {
            (Stage::Booting, Boot::Init) => {
                if let Some(other) = &state.made_by {
                    let what = format!("{other} made the cluster, and {name} makes another");
                    self.journal.violate(Violation::new("one cluster", what));
                }
                state.made_by = Some(name.to_owned());
                state.etcd.begin(name);
                self.put_cluster();
                self.put_node(name, &host);
                self.put_pods(name);
                stage = Stage::Running;
            }
            (Stage::Booting, Boot::Join { .. }) => {
                stage = Stage::Joining;
                if let Some(host) = state.hosts.get_mut(name) {
                    host.gives_up = now + JOIN_LIMIT;
                }
                next = Duration::ZERO;
            }
            (Stage::Joining, Boot::Join { token, .. }) => match self.admits(token) {
                Ok(()) if control_plane => {
                    let is_joined = state.etcd.members().iter().any(|member| member.is_learner);
                    if is_joined && self.is_managed.load(Ordering::Relaxed) {
                        let what = format!("{name} joins etcd while another member is joining");
                        self.journal.violate(Violation::new("I2", what));
                    }
                    match state.etcd.add_learner(name, &running(state)) {
                        Ok(()) => stage = Stage::Added,
                        Err(_) => next = RETRY,
                    }
                }
                Ok(()) => {
                    self.put_node(name, &host);
                    stage = Stage::Running;
                }
                Err(why) if host.gives_up <= now => {
                    self.journal.note(self.store.actor(), format!("host {name} fails"), why);
                    stage = Stage::Failed;
                }
                Err(_) => next = RETRY,
            },
            (Stage::Added, _) => {
                state.etcd.start(name);
                self.put_node(name, &host);
                stage = Stage::Learner;
            }
            (Stage::Learner, _) => {
                if state.etcd.promote(name, &running(state)).is_ok() {
                    self.put_pods(name);
                    stage = Stage::Running;
                } else {
                    next = RETRY;
                }
            }
            (stage @ (Stage::Running | Stage::Failed), _) => {
                debug_assert!(stage > Stage::Learner, "nothing is due any more");
                next = NEVER;
            }
            (Stage::Joining, Boot::Init) => next = NEVER,
        }
        if stage >= Stage::Running {
            next = NEVER;
        }
        if let Some(host) = state.hosts.get_mut(name) {
            (host.stage, host.due) = (stage, now + next);
        }
        self.settle(state);
    }

    /// Whether the cluster lets somebody in by a token.
    fn admits(&self, token: &str) -> Result<(), &'static str> {
        if self.is_silent() {
            return Err("the API server does not answer");
        }
        let (id, secret) = token.split_once('.').unwrap_or_default();
        let found = self.store.get(SECRET, &format!("bootstrap-token-{id}")).ok_or("the token does not exist")?;
        if secret_value(&found, "token-secret") != secret.as_bytes() {
            return Err("the token is another");
        }
        let expiration = String::from_utf8(secret_value(&found, "expiration")).unwrap_or_default();
        let lasts = expiration.parse::<Timestamp>().is_ok_and(|end| end > self.journal.clock().now());
        if lasts { Ok(()) } else { Err("the token has expired") }
    }

    /// Expired tokens are cleared away, as the token cleaner does.
    fn clean_tokens(&self) {
        let now = self.journal.clock().now();
        for secret in self.store.list(SECRET) {
            let expiration = String::from_utf8(secret_value(&secret, "expiration")).unwrap_or_default();
            if expiration.parse::<Timestamp>().is_ok_and(|end| end <= now) {
                self.store.delete(SECRET, text(&secret, "/metadata/name"));
            }
        }
    }

    fn put_cluster(&self) {
        let document = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.34.5\n";
        self.store.create(
            CONFIG_MAP,
            json!({"metadata": {"name": "kubeadm-config"}, "data": {"ClusterConfiguration": document}}),
        );
    }

    fn put_node(&self, name: &str, host: &Host) {
        let taints = if host.is_control_plane() { json!([{"key": ROLE, "effect": "NoSchedule"}]) } else { json!([]) };
        let labels = if host.is_control_plane() { json!({ROLE: ""}) } else { json!({}) };
        let nodes = self.store.within("");
        let node =
            json!({"metadata": {"name": name, "labels": labels}, "spec": {"providerID": host.id, "taints": taints}});
        nodes.create(NODE, node);
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
        nodes.merge_status(NODE, name, json!({"conditions": [ready]}));
    }

    fn put_pods(&self, name: &str) {
        for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] {
            let pod = format!("{component}-{name}");
            let labels = json!({"tier": "control-plane", "component": component});
            let containers = json!([{"name": component, "image": component}]);
            self.store.create(
                POD,
                json!({"metadata": {"name": pod, "labels": labels}, "spec": {"nodeName": name, "containers": containers}}),
            );
            let ready = json!([{"type": "Ready", "status": "True"}]);
            self.store.merge_status(POD, &pod, json!({"phase": "Running", "conditions": ready}));
        }
    }

    /// The node life-cycle controller sees that a node does not answer.
    fn say_not_ready(&self, name: &str) {
        let nodes = self.store.within("");
        if nodes.get(NODE, name).is_some() {
            let unknown = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"});
            nodes.merge_status(NODE, name, json!({"conditions": [unknown]}));
        }
    }

    /// One look; answers when the next host is due.
    pub fn step(&self) -> Option<Duration> {
        let now = Instant::now();
        let state = &mut *self.state.lock();
        let due: Vec<_> =
            state.hosts.iter().filter(|(_, host)| host.due <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.advance(state, &name);
        }
        self.settle(state);
        self.clean_tokens();
        self.collect_pods(state);
        let next = state.hosts.values().map(|host| host.due).filter(|due| *due >= now).min();
        next.map(|due| (due - now).min(Duration::from_secs(60)))
    }

    /// Pods of nodes that are gone are deleted, as the pod garbage collector does.
    fn collect_pods(&self, state: &State) {
        if state.made_by.is_none() {
            return;
        }
        let nodes = self.store.within("");
        for pod in self.store.list(POD) {
            if nodes.get(NODE, text(&pod, "/spec/nodeName")).is_none() {
                self.store.delete_now(POD, text(&pod, "/metadata/name"));
            }
        }
    }
}

/// Hosts whose etcd member runs.
fn running(state: &State) -> BTreeSet<String> {
    let runs = |host: &Host| host.is_control_plane() && host.stage >= Stage::Learner && host.stage != Stage::Failed;
    state.hosts.iter().filter(|(_, host)| runs(host)).map(|(name, _)| name.clone()).collect()
}

/// The cluster's own life.
pub struct Life(pub Arc<WorkloadCluster>);

impl Model for Life {
    fn step(&mut self) -> Option<Duration> {
        self.0.step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{models::bootstrap, world::trial};

    /// A world in which two machines are told to make the cluster, the second after the first is gone; answers with what is
    /// wrong with that. Core looks for nodes meanwhile, or it does not.
    fn made_twice(is_managed: bool, core_looks: bool) -> Option<&'static str> {
        trial::within(async |world| {
            let workload = Arc::clone(&world.workload);
            if is_managed {
                workload.is_managed();
            }
            workload.power_on("a", "sim://a", bootstrap::init_data().as_bytes());
            tokio::time::sleep(STAGE.1 * 2).await;
            if core_looks {
                assert_eq!(workload.node_of("sim://a").as_deref(), Some("a"));
            }
            workload.power_off("a");
            workload.power_on("b", "sim://b", bootstrap::init_data().as_bytes());
            let ended = tokio::time::timeout(STAGE.1 * 2, world.journal.violated()).await;
            if ended.is_err() {
                assert_eq!(workload.node_of("sim://b").as_deref(), Some("b"));
            }
            ended.ok().map(|violation| violation.rule)
        })
    }

    #[test]
    fn a_lost_cluster_is_made_again_only_where_nobody_knew_of_it() {
        assert_eq!(made_twice(false, false), None);
        assert_eq!(made_twice(false, true), Some("one cluster"));
        assert_eq!(made_twice(true, false), Some("one cluster"));
    }

    /// The rule that is broken where these hosts join a managed control plane, each this long after the one before, and one is
    /// taken away in the end.
    fn joined(hosts: &[&str], apart: Duration, taken: Option<&str>) -> Option<&'static str> {
        trial::broken(STAGE.1 * 8, async |world| {
            let workload = Arc::clone(&world.workload);
            workload.is_managed();
            bootstrap::put_token(workload.store());
            workload.power_on("a", "sim://a", bootstrap::init_data().as_bytes());
            tokio::time::sleep(STAGE.1 * 2).await;
            for host in hosts {
                workload.power_on(host, &format!("sim://{host}"), bootstrap::join_data(true).as_bytes());
                tokio::time::sleep(apart).await;
            }
            if let Some(host) = taken {
                workload.take_away(host);
            }
        })
    }

    #[test]
    fn members_that_join_at_once_and_members_that_others_need_are_noticed() {
        let one_by_one = STAGE.1 * 8;
        assert_eq!(joined(&["b", "c"], one_by_one, None), None);
        assert_eq!(joined(&["b", "c"], Duration::ZERO, None), Some("I2"));
        assert_eq!(joined(&["b", "c"], one_by_one, Some("c")), None);
        assert_eq!(joined(&["b"], one_by_one, Some("b")), Some("I1"));
    }
}
