//! Conversion between v1beta1 and v1beta2. It works on JSON; what kubeadm's part needs is in the `kubeadm` crate.

use kubeadm::api::conversion::{
    ConvertError, at, at_mut, conditions_down, conditions_up, convert_with, object, prune_at, seconds_to_duration,
    spec_down, spec_up, take, take_seconds,
};
use serde_json::{Map, Value, json};

/// Version under which v1beta1 objects name a reference's kind. References lost their version in v1beta2; DCS and every
/// provider of the v1beta1 contract serve this one, and upstream's readers look at group and kind alone.
const REFERENCE_VERSION: &str = "v1beta1";

/// Deletion limits: their names in v1beta1 and v1beta2.
const LIMITS: [(&str, &str); 3] = [
    ("nodeDrainTimeout", "nodeDrainTimeoutSeconds"),
    ("nodeVolumeDetachTimeout", "nodeVolumeDetachTimeoutSeconds"),
    ("nodeDeletionTimeout", "nodeDeletionTimeoutSeconds"),
];
const RETRIES: [(&str, &str); 2] =
    [("retryPeriod", "retryPeriodSeconds"), ("minHealthyPeriod", "minHealthyPeriodSeconds")];

/// Converts a `KubeadmControlPlane` or `KubeadmControlPlaneTemplate` to another API version of its group.
pub fn convert(object: Value, desired: &str) -> Result<Value, ConvertError> {
    let place: &'static [&'static str] = match object["kind"].as_str() {
        Some("KubeadmControlPlane") => &["spec"],
        Some("KubeadmControlPlaneTemplate") => &["spec", "template", "spec"],
        _ => {
            return Err(ConvertError::Unknown {
                kind: object["kind"].as_str().unwrap_or_default().to_owned(),
                from: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
                to: desired.to_owned(),
            });
        }
    };
    let namespace = object["metadata"]["namespace"].clone();
    convert_with(
        object,
        desired,
        |object, restored| {
            if let Some(spec) = at_mut(object, place) {
                up(spec, at(restored, place), &place.join("."))?;
            }
            prune_at(object, place);
            if place.len() > 1 {
                prune_at(object, &["spec", "template", "metadata"]);
            }
            status_up(object, restored);
            Ok(())
        },
        |object| {
            // v1beta1 demands a spec in a template.
            if let Some(template) = at_mut(object, &["spec", "template"]).filter(|_| place.len() > 1) {
                template.entry("spec").or_insert_with(|| json!({}));
            }
            if let Some(spec) = at_mut(object, place) {
                down(spec, &namespace);
            }
            status_down(object);
            Ok(())
        },
    )
}

fn up(spec: &mut Map<String, Value>, restored: &Value, path: &str) -> Result<(), ConvertError> {
    if let Some(config) = object(spec, "kubeadmConfigSpec") {
        spec_up(config, &restored["kubeadmConfigSpec"], &format!("{path}.kubeadmConfigSpec"))?;
    }
    if let Some(template) = object(spec, "machineTemplate") {
        machine_template_up(template, &format!("{path}.machineTemplate"))?;
    }
    let mut rollout = Map::new();
    for (old, new) in [("rolloutBefore", "before"), ("rolloutAfter", "after"), ("rolloutStrategy", "strategy")] {
        if let Some(value) = take(spec, old) {
            rollout.insert(new.to_owned(), value);
        }
    }
    if let Some(strategy) = object(&mut rollout, "strategy")
        && strategy.get("type").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        strategy.insert("type".to_owned(), json!("RollingUpdate"));
    }
    insert(spec, "rollout", rollout);
    if let Some(Value::Object(mut remediation)) = take(spec, "remediationStrategy") {
        to_seconds(&mut remediation, &RETRIES, &format!("{path}.remediationStrategy"))?;
        // v1beta1 says 0 where nothing was said: it stays only where it was said before.
        let (_, period) = RETRIES[0];
        if remediation.get(period) == Some(&json!(0)) && restored["remediation"][period] != json!(0) {
            remediation.remove(period);
        }
        insert(spec, "remediation", remediation);
    }
    if let Some(naming) = take(spec, "machineNamingStrategy") {
        spec.insert("machineNaming".to_owned(), naming);
    }
    Ok(())
}

fn machine_template_up(template: &mut Map<String, Value>, path: &str) -> Result<(), ConvertError> {
    let mut inner = Map::new();
    if let Some(mut reference) = take(template, "infrastructureRef") {
        let api_version = reference["apiVersion"].as_str().unwrap_or_default();
        let group = cluster_api::owner::group_of(api_version).to_owned();
        let kept = json!({"apiGroup": group, "kind": reference["kind"].take(), "name": reference["name"].take()});
        inner.insert("infrastructureRef".to_owned(), kept);
    }
    for same in ["readinessGates", "taints"] {
        if let Some(value) = take(template, same) {
            inner.insert(same.to_owned(), value);
        }
    }
    let mut deletion = Map::new();
    for (old, _) in LIMITS {
        if let Some(value) = take(template, old) {
            deletion.insert(old.to_owned(), value);
        }
    }
    to_seconds(&mut deletion, &LIMITS, path)?;
    insert(&mut inner, "deletion", deletion);
    insert(template, "spec", inner);
    Ok(())
}

fn down(spec: &mut Map<String, Value>, namespace: &Value) {
    // v1beta1 demands the field.
    if let Some(config) = spec.entry("kubeadmConfigSpec").or_insert_with(|| json!({})).as_object_mut() {
        spec_down(config);
    }
    if let Some(template) = object(spec, "machineTemplate") {
        machine_template_down(template, namespace);
    }
    if let Some(Value::Object(mut rollout)) = take(spec, "rollout") {
        for (old, new) in [("rolloutBefore", "before"), ("rolloutAfter", "after"), ("rolloutStrategy", "strategy")] {
            if let Some(value) = take(&mut rollout, new) {
                spec.insert(old.to_owned(), value);
            }
        }
    }
    if let Some(Value::Object(mut remediation)) = take(spec, "remediation") {
        to_durations(&mut remediation, &RETRIES);
        insert(spec, "remediationStrategy", remediation);
    }
    if let Some(naming) = take(spec, "machineNaming") {
        spec.insert("machineNamingStrategy".to_owned(), naming);
    }
}

fn machine_template_down(template: &mut Map<String, Value>, namespace: &Value) {
    let Some(Value::Object(mut inner)) = take(template, "spec") else { return };
    if let Some(mut reference) = take(&mut inner, "infrastructureRef") {
        let group = reference["apiGroup"].as_str().unwrap_or_default();
        let mut kept = json!({
            "apiVersion": format!("{group}/{REFERENCE_VERSION}"),
            "kind": reference["kind"].take(),
            "name": reference["name"].take(),
        });
        if namespace.is_string() {
            kept["namespace"] = namespace.clone();
        }
        template.insert("infrastructureRef".to_owned(), kept);
    }
    if let Some(Value::Object(mut deletion)) = take(&mut inner, "deletion") {
        to_durations(&mut deletion, &LIMITS);
        template.extend(deletion);
    }
    template.extend(inner);
}

fn to_seconds(fields: &mut Map<String, Value>, names: &[(&str, &str)], path: &str) -> Result<(), ConvertError> {
    for (old, new) in names {
        if let Some(seconds) = take_seconds(fields, old, path)? {
            fields.insert((*new).to_owned(), json!(seconds));
        }
    }
    Ok(())
}

fn to_durations(fields: &mut Map<String, Value>, names: &[(&str, &str)]) {
    for (old, new) in names {
        if let Some(duration) = take(fields, new).as_ref().and_then(seconds_to_duration) {
            fields.insert((*old).to_owned(), duration);
        }
    }
}

fn insert(fields: &mut Map<String, Value>, name: &str, value: Map<String, Value>) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), Value::Object(value));
    }
}

/// Counters of v1beta1 that v1beta2 counts differently, and keeps under `deprecated`.
const COUNTERS: [&str; 3] = ["updatedReplicas", "readyReplicas", "unavailableReplicas"];

fn status_up(object_: &mut Value, restored: &Value) {
    let Some(status) = object_.get_mut("status").and_then(Value::as_object_mut) else { return };
    let newer = take(status, "v1beta2");
    let mut legacy: Map<String, Value> =
        COUNTERS.iter().filter_map(|name| Some(((*name).to_owned(), take(status, name)?))).collect();
    if let Some(newer) = &newer {
        status.insert("v1beta2".to_owned(), newer.clone());
    }
    conditions_up(status);
    if let Some(fields) = object(status, "deprecated").and_then(|deprecated| object(deprecated, "v1beta1")) {
        fields.append(&mut legacy);
    } else if !legacy.is_empty() {
        status.insert("deprecated".to_owned(), json!({"v1beta1": legacy}));
    }
    for counter in ["readyReplicas", "availableReplicas", "upToDateReplicas"] {
        if let Some(value) = newer.as_ref().and_then(|newer| newer.get(counter)) {
            status.insert(counter.to_owned(), value.clone());
        }
    }
    status.remove("ready");
    let before = restored["status"]["initialization"]["controlPlaneInitialized"].as_bool();
    let initialized = match take(status, "initialized").and_then(|value| value.as_bool()) {
        Some(true) => Some(true),
        _ => before.filter(|initialized| !initialized),
    };
    if let Some(initialized) = initialized {
        status.insert("initialization".to_owned(), json!({"controlPlaneInitialized": initialized}));
    }
    if let Some(last) = object(status, "lastRemediation")
        && let Some(time) = take(last, "timestamp")
    {
        last.insert("time".to_owned(), time);
    }
    // What v1beta1 prints empty is absent in v1beta2; conditions keep their empty messages.
    status.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
    if status.is_empty()
        && let Some(fields) = object_.as_object_mut()
    {
        fields.remove("status");
    }
}

fn status_down(object_: &mut Value) {
    let Some(status) = object_.get_mut("status").and_then(Value::as_object_mut) else { return };
    let legacy = status.get("deprecated").map(|deprecated| deprecated["v1beta1"].clone()).unwrap_or_default();
    let mut newer = Map::new();
    for counter in ["readyReplicas", "availableReplicas", "upToDateReplicas"] {
        if let Some(value) = take(status, counter) {
            newer.insert(counter.to_owned(), value);
        }
    }
    conditions_down(status);
    if let Some(conditions) = object(status, "v1beta2").and_then(|inner| take(inner, "conditions")) {
        newer.insert("conditions".to_owned(), conditions);
    }
    status.remove("v1beta2");
    insert(status, "v1beta2", newer);
    for counter in COUNTERS {
        if let Some(value) = legacy.get(counter) {
            status.insert(counter.to_owned(), value.clone());
        }
    }
    let initialized = take(status, "initialization").and_then(|facts| facts["controlPlaneInitialized"].as_bool());
    status.insert("initialized".to_owned(), json!(initialized.unwrap_or(false)));
    status.insert("ready".to_owned(), json!(legacy["readyReplicas"].as_i64().unwrap_or(0) > 0));
    if let Some(last) = object(status, "lastRemediation")
        && let Some(time) = take(last, "time")
    {
        last.insert("timestamp".to_owned(), time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "controlplane.cluster.x-k8s.io/v1beta1";
    const NEW: &str = "controlplane.cluster.x-k8s.io/v1beta2";

    fn published() -> Value {
        json!({
            "apiVersion": OLD, "kind": "KubeadmControlPlane", "metadata": {"name": "c-kcp", "namespace": "cpaas-system"},
            "spec": {
                "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}},
                "kubeadmConfigSpec": {"format": "ignition", "joinConfiguration": {"nodeRegistration": {"kubeletExtraArgs": {"node-ip": "NODE_IP"}}}},
                "machineTemplate": {
                    "nodeDrainTimeout": "1m", "nodeDeletionTimeout": "5m",
                    "infrastructureRef": {"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DCSMachineTemplate", "name": "t"},
                },
                "replicas": 3, "version": "v1.34.5-3",
            },
        })
    }

    #[test]
    fn a_published_control_plane_is_understood() {
        let new = convert(published(), NEW).unwrap();
        assert_eq!(
            new["spec"]["machineTemplate"],
            json!({"spec": {
                "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DCSMachineTemplate", "name": "t"},
                "deletion": {"nodeDrainTimeoutSeconds": 60, "nodeDeletionTimeoutSeconds": 300},
            }})
        );
        assert_eq!(new["spec"]["rollout"]["strategy"]["rollingUpdate"]["maxSurge"], 0);
        let typed: super::super::v1beta2::KubeadmControlPlane = serde_json::from_value(new).unwrap();
        assert_eq!(typed.spec.version, "v1.34.5-3");
    }

    #[test]
    fn a_zero_that_says_nothing_goes_and_one_that_was_said_stays() {
        let mut old = published();
        old["spec"]["remediationStrategy"] = json!({"maxRetry": 3, "retryPeriod": "0s", "minHealthyPeriod": "0s"});
        let new = convert(old, NEW).unwrap();
        assert_eq!(new["spec"]["remediation"], json!({"maxRetry": 3, "minHealthyPeriodSeconds": 0}));
        let mut said = new.clone();
        said["spec"]["remediation"]["retryPeriodSeconds"] = json!(0);
        let back = convert(convert(said.clone(), OLD).unwrap(), NEW).unwrap();
        assert_eq!(back["spec"]["remediation"], said["spec"]["remediation"]);
    }

    #[test]
    fn an_empty_label_of_the_machines_is_a_label() {
        let mut old = published();
        old["spec"]["machineTemplate"]["metadata"] = json!({"labels": {"role": ""}, "annotations": {}});
        let new = convert(old, NEW).unwrap();
        assert_eq!(new["spec"]["machineTemplate"]["metadata"], json!({"labels": {"role": ""}}));
    }

    #[test]
    fn a_text_that_is_no_duration_is_refused_by_field() {
        for (place, field) in [
            ("/spec/machineTemplate/nodeDrainTimeout", "spec.machineTemplate.nodeDrainTimeout"),
            ("/spec/remediationStrategy/retryPeriod", "spec.remediationStrategy.retryPeriod"),
        ] {
            let mut old = published();
            old["spec"]["remediationStrategy"] = json!({"retryPeriod": "1m"});
            *old.pointer_mut(place).unwrap() = json!("1 minute");
            let error = convert(old, NEW).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
    }

    #[test]
    fn a_template_without_a_spec_gets_the_one_that_the_older_version_demands() {
        let template = json!({"template": {"metadata": {"labels": {"a": "b"}}}});
        let new = json!({"apiVersion": NEW, "kind": "KubeadmControlPlaneTemplate", "metadata": {}, "spec": template});
        let old = convert(new.clone(), OLD).unwrap();
        assert_eq!(old["spec"]["template"]["spec"], json!({"kubeadmConfigSpec": {}}));
        assert_eq!(convert(old, NEW).unwrap()["spec"], new["spec"]);
    }

    #[test]
    fn the_way_down_and_up_again_loses_nothing() {
        let mut new = convert(published(), NEW).unwrap();
        new["status"] = json!({
            "initialization": {"controlPlaneInitialized": true}, "replicas": 3, "readyReplicas": 2, "upToDateReplicas": 3,
            "conditions": [{"type": "Available", "status": "True", "message": ""}], "version": "v1.34.5-3",
            "lastRemediation": {"machine": "m", "time": "2026-01-01T00:00:00Z", "retryCount": 1},
            "deprecated": {"v1beta1": {"readyReplicas": 2, "conditions": [{"type": "Ready", "status": "True"}]}},
        });
        let old = convert(new.clone(), OLD).unwrap();
        assert_eq!((&old["status"]["initialized"], &old["status"]["ready"]), (&json!(true), &json!(true)));
        assert_eq!(old["status"]["v1beta2"]["readyReplicas"], 2);
        assert_eq!(old["spec"]["machineTemplate"]["nodeDrainTimeout"], "1m0s");
        assert_eq!(old["spec"]["machineTemplate"]["infrastructureRef"]["namespace"], "cpaas-system");
        let back = convert(old, NEW).unwrap();
        assert_eq!(back, new);
    }
}
