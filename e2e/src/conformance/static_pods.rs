//! The control plane as the API shows it: mirror pods of what kubeadm wrote to `/etc/kubernetes/manifests`.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Corner,
    answer::{condition, items},
    checks,
};

checks! {
    Look: etcd, kube_apiserver, kube_controller_manager, kube_scheduler;
}

async fn etcd(c: &Corner) -> Result<Value> {
    component(c, "etcd").await
}

async fn kube_apiserver(c: &Corner) -> Result<Value> {
    component(c, "kube-apiserver").await
}

async fn kube_controller_manager(c: &Corner) -> Result<Value> {
    component(c, "kube-controller-manager").await
}

async fn kube_scheduler(c: &Corner) -> Result<Value> {
    component(c, "kube-scheduler").await
}

/// The pods of a component, each different one once: a member of etcd knows those who were there before it.
async fn component(c: &Corner, component: &str) -> Result<Value> {
    let path =
        format!("/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane%2Ccomponent%3D{component}");
    let machines = c.subject.control_plane().count();
    let are_ready =
        |list: &Value| items(list).len() == machines && items(list).iter().all(|pod| condition(pod, "Ready") == "True");
    let pods = c.until(&path, "ready on every machine", are_ready).await?;
    let mut kinds = BTreeSet::new();
    for mut pod in items(&pods) {
        let annotations = &pod["metadata"]["annotations"];
        for key in ["config.hash", "config.mirror", "config.seen", "config.source"] {
            let key = format!("kubernetes.io/{key}");
            ensure!(annotations[&key].is_string(), "the mirror pod has no annotation {key}");
        }
        let (hash, mirror) = (&annotations["kubernetes.io/config.hash"], &annotations["kubernetes.io/config.mirror"]);
        ensure!(hash == mirror, "it mirrors {mirror}, not {hash}");
        ensure!(pod["metadata"]["ownerReferences"][0]["kind"] == "Node", "its node does not own it");
        for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
            // How often it had to wait for the others is nobody's promise.
            status["restartCount"] = json!("…");
            status["lastState"] = json!("…");
            // kubelet tells of mounts when it comes to it: of pods that it started before there was an API, never.
            if let Some(status) = status.as_object_mut() {
                status.remove("volumeMounts");
            }
        }
        kinds.insert(c.subject.canonical(&pod).to_string());
    }
    let kinds: Result<Vec<Value>, _> = kinds.iter().map(|kind| serde_json::from_str(kind)).collect();
    Ok(json!(kinds?))
}
