//! The cluster's own components speak to its API server in the process: short words for that.

use std::sync::Arc;

use kube_model::{ApiError, DeleteParams, List, ListParams, Patch, Propagation, Server, Target, WriteParams};
use serde_json::Value;

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    group: &'static str,
    plural: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $group:literal $plural:literal;)*) => {
        $(#[doc = $plural] pub const $name: Kind = Kind { group: $group, plural: $plural };)*
    };
}

kinds! {
    NAMESPACES = "" "namespaces";
    NODES = "" "nodes";
    PODS = "" "pods";
    SECRETS = "" "secrets";
    CONFIG_MAPS = "" "configmaps";
    SERVICES = "" "services";
    SERVICE_ACCOUNTS = "" "serviceaccounts";
    DEPLOYMENTS = "apps" "deployments";
    REPLICA_SETS = "apps" "replicasets";
    DAEMON_SETS = "apps" "daemonsets";
    STATEFUL_SETS = "apps" "statefulsets";
    JOBS = "batch" "jobs";
    SIGNING_REQUESTS = "certificates.k8s.io" "certificatesigningrequests";
    LEASES = "coordination.k8s.io" "leases";
    ENDPOINTS = "" "endpoints";
    ENDPOINT_SLICES = "discovery.k8s.io" "endpointslices";
    BUDGETS = "policy" "poddisruptionbudgets";
    PRIORITY_CLASSES = "scheduling.k8s.io" "priorityclasses";
}

/// A component's view of the API.
#[derive(Clone, Copy)]
pub struct Api<'a> {
    server: &'a Server,
    manager: &'static str,
}

impl<'a> Api<'a> {
    /// Speaks as this field manager.
    pub fn new(server: &'a Server, manager: &'static str) -> Self {
        Self { server, manager }
    }

    /// The same API, spoken to by another.
    pub fn by(self, manager: &'static str) -> Self {
        Self { manager, ..self }
    }

    /// One object.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.server.get(&target(kind, namespace, name, ""), false).ok()
    }

    /// All objects of a kind; of one namespace unless that is empty.
    pub fn list(&self, kind: Kind, namespace: &str) -> Vec<Arc<Value>> {
        let listed = self.server.list(&target(kind, namespace, "", ""), &ListParams::default());
        listed.map(List::into_fields).unwrap_or_default()
    }

    /// Creates an object.
    pub fn create(&self, kind: Kind, namespace: &str, object: Value) -> Result<Arc<Value>, ApiError> {
        self.server.create(&target(kind, namespace, "", ""), object, &self.params())
    }

    /// Changes an object by a merge patch.
    pub fn merge(&self, kind: Kind, namespace: &str, name: &str, patch: Value) -> Result<Arc<Value>, ApiError> {
        let target = target(kind, namespace, name, "");
        self.server.patch(&target, &Patch::Merge(patch), &self.params()).map(|(object, _)| object)
    }

    /// Changes an object's status by a merge patch.
    pub fn merge_status(&self, kind: Kind, namespace: &str, name: &str, status: Value) -> Result<Arc<Value>, ApiError> {
        let target = target(kind, namespace, name, "status");
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        self.server.patch(&target, &patch, &self.params()).map(|(object, _)| object)
    }

    /// Decides about a request for a certificate.
    pub fn merge_approval(&self, name: &str, conditions: Value) -> Result<Arc<Value>, ApiError> {
        let target = target(SIGNING_REQUESTS, "", name, "approval");
        let patch = Patch::Merge(serde_json::json!({"status": {"conditions": conditions}}));
        self.server.patch(&target, &patch, &self.params()).map(|(object, _)| object)
    }

    /// Gives a pod its node; one that has one already keeps it.
    pub fn bind(&self, namespace: &str, name: &str, node: &str) {
        let binding = serde_json::json!({"target": {"kind": "Node", "name": node}});
        let _ = self.server.bind(&target(PODS, namespace, name, "binding"), &binding, false);
    }

    /// Deletes an object; one that is gone is a success.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str, grace_seconds: Option<i64>) {
        let params =
            DeleteParams { grace_seconds, propagation: Some(Propagation::Background), ..DeleteParams::default() };
        let _ = self.server.delete(&target(kind, namespace, name, ""), &params);
    }

    fn params(&self) -> WriteParams {
        WriteParams { manager: self.manager.to_owned(), ..WriteParams::default() }
    }
}

fn target(kind: Kind, namespace: &str, name: &str, subresource: &str) -> Target {
    Target {
        group: kind.group.into(),
        version: "v1".into(),
        plural: kind.plural.into(),
        namespace: namespace.into(),
        name: name.into(),
        subresource: subresource.into(),
    }
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Namespace of an object.
pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// UID of an object.
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Whether an object waits for its deletion.
pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether an object is controlled by the owner of this UID.
pub fn is_controlled_by(object: &Value, owner: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.into_iter().any(|reference| reference["uid"] == owner && reference["controller"] == true)
}

/// The reference to a controlling owner.
pub fn owner_reference(owner: &Value) -> Value {
    serde_json::json!([{
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": true,
        "blockOwnerDeletion": true,
    }])
}
