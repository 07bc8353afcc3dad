//! The `DCSMachine` controller: observe → decide → (read what it needs → decide) → act → status.

mod act;
mod decide;
mod permits;
pub mod record;
mod request;
mod status;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use cluster_api::{
    labels, owner, paused,
    v1beta2::{Cluster, GROUP as CORE, Machine},
};
use dcs_proto::{MachineError, error::Reason, v1};
use kube::ResourceExt;
use manager::{
    Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler, Writer, clock::Clock, fault,
    secrets::SecretCache,
};

pub use act::EFFECTS;
pub use decide::types;
use decide::{Facts, Plan, Read, Reading, Step, Verdict, decide};
pub use record::Record;
pub use request::volume_name;

use crate::{
    api::{DCSCluster, DCSIpHostnamePool, DCSMachine, GROUP},
    management::Management,
    site::Sites,
};

/// Index of `DCSMachine`s by the name of their pool: `namespace/name`.
pub const BY_POOL: &str = "pool";
/// Index of `DCSMachine`s by the name of their cluster: `namespace/name`.
pub const BY_CLUSTER: &str = "cluster";

/// Reads at the site before one decision; each narrows what is unknown, so more would be a loop.
const READS: usize = 4;

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
    sites: Sites,
    management: Arc<Management>,
}

/// What one pass sees, shared and immutable.
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

    fn cluster_name(&self) -> Option<String> {
        self.machine.labels().get(labels::CLUSTER_NAME).cloned()
    }
}

impl MachineReconciler {
    /// A reconciler over these caches.
    pub fn new(manager: &Manager, caches: Caches, sites: Sites, management: Arc<Management>) -> Self {
        Self { caches, writer: manager.writer(), secrets: manager.secrets(), clock: manager.clock(), sites, management }
    }

    fn observe(&self, machine: Arc<DCSMachine>, record: Record) -> Scene {
        let key = ObjectKey::of(&*machine);
        let owner = owner::of_kind(&machine.metadata, CORE, "Machine")
            .and_then(|owner| self.caches.owners.get(&key.sibling(&owner.name)));
        let cluster_name = owner
            .as_ref()
            .map(|owner| owner.spec.cluster_name.clone())
            .or_else(|| machine.labels().get(labels::CLUSTER_NAME).cloned());
        let cluster = cluster_name.and_then(|name| self.caches.clusters.get(&key.sibling(name)));
        let infra = cluster
            .as_ref()
            .and_then(|cluster| cluster.spec.infrastructure_ref.as_ref())
            .and_then(|reference| self.caches.infras.get(&key.sibling(&reference.name)));
        let pool = self.caches.pools.get(&key.sibling(&machine.spec.ip_host_pool_ref.name));
        Scene { key, machine, record, owner, cluster, infra, pool }
    }

    /// Addresses that the other machines of the namespace record, whatever pool they took them from.
    fn recorded(&self, scene: &Scene) -> BTreeSet<String> {
        let pool = scene.key.sibling(&scene.machine.spec.ip_host_pool_ref.name).to_string();
        let others = self.caches.machines.by_index(BY_POOL, &pool);
        let others = others.iter().filter(|other| other.name_any() != scene.key.name);
        others.filter_map(|other| Record::of(other).ok()?.ip().map(str::to_owned)).collect()
    }

    /// Whether it is this machine's turn to be made, among all of its site.
    fn permit(&self, scene: &Scene) -> bool {
        let Some(infra) = &scene.infra else { return false };
        let site = site_of(infra);
        let sites: BTreeSet<ObjectKey> = self
            .caches
            .infras
            .all()
            .iter()
            .filter(|other| site_of(other) == site)
            .filter_map(|other| {
                Some(ObjectKey::new(other.namespace()?, other.labels().get(labels::CLUSTER_NAME)?.clone()))
            })
            .collect();
        let all = self.caches.machines.all();
        let here = all.iter().filter(|other| {
            let cluster = other.labels().get(labels::CLUSTER_NAME).cloned().unwrap_or_default();
            sites.contains(&ObjectKey::new(other.namespace().unwrap_or_default(), cluster))
        });
        permits::granted(&scene.machine, here.map(AsRef::as_ref), self.clock.now())
    }

    /// Decides, reading at the site what the decision needs.
    async fn decide(&self, scene: &Scene) -> Result<Plan, ReconcileError> {
        let mut facts = Facts {
            machine: &scene.machine,
            record: &scene.record,
            owner: scene.owner.as_deref(),
            cluster: scene.cluster.as_deref(),
            infra: scene.infra.as_deref(),
            pool: scene.pool.as_deref(),
            recorded: self.recorded(scene),
            permit: scene.record.attempt.is_some() || self.permit(scene),
            now: self.clock.now(),
            vm: Reading::Unread,
            found: Reading::Unread,
            task: Reading::Unread,
        };
        for _ in 0..READS {
            match decide(&facts) {
                Verdict::Plan(plan) => return Ok(plan),
                Verdict::Need(read) => self.read(scene, read, &mut facts).await?,
            }
        }
        Err(ReconcileError::new(manager::Category::Bug, "a decision asked for the same facts again"))
    }

    async fn read(&self, scene: &Scene, read: Read, facts: &mut Facts<'_>) -> Result<(), ReconcileError> {
        let site = match self.site(scene).await? {
            Ok(site) => site,
            Err((condition, _)) => {
                let error = MachineError::new(Reason::Credentials, condition.message);
                match read {
                    Read::Machine => facts.vm = Reading::Failed(error),
                    Read::Found => facts.found = Reading::Failed(error),
                    Read::Task => facts.task = Reading::Failed(error),
                }
                return Ok(());
            }
        };
        match read {
            Read::Machine => {
                let urn = scene.vm_urn();
                let answer = site.call(|mut client, session| {
                    let urn = urn.clone();
                    async move { client.get_machine(v1::GetMachineRequest { session, urn }).await }
                });
                facts.vm = match answer.await {
                    Ok(vm) => Reading::Known(Some(vm)),
                    Err(error) if error.reason == Reason::NotFound => Reading::Known(None),
                    Err(error) => Reading::Failed(error),
                };
            }
            Read::Found => {
                let attempt = scene.record.attempt.as_ref().map(|attempt| attempt.id.clone()).unwrap_or_default();
                let answer = site.call(|mut client, session| {
                    let attempt = attempt.clone();
                    let request = v1::FindMachinesRequest { session, attempt, ..v1::FindMachinesRequest::default() };
                    async move { client.find_machines(request).await }
                });
                facts.found = match answer.await {
                    Ok(found) => Reading::Known(found.machines),
                    Err(error) if error.reason == Reason::NotFound => Reading::Known(Vec::new()),
                    Err(error) => Reading::Failed(error),
                };
            }
            Read::Task => {
                let id = scene.record.task.as_ref().map(|task| task.id.clone()).unwrap_or_default();
                let answer = site.call(|mut client, session| {
                    let id = id.clone();
                    async move { client.get_task(v1::GetTaskRequest { session, id }).await }
                });
                facts.task = match answer.await {
                    Ok(task) => Reading::Known(task),
                    Err(error) => Reading::Failed(error),
                };
            }
        }
        Ok(())
    }

    async fn show(&self, scene: &Scene, said: &[cluster_api::conditions::Claim]) -> Result<(), ReconcileError> {
        let paused = paused::claim(scene.cluster.as_deref(), &scene.machine.metadata);
        let status = status::status(&scene.machine, &scene.record, paused, said, self.clock.now());
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

/// What tells sites apart: the deploy permits are per site.
fn site_of(infra: &DCSCluster) -> String {
    let credentials = || format!("{}/{}", infra.namespace().unwrap_or_default(), infra.spec.credential_secret_ref.name);
    infra.spec.site.clone().filter(|site| !site.is_empty()).unwrap_or_else(credentials)
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
pub fn woken_by_pool(machines: &Informer<DCSMachine>, pool: Option<&DCSIpHostnamePool>) -> Vec<ObjectKey> {
    let Some(pool) = pool else { return Vec::new() };
    let of_pool = machines.by_index(BY_POOL, &ObjectKey::of(pool).to_string());
    // A provisioned machine waits for nothing there; one that goes waits for its release.
    let waiting =
        |machine: &DCSMachine| machine.spec.provider_id.is_none() || machine.metadata.deletion_timestamp.is_some();
    of_pool.iter().filter(|machine| waiting(machine)).map(|machine| ObjectKey::of(&**machine)).collect()
}

/// All machines of a cluster.
pub fn woken_by_cluster(machines: &Informer<DCSMachine>, cluster: &ObjectKey) -> Vec<ObjectKey> {
    machines.by_index(BY_CLUSTER, &cluster.to_string()).iter().map(|machine| ObjectKey::of(&**machine)).collect()
}
