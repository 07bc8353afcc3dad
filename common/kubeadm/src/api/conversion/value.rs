//! Small operations on JSON that conversions are made of.

use serde_json::{Map, Value};

use super::ConvertError;

/// The object in a field, if there is one.
pub fn object<'a>(fields: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    fields.get_mut(name)?.as_object_mut()
}

/// Takes a field out; `None` where it is absent or null.
pub fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.remove(name).filter(|value| !value.is_null())
}

/// Takes a Go duration (`1h0m0s`, `250ms`) out of a field, as whole seconds, cut off and capped at what an int32 holds.
/// `path` is that of the object around the field, for the error where the text is no duration.
pub fn take_seconds(fields: &mut Map<String, Value>, name: &str, path: &str) -> Result<Option<i32>, ConvertError> {
    let Some(value) = take(fields, name) else { return Ok(None) };
    let text = value.as_str().filter(|text| !text.is_empty());
    let parsed = text.and_then(|text| text.parse::<kube::core::Duration>().ok());
    match parsed.filter(|duration| !duration.is_negative()) {
        Some(duration) => {
            let seconds = std::time::Duration::from(duration).as_secs();
            Ok(Some(i32::try_from(seconds).unwrap_or(i32::MAX)))
        }
        None => Err(ConvertError::Field(format!("{path}.{name}: {value} is not a duration such as \"4m0s\""))),
    }
}

/// Seconds as a Go duration: `4m0s`.
pub fn seconds_to_duration(seconds: &Value) -> Option<Value> {
    let seconds = u64::try_from(seconds.as_i64()?).ok()?;
    Some(Value::String(go_duration(seconds)))
}

/// Seconds as Go prints a duration: `30s`, `4m0s`, `1h0m0s`.
pub fn go_duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Fields whose emptiness means something.
const KEPT_EMPTY: &[&str] = &["controlPlane", "taints", "value", "extraEnvs"];
/// Maps whose keys and values are the user's: an empty label is a label.
const FREE: &[&str] = &["labels", "annotations", "config", "featureGates"];

/// Removes nulls and what is empty, from the leaves up: v1beta2 refuses empty structures where absence is meant.
pub fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| !FREE.contains(&name.as_str())).for_each(|(_, field)| prune(field));
            fields.retain(|name, field| !is_empty(field) || (KEPT_EMPTY.contains(&name.as_str()) && !field.is_null()));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(prune);
            // A mount of nothing.
            items.retain(|item| item.as_array().is_none_or(|inner| !inner.is_empty()));
        }
        _ => {}
    }
}

/// Removes what is empty at a place of a document, and then around it.
pub fn prune_at(object: &mut Value, path: &[&str]) {
    for depth in (0..path.len()).rev() {
        let Some(parent) = super::at_mut(object, &path[..depth]) else { continue };
        if let Some(field) = parent.get_mut(path[depth]) {
            prune(field);
            if is_empty(field) {
                parent.remove(path[depth]);
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
