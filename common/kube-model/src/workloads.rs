//! The kinds that make pods: their fields and what is defaulted (`pkg/apis/apps/v1/defaults.go`, `pkg/apis/batch/v1`).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    apply::schema::Schema,
    builtin::{conditions, kind, pod_spec, short},
    errors::FieldError,
    object,
    registry::{Behaviour, Registry, Resource},
};

/// Labels by which the pods of a job are told from others, the older names beside the newer ones.
const JOB_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

pub fn install(registry: &mut Registry) {
    for (name, plural, short_name) in [
        ("DaemonSet", "daemonsets", "ds"),
        ("Deployment", "deployments", "deploy"),
        ("ReplicaSet", "replicasets", "rs"),
    ] {
        registry.install(short(workload("apps", name, plural), &[short_name]));
    }
    let mut set = short(workload("apps", "StatefulSet", "statefulsets"), &["sts"]);
    set.default = Some(Arc::new(|set, _| {
        default_stateful_set(set);
        Ok(())
    }));
    registry.install(set);
    registry.install(jobs());
}

fn workload(group: &str, name: &str, plural: &str) -> Resource {
    let template = Schema::record([("metadata", Schema::metadata()), ("spec", pod_spec())]);
    let spec = Schema::record([("selector", Schema::Leaf), ("template", template)]);
    let status = Schema::record([conditions()]);
    let mut workload = kind(group, name, plural, true, [("spec", spec), ("status", status)]);
    workload.behaviour =
        Behaviour { has_generation: true, has_status: true, updates_unconditionally: true, ..Behaviour::default() };
    workload
}

fn fill(spec: &mut Map<String, Value>, defaults: &[(&str, Value)]) {
    for (name, value) in defaults {
        spec.entry(*name).or_insert_with(|| value.clone());
    }
}

fn default_stateful_set(set: &mut Value) {
    let Some(spec) = set.get_mut("spec").and_then(Value::as_object_mut) else { return };
    fill(
        spec,
        &[
            ("podManagementPolicy", json!("OrderedReady")),
            ("replicas", json!(1)),
            ("revisionHistoryLimit", json!(10)),
            ("updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
            ("persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"})),
        ],
    );
}

fn jobs() -> Resource {
    let mut job = workload("batch", "Job", "jobs");
    job.default = Some(Arc::new(|job, _| {
        default_job(job);
        Ok(())
    }));
    job.prepare = Some(Arc::new(|job, old| {
        if old.is_none() {
            select_own_pods(job);
        }
    }));
    job.validate = Some(Arc::new(|job, _| {
        let policy = job.pointer("/spec/template/spec/restartPolicy").and_then(Value::as_str).unwrap_or_default();
        let is_wrong = !["OnFailure", "Never"].contains(&policy);
        let wrong = is_wrong.then(|| {
            FieldError::required("spec.template.spec.restartPolicy", "valid values: \"OnFailure\", \"Never\"")
        });
        wrong.into_iter().collect()
    }));
    job
}

fn default_job(job: &mut Value) {
    let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) else { return };
    // Without either there is one of one; with a parallelism alone, one success ends them all.
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".into(), json!(1));
    }
    fill(
        spec,
        &[
            ("parallelism", json!(1)),
            ("backoffLimit", json!(6)),
            ("completionMode", json!("NonIndexed")),
            ("manualSelector", json!(false)),
            ("podReplacementPolicy", json!("TerminatingOrFailed")),
            ("suspend", json!(false)),
        ],
    );
}

/// A job's pods are told from others by its UID, unless its maker says how.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (Some(uid), name) = (object::uid(job).map(str::to_owned), object::name(job).to_owned()) else { return };
    let spec = &mut job["spec"];
    spec["selector"] = json!({"matchLabels": {JOB_UID[0]: uid}});
    if !spec["template"]["metadata"]["labels"].is_object() {
        spec["template"]["metadata"]["labels"] = json!({});
    }
    let labels = &mut spec["template"]["metadata"]["labels"];
    for label in JOB_UID {
        labels[label] = json!(uid);
    }
    for label in JOB_NAME {
        labels[label] = json!(name);
    }
}
