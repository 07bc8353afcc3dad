//! Static pods and nodes.

use std::collections::{BTreeMap, BTreeSet};

use cluster_api::conditions::{Claim, Status};
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::ResourceExt;

use super::{
    super::names::{NODE_ROLE, machine, reason},
    Subject, waiting_for_node,
};
use crate::workload::Workload;

/// Taint that the node life-cycle controller gives to nodes that do not answer.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions of machines, and what is wrong beyond machines.
pub(super) struct Judged {
    pub(super) claims: BTreeMap<String, Vec<Claim>>,
    pub(super) errors: Vec<String>,
}

/// Components and the conditions that tell of their pods.
fn components(managed_etcd: bool) -> Vec<(&'static str, &'static str)> {
    let mut components = vec![
        ("kube-apiserver", machine::API_SERVER),
        ("kube-controller-manager", machine::CONTROLLER_MANAGER),
        ("kube-scheduler", machine::SCHEDULER),
    ];
    if managed_etcd {
        components.push(("etcd", machine::ETCD_POD));
    }
    components
}

pub(super) fn evaluate(subjects: &[Subject], workload: &Workload, managed_etcd: bool) -> Judged {
    let components = components(managed_etcd);
    let all = |status: Status, reason: &str, message: &str| -> Vec<Claim> {
        let types = std::iter::once(machine::NODE).chain(components.iter().map(|(_, type_)| *type_));
        types.map(|type_| Claim::new(type_, status, reason, message)).collect()
    };
    let failed = |message: &str| all(Status::Unknown, reason::INSPECTION_FAILED, message);
    let mut claims = BTreeMap::new();
    for subject in subjects {
        let node = match &workload.nodes {
            Err(error) => {
                claims.insert(subject.name.clone(), failed(&format!("Failed to get Nodes: {error}")));
                continue;
            }
            Ok(nodes) => subject.node.as_ref().and_then(|name| nodes.get(name)),
        };
        let judged = match (subject, node) {
            (Subject { deleting: true, .. }, node) => {
                let mut claims = all(Status::False, reason::DELETING, "Machine is deleting");
                if let Some(node) = node {
                    claims[0] = node_claim(node, subject.expects_taint);
                }
                claims
            }
            (Subject { node: None, .. }, _) => failed(&waiting_for_node(subject)),
            (Subject { node: Some(name), .. }, None) => failed(&format!("Node {name} does not exist")),
            (Subject { node: Some(name), .. }, Some(node)) if is_unreachable(node) => {
                failed(&format!("Node {name} is unreachable"))
            }
            (Subject { node: Some(name), .. }, Some(node)) => {
                let pod = |(component, type_): &(&str, &str)| match &workload.pods {
                    _ if is_ready_unknown(node) => {
                        let message = format!("Node {name} does not report its state: its Pods may be out of date");
                        Claim::new(*type_, Status::Unknown, reason::INSPECTION_FAILED, message)
                    }
                    Err(error) => Claim::new(
                        *type_,
                        Status::Unknown,
                        reason::INSPECTION_FAILED,
                        format!("Failed to get Pods: {error}"),
                    ),
                    Ok(pods) => pod_claim(type_, &format!("{component}-{name}"), pods),
                };
                std::iter::once(node_claim(node, subject.expects_taint)).chain(components.iter().map(pod)).collect()
            }
        };
        claims.insert(subject.name.clone(), judged);
    }
    Judged { errors: nodes_without_machine(subjects, workload), claims }
}

/// Whether the etcd pod of a node is ready, as far as the node tells.
pub fn serves_etcd(workload: &Workload, node: &str) -> bool {
    let found = workload.nodes.as_ref().ok().and_then(|nodes| nodes.get(node));
    let tells = found.is_some_and(|node| !is_unreachable(node) && !is_ready_unknown(node));
    let pods = workload.pods.as_ref().ok().filter(|_| tells);
    pods.is_some_and(|pods| pod_claim(machine::ETCD_POD, &format!("etcd-{node}"), pods).status == Status::True)
}

/// Said only while every machine has its node: before, the node may be one of theirs.
fn nodes_without_machine(subjects: &[Subject], workload: &Workload) -> Vec<String> {
    let Ok(nodes) = &workload.nodes else { return Vec::new() };
    if subjects.iter().any(|subject| !subject.deleting && subject.node.is_none()) {
        return Vec::new();
    }
    let owned: BTreeSet<&str> = subjects.iter().filter_map(|subject| subject.node.as_deref()).collect();
    let stray = nodes
        .values()
        .filter(|node| node.labels().contains_key(NODE_ROLE) && !owned.contains(node.name_any().as_str()));
    stray.map(|node| format!("Control plane Node {} does not have a corresponding Machine", node.name_any())).collect()
}

fn is_unreachable(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == UNREACHABLE && taint.effect == "NoExecute")
}

fn is_ready_unknown(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}

fn node_claim(node: &Node, expects_taint: bool) -> Claim {
    let mut missing = Vec::new();
    if !node.labels().contains_key(NODE_ROLE) {
        missing.push(format!("label {NODE_ROLE}"));
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    if expects_taint && !taints.iter().any(|taint| taint.key == NODE_ROLE && taint.effect == "NoSchedule") {
        missing.push(format!("taint {NODE_ROLE}:NoSchedule"));
    }
    if missing.is_empty() {
        Claim::holds(machine::NODE, "Set")
    } else {
        let message = format!("Node {} misses {}", node.name_any(), missing.join(" and "));
        Claim::new(machine::NODE, Status::False, "NotSet", message)
    }
}

fn pod_claim(type_: &str, name: &str, pods: &BTreeMap<String, Pod>) -> Claim {
    let claim = |status, reason: &str, message: &str| Claim::new(type_, status, reason, message);
    let Some(pod) = pods.get(name) else {
        return claim(Status::False, "DoesNotExist", &format!("Pod {name} does not exist"));
    };
    let Some(status) = pod.status.as_ref() else {
        return claim(Status::Unknown, reason::INSPECTION_FAILED, &format!("Pod {name} has no status"));
    };
    let is_true = |wanted: &str| {
        status
            .conditions
            .as_deref()
            .unwrap_or_default()
            .iter()
            .any(|found| found.type_ == wanted && found.status == "True")
    };
    match status.phase.as_deref() {
        Some("Pending") => {
            let message = match (is_true("PodScheduled"), is_true("Initialized")) {
                (false, _) => "Waiting to be scheduled",
                (true, false) => "Running init containers",
                (true, true) => "",
            };
            claim(Status::False, "Provisioning", message)
        }
        Some("Running") if is_true("Ready") => claim(Status::True, "Running", ""),
        Some("Running") => running_claim(type_, status.container_statuses.as_deref().unwrap_or_default()),
        Some("Succeeded" | "Failed") => claim(
            Status::False,
            "Failed",
            &format!("Pod {name} ended: {}", status.phase.as_deref().unwrap_or_default()),
        ),
        _ => claim(Status::Unknown, reason::INSPECTION_FAILED, &format!("Pod {name} is in an unknown phase")),
    }
}

/// A pod that runs without being ready.
fn running_claim(type_: &str, containers: &[ContainerStatus]) -> Claim {
    let state = |container: &ContainerStatus| container.state.clone().unwrap_or_default();
    let waiting: Vec<_> = containers.iter().filter(|container| state(container).waiting.is_some()).collect();
    if !waiting.is_empty() {
        let failed_before = |container: &&ContainerStatus| {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            last.is_some_and(|terminated| terminated.exit_code != 0)
        };
        let reason = if waiting.iter().any(failed_before) { "Failed" } else { "Provisioning" };
        let reasons = waiting.iter().filter_map(|container| state(container).waiting?.reason);
        return Claim::new(type_, Status::False, reason, reasons.collect::<Vec<_>>().join(", "));
    }
    let terminated: Vec<_> = containers.iter().filter_map(|container| state(container).terminated).collect();
    if !terminated.is_empty() {
        let reasons = terminated.into_iter().filter_map(|terminated| terminated.reason);
        return Claim::new(type_, Status::False, "Failed", reasons.collect::<Vec<_>>().join(", "));
    }
    Claim::new(type_, Status::False, "Provisioning", "Waiting for startup or readiness probes")
}
