//! `CoreDNS` and kube-proxy, as kubeadm installs them and the controllers run them.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Corner,
    answer::{condition, items, name},
    checks, kubeadm,
};

checks! {
    Look: core_dns, core_dns_pods, kube_proxy, kube_proxy_pods;
}

const SYSTEM: &str = "/api/v1/namespaces/kube-system";
const APPS: &str = "/apis/apps/v1/namespaces/kube-system";

async fn core_dns(c: &Corner) -> Result<Value> {
    let is_available = |deployment: &Value| condition(deployment, "Available") == "True";
    let deployment = c.until(&format!("{APPS}/deployments/coredns"), "available", is_available).await?;
    let ready = |deployment: &Value| deployment["status"]["readyReplicas"] == 2;
    let deployment = if ready(&deployment) {
        deployment
    } else {
        c.until(&format!("{APPS}/deployments/coredns"), "all ready", ready).await?
    };
    let service = c.get(&format!("{SYSTEM}/services/kube-dns")).await?.ok()?;
    let map = c.get(&format!("{SYSTEM}/configmaps/coredns")).await?.ok()?;
    let account = c.get(&format!("{SYSTEM}/serviceaccounts/coredns")).await?.ok()?;
    Ok(json!({"deployment": deployment, "service": service, "config": map, "account": account}))
}

/// A pod without what a hash or a draw decides: names, the volume of its token, where it runs.
pub fn pod(pod: &Value) -> Value {
    let mut shown = pod.clone();
    let owner = pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default();
    let rest = name(pod).strip_prefix(owner).unwrap_or_default();
    shown["metadata"]["name"] = json!(format!("{{owner}}-{}", rest.len().saturating_sub(1)));
    for hash in ["pod-template-hash", "controller-revision-hash"] {
        if shown["metadata"]["labels"][hash].is_string() {
            shown["metadata"]["labels"][hash] = json!("{hash}");
        }
    }
    if shown["metadata"]["generateName"].is_string() {
        shown["metadata"]["generateName"] = json!("{owner}-");
    }
    if shown["metadata"]["ownerReferences"][0]["name"].is_string() {
        shown["metadata"]["ownerReferences"][0]["name"] = json!("{owner}");
    }
    if shown["spec"]["nodeName"].is_string() {
        shown["spec"]["nodeName"] = json!("{node}");
    }
    for address in ["hostIP", "podIP"] {
        if shown["status"][address].is_string() {
            shown["status"][address] = json!("{address}");
        }
    }
    for list in ["hostIPs", "podIPs"] {
        let addresses = shown["status"][list].as_array_mut().into_iter().flatten();
        addresses.for_each(|address| address["ip"] = json!("{address}"));
    }
    // The kubelet adds what it found in the pod's cgroup, at a moment of its own.
    if let Some(status) = shown["status"].as_object_mut() {
        status.remove("resources");
    }
    shown
}

async fn core_dns_pods(c: &Corner) -> Result<Value> {
    let path = format!("{SYSTEM}/pods?labelSelector=k8s-app%3Dkube-dns");
    let is_ready =
        |list: &Value| items(list).len() == 2 && items(list).iter().all(|pod| condition(pod, "Ready") == "True");
    let pods = items(&c.until(&path, "two ready pods", is_ready).await?);
    let nodes: Vec<_> = pods.iter().map(|pod| pod["spec"]["nodeName"].as_str().unwrap_or_default()).collect();
    ensure!(nodes.iter().all(|node| c.subject.nodes.iter().any(|known| known.name == *node)), "they run on {nodes:?}");
    Ok(pods.first().map(pod).unwrap_or_default())
}

async fn kube_proxy(c: &Corner) -> Result<Value> {
    let nodes = c.subject.nodes.len();
    let is_ready = |set: &Value| set["status"]["numberReady"] == nodes;
    let set = c.until(&format!("{APPS}/daemonsets/kube-proxy"), "ready on every node", is_ready).await?;
    let keys = ["config.conf", "kubeconfig.conf"];
    let map = kubeadm::documents(c, &format!("{SYSTEM}/configmaps/kube-proxy"), &keys).await?;
    let account = c.get(&format!("{SYSTEM}/serviceaccounts/kube-proxy")).await?.ok()?;
    Ok(json!({"set": set, "config": map, "account": account}))
}

/// The proxies of both roles.
async fn kube_proxy_pods(c: &Corner) -> Result<Value> {
    let pods = c.get(&format!("{SYSTEM}/pods?labelSelector=k8s-app%3Dkube-proxy")).await?.ok()?;
    let (mut nodes, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for one in items(&pods) {
        let node = one["spec"]["nodeName"].as_str().unwrap_or_default();
        nodes.insert(node.to_owned());
        // The affinity names the node again.
        let text = pod(&one).to_string().replace(&format!("{node:?}"), "\"{node}\"");
        kinds.insert(c.subject.canonical(&serde_json::from_str(&text)?).to_string());
    }
    ensure!(nodes.len() == c.subject.nodes.len(), "proxies run on {nodes:?}");
    let kinds: Result<Vec<Value>, _> = kinds.iter().map(|kind| serde_json::from_str(kind)).collect();
    Ok(json!(kinds?))
}
