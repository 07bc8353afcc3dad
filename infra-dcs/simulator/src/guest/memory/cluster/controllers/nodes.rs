//! Nodes: their part of the pods' addresses, their taints, and what becomes of those that fall silent.

use std::{collections::HashSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Context, earliest, moment};
use crate::guest::memory::cluster::{
    api::{NODES, PODS, is_deleting, name, namespace, uid},
    node,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// See the module.
pub fn pass(context: &Context<'_>) -> Option<Timestamp> {
    let all = context.api.list(NODES, "");
    let mut due = None;
    let mut timed = HashSet::new();
    for found in &all {
        let found = allocate(context, &all, found);
        let found = notice_silence(context, found);
        let found = taint(context, found);
        let found = note_age(context, found, all.len());
        due = earliest(due, evict(context, &found, &mut timed));
    }
    context.noticed.lock().retain(|pod, _| timed.contains(pod));
    collect_pods(context, &all);
    due
}

/// Gives a node the first free part of each of the cluster's ranges.
fn allocate(context: &Context<'_>, all: &[Arc<Value>], found: &Arc<Value>) -> Arc<Value> {
    let Some(flags) = context.manager else { return Arc::clone(found) };
    if found["spec"]["podCIDR"].is_string() || flags.cluster_cidrs.is_empty() {
        return Arc::clone(found);
    }
    // What was given since the list was made counts too.
    let fresh = context.api.list(NODES, "");
    let taken: Vec<&str> = fresh
        .iter()
        .chain(all)
        .flat_map(|known| known["spec"]["podCIDRs"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let parts = flags.cluster_cidrs.iter().filter_map(|range| {
        let mask = if range.is_ipv4() { flags.ipv4_mask } else { flags.ipv6_mask };
        (0..)
            .map_while(|index| range.part(mask, index))
            .map(|part| part.to_string())
            .find(|part| !taken.contains(&part.as_str()))
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        return Arc::clone(found);
    }
    let patch = json!({"spec": {"podCIDR": parts[0], "podCIDRs": parts}});
    let changed = context.api.by("kube-controller-manager").merge(NODES, "", name(found), patch);
    changed.unwrap_or_else(|_| Arc::clone(found))
}

/// A node that nothing was heard of for the grace period is unknown.
fn notice_silence(context: &Context<'_>, found: Arc<Value>) -> Arc<Value> {
    let is_heard = context.heard.get(name(&found)).copied().unwrap_or(false);
    if is_heard || node::condition_status(&found, "Ready") == "Unknown" {
        return found;
    }
    let conditions = node::unknown(&context.time(), found.pointer("/status/conditions"));
    let changed = context.api.by("kube-controller-manager").merge_status(
        NODES,
        "",
        name(&found),
        json!({"conditions": conditions}),
    );
    for pod in pods_on(context, name(&found)) {
        not_ready(context, &pod);
    }
    changed.unwrap_or(found)
}

/// A pod of a silent node is not ready.
fn not_ready(context: &Context<'_>, pod: &Value) {
    let mut conditions = pod["status"]["conditions"].clone();
    let Some(ready) = conditions.as_array_mut().and_then(|all| all.iter_mut().find(|one| one["type"] == "Ready"))
    else {
        return;
    };
    if ready["status"] == "True" {
        ready["status"] = "False".into();
        ready["reason"] = "NodeNotReady".into();
        ready["lastTransitionTime"] = context.time().into();
        let status = json!({"conditions": conditions});
        let _ = context.api.by("kube-controller-manager").merge_status(PODS, namespace(pod), name(pod), status);
    }
}

/// The taints that follow from the conditions.
fn taint(context: &Context<'_>, found: Arc<Value>) -> Arc<Value> {
    let present: Vec<Value> = found["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = match node::condition_status(&found, "Ready") {
        "True" => Vec::new(),
        "Unknown" => vec![(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
        _ => vec![(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
    };
    if found["spec"]["unschedulable"] == true {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_ours = |taint: &Value| [NOT_READY, UNREACHABLE, UNSCHEDULABLE].iter().any(|key| taint["key"] == *key);
    let is_wanted =
        |taint: &Value| wanted.iter().any(|(key, effect)| taint["key"] == *key && taint["effect"] == *effect);
    let mut taints: Vec<Value> = present.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint["key"] == key && taint["effect"] == effect) {
            taints.push(json!({"key": key, "effect": effect, "timeAdded": context.time()}));
        }
    }
    if taints == present {
        return found;
    }
    let taints = if taints.is_empty() { Value::Null } else { taints.into() };
    let changed =
        context.api.by("kube-controller-manager").merge(NODES, "", name(&found), json!({"spec": {"taints": taints}}));
    changed.unwrap_or(found)
}

/// How long kubelets may go without asking for Secrets again: the longer the more nodes there are (`pkg/controller/ttl`).
fn note_age(context: &Context<'_>, found: Arc<Value>, nodes: usize) -> Arc<Value> {
    const TTL: &str = "node.alpha.kubernetes.io/ttl";
    let age = match nodes {
        0..=100 => "0",
        101..=500 => "15",
        501..=1000 => "30",
        1001..=2000 => "60",
        _ => "300",
    };
    if found["metadata"]["annotations"][TTL] == age {
        return found;
    }
    let patch = json!({"metadata": {"annotations": {TTL: age}}});
    context.api.by("kube-controller-manager").merge(NODES, "", name(&found), patch).unwrap_or(found)
}

/// Deletes the pods that do not bear the node's `NoExecute` taints, each when its time is over. `timed` collects the UIDs
/// of those whose time runs.
fn evict(context: &Context<'_>, found: &Value, timed: &mut HashSet<String>) -> Option<Timestamp> {
    let taints = found["spec"]["taints"].as_array()?;
    let taints: Vec<&Value> = taints.iter().filter(|taint| taint["effect"] == "NoExecute").collect();
    if taints.is_empty() {
        return None;
    }
    let mut due = None;
    for pod in pods_on(context, name(found)).into_iter().filter(|pod| !is_deleting(pod)) {
        let tolerations = pod["spec"]["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
        // People who taint a node do not say when: it counts from when it is noticed.
        let noticed = context.noticed.lock().get(uid(&pod)).copied().unwrap_or(context.now);
        let ends = taints.iter().filter_map(|taint| {
            let fits: Vec<&Value> = tolerations.iter().filter(|one| super::scheduling::tolerates(one, taint)).collect();
            let added = moment(&taint["timeAdded"]).unwrap_or(noticed);
            match fits.as_slice() {
                [] => Some(added),
                fits if fits.iter().any(|one| !one["tolerationSeconds"].is_number()) => None,
                fits => fits
                    .iter()
                    .filter_map(|one| one["tolerationSeconds"].as_i64())
                    .min()
                    .and_then(|seconds| added.checked_add(SignedDuration::from_secs(seconds)).ok()),
            }
        });
        let end = ends.min();
        if end.is_some() {
            timed.insert(uid(&pod).to_owned());
            context.noticed.lock().insert(uid(&pod).to_owned(), noticed);
        }
        match end {
            Some(end) if end <= context.now => {
                context.api.by("kube-controller-manager").delete(PODS, namespace(&pod), name(&pod), None);
            }
            end => due = earliest(due, end),
        }
    }
    due
}

fn pods_on(context: &Context<'_>, node: &str) -> Vec<Arc<Value>> {
    context.api.list(PODS, "").into_iter().filter(|pod| pod["spec"]["nodeName"] == node).collect()
}

/// Pods of nodes that are gone go too.
fn collect_pods(context: &Context<'_>, nodes: &[Arc<Value>]) {
    for pod in context.api.list(PODS, "") {
        let Some(node) = pod["spec"]["nodeName"].as_str() else { continue };
        if !node.is_empty()
            && !nodes.iter().any(|known| name(known) == node)
            && context.api.get(NODES, "", node).is_none()
        {
            context.api.by("kube-controller-manager").delete(PODS, namespace(&pod), name(&pod), Some(0));
        }
    }
}
