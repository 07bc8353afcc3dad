//! The `DCSMachine` controller: observe → decide → (read what it needs → decide) → act → status.

mod act;
mod boot_data;
mod console;
mod decide;
mod looks;
mod media;
mod observe;
mod permits;
pub mod record;
mod request;
mod status;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use cluster_api::{
    conditions::Claim,
    labels, paused,
    v1beta2::{Cluster, Machine},
};
use jiff::Timestamp;
use kube::ResourceExt;
use manager::{
    Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler, Writer, clock::Clock, fault, random::Random,
    secrets::SecretCache,
};

pub use act::EFFECTS;
pub use decide::types;
use decide::{Plan, Step};
use looks::Looks;
pub use record::{Record, Wish};
pub use request::{template as template_request, volume_placement as placement_request};

use crate::{
    api::{DCSCluster, DCSIpHostnamePool, DCSMachine, GROUP},
    disks::standing,
    management::Management,
    site::Sites,
};

/// Index of `DCSMachine`s by the name of their pool: `namespace/name`.
pub const BY_POOL: &str = "pool";
/// Index of `DCSMachine`s by the name of their cluster: `namespace/name`.
pub const BY_CLUSTER: &str = "cluster";
/// Index of `DCSMachine`s by the task at the site that they wait for.
pub const BY_TASK: &str = "task";
/// Index of `DCSMachine`s that are being made or wait for that, all under one value.
pub const BY_QUEUE: &str = "queue";

/// The caches that this controller reads.
#[derive(Clone)]
pub struct Caches {
    /// `DCSMachine`s.
    pub machines: Informer<DCSMachine>,
    /// `DCSCluster`s.
    pub infras: Informer<DCSCluster>,
    /// Pools.
    pub pools: Informer<DCSIpHostnamePool>,
    /// Core's Machines.
    pub owners: Informer<Machine>,
    /// Core's Clusters.
    pub clusters: Informer<Cluster>,
}

/// Reconciles `DCSMachine`s.
pub struct MachineReconciler {
    caches: Caches,
    writer: Writer,
    secrets: SecretCache,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sites: Sites,
    management: Arc<Management>,
    looks: Looks,
}

/// What one pass sees, shared and immutable.
#[derive(Clone)]
struct Scene {
    key: ObjectKey,
    machine: Arc<DCSMachine>,
    record: Record,
    owner: Option<Arc<Machine>>,
    cluster: Option<Arc<Cluster>>,
    infra: Option<Arc<DCSCluster>>,
    pool: Option<Arc<DCSIpHostnamePool>>,
}

impl Scene {
    fn vm_urn(&self) -> String {
        self.machine.spec.vm_urn.clone().unwrap_or_default()
    }

    /// The failure domain that its Machine names: a compute cluster.
    fn failure_domain(&self) -> Option<&str> {
        self.owner.as_deref().map(|owner| owner.spec.failure_domain.as_str()).filter(|name| !name.is_empty())
    }

    fn cluster_name(&self) -> Option<String> {
        self.machine.labels().get(labels::CLUSTER_NAME).cloned()
    }

    /// What the pool says of the disks of its entry; none when there are none.
    fn disks(&self) -> Option<Claim> {
        standing::condition(self.pool.as_deref(), self.record.ip()?, self.machine.spec.vm_urn.as_deref())
    }
}

impl MachineReconciler {
    /// A reconciler over these caches.
    pub fn new(manager: &Manager, caches: Caches, sites: Sites, management: Arc<Management>) -> Self {
        Self {
            caches,
            writer: manager.writer(),
            secrets: manager.secrets(),
            clock: manager.clock(),
            random: manager.random(),
            sites,
            management,
            looks: Looks::default(),
        }
    }

    async fn show(&self, scene: &Scene, said: &[Claim]) -> Result<(), ReconcileError> {
        let paused = paused::claim(scene.cluster.as_deref(), &scene.machine.metadata);
        let mut said = said.to_vec();
        if !said.iter().any(|claim| claim.type_ == types::DISKS) {
            said.extend(scene.disks());
        }
        let status = status::status(&scene.machine, &scene.record, paused, &said, self.clock.now());
        fault::around("machine-status", self.writer.apply_status(&*scene.machine, &status)).await
    }
}

impl Reconciler for MachineReconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(machine) = self.caches.machines.get(key) else { return Ok(Outcome::Settled) };
        let record = match Record::of(&machine) {
            Ok(record) => record,
            Err(reason) => return Err(ReconcileError::new(manager::Category::Terminal, reason)),
        };
        let scene = self.observe(machine, record);
        if paused::is_paused(scene.cluster.as_deref(), &scene.machine.metadata) {
            let said = status::kept(&scene.machine);
            self.show(&scene, &said).await?;
            return Ok(Outcome::Settled);
        }
        let Plan { step, mut conditions, mut again } = self.decide(&scene).await?;
        tracing::debug!(?step, "Decided.");
        let waits = step == Step::Wait;
        let gone = step == Step::RemoveFinalizer;
        if let Some((condition, after)) = self.act(&scene, step).await? {
            conditions.retain(|known| known.type_ != condition.type_);
            conditions.push(condition);
            again = Some(after);
        } else if gone || (!waits && conditions.is_empty()) {
            // The next pass comes at once and sees what was written; it says what is waited for then.
            return Ok(outcome(again));
        }
        self.show(&scene, &conditions).await?;
        Ok(outcome(again))
    }
}

fn outcome(again: Option<Duration>) -> Outcome {
    again.map_or(Outcome::Settled, Outcome::Requeue)
}

/// Index values of a machine: its pool.
pub fn by_pool(machine: &DCSMachine) -> Vec<String> {
    let namespace = machine.namespace().unwrap_or_default();
    vec![ObjectKey::new(namespace, machine.spec.ip_host_pool_ref.name.clone()).to_string()]
}

/// Index values of a machine: its cluster.
pub fn by_cluster(machine: &DCSMachine) -> Vec<String> {
    let namespace = machine.namespace().unwrap_or_default();
    let name = machine.labels().get(labels::CLUSTER_NAME);
    name.map(|name| ObjectKey::new(namespace, name.clone()).to_string()).into_iter().collect()
}

/// Index values of a machine: the task that it waits for.
pub fn by_task(machine: &DCSMachine) -> Vec<String> {
    Record::of(machine).ok().and_then(|record| record.task).map(|task| task.id).into_iter().collect()
}

/// Index values of a machine: the queue, while it is in it.
pub fn by_queue(machine: &DCSMachine) -> Vec<String> {
    permits::queues(machine).then(|| BY_QUEUE.to_owned()).into_iter().collect()
}

/// The machines whose turn it is once another of their site has been made.
pub fn woken_by_permit(
    caches: &Caches,
    old: Option<&DCSMachine>,
    new: Option<&DCSMachine>,
    now: Timestamp,
) -> Vec<ObjectKey> {
    let Some(old) = old.filter(|old| permits::frees(old, new, now)) else { return Vec::new() };
    let Some(infra) = caches.infra_of(old) else { return Vec::new() };
    let queue = caches.queue(&infra);
    permits::next(queue.iter().map(AsRef::as_ref), now).into_iter().map(ObjectKey::of).collect()
}

/// The `DCSMachine` of a Machine.
pub fn woken_by_owner(old: Option<&Machine>, new: Option<&Machine>) -> Vec<ObjectKey> {
    let facts = |machine: &Machine| {
        (
            machine.spec.bootstrap.data_secret_name.clone(),
            machine.node_name().is_some(),
            machine.is_deleting(),
            machine.metadata.annotations.clone(),
        )
    };
    if let (Some(old), Some(new)) = (old, new)
        && facts(old) == facts(new)
    {
        return Vec::new();
    }
    let Some(machine) = new.or(old) else { return Vec::new() };
    let reference = &machine.spec.infrastructure_ref;
    if reference.api_group != GROUP || reference.kind != "DCSMachine" {
        return Vec::new();
    }
    vec![ObjectKey::new(machine.namespace().unwrap_or_default(), reference.name.clone())]
}

/// The machines that wait for something of a pool.
pub fn woken_by_pool(
    machines: &Informer<DCSMachine>,
    old: Option<&DCSIpHostnamePool>,
    pool: Option<&DCSIpHostnamePool>,
) -> Vec<ObjectKey> {
    let Some(pool) = pool else { return Vec::new() };
    let of_pool = machines.by_index(BY_POOL, &ObjectKey::of(pool).to_string());
    // A provisioned machine only shows its disks; one that goes waits for its release.
    let shows_others = |machine: &DCSMachine| {
        let (record, vm) = (Record::of(machine).unwrap_or_default(), machine.spec.vm_urn.as_deref());
        let condition = |pool| record.ip().and_then(|ip| standing::condition(pool, ip, vm));
        condition(old) != condition(Some(pool))
    };
    let waiting = |machine: &DCSMachine| {
        machine.spec.provider_id.is_none() || machine.metadata.deletion_timestamp.is_some() || shows_others(machine)
    };
    of_pool.iter().filter(|machine| waiting(machine)).map(|machine| ObjectKey::of(&**machine)).collect()
}

/// All machines of a cluster.
pub fn woken_by_cluster(machines: &Informer<DCSMachine>, cluster: &ObjectKey) -> Vec<ObjectKey> {
    machines.by_index(BY_CLUSTER, &cluster.to_string()).iter().map(|machine| ObjectKey::of(&**machine)).collect()
}
