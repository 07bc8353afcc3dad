//! Deployments, `ReplicaSets` and `DaemonSets`.

use std::sync::Arc;

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::{Context, scheduling};
use crate::guest::memory::cluster::api::{
    DAEMON_SETS, DEPLOYMENTS, Kind, NODES, PODS, REPLICA_SETS, is_controlled_by, is_deleting, name, namespace,
    owner_reference, uid,
};

/// Letters and digits of the hashes in names, as Kubernetes has them.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// What pods of a `DaemonSet` bear, whatever else is said.
const DAEMON_TOLERATIONS: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// Counts the templates of a Deployment.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Taints that only later conditions lift; the scheduler lets these pods through.
const STARTING_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// See the module.
pub fn pass(context: &Context<'_>) {
    for deployment in context.api.list(DEPLOYMENTS, "").iter().filter(|deployment| !is_deleting(deployment)) {
        deploy(context, deployment);
    }
    let pods = context.api.list(PODS, "");
    for set in context.api.list(REPLICA_SETS, "").iter().filter(|set| !is_deleting(set)) {
        replicate(context, set, &pods);
    }
    for set in context.api.list(DAEMON_SETS, "").iter().filter(|set| !is_deleting(set)) {
        spread(context, set, &pods);
    }
}

/// A short hash of a pod template.
pub(super) fn hash(template: &Value) -> String {
    let hash = digest::digest(&digest::SHA256, template.to_string().as_bytes());
    hash.as_ref().iter().take(10).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// Whether a pod reports ready.
pub fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A number of an object, or what stands for none.
pub(super) fn count(value: &Value, default: u64) -> u64 {
    value.as_u64().unwrap_or(default)
}

/// Writes a status where that changes anything.
pub(super) fn write_status(context: &Context<'_>, kind: Kind, object: &Value, status: Value) {
    let mut merged = object["status"].clone();
    json_patch::merge(&mut merged, &status);
    if merged != object["status"] {
        let api = context.api.by("kube-controller-manager");
        let _ = api.merge_status(kind, namespace(object), name(object), status);
    }
}

fn deploy(context: &Context<'_>, deployment: &Value) {
    let api = context.api.by("kube-controller-manager");
    let template = &deployment["spec"]["template"];
    let hash = hash(template);
    let wanted = count(&deployment["spec"]["replicas"], 1);
    let sets = api.list(REPLICA_SETS, namespace(deployment));
    let sets: Vec<Arc<Value>> = sets.into_iter().filter(|set| is_controlled_by(set, uid(deployment))).collect();
    let is_current = |set: &&Arc<Value>| set["metadata"]["labels"]["pod-template-hash"] == hash.as_str();
    let Some(current) = sets.iter().find(is_current) else {
        let mut template = template.clone();
        template["metadata"]["labels"]["pod-template-hash"] = hash.as_str().into();
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"]["pod-template-hash"] = hash.as_str().into();
        let revision =
            sets.iter().filter_map(|set| set["metadata"]["annotations"][REVISION].as_str()?.parse::<u64>().ok()).max();
        let revision = (revision.unwrap_or_default() + 1).to_string();
        let set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{hash}", name(deployment)),
                "labels": template["metadata"]["labels"],
                "annotations": {
                    REVISION: revision,
                    "deployment.kubernetes.io/desired-replicas": wanted.to_string(),
                    "deployment.kubernetes.io/max-replicas": most(deployment, wanted).to_string(),
                },
                "ownerReferences": owner_reference(deployment),
            },
            "spec": {"replicas": wanted, "selector": selector, "template": template},
        });
        let _ = api.create(REPLICA_SETS, namespace(deployment), set);
        return;
    };
    let revision = &current["metadata"]["annotations"][REVISION];
    if deployment["metadata"]["annotations"][REVISION] != *revision {
        let annotations = json!({"metadata": {"annotations": {REVISION: revision}}});
        let _ = api.merge(DEPLOYMENTS, namespace(deployment), name(deployment), annotations);
    }
    let scale = |set: &Value, replicas: u64| {
        if count(&set["spec"]["replicas"], 1) != replicas {
            let annotations = json!({
                "deployment.kubernetes.io/desired-replicas": wanted.to_string(),
                "deployment.kubernetes.io/max-replicas": most(deployment, wanted).to_string(),
            });
            let patch = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}});
            let _ = api.merge(REPLICA_SETS, namespace(set), name(set), patch);
        }
    };
    scale(current, wanted);
    let ready = count(&current["status"]["readyReplicas"], 0);
    for old in sets.iter().filter(|set| !is_current(set)) {
        // The old ones go as the new ones come.
        let kept = wanted.saturating_sub(ready).min(count(&old["spec"]["replicas"], 1));
        scale(old, kept);
    }
    let total = |field: &str| sets.iter().map(|set| count(&set["status"][field], 0)).sum::<u64>();
    let available = total("availableReplicas");
    let is_complete = ready == wanted && total("replicas") == wanted;
    let condition = |kind: &str, status: bool, reason: &str, message: &str| {
        let status = if status { "True" } else { "False" };
        let known =
            deployment["status"]["conditions"].as_array().into_iter().flatten().find(|known| known["type"] == kind);
        let since = known.filter(|known| known["status"] == status).map(|known| known["lastTransitionTime"].clone());
        let since = since.unwrap_or_else(|| context.time().into());
        json!({
            "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
            "lastUpdateTime": since,
        })
    };
    let is_available = available >= wanted.saturating_sub(1).max(wanted.min(1));
    let (availability, message) = if is_available {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let set = format!("ReplicaSet {:?}", name(current));
    let (progress, news) = if is_complete {
        ("NewReplicaSetAvailable", format!("{set} has successfully progressed."))
    } else {
        ("ReplicaSetUpdated", format!("{set} is progressing."))
    };
    let status = json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": shown(total("replicas")),
        "updatedReplicas": shown(count(&current["status"]["replicas"], 0)),
        "readyReplicas": shown(total("readyReplicas")),
        "availableReplicas": shown(available),
        "unavailableReplicas": shown(wanted.saturating_sub(available)),
        "terminatingReplicas": total("terminatingReplicas"),
        "conditions": [
            condition("Available", is_available, availability, message),
            condition("Progressing", true, progress, &news),
        ],
    });
    write_status(context, DEPLOYMENTS, deployment, status);
}

/// A count as a status shows it: none is left out.
pub(super) fn shown(count: u64) -> Value {
    if count == 0 { Value::Null } else { count.into() }
}

/// How many pods a Deployment may have while it replaces them.
fn most(deployment: &Value, wanted: u64) -> u64 {
    let surge = &deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"];
    let part = surge.as_str().and_then(|text| text.strip_suffix('%')?.parse::<u64>().ok());
    let more = match part {
        Some(percent) => (wanted * percent).div_ceil(100),
        None => count(surge, 0),
    };
    wanted + more
}

/// A pod of a template.
pub(super) fn pod_of(owner: &Value, template: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": format!("{}-", name(owner)),
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": owner_reference(owner),
        },
        "spec": template["spec"],
    })
}

fn replicate(context: &Context<'_>, set: &Value, pods: &[Arc<Value>]) {
    let api = context.api.by("kube-controller-manager");
    let wanted = usize::try_from(count(&set["spec"]["replicas"], 1)).unwrap_or(usize::MAX);
    let own: Vec<&Arc<Value>> =
        pods.iter().filter(|pod| is_controlled_by(pod, uid(set)) && !is_deleting(pod)).collect();
    for _ in own.len()..wanted {
        if api.create(PODS, namespace(set), pod_of(set, &set["spec"]["template"])).is_err() {
            break;
        }
    }
    // What is not ready goes first.
    let mut surplus = own.clone();
    surplus.sort_by_key(|pod| is_ready(pod));
    for pod in surplus.iter().take(own.len().saturating_sub(wanted)) {
        api.delete(PODS, namespace(pod), name(pod), None);
    }
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let ready = number(own.iter().filter(|pod| is_ready(pod)).count());
    let going = pods.iter().filter(|pod| is_controlled_by(pod, uid(set)) && is_deleting(pod)).count();
    let status = json!({
        "observedGeneration": set["metadata"]["generation"],
        "replicas": own.len(),
        "fullyLabeledReplicas": shown(number(own.len())),
        "readyReplicas": shown(ready),
        "availableReplicas": shown(ready),
        "terminatingReplicas": going,
    });
    write_status(context, REPLICA_SETS, set, status);
}

fn spread(context: &Context<'_>, set: &Value, pods: &[Arc<Value>]) {
    let api = context.api.by("kube-controller-manager");
    let template = &set["spec"]["template"];
    let hash = hash(template);
    let generation = &set["metadata"]["annotations"]["deprecated.daemonset.template.generation"];
    let mut spec = template["spec"].clone();
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    tolerations
        .extend(DAEMON_TOLERATIONS.map(|(key, effect)| json!({"key": key, "operator": "Exists", "effect": effect})));
    if spec["hostNetwork"] == true {
        tolerations.push(
            json!({"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"}),
        );
    }
    spec["tolerations"] = tolerations.clone().into();
    let nodes = context.api.list(NODES, "");
    let may_be_on = |node: &Value| {
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let bears = |taint: &Value| {
            STARTING_TAINTS.iter().any(|key| taint["key"] == *key)
                || tolerations.iter().any(|toleration| scheduling::tolerates(toleration, taint))
        };
        taints.into_iter().all(bears) && scheduling::selects(&spec, node)
    };
    let own: Vec<&Arc<Value>> = pods.iter().filter(|pod| is_controlled_by(pod, uid(set))).collect();
    let is_current = |pod: &Value| pod["metadata"]["labels"]["controller-revision-hash"] == hash.as_str();
    let (mut desired, mut current, mut ready, mut updated) = (0, 0, 0, 0);
    let mut unavailable = own.iter().filter(|pod| !is_ready(pod)).count();
    for node in &nodes {
        let here: Vec<&&Arc<Value>> = own.iter().filter(|pod| pod["spec"]["nodeName"] == name(node)).collect();
        if !may_be_on(node) {
            here.iter()
                .filter(|pod| !is_deleting(pod))
                .for_each(|pod| api.delete(PODS, namespace(pod), name(pod), None));
            continue;
        }
        desired += 1;
        if here.is_empty() {
            let mut pod = pod_of(set, template);
            pod["metadata"]["labels"]["controller-revision-hash"] = hash.as_str().into();
            pod["metadata"]["labels"]["pod-template-generation"] = generation.clone();
            pod["spec"] = pinned(&spec, name(node));
            let _ = api.create(PODS, namespace(set), pod);
            continue;
        }
        let Some(pod) = here.iter().find(|pod| !is_deleting(pod)) else { continue };
        current += 1;
        ready += u64::from(is_ready(pod));
        updated += u64::from(is_current(pod));
        // One node after the other.
        if !is_current(pod) && unavailable == 0 && set["spec"]["updateStrategy"]["type"] != "OnDelete" {
            unavailable += 1;
            api.delete(PODS, namespace(pod), name(pod), None);
        }
    }
    let status = json!({
        "observedGeneration": set["metadata"]["generation"],
        "desiredNumberScheduled": desired,
        "currentNumberScheduled": current,
        "updatedNumberScheduled": shown(updated),
        "numberReady": ready,
        "numberAvailable": shown(ready),
        "numberUnavailable": shown(desired - ready),
        "numberMisscheduled": 0,
    });
    write_status(context, DAEMON_SETS, set, status);
}

/// A daemon's pod is for one node, whatever else it is picky about. The scheduler would put it there.
fn pinned(spec: &Value, node: &str) -> Value {
    let mut spec = spec.clone();
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let required = &mut spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) => terms.iter_mut().for_each(|term| term["matchFields"] = json!([field])),
        None => *required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]}),
    }
    spec["nodeName"] = node.into();
    spec
}
