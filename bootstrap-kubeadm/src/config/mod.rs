//! The `KubeadmConfig` controller: observe → decide → act → status.

mod act;
mod certificates;
mod data_secret;
mod decide;
mod discovery;
mod legacy;
mod lock;
mod observe;
mod render;
mod status;
mod tokens;

use std::{sync::Arc, time::Duration};

use cluster_api::v1beta2::{Cluster, GROUP, Machine, MachinePool, MachineSpec};
use kube::ResourceExt;
use kubeadm::api::v1beta2::{self, KubeadmConfig};
use manager::{Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler};

use act::Actor;
pub use act::EFFECTS;
use decide::{Step, decide};
use observe::{DataSecret, Facts, Owner};
use status::Report;

/// Index of machines and pools by the name of their cluster: `namespace/name`.
pub const BY_CLUSTER: &str = "cluster";

/// What a user may set by flag.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Life of bootstrap tokens.
    pub token_ttl: Duration,
}

/// Reconciles `KubeadmConfig`s.
pub struct ConfigReconciler {
    configs: Informer<KubeadmConfig>,
    owners: Owners,
    clusters: Informer<Cluster>,
    actor: Actor,
}

/// The caches of what configs are for.
#[derive(Clone)]
pub struct Owners {
    /// Machines.
    pub machines: Informer<Machine>,
    /// Pools of machines, where they are switched on.
    pub pools: Option<Informer<MachinePool>>,
}

impl Owners {
    /// The owner of a config: of its references, the first to a machine or a pool.
    fn of(&self, config: &KubeadmConfig) -> Option<Owner> {
        let namespace = config.namespace()?;
        let references = config.metadata.owner_references.as_deref().unwrap_or_default();
        let mut core = references.iter().filter(|owner| cluster_api::owner::group_of(&owner.api_version) == GROUP);
        let found =
            core.find(|owner| owner.kind == "Machine" || (owner.kind == "MachinePool" && self.pools.is_some()))?;
        let key = ObjectKey::new(&namespace, &found.name);
        match &self.pools {
            Some(pools) if found.kind == "MachinePool" => pools.get(&key).map(|pool| Owner::of_pool(&pool)),
            _ => self.machines.get(&key).map(|machine| Owner::of_machine(&machine)),
        }
    }

    /// The configs of a cluster.
    fn configs_of(&self, cluster: &Cluster) -> Vec<ObjectKey> {
        let key = ObjectKey::of(cluster).to_string();
        let machines = self.machines.by_index(BY_CLUSTER, &key);
        let pools = self.pools.as_ref().map(|pools| pools.by_index(BY_CLUSTER, &key)).unwrap_or_default();
        let of_machines = machines.iter().filter_map(|machine| config_of(machine));
        of_machines.chain(pools.iter().filter_map(|pool| config_of_pool(pool))).collect()
    }
}

impl ConfigReconciler {
    /// A reconciler over these caches.
    pub fn new(
        manager: &Manager,
        configs: &Informer<KubeadmConfig>,
        owners: &Owners,
        clusters: &Informer<Cluster>,
        settings: Settings,
    ) -> Self {
        Self {
            configs: configs.clone(),
            owners: owners.clone(),
            clusters: clusters.clone(),
            actor: Actor::new(manager, settings),
        }
    }

    fn observe(&self, config: Arc<KubeadmConfig>) -> Option<Facts> {
        let owner = self.owners.of(&config)?;
        let cluster = self.clusters.get(&ObjectKey::new(config.namespace()?, &owner.cluster_name))?;
        Some(Facts { config, owner, cluster, data_secret: DataSecret::Unknown })
    }
}

impl Reconciler for ConfigReconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(config) = self.configs.get(key) else { return Ok(Outcome::Settled) };
        // Without its owner there is nothing to do: its appearance wakes us.
        let Some(mut facts) = self.observe(config) else { return Ok(Outcome::Settled) };
        let mut step = decide(&facts);
        if step.rests_on_data_secret() {
            facts.data_secret = self.actor.look_at_data_secret(&facts).await?;
            step = decide(&facts);
        }
        if step == Step::Deleting {
            return Ok(Outcome::Settled);
        }
        let mut report = Report::of(&facts);
        let outcome = self.actor.act(&facts, step, &mut report).await;
        // The status is written last and also after a failure: it says what is waited for.
        self.actor.write_status(&facts, &report, outcome.is_ok()).await?;
        outcome
    }
}

/// Index values of a machine: its cluster.
pub fn by_cluster(machine: &Machine) -> Vec<String> {
    vec![format!("{}/{}", machine.namespace().unwrap_or_default(), machine.spec.cluster_name)]
}

/// Index values of a pool: its cluster.
pub fn pool_by_cluster(pool: &MachinePool) -> Vec<String> {
    vec![format!("{}/{}", pool.namespace().unwrap_or_default(), pool.spec.cluster_name)]
}

/// The `KubeadmConfig` that a machine refers to.
fn config_of(machine: &Machine) -> Option<ObjectKey> {
    key_of(machine.namespace(), &machine.spec)
}

/// The `KubeadmConfig` that a pool refers to.
fn config_of_pool(pool: &MachinePool) -> Option<ObjectKey> {
    key_of(pool.namespace(), &pool.spec.template.spec)
}

fn key_of(namespace: Option<String>, spec: &MachineSpec) -> Option<ObjectKey> {
    let reference = spec.bootstrap.config_ref.as_ref()?;
    let is_ours = reference.api_group == v1beta2::GROUP && reference.kind == "KubeadmConfig";
    is_ours.then(|| ObjectKey::new(namespace.unwrap_or_default(), &reference.name))
}

/// A machine wakes its config when something that the config rests on changes; its status is written often.
pub fn woken_by_machine(old: Option<&Machine>, new: Option<&Machine>) -> Vec<ObjectKey> {
    woken(
        old.map(|old| (config_of(old), Owner::of_machine(old))),
        new.map(|new| (config_of(new), Owner::of_machine(new))),
    )
}

/// A pool wakes its config likewise.
pub fn woken_by_pool(old: Option<&MachinePool>, new: Option<&MachinePool>) -> Vec<ObjectKey> {
    woken(
        old.map(|old| (config_of_pool(old), Owner::of_pool(old))),
        new.map(|new| (config_of_pool(new), Owner::of_pool(new))),
    )
}

fn woken(old: Option<(Option<ObjectKey>, Owner)>, new: Option<(Option<ObjectKey>, Owner)>) -> Vec<ObjectKey> {
    if old == new {
        return Vec::new();
    }
    new.or(old).and_then(|(config, _)| config).into_iter().collect()
}

/// A cluster wakes its configs when something they wait for changes.
pub fn woken_by_cluster(owners: &Owners, old: Option<&Cluster>, new: Option<&Cluster>) -> Vec<ObjectKey> {
    let facts = |cluster: &Cluster| {
        (
            cluster.spec.paused,
            cluster.is_infrastructure_provisioned(),
            cluster_api::conditions::is_true(cluster.conditions(), "ControlPlaneInitialized"),
            cluster.is_control_plane_initialized(),
            cluster.spec.control_plane_endpoint.clone(),
        )
    };
    let Some(cluster) = new else { return Vec::new() };
    if old.is_some_and(|old| facts(old) == facts(cluster)) {
        return Vec::new();
    }
    owners.configs_of(cluster)
}

#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;
