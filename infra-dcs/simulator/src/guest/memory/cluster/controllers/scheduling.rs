//! The scheduler: the first node that a pod may be on, the least loaded first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};

use super::Context;
use crate::guest::memory::cluster::api::{NODES, PODS, is_deleting, name, namespace};

/// Binds the pods that have no node.
pub fn pass(context: &Context<'_>) {
    let pods = context.api.list(PODS, "");
    let is_waiting = |pod: &&Arc<Value>| {
        pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty)
            && !is_deleting(pod)
            && pod["spec"]["schedulerName"].as_str().is_none_or(|scheduler| scheduler == "default-scheduler")
            && pod["spec"]["schedulingGates"].as_array().is_none_or(Vec::is_empty)
    };
    let waiting: Vec<Arc<Value>> = pods.iter().filter(is_waiting).cloned().collect();
    if waiting.is_empty() {
        return;
    }
    let nodes = context.api.list(NODES, "");
    let mut load: HashMap<String, usize> = HashMap::new();
    for node in pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()) {
        *load.entry(node.to_owned()).or_default() += 1;
    }
    let api = context.api.by("kube-scheduler");
    for pod in waiting {
        let fits = nodes.iter().filter(|node| is_eligible(&pod["spec"], node));
        let chosen = fits.min_by_key(|node| (load.get(name(node)).copied().unwrap_or_default(), name(node).to_owned()));
        if let Some(node) = chosen {
            *load.entry(name(node).to_owned()).or_default() += 1;
            api.bind(namespace(&pod), name(&pod), name(node));
            continue;
        }
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": refusal(&pod["spec"], &nodes), "lastProbeTime": null,
            "lastTransitionTime": context.time(), "observedGeneration": pod["metadata"]["generation"],
        });
        let known = pod["status"]["conditions"].as_array().into_iter().flatten();
        let is_known = |known: &Value| known["type"] == "PodScheduled" && known["message"] == condition["message"];
        if !known.into_iter().any(is_known) {
            let _ = api.merge_status(PODS, namespace(&pod), name(&pod), json!({"conditions": [condition]}));
        }
    }
}

/// Why a pod of this spec is put on no node: how many refuse it, by the first of their reasons
/// (`pkg/scheduler/framework`, `FitError`).
fn refusal(spec: &Value, nodes: &[Arc<Value>]) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        *reasons.entry(reason(spec, node)).or_default() += 1;
    }
    // As Go sorts the texts, the count in front.
    let mut reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    let all = nodes.len();
    format!(
        "0/{all} nodes are available: {}. no new claims to deallocate, preemption: 0/{all} nodes are available: {all} \
         Preemption is not helpful for scheduling.",
        reasons.join(", ")
    )
}

/// What of a node is in the way of a pod first, in the order of the scheduler's plugins.
fn reason(spec: &Value, node: &Value) -> &'static str {
    let mut spec = spec.clone();
    let unschedulable = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    let tolerations = spec["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
    let bears_cordon = tolerations.iter().any(|toleration| tolerates(toleration, &unschedulable));
    if node["spec"]["unschedulable"] == true && !bears_cordon {
        return "node(s) were unschedulable";
    }
    // Only the taints are left to look at.
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|field, _| field == "tolerations");
    }
    if is_eligible(&spec, node) {
        "node(s) didn't match Pod's node affinity/selector"
    } else {
        "node(s) had untolerated taint(s)"
    }
}

/// Whether a pod of this spec may be put on a node.
pub fn is_eligible(spec: &Value, node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let tolerations = spec["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
    let bears = |taint: &Value| {
        taint["effect"] == "PreferNoSchedule" || tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    taints.into_iter().all(bears) && selects(spec, node)
}

/// Whether node selector and required node affinity fit.
pub fn selects(spec: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let selector = spec["nodeSelector"].as_object().into_iter().flatten();
    if !selector.into_iter().all(|(key, value)| labels[key] == *value) {
        return false;
    }
    let required = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let Some(terms) = spec.pointer(required).and_then(Value::as_array) else { return true };
    terms.iter().any(|term| {
        let fits = |expressions: &Value, value: &dyn Fn(&str) -> Option<String>| {
            let all = expressions.as_array().into_iter().flatten();
            all.into_iter().all(|expression| matches(expression, value))
        };
        fits(&term["matchExpressions"], &|key| labels[key].as_str().map(str::to_owned))
            && fits(&term["matchFields"], &|_| Some(name(node).to_owned()))
    })
}

fn matches(expression: &Value, value: &dyn Fn(&str) -> Option<String>) -> bool {
    let value = value(expression["key"].as_str().unwrap_or_default());
    let listed = expression["values"].as_array().map_or(&[][..], Vec::as_slice);
    let is_listed = value.as_ref().is_some_and(|value| listed.iter().any(|known| known == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || Some((number(value.as_deref()?)?, number(listed.first()?.as_str()?)?));
    match expression["operator"].as_str().unwrap_or_default() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(value, bound)| value > bound),
        "Lt" => compared().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Whether a toleration bears a taint.
pub fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (key, effect) = (text(&toleration["key"]), text(&toleration["effect"]));
    let fits_effect = effect.is_empty() || taint["effect"] == effect;
    let exists = toleration["operator"] == "Exists";
    let fits_key = if key.is_empty() { exists } else { taint["key"] == key };
    fits_effect && fits_key && (exists || text(&toleration["value"]) == text(&taint["value"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_fits_nowhere_says_what_keeps_it_from_each_node() {
        let node = |name: &str, spec: Value| {
            Arc::new(json!({"metadata": {"name": name, "labels": {"a": name}}, "spec": spec}))
        };
        let nodes = [
            node("tainted", json!({"taints": [{"key": "k", "effect": "NoSchedule"}]})),
            node("cordoned", json!({"unschedulable": true})),
            node("other", json!({})),
            node("another", json!({})),
        ];
        let why = refusal(&json!({"nodeSelector": {"a": "none"}}), &nodes);
        let wanted = "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 node(s) \
                      didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/4 nodes are \
                      available: 4 Preemption is not helpful for scheduling.";
        assert_eq!(why, wanted);
    }

    #[test]
    fn taints_keep_pods_away_unless_borne() {
        let node = json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        assert!(!is_eligible(&json!({}), &node));
        assert!(is_eligible(&json!({"tolerations": [{"operator": "Exists"}]}), &node));
        assert!(is_eligible(
            &json!({"tolerations": [{"key": "k", "effect": "NoSchedule"}], "nodeSelector": {"a": "b"}}),
            &node
        ));
        assert!(!is_eligible(&json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "c"}}), &node));
        let affinity = json!({"tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
            ]},
        }}});
        assert!(is_eligible(&affinity, &node));
    }
}
