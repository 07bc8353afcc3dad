//! An infrastructure provider without peculiarities: it gives each machine a host that boots with its boot data.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Model, workload::WorkloadCluster};
use crate::{
    chance::Chance,
    kinds::{CLUSTER, MACHINE, SECRET, SIM_CLUSTER, SIM_MACHINE},
    store::{Store, finalizers, flag, is_deleting, items, secret_value, text},
};

const FINALIZER: &str = "infrastructure.cluster.x-k8s.io/sim";

/// Shortest and longest time that something takes, unless it is the one slow machine.
const TAKES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// The model infrastructure.
pub struct Infrastructure {
    store: Store,
    workload: Arc<WorkloadCluster>,
    chance: Chance,
    /// When what is being made is done, by kind and name.
    due: BTreeMap<String, Instant>,
    /// Whether one machine, the first that chance picks, takes very long to be made.
    one_is_slow: bool,
    /// How long that is.
    slow: Duration,
}

impl Infrastructure {
    /// Over these objects; its hosts run in the workload cluster. In some worlds one machine takes as long as `slow`.
    pub fn new(store: Store, workload: Arc<WorkloadCluster>, chance: Chance, slow: Duration) -> Self {
        let one_is_slow = chance.once_in(6);
        Self { store, workload, chance, due: BTreeMap::new(), one_is_slow, slow }
    }

    /// Whether something that was begun is done; begins it where it was not.
    fn is_done(&mut self, what: &str) -> bool {
        let now = Instant::now();
        if !self.due.contains_key(what) {
            let is_slow = self.one_is_slow && what.starts_with("machine ") && self.chance.once_in(2);
            self.one_is_slow &= !is_slow;
            let takes = if is_slow { self.slow } else { self.chance.between(TAKES.0, TAKES.1) };
            self.due.insert(what.to_owned(), now + takes);
        }
        self.due[what] <= now
    }

    fn cluster(&mut self, cluster: &Value) {
        let name = text(cluster, "/metadata/name");
        if is_deleting(cluster) {
            return self.release(SIM_CLUSTER, cluster);
        }
        if !flag(cluster, "/status/initialization/provisioned") && self.is_done(&format!("cluster {name}")) {
            self.hold(SIM_CLUSTER, cluster);
            let endpoint = json!({"host": "10.0.0.1", "port": 6443});
            self.store.merge(SIM_CLUSTER, name, json!({"spec": {"controlPlaneEndpoint": endpoint}}));
            self.store.merge_status(SIM_CLUSTER, name, json!({"initialization": {"provisioned": true}}));
        }
    }

    fn machine(&mut self, machine: &Value) {
        let name = text(machine, "/metadata/name");
        if is_deleting(machine) {
            if self.is_done(&format!("end of {name}")) {
                let ends = self.store.get(CLUSTER, "c").is_none_or(|cluster| is_deleting(&cluster));
                if ends {
                    self.workload.power_off(name);
                } else {
                    self.workload.take_away(name);
                }
                self.release(SIM_MACHINE, machine);
            }
            return;
        }
        if flag(machine, "/status/initialization/provisioned") {
            return;
        }
        let owner = items(machine, "/metadata/ownerReferences").find(|owner| owner["kind"] == "Machine");
        let Some(owner) = owner.and_then(|owner| self.store.get(MACHINE, text(owner, "/name"))) else { return };
        let secret = text(&owner, "/spec/bootstrap/dataSecretName");
        if secret.is_empty() {
            return;
        }
        self.hold(SIM_MACHINE, machine);
        if !self.is_done(&format!("machine {name}")) {
            return;
        }
        // A host reads its boot data once.
        let Some(secret) = self.store.get(SECRET, secret) else { return };
        let id = format!("sim://{name}");
        self.workload.power_on(name, &id, &secret_value(&secret, "value"));
        self.store.merge(SIM_MACHINE, name, json!({"spec": {"providerID": id}}));
        self.store.merge_status(SIM_MACHINE, name, json!({"initialization": {"provisioned": true}}));
    }

    fn hold(&self, kind: crate::store::Kind, object: &Value) {
        let mut held = finalizers(object);
        if !held.contains(&FINALIZER) {
            held.push(FINALIZER);
            self.store.merge(kind, text(object, "/metadata/name"), json!({"metadata": {"finalizers": held}}));
        }
    }

    fn release(&self, kind: crate::store::Kind, object: &Value) {
        let kept: Vec<_> = finalizers(object).into_iter().filter(|held| *held != FINALIZER).collect();
        self.store.merge(kind, text(object, "/metadata/name"), json!({"metadata": {"finalizers": kept}}));
    }
}

impl Model for Infrastructure {
    fn step(&mut self) -> Option<Duration> {
        for cluster in self.store.list(SIM_CLUSTER) {
            self.cluster(&cluster);
        }
        for machine in self.store.list(SIM_MACHINE) {
            self.machine(&machine);
        }
        let now = Instant::now();
        self.due.values().filter(|due| **due > now).min().map(|due| *due - now)
    }
}
