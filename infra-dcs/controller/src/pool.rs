//! The `DCSIpHostnamePool` controller: counters, the holders of entries, release of retained ones, the disks of its
//! entries, and the finalizer.

use std::sync::Arc;

use kube::ResourceExt;
use manager::{Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler, Writer, clock::Clock, fault};
use serde_json::{Value, json};

use crate::{
    api::{
        DCSIpHostnamePool, DCSIpHostnamePoolStatus, DCSMachine, POOL_FINALIZER,
        pool::{AllocationState, DiskPhase},
        settle_conditions,
    },
    claims,
    disks::{Disks, Shown},
    machine::{BY_POOL, Record},
};
use cluster_api::conditions::{Claim, types as common};

/// Every effect of this controller, for crash tests.
pub const EFFECTS: &[&str] = &["pool-release-retained", "pool-drop-claims", "pool-remove-finalizer", "pool-status"];

/// Reconciles pools.
pub struct PoolReconciler {
    pools: Informer<DCSIpHostnamePool>,
    machines: Informer<DCSMachine>,
    disks: Disks,
    writer: Writer,
    clock: Arc<dyn Clock>,
}

impl PoolReconciler {
    /// A reconciler over these caches.
    pub fn new(
        manager: &Manager,
        pools: Informer<DCSIpHostnamePool>,
        machines: Informer<DCSMachine>,
        disks: Disks,
    ) -> Self {
        Self { pools, machines, disks, writer: manager.writer(), clock: manager.clock() }
    }

    /// Claims of machines that are gone without having released them: somebody took their finalizer off by hand.
    async fn orphans(&self, pool: &DCSIpHostnamePool) -> Result<Vec<String>, ReconcileError> {
        let namespace = pool.namespace().unwrap_or_default();
        let mut orphans = Vec::new();
        for (ip, claim) in claims::of_pool(pool).iter().filter(|(_, claim)| !claim.retained) {
            let key = ObjectKey::new(namespace.clone(), claim.machine.clone());
            if self.machines.get(&key).is_none()
                // The cache may lag behind a claim: what cannot be undone is looked at live.
                && self.writer.api::<DCSMachine>(&namespace).get_opt(&claim.machine).await?.is_none()
            {
                orphans.push(ip.clone());
            }
        }
        Ok(orphans)
    }

    async fn write_claims(
        &self,
        effect: &'static str,
        pool: &DCSIpHostnamePool,
        claims: &claims::Claims,
    ) -> Result<(), ReconcileError> {
        let (name, value) = claims::annotation(claims);
        let patch = json!({"metadata": {"annotations": {name: value, claims::RELEASE: Value::Null}}});
        fault::around(effect, self.writer.merge(pool, patch)).await.map(drop)
    }

    async fn show(&self, pool: &DCSIpHostnamePool, shown: Shown) -> Result<(), ReconcileError> {
        let before = pool.status.clone().unwrap_or_default();
        let allocations = claims::allocations(pool);
        let free = allocations.iter().filter(|allocation| allocation.state == AllocationState::Free).count();
        let count = |number: usize| i64::try_from(number).ok();
        let disks = pool.spec.pool.iter().map(|entry| entry.persistent_disk.len()).sum();
        let failed = shown.statuses.iter().filter(|disk| disk.phase == Some(DiskPhase::Error)).count();
        let mut claims = vec![match shown.condition.as_ref().filter(|_| failed > 0) {
            _ if pool.metadata.deletion_timestamp.is_some() => {
                Claim::new(common::READY, false, "Deleting", waits_for(pool, &shown))
            }
            Some(condition) => Claim::new(common::READY, false, condition.reason.clone(), condition.message.clone()),
            None => Claim::holds(common::READY, "Ready"),
        }];
        claims.extend(shown.condition);
        let status = DCSIpHostnamePoolStatus {
            conditions: settle_conditions(&before.conditions, claims, pool.metadata.generation, self.clock.now()),
            total: count(allocations.len()),
            free: count(free),
            disks: count(disks),
            disk_errors: count(failed),
            allocations,
            persistent_disk_status: shown.statuses,
        };
        fault::around("pool-status", self.writer.apply_status(pool, &status)).await
    }
}

/// What keeps a pool that is being deleted.
fn waits_for(pool: &DCSIpHostnamePool, shown: &Shown) -> String {
    let held: Vec<String> =
        claims::of_pool(pool).iter().map(|(ip, claim)| format!("{ip} ({})", claim.machine)).collect();
    if !held.is_empty() {
        return format!("these entries are held: {}", held.join(", "));
    }
    let error = shown.statuses.iter().find_map(|disk| disk.last_error.as_deref()).unwrap_or_default();
    match (shown.remembered, error) {
        (0, _) => "waiting until its machines are gone".to_owned(),
        (count, "") => format!("{count} volumes are being deleted"),
        (count, error) => format!("{count} volumes are still to be deleted: {error}"),
    }
}

impl Reconciler for PoolReconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(pool) = self.pools.get(key) else { return Ok(Outcome::Settled) };
        if cluster_api::paused::is_paused(None, &pool.metadata) {
            return Ok(Outcome::Settled);
        }
        let held = claims::of_pool(&pool);
        if let Some(asked) = pool.annotations().get(claims::RELEASE) {
            let left = claims::without_released(&held, asked);
            self.write_claims("pool-release-retained", &pool, &left).await?;
            return Ok(Outcome::Requeue(std::time::Duration::ZERO));
        }
        let orphans = self.orphans(&pool).await?;
        if !orphans.is_empty() {
            let mut left = held;
            left.retain(|ip, _| !orphans.contains(ip));
            self.write_claims("pool-drop-claims", &pool, &left).await?;
            return Ok(Outcome::Requeue(std::time::Duration::ZERO));
        }
        let shown = self.disks.pass(&pool).await?;
        let again = shown.again;
        if pool.metadata.deletion_timestamp.is_some() && shown.remembered == 0 {
            let waiting = !self.machines.by_index(BY_POOL, &key.to_string()).is_empty();
            if held.is_empty() && !waiting {
                let removed = self.writer.remove_finalizer(&*pool, POOL_FINALIZER);
                fault::around("pool-remove-finalizer", removed).await?;
                return Ok(Outcome::Settled);
            }
        }
        self.show(&pool, shown).await?;
        Ok(again.map_or(Outcome::Settled, Outcome::Requeue))
    }
}

/// The pool of a machine that appears or goes, or wants something else of its disks.
pub fn woken_by_machine(old: Option<&DCSMachine>, new: Option<&DCSMachine>) -> Vec<ObjectKey> {
    let facts = |machine: &DCSMachine| {
        let record = Record::of(machine).unwrap_or_default();
        let media = record.media.as_ref().map(|media| (media.slots.clone(), media.detached));
        (
            record.ip().map(str::to_owned),
            record.disks,
            media,
            machine.spec.vm_urn.clone(),
            machine.spec.provider_id.clone(),
            machine.metadata.deletion_timestamp.is_some(),
            cluster_api::paused::is_paused(None, &machine.metadata),
        )
    };
    if let (Some(old), Some(new)) = (old, new)
        && facts(old) == facts(new)
    {
        return Vec::new();
    }
    let Some(machine) = new.or(old) else { return Vec::new() };
    vec![ObjectKey::of(machine).sibling(machine.spec.ip_host_pool_ref.name.clone())]
}
