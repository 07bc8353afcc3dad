//! What a user sees of a cluster: the objects as a tree, with what each says of itself.

use anyhow::Result;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::Value;

/// Kinds shown, in the order in which they are listed below their owner.
const KINDS: &[(&str, &str, &str)] = &[
    ("cluster.x-k8s.io", "v1beta2", "Cluster"),
    ("infrastructure.cluster.x-k8s.io", "v1beta1", "DCSCluster"),
    ("controlplane.cluster.x-k8s.io", "v1beta2", "KubeadmControlPlane"),
    ("cluster.x-k8s.io", "v1beta2", "MachineDeployment"),
    ("cluster.x-k8s.io", "v1beta2", "MachineSet"),
    ("cluster.x-k8s.io", "v1beta2", "Machine"),
    ("bootstrap.cluster.x-k8s.io", "v1beta2", "KubeadmConfig"),
    ("infrastructure.cluster.x-k8s.io", "v1beta1", "DCSMachine"),
    ("infrastructure.cluster.x-k8s.io", "v1beta1", "DCSIpHostnamePool"),
];

/// The API of a kind known by its group and version.
pub fn api(client: &Client, namespace: &str, (group, version, kind): (&str, &str, &str)) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Every object of [`KINDS`] in a namespace.
pub async fn objects(client: &Client, namespace: &str) -> Result<Vec<DynamicObject>> {
    let mut all = Vec::new();
    for kind in KINDS {
        let listed = api(client, namespace, *kind).list(&ListParams::default()).await?;
        all.extend(listed.items.into_iter().map(|mut object| {
            object.types =
                Some(kube::api::TypeMeta { api_version: format!("{}/{}", kind.0, kind.1), kind: kind.2.into() });
            object
        }));
    }
    Ok(all)
}

/// The tree of a namespace as text, one object a line.
pub async fn render(client: &Client, namespace: &str) -> Result<String> {
    let all = objects(client, namespace).await?;
    let is_root = |object: &&DynamicObject| !all.iter().any(|other| owns(other, object));
    let mut text = String::new();
    for root in all.iter().filter(is_root) {
        branch(root, &all, 0, &mut text);
    }
    Ok(text)
}

fn branch(object: &DynamicObject, all: &[DynamicObject], depth: usize, text: &mut String) {
    let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let label = format!("{}{kind}/{name}", "  ".repeat(depth));
    text.push_str(&format!("{label:<64} {}\n", says(object)));
    for child in all.iter().filter(|other| owns(object, other)) {
        branch(child, all, depth + 1, text);
    }
}

/// Whether `owner` is the controller of `object`, or, without one, its only owner.
fn owns(owner: &DynamicObject, object: &DynamicObject) -> bool {
    let references = object.metadata.owner_references.as_deref().unwrap_or_default();
    let controller = references.iter().find(|reference| reference.controller == Some(true)).or(references.first());
    controller.is_some_and(|reference| Some(&reference.uid) == owner.metadata.uid.as_ref())
}

/// The condition that sums an object up, and its reason where it is not true.
fn says(object: &DynamicObject) -> String {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let found = ["Available", "Ready"].iter().find_map(|wanted| condition(conditions?, wanted));
    let phase = object.data.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    let Some(condition) = found else { return phase.to_owned() };
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    let state = format!("{}={}", text("type"), text("status"));
    if text("status") == "True" {
        format!("{state} {phase}")
    } else {
        format!("{state} {} {}", text("reason"), text("message").replace('\n', " "))
    }
}

/// A condition by its type.
pub fn condition<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition of an object is true.
pub fn is_true(object: &DynamicObject, kind: &str) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.and_then(|conditions| condition(conditions, kind)).is_some_and(|condition| condition["status"] == "True")
}
