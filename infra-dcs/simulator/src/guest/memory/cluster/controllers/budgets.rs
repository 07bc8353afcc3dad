//! The disruption controller: how many pods of a budget may go at present (`pkg/controller/disruption`).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube_model::selects;
use serde_json::{Map, Value, json};

use super::{
    Context, earliest, moment,
    workloads::{is_ready, write_status},
};
use crate::guest::memory::cluster::api::{
    BUDGETS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, is_deleting, name, namespace,
};

/// How long an eviction that was granted counts, while its pod is still there.
const GRANTED: SignedDuration = SignedDuration::from_mins(2);

/// See the module. Answers when the next granted eviction stops to count.
pub fn pass(context: &Context<'_>, pods: &[Arc<Value>]) -> Option<Timestamp> {
    let mut due = None;
    for budget in context.api.list(BUDGETS, "").iter().filter(|budget| !is_deleting(budget)) {
        let is_selected = |pod: &&Arc<Value>| {
            namespace(pod) == namespace(budget) && selects(&budget["spec"]["selector"], &pod["metadata"]["labels"])
        };
        let selected: Vec<&Arc<Value>> = pods.iter().filter(is_selected).collect();
        let (granted, end) = still_granted(context.now, budget, &selected);
        due = earliest(due, end);
        let counts = |pod: &&&Arc<Value>| is_ready(pod) && !is_deleting(pod) && !granted.contains_key(name(pod));
        let healthy = i64::try_from(selected.iter().filter(counts).count()).unwrap_or(i64::MAX);
        keep(context, budget, &selected, healthy, granted);
    }
    due
}

/// Evictions whose pods are still to go.
fn still_granted(now: Timestamp, budget: &Value, selected: &[&Arc<Value>]) -> (Map<String, Value>, Option<Timestamp>) {
    let mut due = None;
    let mut granted = Map::new();
    for (pod, since) in budget["status"]["disruptedPods"].as_object().into_iter().flatten() {
        let end = moment(since).and_then(|since| since.checked_add(GRANTED).ok());
        let is_there = selected.iter().any(|known| name(known) == pod && !is_deleting(known));
        if is_there && end.is_some_and(|end| end > now) {
            granted.insert(pod.clone(), since.clone());
            due = earliest(due, end);
        }
    }
    (granted, due)
}

fn keep(context: &Context<'_>, budget: &Value, selected: &[&Arc<Value>], healthy: i64, granted: Map<String, Value>) {
    let count = i64::try_from(selected.len()).unwrap_or(i64::MAX);
    let outcome = wanted(&budget["spec"], count, || scale(context, selected));
    let (desired, expected, failure) = match outcome {
        Some((desired, expected)) => (desired, expected, false),
        // Nothing may go where it is not known how many there should be.
        None => (count, count, true),
    };
    let allowed = if failure || expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let (status, reason) = match (failure, allowed > 0) {
        (true, _) => ("False", "SyncFailed"),
        (_, true) => ("True", "SufficientPods"),
        _ => ("False", "InsufficientPods"),
    };
    let conditions = budget["status"]["conditions"].as_array().into_iter().flatten();
    let mut known = conditions.filter(|known| known["type"] == "DisruptionAllowed" && known["status"] == status);
    let since = known.next().map_or_else(|| context.time().into(), |known| known["lastTransitionTime"].clone());
    // A merge patch takes away only what it names.
    let mut disrupted: Map<String, Value> = granted;
    for (pod, _) in budget["status"]["disruptedPods"].as_object().into_iter().flatten() {
        disrupted.entry(pod.clone()).or_insert(Value::Null);
    }
    let generation = &budget["metadata"]["generation"];
    let status = json!({
        "observedGeneration": generation,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "disruptedPods": if disrupted.is_empty() { Value::Null } else { disrupted.into() },
        "conditions": [{
            "type": "DisruptionAllowed", "status": status, "reason": reason, "message": "",
            "observedGeneration": generation, "lastTransitionTime": since,
        }],
    });
    write_status(context, BUDGETS, budget, status);
}

/// How many pods must be healthy, and of how many; none where that cannot be told. `count` is of the pods that are there,
/// `scale` of those that their owners want.
fn wanted(spec: &Value, count: i64, scale: impl FnOnce() -> Option<i64>) -> Option<(i64, i64)> {
    let part = |value: &Value, of: i64| match value.as_str() {
        Some(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().ok()?;
            // Rounded up.
            Some((percent * of + 99) / 100)
        }
        None => value.as_i64(),
    };
    let (most, least) = (&spec["maxUnavailable"], &spec["minAvailable"]);
    if !most.is_null() {
        let expected = scale()?;
        return Some(((expected - part(most, expected)?).max(0), expected));
    }
    match least {
        Value::Null => Some((0, 0)),
        Value::Number(_) => Some((least.as_i64()?, count)),
        _ => {
            let expected = scale()?;
            Some((part(least, expected)?, expected))
        }
    }
}

/// Pods that the owners of these want; none where one has no scale. Pods without an owner do not count.
fn scale(context: &Context<'_>, pods: &[&Arc<Value>]) -> Option<i64> {
    let mut owners: Vec<(String, i64)> = Vec::new();
    for pod in pods {
        let Some((kind, owner)) = controller(pod) else { continue };
        let found = match kind {
            "ReplicaSet" => context.api.get(REPLICA_SETS, namespace(pod), owner),
            "StatefulSet" => context.api.get(STATEFUL_SETS, namespace(pod), owner),
            _ => return None,
        };
        let Some(mut found) = found else { continue };
        if let Some(("Deployment", owner)) = controller(&found)
            && let Some(deployment) = context.api.get(DEPLOYMENTS, namespace(&found), owner)
        {
            found = deployment;
        }
        let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
        if !owners.iter().any(|(known, _)| known == uid) {
            owners.push((uid.to_owned(), found["spec"]["replicas"].as_i64().unwrap_or(1)));
        }
    }
    Some(owners.iter().map(|(_, replicas)| replicas).sum())
}

/// Kind and name of an object's controlling owner.
fn controller(object: &Value) -> Option<(&str, &str)> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some((owner["kind"].as_str()?, owner["name"].as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_numbers_and_parts() {
        let of = |spec: Value| wanted(&spec, 3, || Some(10));
        assert_eq!(of(json!({"minAvailable": 2})), Some((2, 3)));
        assert_eq!(of(json!({"minAvailable": "25%"})), Some((3, 10)), "rounded up");
        assert_eq!(of(json!({"maxUnavailable": 1})), Some((9, 10)));
        assert_eq!(of(json!({"maxUnavailable": "35%"})), Some((6, 10)), "rounded up");
        assert_eq!(of(json!({})), Some((0, 0)));
        assert_eq!(wanted(&json!({"maxUnavailable": 1}), 3, || None), None);
    }
}
