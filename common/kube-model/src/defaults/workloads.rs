//! The kinds that make pods.

use serde_json::{Map, Value, json};

use super::{below, fill, pods::default_template, storage};

/// A Deployment.
pub fn default_deployment(deployment: &mut Value) {
    let Some(spec) = below(deployment, "spec") else { return };
    fill(
        spec,
        [
            ("progressDeadlineSeconds", json!(600)),
            ("replicas", json!(1)),
            ("revisionHistoryLimit", json!(10)),
            ("strategy", json!({})),
        ],
    );
    roll(spec, "strategy", [("maxSurge", json!("25%")), ("maxUnavailable", json!("25%"))]);
    default_template(spec);
}

/// How pods are replaced: step by step, unless something else is said.
fn roll<const N: usize>(spec: &mut Map<String, Value>, field: &str, steps: [(&str, Value); N]) {
    let Some(strategy) = spec.get_mut(field).and_then(Value::as_object_mut) else { return };
    fill(strategy, [("type", json!("RollingUpdate"))]);
    if strategy["type"] == "RollingUpdate" {
        let rolling = strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
        if let Some(rolling) = rolling.as_object_mut() {
            fill(rolling, steps);
        }
    }
}

/// A `DaemonSet`.
pub fn default_daemon_set(set: &mut Value) {
    let Some(spec) = below(set, "spec") else { return };
    fill(spec, [("revisionHistoryLimit", json!(10)), ("updateStrategy", json!({}))]);
    roll(spec, "updateStrategy", [("maxSurge", json!(0)), ("maxUnavailable", json!(1))]);
    default_template(spec);
}

/// A `ReplicaSet`.
pub fn default_replica_set(set: &mut Value) {
    let Some(spec) = below(set, "spec") else { return };
    fill(spec, [("replicas", json!(1))]);
    default_template(spec);
}

/// A `StatefulSet`.
pub fn default_stateful_set(set: &mut Value) {
    let Some(spec) = below(set, "spec") else { return };
    fill(
        spec,
        [
            ("podManagementPolicy", json!("OrderedReady")),
            ("replicas", json!(1)),
            ("revisionHistoryLimit", json!(10)),
            ("updateStrategy", json!({})),
            ("persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"})),
        ],
    );
    roll(spec, "updateStrategy", [("partition", json!(0))]);
    default_template(spec);
    for claim in spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
        claim["apiVersion"] = json!("v1");
        claim["kind"] = json!("PersistentVolumeClaim");
        storage::default_claim(claim);
        storage::new_claim_status(claim);
    }
}

/// A Job.
pub fn default_job(job: &mut Value) {
    let Some(spec) = below(job, "spec") else { return };
    // Without either there is one of one; with a parallelism alone, one success ends them all.
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".into(), json!(1));
    }
    fill(
        spec,
        [
            ("parallelism", json!(1)),
            ("backoffLimit", json!(6)),
            ("completionMode", json!("NonIndexed")),
            ("manualSelector", json!(false)),
            ("podReplacementPolicy", json!("TerminatingOrFailed")),
            ("suspend", json!(false)),
        ],
    );
    default_template(spec);
    // A Job without labels of its own has those of its pods.
    let labels = spec.get("template").and_then(|template| template.pointer("/metadata/labels")).cloned();
    if let Some(labels) = labels.filter(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty()))
        && let Some(metadata) = below(job, "metadata")
    {
        fill(metadata, [("labels", labels)]);
    }
}

/// A `CronJob`.
pub fn default_cron_job(job: &mut Value) {
    let Some(spec) = below(job, "spec") else { return };
    fill(
        spec,
        [
            ("concurrencyPolicy", json!("Allow")),
            ("failedJobsHistoryLimit", json!(1)),
            ("successfulJobsHistoryLimit", json!(3)),
            ("suspend", json!(false)),
        ],
    );
    let Some(template) = spec.get_mut("jobTemplate").and_then(Value::as_object_mut) else { return };
    fill(template, [("metadata", json!({}))]);
    if let Some(job) = template.get_mut("spec").and_then(Value::as_object_mut) {
        default_template(job);
    }
}
