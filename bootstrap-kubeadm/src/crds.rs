//! The provider's CRDs and rights, as `cargo xtask gen` writes them.

use std::collections::BTreeMap;

use cluster_api::crd::{Definition, at, cluster_role, rule};
use kube::CustomResourceExt;
use kubeadm::api::{
    v1beta1,
    v1beta2::{KubeadmConfig, KubeadmConfigTemplate},
};
use serde_json::{Value, json};

const NAMESPACE: &str = "capi-kubeadm-bootstrap-system";
const SERVICE: &str = "capi-kubeadm-bootstrap-webhook-service";
const CONTRACTS: &[(&str, &str)] = &[("v1beta1", "v1beta1"), ("v1beta2", "v1beta2")];

/// `KubeadmConfig` and `KubeadmConfigTemplate`, in both versions.
pub fn definitions() -> Vec<Value> {
    let age = |kind: &str| {
        json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
               "description": format!("Time duration since creation of {kind}")})
    };
    let cluster = json!({"name": "Cluster", "type": "string", "description": "Cluster",
                         "jsonPath": ".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']"});
    let config = Definition::new(&KubeadmConfig::crd())
        .contracts(CONTRACTS)
        .converted_by(NAMESPACE, SERVICE)
        .refine(optional_spec)
        .older("v1beta1", true, json!([cluster, age("KubeadmConfig")]), |schema| {
            v1beta1::spec_schema(at(schema, &["properties", "spec"]));
            v1beta1::status_schema(at(schema, &["properties", "status"]));
        });
    let template = Definition::new(&KubeadmConfigTemplate::crd())
        .contracts(CONTRACTS)
        .converted_by(NAMESPACE, SERVICE)
        .refine(optional_spec)
        .older("v1beta1", true, json!([age("KubeadmConfigTemplate")]), |schema| {
            v1beta1::relax(schema);
            v1beta1::spec_schema(at(schema, &["properties", "spec", "properties", "template", "properties", "spec"]));
        });
    vec![config.into_value(), template.into_value()]
}

/// An object with metadata alone is a valid one: everything has a default.
fn optional_spec(schema: &mut Value) {
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("required");
    }
}

/// The manager's rights. Secrets are read and written by name alone.
pub fn roles() -> Vec<Value> {
    let read = &["get", "list", "watch"];
    let rules = [
        rule(&[""], &["secrets"], &["create", "get", "patch", "update"]),
        rule(&[""], &["configmaps"], &["create", "delete", "get"]),
        rule(&[""], &["events"], &["create", "patch"]),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        rule(&["bootstrap.cluster.x-k8s.io"], &["kubeadmconfigs"], &["get", "list", "patch", "watch"]),
        rule(&["bootstrap.cluster.x-k8s.io"], &["kubeadmconfigs/status"], &["get", "patch"]),
        // Owner references that block deletion need this where their permission is enforced.
        rule(&["bootstrap.cluster.x-k8s.io"], &["kubeadmconfigs/finalizers"], &["update"]),
        rule(&["cluster.x-k8s.io"], &["clusters", "machinepools", "machines"], read),
        // Templates in files may ask for the control plane's version. Other control plane providers grant the same.
        rule(&["controlplane.cluster.x-k8s.io"], &["kubeadmcontrolplanes"], &["get"]),
    ];
    vec![cluster_role("capi-kubeadm-bootstrap-manager-role", &BTreeMap::new(), &rules)]
}
