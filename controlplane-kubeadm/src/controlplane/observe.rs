//! What a pass looks at: the control plane, its cluster and its machines from the caches; infrastructure objects by
//! reference.

use std::{collections::BTreeMap, sync::Arc};

use cluster_api::{
    labels::{CERTIFICATES_EXPIRY, CLUSTER_NAME},
    owner,
    v1beta2::{Cluster, Machine},
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use kubeadm::api::v1beta2::KubeadmConfig;
use manager::{Category, Informer, ObjectKey, ReconcileError};

use super::{
    compare,
    facts::{Etcd, Facts, MachineFact, NodeFact, Remediation},
    foreign::Foreign,
    health::{self, Subject},
    names::{NODE_ROLE, REMEDIATION_IN_PROGRESS, UPGRADE_STEP},
    wanted::Wanted,
};
use crate::{
    api::v1beta2::KubeadmControlPlane,
    workload::{Host, Workload},
};

/// Index of machines by namespace and cluster.
pub const BY_CLUSTER: &str = "cluster";

/// The caches.
pub struct Caches {
    /// Control planes.
    pub control_planes: Informer<KubeadmControlPlane>,
    /// Clusters.
    pub clusters: Informer<Cluster>,
    /// Machines, indexed by [`BY_CLUSTER`].
    pub machines: Informer<Machine>,
    /// Bootstrap configurations.
    pub configs: Informer<KubeadmConfig>,
}

/// What a pass knows of the management cluster.
pub struct Observed {
    /// The control plane.
    pub control_plane: Arc<KubeadmControlPlane>,
    /// Its cluster.
    pub cluster: Arc<Cluster>,
    /// Its spec.
    pub wanted: Wanted,
    /// When the pass began.
    pub now: Timestamp,
    /// Its machines, in the order of their names.
    pub machines: Vec<Arc<Machine>>,
    /// Control plane machines of the cluster that nobody controls.
    pub orphans: Vec<Arc<Machine>>,
    /// Names of the cluster's other machines.
    pub others: Vec<String>,
    /// Why nothing may be done: somebody else controls control plane machines of the cluster.
    pub conflict: Option<String>,
    /// Configurations, by machine.
    pub configs: BTreeMap<String, Arc<KubeadmConfig>>,
    /// Metadata of infrastructure objects, by machine.
    pub infrastructure: BTreeMap<String, Arc<ObjectMeta>>,
    /// Metadata of the infrastructure template; `Err` says what is missing.
    pub template: Result<Arc<ObjectMeta>, String>,
    /// Why each machine is not as the spec wants it, by machine.
    pub outdated: BTreeMap<String, Vec<String>>,
}

/// Value of [`BY_CLUSTER`].
pub fn by_cluster(machine: &Machine) -> Vec<String> {
    let cluster = machine.labels().get(CLUSTER_NAME).unwrap_or(&machine.spec.cluster_name);
    vec![ObjectKey::new(machine.namespace().unwrap_or_default(), cluster).to_string()]
}

impl Observed {
    /// Looks at everything in the management cluster that concerns a control plane.
    pub async fn read(
        caches: &Caches,
        foreign: &Foreign,
        control_plane: Arc<KubeadmControlPlane>,
        cluster: Arc<Cluster>,
        now: Timestamp,
    ) -> Result<Self, ReconcileError> {
        let wanted = Wanted::of(&control_plane, &cluster);
        let key = ObjectKey::of(&*cluster);
        let all = caches.machines.by_index(BY_CLUSTER, &key.to_string());
        let mut observed = Self {
            control_plane,
            wanted,
            now,
            machines: Vec::new(),
            orphans: Vec::new(),
            others: Vec::new(),
            conflict: None,
            configs: BTreeMap::new(),
            infrastructure: BTreeMap::new(),
            template: Err(String::new()),
            outdated: BTreeMap::new(),
            cluster,
        };
        observed.sort(all);
        observed.template = observed.read_template(foreign).await?;
        for machine in observed.machines.clone() {
            observed.read_parts(caches, foreign, &machine).await?;
        }
        Ok(observed)
    }

    fn sort(&mut self, all: Vec<Arc<Machine>>) {
        let ready = self.cluster.is_infrastructure_provisioned() && self.wanted.endpoint.is_some();
        for machine in all {
            let controller = owner::controller_of(&machine.metadata);
            if controller.is_some_and(|controller| controller.uid == self.wanted.uid) {
                self.machines.push(machine);
            } else if !machine.is_control_plane() || self.is_deleting() || !ready {
                self.others.push(machine.name_any());
            } else if let Some(foreign) = controller {
                self.conflict = Some(format!(
                    "Machine {} is a control plane Machine of {} {}: a cluster has one control plane object; remove its \
                     label {} or delete it",
                    machine.name_any(),
                    foreign.kind,
                    foreign.name,
                    cluster_api::labels::CONTROL_PLANE
                ));
            } else {
                self.orphans.push(machine);
            }
        }
    }

    async fn read_template(&self, foreign: &Foreign) -> Result<Result<Arc<ObjectMeta>, String>, ReconcileError> {
        let reference = &self.wanted.infrastructure;
        match foreign.metadata(reference, &self.wanted.namespace).await {
            Ok(Some(template)) => Ok(Ok(template)),
            Ok(None) => Ok(Err(format!("{} {} does not exist", reference.kind, reference.name))),
            // The provider is not installed (yet): that is for the conditions to say.
            Err(error) if matches!(error.category, Category::Waiting(_)) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn read_parts(
        &mut self,
        caches: &Caches,
        foreign: &Foreign,
        machine: &Machine,
    ) -> Result<(), ReconcileError> {
        let name = machine.name_any();
        let namespace = self.wanted.namespace.clone();
        let config = machine.spec.bootstrap.config_ref.as_ref();
        let config = config.and_then(|config| caches.configs.get(&ObjectKey::new(&namespace, &config.name)));
        let infrastructure = match foreign.metadata(&machine.spec.infrastructure_ref, &namespace).await {
            Ok(found) => found,
            Err(error) if matches!(error.category, Category::Waiting(_)) => None,
            Err(error) => return Err(error),
        };
        let spec = config.as_ref().map(|config| &config.spec.0);
        let reasons = compare::outdated(&self.wanted, machine, spec, infrastructure.as_deref(), self.now);
        self.outdated.insert(name.clone(), reasons);
        self.configs.extend(config.map(|config| (name.clone(), config)));
        self.infrastructure.extend(infrastructure.map(|metadata| (name, metadata)));
        Ok(())
    }

    /// Whether the control plane is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.control_plane.metadata.deletion_timestamp.is_some()
    }

    /// An annotation of the control plane.
    pub fn annotation(&self, name: &str) -> Option<&String> {
        self.control_plane.annotations().get(name)
    }

    /// One of its machines.
    pub fn machine(&self, name: &str) -> Option<&Arc<Machine>> {
        self.machines.iter().find(|machine| machine.name_any() == name)
    }

    /// Machines that stay, the best to ask etcd first.
    pub fn hosts(&self) -> Vec<Host> {
        let mut staying: Vec<_> = self.machines.iter().filter(|machine| !machine.is_deleting()).collect();
        let healthy = |machine: &Machine| {
            cluster_api::conditions::is_true(machine.conditions(), super::names::machine::ETCD_MEMBER)
        };
        staying.sort_by_key(|machine| !healthy(machine));
        staying.into_iter().map(|machine| host(machine)).collect()
    }

    /// The machines as their health is judged.
    pub fn subjects(&self, workload: Option<&Workload>) -> Vec<Subject> {
        let subject = |machine: &Arc<Machine>| Subject {
            name: machine.name_any(),
            deleting: machine.is_deleting(),
            node: node_of(machine, workload),
            provider_id: machine.spec.provider_id.clone(),
            infrastructure_kind: machine.spec.infrastructure_ref.kind.clone(),
            expects_taint: self.expects_taint(machine),
        };
        self.machines.iter().map(subject).collect()
    }

    fn expects_taint(&self, machine: &Machine) -> bool {
        let is_ours = |key: &str, effect: &str| key == NODE_ROLE && effect == "NoSchedule";
        if machine.spec.taints.iter().any(|taint| is_ours(&taint.key, &taint.effect)) {
            return true;
        }
        let Some(config) = self.configs.get(&machine.name_any()).map(|config| &config.spec.0) else { return false };
        let join = config.join_configuration.as_ref().and_then(|join| join.node_registration.as_ref());
        let init = config.init_configuration.as_ref().and_then(|init| init.node_registration.as_ref());
        let node = if compare::is_join(config) { join } else { init };
        match node.and_then(|node| node.taints.as_ref()) {
            None => true,
            Some(taints) => taints.iter().any(|taint| is_ours(&taint.key, &taint.effect)),
        }
    }

    /// Machines whose certificates' expiry is not noted yet: configuration and node.
    pub fn without_expiry(&self) -> Vec<(Arc<KubeadmConfig>, String)> {
        let staying = self.machines.iter().filter(|machine| !machine.is_deleting());
        staying
            .filter_map(|machine| {
                let config = self.configs.get(&machine.name_any())?;
                (!has_expiry(config)).then(|| Some((Arc::clone(config), machine.node_name()?.to_owned())))?
            })
            .collect()
    }

    /// A version that the topology will ask for before anything else may happen.
    fn pending_version(&self) -> Option<String> {
        let topology = self.cluster.spec.topology.as_ref()?;
        let step = self.cluster.annotations().get(UPGRADE_STEP);
        let asked = step.filter(|step| !step.is_empty()).unwrap_or(&topology.version);
        let fits = topology.version == self.wanted.version || step == Some(&self.wanted.version);
        (!fits && !topology.version.is_empty()).then(|| asked.clone())
    }

    /// The facts that decisions use; `workload` is absent while it cannot be read, for the reason `blind`.
    pub fn facts(&self, workload: Result<&Workload, &str>, state: State, tie: u64) -> Facts {
        let managed = self.wanted.has_managed_etcd();
        let etcd = match workload {
            Ok(workload) => workload.etcd.clone(),
            Err(blind) if managed => Etcd::Unknown(blind.to_owned()),
            Err(_) => Etcd::External,
        };
        let nodes = match workload {
            Ok(workload) => {
                workload.nodes.as_ref().map(|nodes| nodes.values().map(node_fact).collect()).map_err(Clone::clone)
            }
            Err(blind) => Err(blind.to_owned()),
        };
        let domains = self.cluster.status.as_ref().map(|status| status.failure_domains.as_slice()).unwrap_or_default();
        let domains = domains.iter().filter(|domain| domain.control_plane == Some(true));
        Facts {
            now: self.now,
            replicas: usize::try_from(self.wanted.replicas.unwrap_or(1)).unwrap_or(0),
            max_surge: self.wanted.max_surge,
            local_kubelet_mode: self.wanted.parsed_version().is_none_or(|version| version.is_at_least(1, 31)),
            initialized: state.initialized,
            certificates_available: state.certificates_available,
            pending_version: self.pending_version(),
            failure_domains: domains.map(|domain| domain.name.clone()).collect(),
            machines: self.machines.iter().map(|machine| self.machine_fact(machine, workload.ok())).collect(),
            etcd,
            nodes,
            remediation: self.annotation(REMEDIATION_IN_PROGRESS).and_then(|text| Remediation::parse(text)),
            retries: self.wanted.retries,
            tie,
        }
    }

    fn machine_fact(&self, machine: &Machine, workload: Option<&Workload>) -> MachineFact {
        let (name, node) = (machine.name_any(), node_of(machine, workload));
        MachineFact {
            serves_etcd: workload
                .zip(node.as_deref())
                .is_some_and(|(workload, node)| health::serves_etcd(workload, node)),
            created: machine.metadata.creation_timestamp.as_ref().map_or(self.now, |time| time.0),
            deleting: machine.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            node,
            provider_id: machine.spec.provider_id.clone(),
            failure_domain: machine.spec.failure_domain.clone(),
            annotations: machine.annotations().clone(),
            conditions: machine.conditions().to_vec(),
            has_served: self.configs.get(&name).is_some_and(|config| has_expiry(config)),
            outdated: self.outdated.get(&name).cloned().unwrap_or_default(),
            name,
        }
    }
}

fn has_expiry(config: &KubeadmConfig) -> bool {
    config.annotations().contains_key(CERTIFICATES_EXPIRY)
}

fn host(machine: &Machine) -> Host {
    Host { node: machine.node_name().map(str::to_owned), provider_id: machine.spec.provider_id.clone() }
}

fn node_of(machine: &Machine, workload: Option<&Workload>) -> Option<String> {
    let host = host(machine);
    workload.map_or_else(|| host.node.clone(), |workload| workload.node_of(&host))
}

/// What the pass found out before it decides.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Whether `kubeadm init` is done.
    pub initialized: bool,
    /// Whether every certificate Secret exists.
    pub certificates_available: bool,
}

fn node_fact(node: &Node) -> NodeFact {
    NodeFact {
        name: node.name_any(),
        provider_id: node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default(),
        created: node.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
    }
}
