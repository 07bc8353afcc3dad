//! Node objects, as kubelets and controllers write them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::{
    Corner,
    answer::{condition, items, name},
    checks,
};

checks! {
    Look: control_plane, workers, signing_requests;
}

async fn control_plane(c: &Corner) -> Result<Value> {
    of_role(c, true).await
}

async fn workers(c: &Corner) -> Result<Value> {
    of_role(c, false).await
}

/// The nodes of a role, each different one once.
async fn of_role(c: &Corner, is_control_plane: bool) -> Result<Value> {
    let mut kinds = BTreeSet::new();
    for known in c.subject.nodes.iter().filter(|node| node.is_control_plane == is_control_plane) {
        let node = c.get(&format!("/api/v1/nodes/{}", known.name)).await?.ok()?;
        ensure!(condition(&node, "Ready") == "True", "{} is not ready", known.name);
        let provider = node["spec"]["providerID"].as_str().unwrap_or_default();
        ensure!(provider.starts_with("dcs://"), "the provider id of {} is {provider:?}", known.name);
        let cidr = node["spec"]["podCIDR"].as_str().with_context(|| format!("{} has no pod CIDR", known.name))?;
        ensure!(cidr.ends_with(".0/24") && node["spec"]["podCIDRs"] == json!([cidr]), "pod CIDRs: {}", node["spec"]);
        kinds.insert(c.subject.canonical(&shown(&node)).to_string());
    }
    let kinds: Result<Vec<Value>, _> = kinds.iter().map(|kind| serde_json::from_str(kind)).collect();
    Ok(json!(kinds?))
}

/// A node without what its machine decides.
fn shown(node: &Value) -> Value {
    let keys = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
    let mut annotations = node["metadata"]["annotations"].clone();
    for (key, value) in annotations.as_object_mut().into_iter().flatten() {
        // Who owns the machine on the management side is the cluster's own.
        if key.starts_with("cluster.x-k8s.io/") && key.ends_with("-name") || key.ends_with("/machine") {
            *value = json!("…");
        }
    }
    let status = &node["status"];
    json!({
        "labels": node["metadata"]["labels"],
        "annotations": annotations,
        "finalizers": node["metadata"]["finalizers"],
        "taints": node["spec"]["taints"],
        "spec": keys(&node["spec"]),
        "status": keys(status),
        "addresses": status["addresses"],
        "capacity": keys(&status["capacity"]),
        "allocatable": keys(&status["allocatable"]),
        "conditions": status["conditions"],
        "daemonEndpoints": status["daemonEndpoints"],
        "kubelet": status["nodeInfo"]["kubeletVersion"],
        "runtime": status["nodeInfo"]["containerRuntimeVersion"],
        "system": [status["nodeInfo"]["operatingSystem"], status["nodeInfo"]["architecture"]],
        "nodeInfo": keys(&status["nodeInfo"]),
    })
}

/// What kubelets asked to be signed when they joined. The first machine's kubelet has what kubeadm gave it, and asks for a
/// certificate of its own at once, or hours later where the API server took long to come up.
async fn signing_requests(c: &Corner) -> Result<Value> {
    let listed = c.get("/apis/certificates.k8s.io/v1/certificatesigningrequests").await?.ok()?;
    let mut kinds = BTreeSet::new();
    let mut joined = BTreeSet::new();
    let is_of_joining = |request: &&Value| {
        let spec = &request["spec"];
        spec["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
            && spec["username"].as_str().is_some_and(|user| user.starts_with("system:bootstrap:"))
    };
    for request in items(&listed).iter().filter(is_of_joining) {
        ensure!(name(request).starts_with("csr-"), "kubelet's request is called {}", name(request));
        ensure!(request["status"]["certificate"].is_string(), "{} is not signed", name(request));
        joined.insert(name(request).to_owned());
        let mut shown = request.clone();
        shown["metadata"]["name"] = json!("csr-…");
        for (place, key) in [("spec", "request"), ("status", "certificate")] {
            if shown[place][key].is_string() {
                shown[place][key] = json!("…");
            }
        }
        kinds.insert(c.subject.canonical(&shown).to_string());
    }
    ensure!(joined.len() + 1 >= c.subject.nodes.len(), "{} requests for {} nodes", joined.len(), c.subject.nodes.len());
    let kinds: Result<Vec<Value>, _> = kinds.iter().map(|kind| serde_json::from_str(kind)).collect();
    Ok(json!(kinds?))
}
