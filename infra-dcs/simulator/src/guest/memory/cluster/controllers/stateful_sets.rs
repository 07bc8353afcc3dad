//! `StatefulSets`: pods with numbers, one after the other (`pkg/controller/statefulset`). Volumes are not made.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Context,
    workloads::{count, hash, is_ready, pod_of, write_status},
};
use crate::guest::memory::cluster::api::{PODS, STATEFUL_SETS, is_controlled_by, is_deleting, name, namespace, uid};

const REVISION: &str = "controller-revision-hash";

/// See the module.
pub fn pass(context: &Context<'_>, pods: &[Arc<Value>]) {
    for set in context.api.list(STATEFUL_SETS, "").iter().filter(|set| !is_deleting(set)) {
        let own: Vec<&Arc<Value>> = pods.iter().filter(|pod| is_controlled_by(pod, uid(set))).collect();
        let revision = format!("{}-{}", name(set), hash(&set["spec"]["template"]));
        step(context, set, &own, &revision);
        show(context, set, &own, &revision);
    }
}

fn ordinal(set: &Value, pod: &Value) -> Option<u64> {
    name(pod).strip_prefix(name(set))?.strip_prefix('-')?.parse().ok()
}

fn is_over(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
}

/// What is to be done now: in order, each step waits for the one before it.
fn step(context: &Context<'_>, set: &Value, own: &[&Arc<Value>], revision: &str) {
    let api = context.api.by("kube-controller-manager");
    let spec = &set["spec"];
    let waits = spec["podManagementPolicy"] != "Parallel";
    let start = count(&spec["ordinals"]["start"], 0);
    let wanted = start..start.saturating_add(count(&spec["replicas"], 1));
    let delete = |pod: &Value| api.delete(PODS, namespace(pod), name(pod), None);
    for number in wanted.clone() {
        let found = own.iter().find(|pod| ordinal(set, pod) == Some(number));
        let is_well = match found {
            None => {
                let _ = api.create(PODS, namespace(set), numbered(set, number, revision));
                false
            }
            Some(pod) if is_deleting(pod) => false,
            Some(pod) if is_over(pod) => {
                delete(pod);
                false
            }
            Some(pod) => is_ready(pod),
        };
        if waits && !is_well {
            return;
        }
    }
    let mut by_number: Vec<(u64, &&Arc<Value>)> =
        own.iter().filter_map(|pod| Some((ordinal(set, pod)?, pod))).collect();
    by_number.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let surplus = by_number.iter().filter(|(number, _)| !wanted.contains(number));
    let surplus: Vec<&&Arc<Value>> = surplus.map(|(_, pod)| *pod).collect();
    if waits {
        // The highest number goes first, and alone.
        if let Some(pod) = surplus.first() {
            if !is_deleting(pod) {
                delete(pod);
            }
            return;
        }
    } else {
        surplus.iter().filter(|pod| !is_deleting(pod)).for_each(|pod| delete(pod));
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return;
    }
    let partition = count(&spec["updateStrategy"]["rollingUpdate"]["partition"], 0);
    for (_, pod) in by_number.iter().filter(|(number, _)| wanted.contains(number) && *number >= start + partition) {
        if is_deleting(pod) || !is_ready(pod) && pod["metadata"]["labels"][REVISION] == revision {
            return;
        }
        if pod["metadata"]["labels"][REVISION] != revision {
            delete(pod);
            return;
        }
    }
}

fn numbered(set: &Value, number: u64, revision: &str) -> Value {
    let mut pod = pod_of(set, &set["spec"]["template"]);
    let pod_name = format!("{}-{number}", name(set));
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("generateName");
    }
    pod["metadata"]["name"] = pod_name.as_str().into();
    for (label, value) in [
        ("statefulset.kubernetes.io/pod-name", pod_name.clone()),
        ("apps.kubernetes.io/pod-index", number.to_string()),
        (REVISION, revision.to_owned()),
    ] {
        pod["metadata"]["labels"][label] = value.into();
    }
    pod["spec"]["hostname"] = pod_name.into();
    pod["spec"]["subdomain"] = set["spec"]["serviceName"].clone();
    pod
}

fn show(context: &Context<'_>, set: &Value, own: &[&Arc<Value>], revision: &str) {
    let ready = own.iter().filter(|pod| is_ready(pod) && !is_deleting(pod)).count();
    let updated = own.iter().filter(|pod| pod["metadata"]["labels"][REVISION] == revision).count();
    let known = set["status"]["currentRevision"].as_str().unwrap_or(revision);
    // The new revision is the present one once all pods have it.
    let current = if updated == own.len() && ready == own.len() { revision } else { known };
    let at_current = own.iter().filter(|pod| pod["metadata"]["labels"][REVISION] == current).count();
    let status = json!({
        "observedGeneration": set["metadata"]["generation"],
        "replicas": own.len(),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": at_current,
        "updatedReplicas": updated,
        "currentRevision": current,
        "updateRevision": revision,
        "collisionCount": 0,
    });
    write_status(context, STATEFUL_SETS, set, status);
}
