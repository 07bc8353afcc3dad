//! The `KubeadmConfig` controller: observe → decide → act → status.

mod act;
mod certificates;
mod decide;
mod lock;
mod observe;
mod render;
mod status;

use std::{sync::Arc, time::Duration};

use cluster_api::v1beta2::{Cluster, Machine};
use kube::{Resource, ResourceExt};
use kubeadm::api::v1beta2::{self, KubeadmConfig};
use manager::{Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler};

use act::Actor;
pub use act::EFFECTS;
use decide::{Step, decide};
use observe::Facts;
use status::Report;

/// Index of machines by the name of their cluster: `namespace/name`.
pub const BY_CLUSTER: &str = "cluster";
/// Index of machines by their bootstrap object: `namespace/name`.
pub const BY_CONFIG: &str = "config";

/// What a user may set by flag.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Life of bootstrap tokens.
    pub token_ttl: Duration,
}

/// Reconciles `KubeadmConfig`s.
pub struct ConfigReconciler {
    configs: Informer<KubeadmConfig>,
    machines: Informer<Machine>,
    clusters: Informer<Cluster>,
    actor: Actor,
}

impl ConfigReconciler {
    /// A reconciler over these caches.
    pub fn new(
        manager: &Manager,
        configs: &Informer<KubeadmConfig>,
        machines: &Informer<Machine>,
        clusters: &Informer<Cluster>,
        settings: Settings,
    ) -> Self {
        Self {
            configs: configs.clone(),
            machines: machines.clone(),
            clusters: clusters.clone(),
            actor: Actor::new(manager, machines.clone(), settings),
        }
    }

    fn observe(&self, config: Arc<KubeadmConfig>) -> Option<Facts> {
        let namespace = config.namespace()?;
        let owner = cluster_api::owner::of_kind(config.meta(), cluster_api::v1beta2::GROUP, "Machine")?;
        let machine = self.machines.get(&ObjectKey::new(&namespace, &owner.name))?;
        let cluster = self.clusters.get(&ObjectKey::new(&namespace, &machine.spec.cluster_name))?;
        Some(Facts { config, machine, cluster })
    }
}

impl Reconciler for ConfigReconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(config) = self.configs.get(key) else { return Ok(Outcome::Settled) };
        // Without a machine there is nothing to do: its appearance wakes us.
        let Some(facts) = self.observe(config) else { return Ok(Outcome::Settled) };
        let step = decide(&facts);
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

/// Index values of a machine: its bootstrap object.
pub fn by_config(machine: &Machine) -> Vec<String> {
    config_of(machine).map(|key| key.to_string()).into_iter().collect()
}

/// The `KubeadmConfig` that a machine refers to.
fn config_of(machine: &Machine) -> Option<ObjectKey> {
    let reference = machine.spec.bootstrap.config_ref.as_ref()?;
    let is_ours = reference.api_group == v1beta2::GROUP && reference.kind == "KubeadmConfig";
    is_ours.then(|| ObjectKey::new(machine.namespace().unwrap_or_default(), &reference.name))
}

/// A machine wakes its config.
pub fn woken_by_machine(old: Option<&Machine>, new: Option<&Machine>) -> Vec<ObjectKey> {
    new.or(old).and_then(config_of).into_iter().collect()
}

/// A cluster wakes the configs of its machines when something they wait for changes.
pub fn woken_by_cluster(machines: &Informer<Machine>, old: Option<&Cluster>, new: Option<&Cluster>) -> Vec<ObjectKey> {
    let facts = |cluster: &Cluster| {
        (
            cluster.spec.paused,
            cluster.is_infrastructure_provisioned(),
            cluster_api::conditions::is_true(cluster.conditions(), "ControlPlaneInitialized"),
            cluster.spec.control_plane_endpoint.clone(),
        )
    };
    let Some(cluster) = new else { return Vec::new() };
    if old.is_some_and(|old| facts(old) == facts(cluster)) {
        return Vec::new();
    }
    let of_cluster = machines.by_index(BY_CLUSTER, &ObjectKey::of(cluster).to_string());
    of_cluster.iter().filter_map(|machine| config_of(machine)).collect()
}
