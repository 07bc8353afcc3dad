//! Core's machine health checks: a machine whose node has been away for a while is to be replaced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Model, workload::WorkloadCluster};
use crate::{
    kinds::MACHINE,
    store::{Store, is_deleting, items, text},
};

/// How long a node may be away.
const AWAY: Duration = Duration::from_secs(60);

/// The health checks.
pub struct HealthCheck {
    store: Store,
    workload: Arc<WorkloadCluster>,
    away: BTreeMap<String, Instant>,
}

impl HealthCheck {
    /// Over all machines.
    pub fn new(store: Store, workload: Arc<WorkloadCluster>) -> Self {
        Self { store, workload, away: BTreeMap::new() }
    }

    fn machine(&mut self, machine: &Value, now: Instant) {
        let (name, node) = (text(machine, "/metadata/name"), text(machine, "/status/nodeRef/name"));
        if node.is_empty() || is_deleting(machine) || self.workload.has_host(node) {
            self.away.remove(name);
            return;
        }
        let since = *self.away.entry(name.to_owned()).or_insert(now);
        let is_said = items(machine, "/status/conditions").any(|condition| condition["type"] == "OwnerRemediated");
        if is_said || now.saturating_duration_since(since) < AWAY {
            return;
        }
        let mut conditions: Vec<_> = items(machine, "/status/conditions").cloned().collect();
        for (type_, reason) in [("HealthCheckSucceeded", "UnhealthyNode"), ("OwnerRemediated", "WaitingForRemediation")]
        {
            conditions.push(json!({
                "type": type_, "status": "False", "reason": reason, "message": "the node is away",
                "lastTransitionTime": self.store.now(),
            }));
        }
        // Under the version that was read: others write conditions too.
        let patch = json!({
            "metadata": {"resourceVersion": text(machine, "/metadata/resourceVersion")},
            "status": {"conditions": conditions},
        });
        self.store.merge_status_guarded(MACHINE, name, patch);
    }
}

impl Model for HealthCheck {
    fn step(&mut self) -> Option<Duration> {
        let now = Instant::now();
        for machine in self.store.list(MACHINE) {
            self.machine(&machine, now);
        }
        (!self.away.is_empty()).then_some(AWAY / 3)
    }
}
