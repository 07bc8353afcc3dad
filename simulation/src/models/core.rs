//! Core Cluster API, as far as providers can tell: owners, references, boot data, nodes, phases of a deletion.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Model, workload::WorkloadCluster};
use crate::{
    kinds::{CLUSTER, MACHINE, referred},
    store::{Kind, Store, at, finalizers, flag, is_deleting, text},
};

/// Finalizers of core.
const CLUSTER_FINALIZER: &str = "cluster.cluster.x-k8s.io";
const MACHINE_FINALIZER: &str = "machine.cluster.x-k8s.io";
/// Label of everything that belongs to a cluster.
const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
const CONTROL_PLANE: &str = "cluster.x-k8s.io/control-plane";
/// Prefix of annotations that hold a machine's deletion before its infrastructure goes.
const HOOK: &str = "pre-terminate.delete.hook.machine.cluster.x-k8s.io";

/// Core's controllers.
pub struct Core {
    store: Store,
    workload: Arc<WorkloadCluster>,
    /// What was there to be seen at the last look.
    seen: Option<Seen>,
}

/// All that a look depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Version of the management cluster.
    management: u64,
    /// Version of the workload cluster.
    workload: u64,
    is_silent: bool,
    has_hosts: bool,
}

impl Core {
    /// Core over these objects, and what it can reach of the workload cluster.
    pub fn new(store: Store, workload: Arc<WorkloadCluster>) -> Self {
        Self { store, workload, seen: None }
    }

    fn look(&self) -> Seen {
        Seen {
            management: self.store.server().version(),
            workload: self.workload.store().server().version(),
            is_silent: self.workload.is_silent(),
            has_hosts: self.workload.has_hosts(),
        }
    }

    fn cluster(&self, cluster: &Value) {
        let name = text(cluster, "/metadata/name");
        if is_deleting(cluster) {
            return self.delete_cluster(cluster);
        }
        self.hold(CLUSTER, cluster, CLUSTER_FINALIZER);
        let infrastructure = self.follow(cluster, "/spec/infrastructureRef");
        let control_plane = self.follow(cluster, "/spec/controlPlaneRef");
        for (kind, object) in infrastructure.iter().chain(&control_plane) {
            self.own(*kind, object, CLUSTER, cluster, name);
        }
        if let Some((_, infrastructure)) = &infrastructure {
            let is_provisioned = flag(infrastructure, "/status/initialization/provisioned");
            if is_provisioned && !flag(cluster, "/status/initialization/infrastructureProvisioned") {
                if let Some(endpoint) = at(infrastructure, "/spec/controlPlaneEndpoint") {
                    self.store.merge(CLUSTER, name, json!({"spec": {"controlPlaneEndpoint": endpoint}}));
                }
                let status = json!({"initialization": {"infrastructureProvisioned": true}});
                self.store.merge_status(CLUSTER, name, status);
            }
        }
        let is_initialized = match &control_plane {
            Some((_, control_plane)) => flag(control_plane, "/status/initialization/controlPlaneInitialized"),
            None => self
                .machines(name)
                .iter()
                .any(|machine| is_control_plane(machine) && !text(machine, "/status/nodeRef/name").is_empty()),
        };
        if is_initialized && !flag(cluster, "/status/initialization/controlPlaneInitialized") {
            self.store.merge_status(CLUSTER, name, json!({"initialization": {"controlPlaneInitialized": true}}));
        }
    }

    /// Workers first, then the control plane, then the infrastructure.
    fn delete_cluster(&self, cluster: &Value) {
        let name = text(cluster, "/metadata/name");
        let machines = self.machines(name);
        let control_plane = self.follow(cluster, "/spec/controlPlaneRef");
        let uid = control_plane.as_ref().map(|(_, object)| text(object, "/metadata/uid")).unwrap_or_default();
        let (owned, standalone): (Vec<_>, Vec<_>) =
            machines.iter().partition(|machine| control_plane.is_some() && controller(machine) == Some(uid));
        let (last, workers): (Vec<_>, Vec<_>) = standalone.into_iter().partition(|machine| is_control_plane(machine));
        for waiting in [workers, last] {
            for machine in &waiting {
                self.store.delete(MACHINE, text(machine, "/metadata/name"));
            }
            if !waiting.is_empty() {
                return;
            }
        }
        for reference in ["/spec/controlPlaneRef", "/spec/infrastructureRef"] {
            if let Some((kind, object)) = self.follow(cluster, reference) {
                self.store.delete(kind, text(&object, "/metadata/name"));
                return;
            }
        }
        if owned.is_empty() {
            self.release(CLUSTER, cluster, CLUSTER_FINALIZER);
        }
    }

    fn machine(&self, machine: &Value) {
        let name = text(machine, "/metadata/name");
        let cluster_name = text(machine, "/spec/clusterName");
        let Some(cluster) = self.store.get(CLUSTER, cluster_name) else { return };
        if is_deleting(machine) {
            return self.delete_machine(machine);
        }
        self.hold(MACHINE, machine, MACHINE_FINALIZER);
        if controller(machine).is_none() {
            self.own(MACHINE, machine, CLUSTER, &cluster, cluster_name);
        }
        let config = self.follow(machine, "/spec/bootstrap/configRef");
        let infrastructure = self.follow(machine, "/spec/infrastructureRef");
        for (kind, object) in config.iter().chain(&infrastructure) {
            self.own(*kind, object, MACHINE, machine, cluster_name);
            if is_control_plane(machine)
                && at(object, "/metadata/labels").is_none_or(|all| all.get(CONTROL_PLANE).is_none())
            {
                let labels = json!({"metadata": {"labels": {CONTROL_PLANE: ""}}});
                self.store.merge(*kind, text(object, "/metadata/name"), labels);
            }
        }
        if let Some((_, config)) = &config
            && flag(config, "/status/initialization/dataSecretCreated")
            && text(machine, "/spec/bootstrap/dataSecretName").is_empty()
        {
            let secret = text(config, "/status/dataSecretName");
            self.store.merge(MACHINE, name, json!({"spec": {"bootstrap": {"dataSecretName": secret}}}));
            self.store.merge_status(MACHINE, name, json!({"initialization": {"bootstrapDataSecretCreated": true}}));
        }
        if let Some((_, infrastructure)) = &infrastructure
            && flag(infrastructure, "/status/initialization/provisioned")
            && !flag(machine, "/status/initialization/infrastructureProvisioned")
        {
            let id = text(infrastructure, "/spec/providerID");
            self.store.merge(MACHINE, name, json!({"spec": {"providerID": id}}));
            self.store.merge_status(MACHINE, name, json!({"initialization": {"infrastructureProvisioned": true}}));
        }
        let id = text(machine, "/spec/providerID");
        if text(machine, "/status/nodeRef/name").is_empty()
            && !id.is_empty()
            && let Some(node) = self.workload.node_of(id)
        {
            self.store.merge_status(MACHINE, name, json!({"nodeRef": {"name": node}}));
        }
    }

    fn delete_machine(&self, machine: &Value) {
        let annotations = at(machine, "/metadata/annotations").and_then(Value::as_object);
        let is_held = annotations.is_some_and(|all| all.keys().any(|key| key.starts_with(HOOK)));
        let reason = if is_held { "WaitingForPreTerminateHook" } else { "WaitingForInfrastructureDeletion" };
        self.say_deleting(machine, reason);
        if is_held {
            return;
        }
        let mut waits = false;
        for reference in ["/spec/infrastructureRef", "/spec/bootstrap/configRef"] {
            if let Some((kind, object)) = self.follow(machine, reference) {
                self.store.delete(kind, text(&object, "/metadata/name"));
                waits = true;
            }
        }
        if waits {
            return;
        }
        let node = text(machine, "/status/nodeRef/name");
        // A cluster that goes takes its nodes along.
        let cluster = self.store.get(CLUSTER, text(machine, "/spec/clusterName"));
        let stays = cluster.is_some_and(|cluster| !is_deleting(&cluster));
        if stays && !node.is_empty() && !self.workload.delete_node(node) {
            return;
        }
        self.release(MACHINE, machine, MACHINE_FINALIZER);
    }

    fn say_deleting(&self, machine: &Value, reason: &str) {
        let conditions = at(machine, "/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let shown = conditions.iter().find(|condition| condition["type"] == "Deleting");
        if shown.is_some_and(|shown| shown["reason"] == reason) {
            return;
        }
        let mut conditions: Vec<_> =
            conditions.into_iter().filter(|condition| condition["type"] != "Deleting").collect();
        conditions.push(json!({
            "type": "Deleting", "status": "True", "reason": reason, "message": "",
            "lastTransitionTime": self.store.now(),
        }));
        // Under the version that was read: a control plane provider writes conditions too.
        let patch = json!({
            "metadata": {"resourceVersion": text(machine, "/metadata/resourceVersion")},
            "status": {"conditions": conditions},
        });
        self.store.merge_status_guarded(MACHINE, text(machine, "/metadata/name"), patch);
    }

    fn machines(&self, cluster: &str) -> Vec<Arc<Value>> {
        let all = self.store.list(MACHINE);
        all.into_iter().filter(|machine| text(machine, "/spec/clusterName") == cluster).collect()
    }

    /// The object that a reference leads to.
    fn follow(&self, object: &Value, pointer: &str) -> Option<(Kind, Arc<Value>)> {
        let reference = at(object, pointer)?;
        let kind = referred(reference)?;
        Some((kind, self.store.get(kind, text(reference, "/name"))?))
    }

    fn hold(&self, kind: Kind, object: &Value, finalizer: &str) {
        let mut held = finalizers(object);
        if !held.contains(&finalizer) {
            held.push(finalizer);
            self.store.merge(kind, text(object, "/metadata/name"), json!({"metadata": {"finalizers": held}}));
        }
    }

    fn release(&self, kind: Kind, object: &Value, finalizer: &str) {
        let kept: Vec<_> = finalizers(object).into_iter().filter(|held| *held != finalizer).collect();
        self.store.merge(kind, text(object, "/metadata/name"), json!({"metadata": {"finalizers": kept}}));
    }

    /// Makes one object the controller of another, and says which cluster that belongs to.
    fn own(&self, kind: Kind, object: &Value, owner_kind: Kind, owner: &Value, cluster: &str) {
        let uid = text(owner, "/metadata/uid");
        let owners = at(object, "/metadata/ownerReferences").and_then(Value::as_array);
        let is_labelled = at(object, "/metadata/labels").is_some_and(|all| all.get(CLUSTER_NAME).is_some());
        let is_controller = |owner: &Value| owner["uid"] == uid && owner["controller"] == true;
        if is_labelled && owners.is_some_and(|owners| owners.iter().any(is_controller)) {
            return;
        }
        // Whoever else controlled it (a control plane object its parts) stays an owner, and controls no more.
        let mut others: Vec<Value> =
            owners.into_iter().flatten().filter(|owner| owner["uid"] != uid).cloned().collect();
        for other in &mut others {
            if let Some(fields) = other.as_object_mut() {
                fields.remove("controller");
            }
        }
        others.push(json!({
            "apiVersion": owner_kind.api_version(), "kind": owner_kind.kind, "name": text(owner, "/metadata/name"),
            "uid": uid, "controller": true, "blockOwnerDeletion": true,
        }));
        let patch = json!({"metadata": {"ownerReferences": others, "labels": {CLUSTER_NAME: cluster}}});
        self.store.merge(kind, text(object, "/metadata/name"), patch);
    }
}

impl Model for Core {
    fn step(&mut self) -> Option<Duration> {
        // Who sees what it saw the last time has done already what is to be done.
        let seen = self.look();
        if self.seen.replace(seen) != Some(seen) {
            for machine in self.store.list(MACHINE) {
                self.machine(&machine);
            }
            for cluster in self.store.list(CLUSTER) {
                self.cluster(&cluster);
            }
        }
        // A workload cluster begins to answer again without a change, which wakes nobody here.
        Some(Duration::from_secs(10))
    }
}

/// UID of the controller of an object.
fn controller(object: &Value) -> Option<&str> {
    let owners = at(object, "/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

/// Whether a machine belongs to the control plane.
pub fn is_control_plane(machine: &Value) -> bool {
    at(machine, "/metadata/labels").is_some_and(|labels| labels.get(CONTROL_PLANE).is_some())
}
