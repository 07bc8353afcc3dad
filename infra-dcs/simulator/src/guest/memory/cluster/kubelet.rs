//! kubelet on a machine: its node, its static pods, the pods that are bound to it.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{io::DuplexStream, time::Instant};

use super::{
    Cluster, Clusters, DiskFaults,
    api::{Api, LEASES, NODES, PODS, is_deleting, name, namespace},
    bootstrap::{self, NotYet},
    certificates::ServingRequest,
    containers,
    controllers::{earliest, moment, time, workloads},
    kubelet_settings::{self, KUBECONFIG, KubeletSettings},
    node::{self, MachineFacts},
    process::{self, Process, Surroundings},
    reach::Contact,
    static_pod::{self, Trouble},
};
use crate::guest::memory::{
    cable::{Cable, Carried},
    host::Names,
    kubeadm::{
        Cidr, config,
        files::Files,
        images::Registries,
        kubeconfig::Kubeconfig,
        pki::{self, Leaf},
    },
    machine_clock::MachineClock,
    root::Root,
    systemd::start::{MainCommand, main_command},
};

/// How old the heartbeat in a node's status may become: leases are what is watched.
const STATUS_PERIOD: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);
/// kubelet waits ten seconds at first and five minutes in the end; a port that is free a moment later is free here too.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// What systemd starts it by.
const UNIT: &str = "kubelet.service";

/// A connection into a pod, or where to make one.
pub enum Open {
    /// To etcd's client port.
    Etcd(Carried<DuplexStream>),
    /// To what listens in truth.
    Tcp(SocketAddr),
}

/// A machine's kubelet. It lives as long as the machine is powered.
pub struct Kubelet {
    /// The machine.
    pub machine: MachineFacts,
    /// The machine's cable.
    pub cable: Cable,
    /// What is wrong with its disk.
    pub disk: Arc<DiskFaults>,
    /// The machine's clock.
    pub clock: MachineClock,
    /// What can be pulled.
    pub registries: Registries,
    clusters: Arc<Clusters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Runs, or why it does not.
    health: Option<Result<(), String>>,
    root: Option<Root>,
    settings: KubeletSettings,
    /// Manifests that were read, so that a pass over a quiet machine reads nothing again.
    manifests: HashMap<String, (Arc<[u8]>, Option<Arc<Value>>)>,
    /// The kubeconfig that was read, and the authority in it.
    kubeconfig: Option<(Arc<[u8]>, Vec<u8>)>,
    /// What it speaks to its API server with.
    contact: Arc<Contact>,
    cluster: Option<Arc<Cluster>>,
    /// The cluster that has been asked for a certificate.
    asked: Option<Arc<Cluster>>,
    /// Name of the request for its own certificate.
    request: Option<String>,
    serving: Option<ServingRequest>,
    pods: BTreeMap<String, StaticPod>,
    /// How long to wait before static pods that do not run are tried again; zero where all run.
    back_off: Duration,
    retry_at: Option<Instant>,
    /// When the next container of a pod ends.
    ends_at: Option<Timestamp>,
    is_registered: bool,
    next_address: u128,
    is_off: bool,
}

/// A static pod of the machine.
struct StaticPod {
    manifest: Arc<Value>,
    /// Of the manifest, as its mirror has it.
    hash: String,
    outcome: Result<Process, Trouble>,
    started: Timestamp,
}

impl Kubelet {
    /// A kubelet that does not run yet.
    pub fn new(
        machine: MachineFacts,
        cable: Cable,
        clock: MachineClock,
        disk: Arc<DiskFaults>,
        registries: Registries,
        clusters: Arc<Clusters>,
    ) -> Arc<Self> {
        Arc::new(Self { machine, cable, disk, clock, registries, clusters, state: Mutex::default() })
    }

    /// `systemctl restart kubelet`: it reads its files again. What its static pods run goes on.
    pub fn restart(self: &Arc<Self>, root: &Root) {
        let joined = {
            let mut state = self.state.lock();
            if state.is_off {
                return;
            }
            let read = main_command(root, UNIT, &self.machine.hostname).and_then(|MainCommand { argv, .. }| {
                let arguments = argv.get(1..).unwrap_or_default();
                KubeletSettings::read(root, arguments, &self.machine.hostname)
            });
            state.root = Some(root.clone());
            state.is_registered = false;
            // The certificate that it names may be another.
            state.kubeconfig = None;
            match read {
                Ok(settings) => {
                    state.settings = settings;
                    state.health = Some(Ok(()));
                }
                Err(why) => state.health = Some(Err(why)),
            }
            self.work(&mut state);
            state.cluster.clone().or_else(|| state.asked.clone())
        };
        if let Some(cluster) = joined {
            self.clusters.enrol(&cluster, self);
            cluster.wake();
        }
    }

    /// Whether it answers its health check; otherwise why not.
    pub fn health(&self) -> Result<(), String> {
        self.state.lock().health.clone().unwrap_or_else(|| Err("it was not started".into()))
    }

    /// When something is due by itself: another try of static pods that do not run, the end of a container.
    pub fn due_after(&self) -> Option<Duration> {
        let state = self.state.lock();
        let retry = state.retry_at.filter(|_| !state.back_off.is_zero());
        let retry = retry.map(|at| at.saturating_duration_since(Instant::now()));
        let end = state.ends_at.map(|end| Duration::try_from(end.duration_since(self.clock.now())).unwrap_or_default());
        retry.into_iter().chain(end).min().map(|left| left.max(SHORTEST_PAUSE))
    }

    /// Whether a static pod of the machine runs; otherwise why not.
    pub fn component_health(&self, component: &str) -> Result<(), String> {
        match self.state.lock().pods.get(component).map(|pod| &pod.outcome) {
            None => Err(format!("there is no static pod {component:?}")),
            Some(Ok(process)) => process.health(),
            Some(Err(trouble)) => Err(format!("{}: {}", trouble.reason, trouble.message)),
        }
    }

    /// The machine loses its power: everything on it ends at once.
    pub fn power_off(&self) {
        let (cluster, pods) = {
            let mut state = self.state.lock();
            state.is_off = true;
            state.health = None;
            state.asked = None;
            (state.cluster.take(), std::mem::take(&mut state.pods))
        };
        drop(pods);
        if let Some(cluster) = cluster {
            cluster.wake();
        }
    }

    /// The cable or another circumstance has changed.
    pub fn nudge(&self) {
        let cluster = self.state.lock().cluster.clone();
        if let Some(cluster) = cluster {
            cluster.feel();
        }
    }

    /// What listens on a port of a static pod, by the name of its mirror.
    pub fn open(&self, mirror: &str, port: u16) -> Option<Open> {
        let state = self.state.lock();
        let component = mirror.strip_suffix(state.settings.node.as_str())?.strip_suffix('-')?;
        match state.pods.get(component)?.outcome.as_ref().ok()? {
            Process::Etcd(member) if port == 2379 => Some(Open::Etcd(member.connect(&self.cable))),
            Process::ApiServer(front) if front.address().port() == port => Some(Open::Tcp(front.address())),
            _ => None,
        }
    }

    /// Name of its node.
    pub fn node(&self) -> String {
        self.state.lock().settings.node.clone()
    }

    /// Its serving certificate; none where it signs its own. An error where it waits for one: it serves nobody until then.
    pub fn serving_certificate(&self) -> Result<Option<pki::Certificate>, &'static str> {
        let settings = &self.state.lock().settings;
        if settings.asks_for_serving && settings.serving.is_none() {
            return Err("remote error: tls: internal error");
        }
        Ok(settings.serving.clone())
    }

    /// Whether it is alive and reaches an API server that it believes and that believes it.
    pub fn is_connected(&self) -> bool {
        let state = self.state.lock();
        let is_alive = matches!(state.health, Some(Ok(()))) && state.settings.registers;
        let contact = Arc::clone(&state.contact);
        let cluster = state.cluster.clone();
        drop(state);
        is_alive && cluster.is_some_and(|cluster| cluster.reaches(self, &contact))
    }

    /// One pass over everything that it looks after.
    pub fn sync(self: &Arc<Self>) {
        let mut state = self.state.lock();
        self.work(&mut state);
    }

    fn work(self: &Arc<Self>, state: &mut State) {
        if state.is_off || !matches!(state.health, Some(Ok(()))) {
            return;
        }
        self.join(state);
        self.run_static_pods(state);
        Self::back_off(state);
        let Some(cluster) = state.cluster.clone() else { return };
        let may_tell = state.settings.registers && cluster.reaches(self, &state.contact) && cluster.etcd.takes_writes();
        if !may_tell {
            return;
        }
        let api = Api::new(&cluster.server, "kubelet");
        if let Some(node) = self.keep_node(state, &api) {
            self.serve(state, &cluster);
            self.mirror(state, &api, &node);
            self.run_pods(state, &api, &node);
        }
    }

    /// Gets a certificate to serve with, where it was told to ask the cluster for one.
    fn serve(&self, state: &mut State, cluster: &Cluster) {
        let settings = &mut state.settings;
        let Some(root) = state.root.as_mut().filter(|_| settings.asks_for_serving && settings.serving.is_none()) else {
            return;
        };
        let leaf = Leaf {
            dns: vec![settings.node.clone()],
            addresses: vec![settings.address(self.machine.address)],
            ..Leaf::client(&format!("system:node:{}", settings.node), &["system:nodes"], self.clock.now())
        };
        match ServingRequest::follow(&mut state.serving, cluster, &leaf, &settings.node) {
            Ok(Some((certificate, text))) => {
                Files::write(root, kubelet_settings::SERVING, 0o600, text.as_bytes());
                settings.serving = Some(certificate);
            }
            Ok(None) => {}
            Err(why) => tracing::debug!(machine = self.machine.hostname, why, "No serving certificate can be had."),
        }
    }

    /// Finds the cluster by kubelet's kubeconfig; makes that first where kubeadm left one to ask with.
    fn join(&self, state: &mut State) {
        let Some(root) = &mut state.root else { return };
        if !Files::is_file(root, KUBECONFIG)
            && let Err(NotYet { why, cluster }) =
                bootstrap::run(root, self, &self.clusters, &state.settings.node, &mut state.request)
        {
            tracing::debug!(machine = self.machine.hostname, why, "kubelet has no certificate yet.");
            state.asked = cluster;
            return;
        }
        state.asked = None;
        let Ok(content) = root.read(KUBECONFIG) else { return };
        if state.kubeconfig.as_ref().is_none_or(|(known, _)| !Arc::ptr_eq(known, &content)) {
            let Ok(read) = Kubeconfig::read(root, KUBECONFIG) else { return };
            state.contact = Arc::new(Contact::of(&read, &Names::of(root)));
            state.kubeconfig = Some((content, read.authority));
        }
        if state.cluster.is_none()
            && let Some((_, authority)) = &state.kubeconfig
            && let Ok(authorities) = pki::certificates_of(authority)
        {
            state.cluster = authorities.iter().find_map(|authority| self.clusters.by_authority(&authority.pin()));
        }
    }

    fn run_static_pods(self: &Arc<Self>, state: &mut State) {
        let Some(root) = &mut state.root else { return };
        let directory = state.settings.static_pods.trim_end_matches('/');
        let mut wanted: BTreeMap<String, Arc<Value>> = BTreeMap::new();
        let mut read = HashMap::new();
        for file in Files::list(root, directory) {
            let path = format!("{directory}/{file}");
            let Ok(content) = root.read(&path) else { continue };
            let manifest = match state.manifests.remove(&path) {
                Some((known, manifest)) if Arc::ptr_eq(&known, &content) => manifest,
                _ => config::from_yaml(&String::from_utf8_lossy(&content))
                    .ok()
                    .filter(|manifest| manifest["kind"] == "Pod")
                    .map(Arc::new),
            };
            if let Some(manifest) = &manifest {
                wanted.insert(name(manifest).to_owned(), Arc::clone(manifest));
            }
            read.insert(path, (content, manifest));
        }
        state.manifests = read;
        // A pod whose file is gone or has changed ends.
        state.pods.retain(|name, pod| wanted.get(name) == Some(&pod.manifest));
        let authority = state.kubeconfig.as_ref().map(|(_, authority)| authority.as_slice()).unwrap_or_default();
        // The API server waits for etcd, and the others for it.
        let order = |name: &String| ["etcd", "kube-apiserver"].iter().position(|known| known == name).unwrap_or(2);
        let mut names: Vec<String> = wanted.keys().cloned().collect();
        names.sort_by_key(order);
        for name in names {
            let manifest = &wanted[&name];
            let is_well = state.pods.get(&name).is_some_and(|pod| pod.outcome.as_ref().is_ok_and(Process::is_alive));
            if is_well {
                continue;
            }
            // What runs ends before it starts again: its port is taken.
            let started = state.pods.remove(&name).map_or_else(|| self.clock.now(), |pod| pod.started);
            let images = manifest.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
            let pulled = images
                .filter_map(|container| container["image"].as_str())
                .try_for_each(|image| self.registries.pull(image));
            let member = state.pods.get("etcd").and_then(|pod| match &pod.outcome {
                Ok(Process::Etcd(member)) => Some(member.id),
                _ => None,
            });
            let outcome = pulled
                .map_err(|message| Trouble { reason: "ImagePullBackOff", message })
                .and_then(|()| static_pod::start(manifest, root))
                .and_then(|pod| {
                    let surroundings = Surroundings {
                        kubelet: self,
                        clusters: &self.clusters,
                        cluster: state.cluster.as_ref(),
                        member,
                        authority,
                    };
                    process::start(&pod, root, &surroundings)
                });
            if state.cluster.is_none()
                && let Ok(Process::Etcd(member)) = &outcome
            {
                state.cluster = Some(Arc::clone(&member.cluster));
            }
            if let Err(trouble) = &outcome {
                tracing::debug!(
                    machine = self.machine.hostname,
                    pod = name,
                    why = trouble.message,
                    "Static pod does not run."
                );
            }
            let (manifest, hash) = (Arc::clone(manifest), node::manifest_hash(manifest));
            state.pods.insert(name, StaticPod { manifest, hash, outcome, started });
        }
    }

    /// Passes follow changes, and each tries again; the time until the next try grows only when it is over.
    fn back_off(state: &mut State) {
        if state.pods.values().all(|pod| pod.outcome.is_ok()) {
            state.back_off = Duration::ZERO;
            return;
        }
        let now = Instant::now();
        if state.retry_at.is_none_or(|at| at <= now) || state.back_off.is_zero() {
            state.back_off = (state.back_off * 2).clamp(FIRST_BACK_OFF, LONGEST_BACK_OFF);
            state.retry_at = Some(now + state.back_off);
        }
    }

    /// Registers the node and keeps its status. None where the node was deleted: kubelet registers once.
    fn keep_node(&self, state: &mut State, api: &Api<'_>) -> Option<Arc<Value>> {
        let settings = &state.settings;
        let now = time(self.clock.now());
        let found = match api.get(NODES, "", &settings.node) {
            Some(found) => found,
            None if state.is_registered => return None,
            None => {
                let mut object = node::object(settings);
                let mut status = node::status(settings, &self.machine);
                status["conditions"] = node::conditions(Err(node::NO_NETWORK), &now, None);
                object["status"] = status;
                api.create(NODES, "", object).ok()?
            }
        };
        if !state.is_registered {
            state.is_registered = true;
            // A node of an earlier boot: its labels and versions may have changed.
            let fresh = node::object(settings);
            let metadata = &fresh["metadata"];
            let mut patch = json!({"metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]}});
            if found["spec"]["providerID"].as_str().is_none_or(str::is_empty) && !settings.provider_id.is_empty() {
                patch["spec"]["providerID"] = settings.provider_id.as_str().into();
            }
            let _ = api.merge(NODES, "", &settings.node, patch);
            let _ = api.merge_status(NODES, "", &settings.node, node::status(settings, &self.machine));
        }
        let found = api.get(NODES, "", &settings.node)?;
        let network = if found["spec"]["podCIDR"].is_string() { Ok(()) } else { Err(node::NO_NETWORK) };
        let wanted = if network.is_ok() { "True" } else { "False" };
        let ready = found.pointer("/status/conditions").and_then(Value::as_array);
        let ready = ready.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
        let is_fresh = ready
            .and_then(|condition| moment(&condition["lastHeartbeatTime"]))
            .is_some_and(|heard| heard.checked_add(STATUS_PERIOD).is_ok_and(|until| until > self.clock.now()));
        if node::condition_status(&found, "Ready") == wanted && is_fresh {
            return Some(found);
        }
        let conditions = node::conditions(network, &now, found.pointer("/status/conditions"));
        api.merge_status(NODES, "", &settings.node, json!({"conditions": conditions})).ok()
    }

    /// Renews the node's lease.
    pub fn renew_lease(&self) {
        let (node, cluster) = {
            let state = self.state.lock();
            (state.settings.node.clone(), state.cluster.clone())
        };
        let Some(cluster) = cluster else { return };
        let api = Api::new(&cluster.server, "kubelet");
        let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let renewed = api.merge(LEASES, "kube-node-lease", &node, json!({"spec": {"renewTime": now}}));
        if renewed.is_err()
            && let Some(owner) = api.get(NODES, "", &node)
        {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": node, "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": node, "uid": owner["metadata"]["uid"],
                }]},
                "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
            });
            let _ = api.create(LEASES, "kube-node-lease", lease);
        }
    }

    /// Shows the static pods in the API.
    fn mirror(&self, state: &State, api: &Api<'_>, node: &Value) {
        let host = self.machine.address.to_string();
        let prefix = name(node);
        for (component, pod) in &state.pods {
            let mirror = format!("{component}-{prefix}");
            let started = time(pod.started);
            let mut shown = api.get(PODS, "kube-system", &mirror);
            if let Some(present) = &shown
                && (present["metadata"]["annotations"]["kubernetes.io/config.hash"] != pod.hash.as_str()
                    || is_deleting(present))
            {
                api.delete(PODS, "kube-system", &mirror, Some(0));
                shown = None;
            }
            let shown = match shown {
                Some(shown) => shown,
                None => match api.create(PODS, "kube-system", node::mirror(&pod.manifest, node, &started)) {
                    Ok(shown) => shown,
                    Err(_) => continue,
                },
            };
            let sick = pod.outcome.as_ref().ok().and_then(|process| process.health().err());
            let sick = sick.map(|message| Trouble { reason: "CrashLoopBackOff", message });
            let trouble = sick.as_ref().or(pod.outcome.as_ref().err());
            write_status(api, &shown, &node::pod_status(&shown, trouble, &host, &host, &started));
        }
        // Mirrors of pods whose file is gone.
        for pod in api.list(PODS, "kube-system") {
            let is_mirror = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
            let component = name(&pod).strip_suffix(prefix).and_then(|name| name.strip_suffix('-')).unwrap_or_default();
            if is_mirror && pod["spec"]["nodeName"] == prefix && !state.pods.contains_key(component) {
                api.delete(PODS, "kube-system", name(&pod), Some(0));
            }
        }
    }

    /// Runs the pods that are bound to the node.
    fn run_pods(&self, state: &mut State, api: &Api<'_>, node: &Value) {
        let range = node["spec"]["podCIDR"].as_str().and_then(Cidr::parse);
        let host = self.machine.address.to_string();
        state.ends_at = None;
        for pod in api.list(PODS, "") {
            let is_mirror = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
            if pod["spec"]["nodeName"] != name(node) || is_mirror {
                continue;
            }
            if is_deleting(&pod) {
                api.delete(PODS, namespace(&pod), name(&pod), Some(0));
                continue;
            }
            match pod["status"]["phase"].as_str().unwrap_or_default() {
                "Succeeded" | "Failed" => continue,
                "Running" if pod["spec"]["restartPolicy"] != "Always" => {
                    let progress = containers::progress(&pod, self.clock.now(), self.clusters.around.pace.scale);
                    state.ends_at = earliest(state.ends_at, progress.next);
                    if let Some(status) = progress.status {
                        let _ = api.merge_status(PODS, namespace(&pod), name(&pod), status);
                    }
                    continue;
                }
                _ if workloads::is_ready(&pod) => continue,
                _ => {}
            }
            let is_on_host = pod["spec"]["hostNetwork"] == true;
            let address = match (pod["status"]["podIP"].as_str(), is_on_host, &range) {
                (Some(address), ..) => address.to_owned(),
                (None, true, _) => host.clone(),
                (None, false, Some(range)) => {
                    state.next_address += 1;
                    // The first two are the network and its gateway; numbers come round when all are given.
                    let offset = 2 + state.next_address % range.size().saturating_sub(3).max(1);
                    range.address(offset).map_or_else(|| host.clone(), |address: IpAddr| address.to_string())
                }
                // Its sandbox cannot be made before there is a network.
                (None, false, None) => continue,
            };
            let all = |list: &str| pod["spec"][list].as_array().into_iter().flatten();
            let pulled = all("initContainers")
                .chain(all("containers"))
                .filter_map(|container| container["image"].as_str())
                .try_for_each(|image| self.registries.pull(image));
            let trouble = pulled.err().map(|message| Trouble { reason: "ImagePullBackOff", message });
            let started = pod["status"]["startTime"].as_str().map_or_else(|| time(self.clock.now()), str::to_owned);
            write_status(api, &pod, &node::pod_status(&pod, trouble.as_ref(), &host, &address, &started));
        }
    }
}

fn write_status(api: &Api<'_>, pod: &Value, wanted: &Value) {
    let mut merged = pod["status"].clone();
    json_patch::merge(&mut merged, wanted);
    if merged != pod["status"] {
        let _ = api.merge_status(PODS, namespace(pod), name(pod), wanted.clone());
    }
}
