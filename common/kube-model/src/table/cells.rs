//! What the printers of several kinds share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::duration;

/// What stands for nothing at all.
pub(super) const NONE: &str = "<none>";
/// What stands for a field that is left out.
pub(super) const UNSET: &str = "<unset>";

/// A text; empty when it is not there.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A text, or what stands for it when it is not there.
pub(super) fn text_or<'a>(object: &'a Value, pointer: &str, missing: &'a str) -> &'a str {
    Some(text(object, pointer)).filter(|text| !text.is_empty()).unwrap_or(missing)
}

/// A whole number; 0 when it is not there.
pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// A list; empty when it is not there.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// How many fields a map has.
pub(super) fn size(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// A text or a number, as a text.
pub(super) fn scalar(object: &Value, pointer: &str) -> Option<String> {
    match object.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Name of an object.
pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

/// How old an object is.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    duration::since(text(object, "/metadata/creationTimestamp"), now).into()
}

/// Whether an object is being deleted.
pub(super) fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Whether there is a condition of that type that is true.
pub(super) fn is_true(object: &Value, condition: &str) -> bool {
    list(object, "/status/conditions")
        .iter()
        .find(|one| one["type"] == condition)
        .is_some_and(|one| one["status"] == "True")
}

/// The texts of a list, with commas between.
pub(super) fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(",")
}

/// The first three of a list, and how many more there are.
pub(super) fn first_three(texts: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = joined(texts.iter().take(SHOWN).map(String::as_str));
    match texts.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// Names and images of the containers of a pod template.
pub(super) fn containers(object: &Value) -> [Value; 2] {
    let containers = list(object, "/spec/template/spec/containers");
    ["/name", "/image"].map(|field| joined(containers.iter().map(|container| text(container, field))).into())
}

/// A map of labels; none at all is `<none>`.
pub(super) fn labels(object: &Value, pointer: &str) -> String {
    let fields = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let labels: Vec<_> = fields.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if labels.is_empty() { NONE.to_owned() } else { labels.join(",") }
}

/// A label selector as text, in the order of its keys.
pub(super) fn selector(object: &Value, pointer: &str) -> String {
    let Some(selector) = object.pointer(pointer) else { return String::new() };
    let mut terms: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        terms.entry(key).or_default().push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values: Vec<_> = list(expression, "/values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = joined(values);
        terms.entry(key).or_default().push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    terms.into_values().flatten().collect::<Vec<_>>().join(",")
}

/// The same; one that selects nothing in particular is `<none>`.
pub(super) fn selector_or_none(object: &Value, pointer: &str) -> String {
    Some(selector(object, pointer)).filter(|selector| !selector.is_empty()).unwrap_or_else(|| NONE.to_owned())
}
