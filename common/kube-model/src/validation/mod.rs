//! What is wrong with objects of the built-in kinds, worded as `pkg/apis/*/validation` words it. Whoever makes pods is
//! checked most, because people write those by hand; of other kinds what they would be refused for first.

mod pods;
mod services;
mod workloads;

use serde_json::Value;

pub use self::{
    pods::{validate_pod, validate_pod_update},
    services::{validate_service, validate_service_update},
    workloads::{
        validate_budget, validate_daemon_set, validate_deployment, validate_job, validate_replica_set,
        validate_selector_update, validate_stateful_set,
    },
};
use crate::{errors::FieldError, meta};

const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                          'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

/// A number that is too small.
fn at_least(value: &Value, least: i64, field: &str) -> Option<FieldError> {
    let why = if least == 1 { "must be greater than 0" } else { "must be greater than or equal to 0" };
    let number = value.as_i64().filter(|number| *number < least)?;
    Some(FieldError::invalid(field, number, why))
}

/// A port that there is none of.
fn port(value: &Value, field: &str) -> Option<FieldError> {
    let number = value.as_i64().filter(|number| !(1..=65_535).contains(number))?;
    Some(FieldError::invalid(field, number, "must be between 1 and 65535, inclusive"))
}

/// A value that is none of those there are.
fn one_of(value: &Value, allowed: &[&str], field: &str) -> Option<FieldError> {
    let is_wrong = value.as_str().is_some_and(|given| !allowed.contains(&given));
    let allowed: Vec<String> = allowed.iter().map(|text| (*text).to_owned()).collect();
    is_wrong.then(|| FieldError::not_supported(field, value, &allowed))
}

/// Keys of a `ConfigMap` or a Secret.
pub fn validate_keys(object: &Value) -> Vec<FieldError> {
    let is_good = |key: &str| {
        !key.is_empty() && key.len() <= 253 && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let keys = |field: &'static str| {
        let keys = object[field].as_object().into_iter().flatten().map(|(key, _)| key);
        keys.filter(|key| !is_good(key))
            .map(move |key| FieldError::invalid(format!("{field}[{key}]"), key.as_str(), CONFIG_KEY))
    };
    keys("data").chain(keys("binaryData")).collect()
}

/// What an immutable `ConfigMap` or Secret keeps, and the type of a Secret.
pub fn validate_keys_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if new["kind"] == "Secret" && new["type"] != old["type"] {
        errors.push(FieldError::invalid("type", new["type"].clone(), "field is immutable"));
    }
    if old["immutable"] == true {
        let is_changed = |field: &str| new[field] != old[field];
        let fields = ["immutable", "data", "binaryData"].into_iter().filter(|field| is_changed(field));
        errors.extend(fields.map(|field| FieldError::forbidden(field, IMMUTABLE)));
    }
    errors
}

/// Numbers of a Lease.
pub fn validate_lease(lease: &Value) -> Vec<FieldError> {
    let spec = &lease["spec"];
    let duration = at_least(&spec["leaseDurationSeconds"], 1, "spec.leaseDurationSeconds");
    let transitions = at_least(&spec["leaseTransitions"], 0, "spec.leaseTransitions");
    duration.into_iter().chain(transitions).collect()
}

/// A binding keeps its role.
pub fn validate_binding_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if new["roleRef"] == old["roleRef"] {
        return Vec::new();
    }
    let text = |field: &str| new["roleRef"][field].clone();
    let role = serde_json::json!({"APIGroup": text("apiGroup"), "Kind": text("kind"), "Name": text("name")});
    vec![FieldError::invalid("roleRef", role, "cannot change roleRef")]
}

/// A node keeps the names that others know its machine by.
pub fn validate_node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let refused = |field: &str, why: &str| {
        let known = &old["spec"][field];
        let is_known = match known {
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        (is_known && new["spec"][field] != *known).then(|| FieldError::forbidden(format!("spec.{field}"), why))
    };
    let cidrs = refused("podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
    let provider = refused("providerID", "node updates may not change providerID except from \"\" to valid");
    cidrs.into_iter().chain(provider).collect()
}

/// Who attaches a volume is called like a domain.
pub fn validate_attachment(attachment: &Value) -> Vec<FieldError> {
    let attacher = attachment["spec"]["attacher"].as_str().unwrap_or_default();
    meta::subdomain(attacher).into_iter().map(|why| FieldError::invalid("spec.attacher", attacher, why)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.field.as_str()).collect()
    }

    #[test]
    fn an_immutable_map_stays_as_it_is() {
        let old = json!({"kind": "ConfigMap", "immutable": true, "data": {"a": "1"}});
        assert!(validate_keys_update(&old, &old).is_empty());
        let changed = json!({"kind": "ConfigMap", "immutable": false, "data": {"a": "2"}});
        assert_eq!(fields(&validate_keys_update(&changed, &old)), ["immutable", "data"]);
        assert!(validate_keys_update(&old, &changed).is_empty(), "it may become immutable");
    }

    #[test]
    fn names_that_a_node_has_are_kept() {
        let old = json!({"spec": {"providerID": "", "podCIDRs": ["10.0.0.0/24"]}});
        let named = json!({"spec": {"providerID": "dcs://a", "podCIDRs": ["10.0.0.0/24"]}});
        assert!(validate_node_update(&named, &old).is_empty());
        assert_eq!(fields(&validate_node_update(&old, &named)), ["spec.providerID"]);
        assert_eq!(fields(&validate_node_update(&json!({"spec": {}}), &old)), ["spec.podCIDRs"]);
    }

    #[test]
    fn a_pods_parts_are_looked_at_one_by_one() {
        let wrong = |change: fn(&mut Value)| {
            let mut pod = json!({"spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "web"}]}});
            change(&mut pod["spec"]);
            fields(&validate_pod(&pod)).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(wrong(|_| ()).is_empty());
        assert_eq!(wrong(|spec| spec["containers"] = json!([])), ["spec.containers"]);
        assert_eq!(wrong(|spec| spec["restartPolicy"] = json!("Perhaps")), ["spec.restartPolicy"]);
        let twice = |spec: &mut Value| spec["containers"] = json!([spec["containers"][0], spec["containers"][0]]);
        assert_eq!(wrong(twice), ["spec.containers[1].name"]);
        let more = |spec: &mut Value| {
            spec["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}});
        };
        assert_eq!(wrong(more), ["spec.containers[0].resources.requests"]);
        let mount =
            |spec: &mut Value| spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        assert_eq!(wrong(mount), ["spec.containers[0].volumeMounts[0].name"]);
    }

    #[test]
    fn of_a_pod_images_and_tolerations_may_change() {
        let old = json!({"spec": {"nodeName": "n", "tolerations": [{"key": "a"}], "containers": [{"name": "c", "image": "web:1"}]}});
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("web:2");
        new["spec"]["tolerations"] = json!([{"key": "a"}, {"key": "b"}]);
        assert!(validate_pod_update(&new, &old).is_empty());
        new["spec"]["tolerations"] = json!([{"key": "b"}]);
        assert_eq!(fields(&validate_pod_update(&new, &old)), ["spec.tolerations"]);
        let mut moved = old.clone();
        moved["spec"]["nodeName"] = json!("m");
        assert_eq!(fields(&validate_pod_update(&moved, &old)), ["spec"]);
    }

    #[test]
    fn a_deployment_selects_its_own_pods() {
        let of = |spec: Value| {
            let errors = validate_deployment(&json!({"spec": spec}));
            fields(&errors).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let template =
            json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "web"}]}});
        assert!(of(json!({"selector": {"matchLabels": {"app": "a"}}, "template": template})).is_empty());
        assert_eq!(of(json!({"template": template})), ["spec.selector", "spec.template.metadata.labels"]);
        let both = json!({"type": "Recreate", "rollingUpdate": {}});
        let spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template, "strategy": both});
        assert_eq!(of(spec), ["spec.strategy.rollingUpdate"]);
    }

    #[test]
    fn a_service_needs_ports_with_names() {
        let of = |spec: Value| {
            let errors = validate_service(&json!({"spec": spec}));
            fields(&errors).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(json!({"type": "ClusterIP"})), ["spec.ports"]);
        assert!(of(json!({"clusterIP": "None", "type": "ClusterIP"})).is_empty());
        assert_eq!(of(json!({"ports": [{"port": 1}, {"port": 2}]})), ["spec.ports[0].name", "spec.ports[1].name"]);
        assert_eq!(of(json!({"ports": [{"port": 1}], "clusterIP": "x"})), ["spec.clusterIPs[0]"]);
    }
}
