//! Small operations on JSON that conversions are made of.

use serde_json::{Map, Value};

/// The object in a field, if there is one.
pub fn object<'a>(fields: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    fields.get_mut(name)?.as_object_mut()
}

/// Takes a field out; `None` where it is absent or null.
pub fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.remove(name).filter(|value| !value.is_null())
}

/// Whole seconds of a Go duration (`1h0m0s`, `250ms`), cut off and capped at what an int32 holds.
pub fn duration_to_seconds(duration: &Value) -> Option<i32> {
    let parsed: kube::core::Duration = duration.as_str()?.parse().ok()?;
    if parsed.is_negative() {
        return None;
    }
    Some(i32::try_from(std::time::Duration::from(parsed).as_secs()).unwrap_or(i32::MAX))
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

/// Removes nulls and what is empty, from the leaves up: v1beta2 refuses empty structures where absence is meant.
pub fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (_, field) in fields.iter_mut() {
                prune(field);
            }
            fields.retain(|name, field| !is_empty(field) || (KEPT_EMPTY.contains(&name.as_str()) && !field.is_null()));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
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
