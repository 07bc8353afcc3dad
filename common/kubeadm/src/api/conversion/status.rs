//! Conversion of statuses: conditions of both kinds, and what moved.

use serde_json::{Map, Value, json};

use super::value::{object, take};

/// The status of a `KubeadmConfig`, v1beta1 to v1beta2.
pub(super) fn up(object: &mut Value, restored: &Value) {
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
    let ready = take(status, "ready");
    conditions_up(status);
    let before = restored["status"]["initialization"]["dataSecretCreated"].as_bool();
    let created = match ready.and_then(|ready| ready.as_bool()) {
        Some(true) => Some(true),
        _ => before.filter(|created| !created),
    };
    if let Some(created) = created {
        status.insert("initialization".to_owned(), json!({"dataSecretCreated": created}));
    }
    if status.is_empty()
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
}

/// The status of a `KubeadmConfig`, v1beta2 to v1beta1.
pub(super) fn down(object: &mut Value) {
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
    let created = take(status, "initialization").and_then(|facts| facts["dataSecretCreated"].as_bool());
    conditions_down(status);
    status.insert("ready".to_owned(), json!(created.unwrap_or(false)));
}

/// v1beta1 keeps its own conditions, and the newer ones under `v1beta2`; failures move under `deprecated`.
pub fn conditions_up(status: &mut Map<String, Value>) {
    let mut legacy = Map::new();
    for field in ["conditions", "failureReason", "failureMessage"] {
        if let Some(value) = take(status, field) {
            legacy.insert(field.to_owned(), value);
        }
    }
    if let Some(conditions) = take(status, "v1beta2").and_then(|mut newer| newer.as_object_mut()?.remove("conditions"))
    {
        status.insert("conditions".to_owned(), conditions);
    }
    if !legacy.is_empty() {
        status.insert("deprecated".to_owned(), json!({"v1beta1": legacy}));
    }
}

/// The reverse of [`conditions_up`].
pub fn conditions_down(status: &mut Map<String, Value>) {
    let newer = take(status, "conditions");
    let legacy = object(status, "deprecated").and_then(|deprecated| take(deprecated, "v1beta1"));
    status.remove("deprecated");
    if let Some(conditions) = newer {
        status.insert("v1beta2".to_owned(), json!({"conditions": conditions}));
    }
    if let Some(Value::Object(fields)) = legacy {
        for field in ["conditions", "failureReason", "failureMessage"] {
            if let Some(value) = fields.get(field) {
                status.insert(field.to_owned(), value.clone());
            }
        }
    }
}
