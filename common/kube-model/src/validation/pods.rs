//! Pods and templates of pods (`pkg/apis/core/validation`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{one_of, port};
use crate::{errors::FieldError, quantity};

const POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const MUTABLE: &str = "pod updates may not change fields other than \
                       `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                       `spec.tolerations` (only additions to existing tolerations),\
                       `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A pod.
pub fn validate_pod(pod: &Value) -> Vec<FieldError> {
    validate_spec(&pod["spec"], "spec")
}

/// The spec of a pod or of a template, at a path.
pub(super) fn validate_spec(spec: &Value, at: &str) -> Vec<FieldError> {
    let list = |name: &str| spec[name].as_array().map_or(&[][..], Vec::as_slice);
    let volumes: BTreeSet<&str> = list("volumes").iter().filter_map(|volume| volume["name"].as_str()).collect();
    let mut errors = Vec::new();
    if list("containers").is_empty() {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for name in ["containers", "initContainers"] {
        for (index, container) in list(name).iter().enumerate() {
            let at = format!("{at}.{name}[{index}]");
            errors.extend(validate_container(container, &volumes, &at));
            if container["name"].is_string() && !names.insert(container["name"].as_str()) {
                errors.push(FieldError::duplicate(format!("{at}.name"), &container["name"]));
            }
        }
    }
    errors.extend(one_of(&spec["restartPolicy"], &POLICIES, &format!("{at}.restartPolicy")));
    for (index, toleration) in list("tolerations").iter().enumerate() {
        errors.extend(validate_toleration(toleration, &format!("{at}.tolerations[{index}]")));
    }
    errors
}

fn validate_container(container: &Value, volumes: &BTreeSet<&str>, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["name", "image"] {
        if container[field].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("{at}.{field}"), ""));
        }
    }
    for (index, exposed) in container["ports"].as_array().into_iter().flatten().enumerate() {
        for field in ["containerPort", "hostPort"] {
            errors.extend(port(&exposed[field], &format!("{at}.ports[{index}].{field}")));
        }
    }
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let name = mount["name"].as_str().unwrap_or_default();
        if !volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{at}.volumeMounts[{index}].name"), &mount["name"]));
        }
    }
    errors.extend(validate_resources(&container["resources"], &format!("{at}.resources")));
    errors
}

/// Nobody asks for more than they may use.
fn validate_resources(resources: &Value, at: &str) -> Vec<FieldError> {
    let requests = resources["requests"].as_object().into_iter().flatten();
    let wrong = requests.filter_map(|(resource, asked)| {
        let limit = &resources["limits"][resource];
        let (wanted, most) = (quantity::parse(asked)?, quantity::parse(limit)?);
        (wanted > most).then(|| {
            let limit = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
            let why = format!("must be less than or equal to {resource} limit of {limit}");
            FieldError::invalid(format!("{at}.requests"), asked.clone(), why)
        })
    });
    wrong.collect()
}

fn validate_toleration(toleration: &Value, at: &str) -> Option<FieldError> {
    let field = format!("{at}.operator");
    match toleration["operator"].as_str().unwrap_or_default() {
        "Exists" => {
            let value = toleration["value"].as_str().filter(|value| !value.is_empty())?;
            Some(FieldError::invalid(field, value, "value must be empty when `operator` is 'Exists'"))
        }
        _ if toleration["key"].as_str().is_none_or(str::is_empty) => {
            let operator = toleration["operator"].as_str().unwrap_or_default();
            Some(FieldError::invalid(
                field,
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ))
        }
        "" | "Equal" => None,
        _ => one_of(&toleration["operator"], &["Equal", "Exists"], &field),
    }
}

/// What a change of a pod may not change.
pub fn validate_pod_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (new, old) = (&new["spec"], &old["spec"]);
    if new == old {
        return Vec::new();
    }
    let tolerations = |spec: &Value| spec["tolerations"].as_array().cloned().unwrap_or_default();
    let kept = tolerations(new);
    if !tolerations(old).iter().all(|toleration| kept.contains(toleration)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        return vec![FieldError::forbidden("spec.tolerations", why)];
    }
    if fixed(new) == fixed(old) { Vec::new() } else { vec![FieldError::forbidden("spec", MUTABLE)] }
}

/// What of a pod's spec never changes. Gates are lifted one by one.
fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|name, value| {
            let is_mutable =
                ["activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds"];
            !is_mutable.contains(&name.as_str()) && !value.is_null()
        });
    }
    spec
}
