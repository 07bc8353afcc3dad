//! Reading and writing the metadata of unstructured objects.

use serde_json::{Map, Value, json};

/// A text in an object's metadata; an empty one counts as none.
pub fn meta<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    meta(object, "name").unwrap_or_default()
}

/// Namespace of an object; empty when it has none.
pub fn namespace(object: &Value) -> &str {
    meta(object, "namespace").unwrap_or_default()
}

/// UID of an object.
pub fn uid(object: &Value) -> Option<&str> {
    meta(object, "uid")
}

/// When deletion was asked for.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    meta(object, "deletionTimestamp")
}

/// Whether an object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    deletion_timestamp(object).is_some()
}

/// Finalizers of an object.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let finalizers = object.get("metadata").and_then(|metadata| metadata.get("finalizers")).and_then(Value::as_array);
    finalizers.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Labels of an object.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// Owner references of an object.
pub fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    let owners = object.get("metadata").and_then(|metadata| metadata.get("ownerReferences"));
    owners.and_then(Value::as_array).into_iter().flatten()
}

/// A whole number in an object's metadata.
pub fn meta_number(object: &Value, name: &str) -> Option<i64> {
    object.get("metadata")?.get(name)?.as_i64()
}

/// Sets a field of an object's metadata.
pub fn set_meta(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert(name.to_owned(), value);
        }
    }
}

/// Removes a field of an object's metadata.
pub fn remove_meta(object: &mut Value, name: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(name)
}

/// Sets a field of an object's metadata to what another object has, or removes it.
pub fn copy_meta(object: &mut Value, from: &Value, name: &str) {
    match from.get("metadata").and_then(|metadata| metadata.get(name)) {
        Some(value) => set_meta(object, name, value.clone()),
        None => {
            remove_meta(object, name);
        }
    }
}

/// Sets a top-level field to what another object has, or removes it.
pub fn copy_field(object: &mut Value, from: &Value, name: &str) {
    if let Some(fields) = object.as_object_mut() {
        match from.get(name) {
            Some(value) => fields.insert(name.to_owned(), value.clone()),
            None => fields.remove(name),
        };
    }
}

/// Replaces the finalizers; none at all is no field.
pub fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    if finalizers.is_empty() {
        remove_meta(object, "finalizers");
    } else {
        set_meta(object, "finalizers", finalizers.iter().copied().collect());
    }
}

/// Drops the fields that are null, as decoding into a type does.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// No more than the metadata of an object.
pub fn metadata_only(object: &Value) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": object.get("metadata"),
    })
}
