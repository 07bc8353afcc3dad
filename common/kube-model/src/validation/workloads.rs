//! The kinds that make pods, and disruption budgets (`pkg/apis/{apps,batch,policy}/validation`).

use serde_json::Value;

use super::{at_least, one_of, pods::validate_spec};
use crate::{errors::FieldError, selectors::selects};

/// A Deployment.
pub fn validate_deployment(deployment: &Value) -> Vec<FieldError> {
    let spec = &deployment["spec"];
    let mut errors = Vec::from_iter(at_least(&spec["replicas"], 0, "spec.replicas"));
    errors.extend(validate_template(spec));
    let strategy = &spec["strategy"];
    if strategy["type"] == "Recreate" && strategy["rollingUpdate"].is_object() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
    }
    errors.extend(one_of(&strategy["type"], &["Recreate", "RollingUpdate"], "spec.strategy.type"));
    errors.extend(at_least(&spec["minReadySeconds"], 0, "spec.minReadySeconds"));
    errors.extend(at_least(&spec["revisionHistoryLimit"], 0, "spec.revisionHistoryLimit"));
    errors
}

/// A `ReplicaSet`.
pub fn validate_replica_set(set: &Value) -> Vec<FieldError> {
    let spec = &set["spec"];
    at_least(&spec["replicas"], 0, "spec.replicas").into_iter().chain(validate_template(spec)).collect()
}

/// A `StatefulSet`.
pub fn validate_stateful_set(set: &Value) -> Vec<FieldError> {
    validate_replica_set(set)
}

/// A `DaemonSet`.
pub fn validate_daemon_set(set: &Value) -> Vec<FieldError> {
    validate_template(&set["spec"])
}

/// A template and the selector that has to select its pods.
fn validate_template(spec: &Value) -> Vec<FieldError> {
    let template = &spec["template"];
    let mut errors = Vec::new();
    if !spec["selector"].is_object() {
        errors.push(FieldError::required("spec.selector", ""));
    }
    let labels = &template["metadata"]["labels"];
    if !selects(&spec["selector"], labels) {
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels.clone(), why));
    }
    errors.extend(validate_spec(&template["spec"], "spec.template.spec"));
    errors.extend(one_of(&template["spec"]["restartPolicy"], &["Always"], "spec.template.spec.restartPolicy"));
    errors
}

/// What is selected stays as it was.
pub fn validate_selector_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (new, old) = (&new["spec"]["selector"], &old["spec"]["selector"]);
    let wrong = (new != old).then(|| FieldError::invalid("spec.selector", new.clone(), "field is immutable"));
    wrong.into_iter().collect()
}

/// A Job: its pods end.
pub fn validate_job(job: &Value) -> Vec<FieldError> {
    let spec = &job["spec"]["template"]["spec"];
    let policy = spec["restartPolicy"].as_str().unwrap_or_default();
    let mut errors = validate_spec(spec, "spec.template.spec");
    if !["OnFailure", "Never"].contains(&policy) {
        errors.push(FieldError::required("spec.template.spec.restartPolicy", "valid values: \"OnFailure\", \"Never\""));
    }
    errors
}

/// A disruption budget says one thing or the other.
pub fn validate_budget(budget: &Value) -> Vec<FieldError> {
    let spec = &budget["spec"];
    if spec["minAvailable"].is_null() || spec["maxUnavailable"].is_null() {
        return Vec::new();
    }
    // As Go shows the type that has no names for fields.
    let shown = format!(
        "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
        spec["minAvailable"], spec["selector"], spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]
    );
    vec![FieldError::invalid_shown("spec", &shown, "minAvailable and maxUnavailable cannot be both set")]
}
