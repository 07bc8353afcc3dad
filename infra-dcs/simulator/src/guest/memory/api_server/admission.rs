//! Admission of what kubelets write (`--enable-admission-plugins=NodeRestriction`, which kubeadm sets): to their own node,
//! and to pods that run on it, and of both not everything; and of who approves requests for certificates
//! (`CertificateApproval`).

use std::{collections::BTreeSet, sync::Arc};

use kube_model::{ApiError, Qualified, Server, Veto};
use serde_json::Value;

use super::{
    authn::User,
    authz::{node_name, runs_on},
    certificates,
    request::Attributes,
};

/// Lets a write pass, or says why not.
pub(super) fn admit(server: &Server, user: &User, attributes: &Attributes) -> Result<(), ApiError> {
    certificates::admit_decision(server, user, attributes)?;
    let (Some(node), Some(resource)) = (node_name(user), &attributes.resource) else { return Ok(()) };
    if !attributes.is_write() || !resource.group.is_empty() {
        return Ok(());
    }
    let name = resource.name.as_str();
    let why = match (resource.resource.as_str(), resource.subresource.as_str(), attributes.verb.as_str()) {
        ("nodes", _, "update" | "patch") if name != node => {
            format!("node {node:?} is not allowed to modify node {name:?}")
        }
        ("pods", "status", _) if !runs_on(server, resource, node) => {
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
        }
        ("pods", "eviction", _) if !runs_on(server, resource, node) => {
            format!("node {node} can only evict pods with spec.nodeName set to itself")
        }
        ("pods", "", "delete") if !runs_on(server, resource, node) => {
            format!("node {node:?} can only delete pods with spec.nodeName set to itself")
        }
        _ => return Ok(()),
    };
    Err(ApiError::forbidden(Qualified { group: "", resource: &resource.resource }, name, &why))
}

const NODES: Qualified<'static> = Qualified { group: "", resource: "nodes" };
const PODS: Qualified<'static> = Qualified { group: "", resource: "pods" };
/// Labels of nodes in the domains of Kubernetes that kubelets set themselves (`kubelet/apis/well_known_labels.go`).
const OWN_LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// What of the objects that kubelets write is looked at as it would be.
pub(super) fn veto(user: &User) -> Option<Veto> {
    let node = node_name(user)?.to_owned();
    Some(Veto(Arc::new(move |old, new| match new["kind"].as_str() {
        Some("Node") => check_node(&node, old, new),
        Some("Pod") if old.is_none() => check_pod(&node, new),
        _ => Ok(()),
    })))
}

fn check_node(node: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let nothing = Value::Null;
    let before = old.unwrap_or(&nothing);
    let wrong: BTreeSet<&str> = changed(before, new).filter(|label| is_restricted(label)).collect();
    let wrong = wrong.into_iter().collect::<Vec<_>>().join(", ");
    let why = match old {
        None if !wrong.is_empty() => format!("node {node:?} is not allowed to set the following labels: {wrong}"),
        Some(_) if !wrong.is_empty() => format!("is not allowed to modify labels: {wrong}"),
        Some(old) if old["spec"]["taints"] != new["spec"]["taints"] => {
            format!("node {node:?} is not allowed to modify taints")
        }
        _ => return Ok(()),
    };
    Err(ApiError::forbidden(NODES, node, &why))
}

/// Labels of which one object says something else than another.
fn changed<'a>(one: &'a Value, other: &'a Value) -> impl Iterator<Item = &'a str> {
    let labels = |object: &'a Value| object["metadata"]["labels"].as_object();
    let keys = [one, other].into_iter().flat_map(move |object| labels(object).into_iter().flatten());
    let keys = keys.map(|(key, _)| key.as_str());
    keys.filter(move |key| one["metadata"]["labels"][key] != other["metadata"]["labels"][key])
}

fn is_restricted(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let is_of = |root: &str| domain == root || domain.strip_suffix(root).is_some_and(|rest| rest.ends_with('.'));
    let is_own = OWN_LABELS.contains(&label) || is_of("kubelet.kubernetes.io") || is_of("node.kubernetes.io");
    is_of("node-restriction.kubernetes.io") || (is_of("kubernetes.io") || is_of("k8s.io")) && !is_own
}

/// A kubelet makes nothing but mirrors of its static pods.
fn check_pod(node: &str, pod: &Value) -> Result<(), ApiError> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let why = format!(
        "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
    );
    Err(ApiError::forbidden(PODS, name, &why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(old: Option<Value>, new: &Value) -> Option<String> {
        let user = User::node("n");
        let veto = veto(&user)?;
        veto.0(old.as_ref(), new).err().map(|error| error.message().to_owned())
    }

    #[test]
    fn kubelets_label_their_node_within_limits() {
        let node = |labels: Value| json!({"kind": "Node", "metadata": {"name": "n", "labels": labels}});
        let old = || Some(node(json!({"kubernetes.io/hostname": "n"})));
        for label in ["a", "example.test/a", "kubernetes.io/hostname", "x.node.kubernetes.io/a"] {
            assert_eq!(refused(old(), &node(json!({"kubernetes.io/hostname": "n", label: "x"}))), None, "{label}");
        }
        for label in ["node-restriction.kubernetes.io/a", "node-role.kubernetes.io/worker", "x.k8s.io/a"] {
            let why = refused(old(), &node(json!({"kubernetes.io/hostname": "n", label: "x"})));
            let wanted = format!("nodes \"n\" is forbidden: is not allowed to modify labels: {label}");
            assert_eq!(why, Some(wanted));
        }
        let mut tainted = node(json!({"kubernetes.io/hostname": "n"}));
        tainted["spec"]["taints"] = json!([{"key": "a"}]);
        assert!(refused(old(), &tainted).is_some_and(|why| why.ends_with("is not allowed to modify taints")));
        assert_eq!(refused(None, &tainted), None, "kubelets register taints");
    }

    #[test]
    fn kubelets_make_mirror_pods_only() {
        let mut pod = json!({"kind": "Pod", "metadata": {"name": "p"}});
        assert!(refused(None, &pod).is_some_and(|why| why.contains("can only create mirror pods")));
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "h"});
        assert_eq!(refused(None, &pod), None);
    }
}
