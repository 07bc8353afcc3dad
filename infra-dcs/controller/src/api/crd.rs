//! The CRDs of this provider as they are installed, and the rights it needs.

use std::collections::BTreeMap;

use cluster_api::crd::{self, Definition};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{DCSCluster, DCSClusterTemplate, DCSIpHostnamePool, DCSMachine, DCSMachineTemplate, GROUP};

/// Label of what `clusterctl move` takes along though nothing owns it.
const MOVE: &str = "clusterctl.cluster.x-k8s.io/move";

/// All definitions, in the order of their names.
pub fn definitions() -> Vec<Value> {
    let mut pool = definition(&DCSIpHostnamePool::crd());
    // A pool serves machines and belongs to nobody; its claims and disks must not stay behind.
    pool["metadata"]["labels"][MOVE] = json!("");
    vec![
        definition(&DCSCluster::crd()),
        definition(&DCSClusterTemplate::crd()),
        pool,
        definition(&DCSMachine::crd()),
        definition(&DCSMachineTemplate::crd()),
    ]
}

fn definition(derived: &CustomResourceDefinition) -> Value {
    Definition::new(derived).contracts(&[("v1beta1", "v1beta1"), ("v1beta2", "v1beta1")]).into_value()
}

/// The `ClusterRoles`: the manager's own, and the one that core's rights aggregate.
pub fn roles() -> Vec<Value> {
    let kinds = ["dcsclusters", "dcsiphostnamepools", "dcsmachines", "dcsmachinetemplates"];
    let with = |suffix: &str| kinds.iter().map(|kind| format!("{kind}/{suffix}")).collect::<Vec<_>>();
    let (statuses, finalizers) = (with("status"), with("finalizers"));
    let texts = |owned: &'_ [String]| owned.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let own = [
        json!({"apiGroups": [GROUP], "resources": kinds, "verbs": ["get", "list", "patch", "update", "watch"]}),
        json!({"apiGroups": [GROUP], "resources": texts(&statuses), "verbs": ["get", "patch", "update"]}),
        json!({"apiGroups": [GROUP], "resources": texts(&finalizers), "verbs": ["update"]}),
        crd::rule(&["cluster.x-k8s.io"], &["clusters", "machines"], &["get", "list", "watch"]),
        // By name only: credentials, boot data, certificate authority, encryption keys. Created: encryption keys.
        crd::rule(&[""], &["secrets"], &["create", "get"]),
        // The UID of kube-system marks what is made at a site.
        crd::rule(&[""], &["namespaces"], &["get"]),
        // Who asks for metrics and diagnostics is asked of the API server.
        crd::rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        crd::rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        crd::rule(&["", "events.k8s.io"], &["events"], &["create", "patch"]),
        crd::rule(&["coordination.k8s.io"], &["leases"], &["create", "get", "patch", "update"]),
    ];
    let everything = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let aggregated = [
        json!({"apiGroups": [GROUP], "resources": kinds, "verbs": everything}),
        json!({"apiGroups": [GROUP], "resources": texts(&statuses), "verbs": ["get", "patch", "update"]}),
        // Of classes; core makes clusters from them.
        crd::rule(&[GROUP], &["dcsclustertemplates"], &["get", "list", "patch", "update", "watch"]),
    ];
    vec![
        crd::cluster_role("capdcs-manager-role", &BTreeMap::new(), &own),
        crd::cluster_role(
            "capdcs-aggregated-role",
            &BTreeMap::from([("cluster.x-k8s.io/aggregate-to-manager", "true")]),
            &aggregated,
        ),
    ]
}
