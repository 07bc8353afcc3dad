//! The kinds that make pods: their fields and how they behave.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    apply::schema::Schema,
    builtin::{conditions, defaulted, kind, named, pod_spec, validated},
    defaults, object,
    registry::{Behaviour, Registry, Resource},
    validation,
};

/// Labels by which the pods of a job are told from others, the older names beside the newer ones.
const JOB_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

pub fn install(registry: &mut Registry) {
    registry.install(deployments());
    registry.install(daemon_sets());
    let set = named(workload("apps", "ReplicaSet", "replicasets"), &["rs"], &["all"]);
    let mut set = defaulted(set, defaults::default_replica_set);
    set.prepare = Some(begin_with(|| json!({"replicas": 0})));
    set.behaviour.has_scale = true;
    registry.install(validated(set, validation::validate_replica_set, validation::validate_selector_update));
    let set = named(workload("apps", "StatefulSet", "statefulsets"), &["sts"], &["all"]);
    let mut set = defaulted(set, defaults::default_stateful_set);
    set.prepare = Some(begin_with(|| json!({"replicas": 0, "availableReplicas": 0})));
    set.behaviour.has_scale = true;
    registry.install(validated(set, validation::validate_stateful_set, validation::validate_selector_update));
    registry.install(jobs());
    let job = named(workload("batch", "CronJob", "cronjobs"), &["cj"], &["all"]);
    registry.install(defaulted(job, defaults::default_cron_job));
}

fn workload(group: &str, name: &str, plural: &str) -> Resource {
    let template = Schema::record([("metadata", Schema::metadata()), ("spec", pod_spec())]);
    let spec = Schema::record([("selector", Schema::Leaf), ("template", template)]);
    let status = Schema::record([conditions()]);
    let mut workload = kind(group, name, plural, true, [("spec", spec), ("status", status)]);
    workload.prepare = Some(begin_with(|| json!({})));
    workload.behaviour =
        Behaviour { has_generation: true, has_status: true, updates_unconditionally: true, ..Behaviour::default() };
    workload
}

/// Sets the first status of an object.
pub(crate) fn begin_with(status: fn() -> Value) -> crate::registry::Prepare {
    Arc::new(move |object, old| {
        if old.is_none() {
            object["status"] = status();
        }
    })
}

fn deployments() -> Resource {
    let deployment = named(workload("apps", "Deployment", "deployments"), &["deploy"], &["all"]);
    let mut deployment = defaulted(deployment, defaults::default_deployment);
    deployment.behaviour.has_scale = true;
    validated(deployment, validation::validate_deployment, validation::validate_selector_update)
}

/// The annotation counts templates, as `metadata.generation` counts all changes.
fn daemon_sets() -> Resource {
    const TEMPLATE: &str = "deprecated.daemonset.template.generation";
    let set = named(workload("apps", "DaemonSet", "daemonsets"), &["ds"], &["all"]);
    let mut set = defaulted(set, defaults::default_daemon_set);
    set.prepare = Some(Arc::new(|set, old| {
        let generation = match old {
            None => {
                set["status"] = json!({
                    "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
                });
                1
            }
            Some(old) => {
                let known = old["metadata"]["annotations"][TEMPLATE].as_str().and_then(|text| text.parse().ok());
                let known: u64 = known.unwrap_or(1);
                known + u64::from(old["spec"]["template"] != set["spec"]["template"])
            }
        };
        set["metadata"]["annotations"][TEMPLATE] = json!(generation.to_string());
    }));
    validated(set, validation::validate_daemon_set, validation::validate_selector_update)
}

fn jobs() -> Resource {
    let job = named(workload("batch", "Job", "jobs"), &[], &["all"]);
    let mut job = defaulted(job, defaults::default_job);
    job.selectable = vec!["status.successful".into()];
    job.prepare = Some(Arc::new(|job, old| {
        if old.is_none() {
            select_own_pods(job);
            job["status"] = json!({});
        }
    }));
    validated(job, validation::validate_job, |_, _| Vec::new())
}

/// A job's pods are told from others by its UID, unless its maker says how.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (Some(uid), name) = (object::uid(job).map(str::to_owned), object::name(job).to_owned()) else { return };
    let follows = job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"];
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
    // Labels that it has of its pods are all of theirs.
    if follows {
        job["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"].clone();
    }
}
