//! JSON patch, JSON merge patch and strategic merge patch.

use serde_json::{Map, Value};

use crate::{apply::schema::Schema, errors::ApiError};

/// A change of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own: lists are merged by the keys of the schema.
    Strategic(Value),
    /// A configuration to apply.
    Apply(Value),
}

/// A patched object. A configuration to apply is none of this module's business and is refused.
pub fn patched(schema: &Schema, mut object: Value, patch: &Patch) -> Result<Value, ApiError> {
    match patch {
        Patch::Json(operations) => {
            let operations: json_patch::Patch =
                serde_json::from_value(operations.clone()).map_err(|_| ApiError::unprocessable())?;
            json_patch::patch(&mut object, &operations).map_err(|_| ApiError::unprocessable())?;
        }
        Patch::Merge(patch) => json_patch::merge(&mut object, patch),
        Patch::Strategic(patch) => strategic(schema, &mut object, patch)?,
        Patch::Apply(_) => return Err(ApiError::internal("an apply is not a patch of the object alone")),
    }
    Ok(object)
}

/// What a directive of a strategic patch asks for.
fn directive(patch: &Map<String, Value>) -> Option<&str> {
    patch.get("$patch").and_then(Value::as_str)
}

fn strategic(schema: &Schema, object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return Ok(());
    };
    match directive(patch) {
        Some("replace") => {
            let rest = patch.iter().filter(|(name, _)| *name != "$patch");
            *object = Value::Object(rest.map(|(name, value)| (name.clone(), value.clone())).collect());
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) if other != "merge" => {
            return Err(ApiError::bad_request(format!("unknown patch type: {other}")));
        }
        _ => {}
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let sets_orders = patch.keys().any(|name| name.starts_with("$setElementOrder/"));
    let before = if sets_orders { object.clone() } else { Value::Null };
    let Some(fields) = object.as_object_mut() else { return Ok(()) };
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), value) {
                items.retain(|item| !gone.contains(item));
            }
        } else if let Some(list) = name.strip_prefix("$setElementOrder/") {
            let key = merge_key(schema.field(list).0);
            // The lists are merged first; their order is set by what stands in the patch beside them.
            let mut items = fields.remove(list).unwrap_or_else(|| Value::Array(Vec::new()));
            if let Some(change) = patch.get(list) {
                strategic_field(schema.field(list).0, &mut items, change)?;
            }
            if let (Value::Array(items), Value::Array(order)) = (&mut items, value) {
                let live = object_items(before.get(list));
                *items = ordered(std::mem::take(items), order, live, key);
            }
            fields.insert(list.to_owned(), items);
        } else if !name.starts_with('$') && !patch.contains_key(&format!("$setElementOrder/{name}")) {
            strategic_value(schema.field(name).0, fields, name, value)?;
        }
    }
    if let Some(Value::Array(kept)) = patch.get("$retainKeys") {
        fields.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    Ok(())
}

fn strategic_value(
    schema: &Schema,
    fields: &mut Map<String, Value>,
    name: &str,
    value: &Value,
) -> Result<(), ApiError> {
    if value.is_null() {
        fields.remove(name);
        return Ok(());
    }
    let mut current = fields.remove(name).unwrap_or(Value::Null);
    strategic_field(schema, &mut current, value)?;
    fields.insert(name.to_owned(), current);
    Ok(())
}

fn strategic_field(schema: &Schema, current: &mut Value, patch: &Value) -> Result<(), ApiError> {
    match (schema, patch) {
        (_, Value::Object(_)) => strategic(schema, current, patch),
        (Schema::Set, Value::Array(items)) => {
            let mut merged = current.as_array().cloned().unwrap_or_default();
            let live = merged.clone();
            merged.extend(items.iter().filter(|item| !live.contains(item)).cloned());
            *current = Value::Array(ordered(merged, items, &live, None));
            Ok(())
        }
        (Schema::Keyed { .. }, Value::Array(items)) => strategic_list(schema, current, items),
        _ => {
            *current = patch.clone();
            Ok(())
        }
    }
}

/// The field by which strategic merge tells items apart: the first key of the schema.
fn merge_key(schema: &Schema) -> Option<&str> {
    match schema {
        Schema::Keyed { keys, .. } => keys.first().map(|key| key.name.as_str()),
        _ => None,
    }
}

fn strategic_list(schema: &Schema, current: &mut Value, patch: &[Value]) -> Result<(), ApiError> {
    let Some(key) = merge_key(schema) else { return Ok(()) };
    let is_replacement = patch.iter().filter_map(Value::as_object).any(|item| directive(item) == Some("replace"));
    let mut items = current.as_array().filter(|_| !is_replacement).cloned().unwrap_or_default();
    for change in patch {
        let Some(fields) = change.as_object() else {
            return Err(ApiError::bad_request("expected a map in a list that is merged by a key"));
        };
        let is_only_directive = fields.keys().all(|name| name == "$patch");
        let Some(identity) = fields.get(key) else {
            if is_only_directive && directive(fields).is_some() {
                continue;
            }
            return Err(ApiError::bad_request(format!("map: {change} does not contain declared merge key: {key}")));
        };
        let found = items.iter().position(|item| item.get(key) == Some(identity));
        match (found, directive(fields)) {
            (Some(index), Some("delete")) => {
                items.remove(index);
            }
            (None, Some("delete")) => {}
            (Some(index), _) => {
                if let Some(item) = items.get_mut(index) {
                    strategic(schema.element(), item, change)?;
                }
            }
            (None, _) => {
                let mut item = Value::Object(Map::new());
                strategic(schema.element(), &mut item, change)?;
                items.push(item);
            }
        }
    }
    *current = Value::Array(ordered(items, patch, object_items(Some(current)), Some(key)));
    Ok(())
}

fn object_items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Puts the items of a merged list into order: those that the patch names in its order, and each other one before the
/// first of them that it stood before (`mergeSortedSlice` of apimachinery's strategic merge).
fn ordered(items: Vec<Value>, patch: &[Value], live: &[Value], key: Option<&str>) -> Vec<Value> {
    let identity = |item: &Value| key.and_then(|key| item.get(key)).unwrap_or(item).clone();
    let place = |list: &[Value], item: &Value| list.iter().position(|other| identity(other) == identity(item));
    let (mut named, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| place(patch, item).is_some());
    named.sort_by_key(|item| place(patch, item));
    let mut out = Vec::new();
    let mut named = named.into_iter();
    for other in others {
        let stood = place(live, &other);
        let is_after = |item: &Value| place(live, item).is_some_and(|place| Some(place) > stood);
        // Everything up to the first named item that stood after it comes first; all, when there is none.
        let rest: Vec<_> = named.by_ref().collect();
        let before = rest.iter().position(&is_after).unwrap_or(rest.len());
        let mut rest = rest.into_iter();
        out.extend(rest.by_ref().take(before));
        out.push(other);
        named = rest.collect::<Vec<_>>().into_iter();
    }
    out.extend(named);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let ports = Schema::keyed(["containerPort", "protocol"], Schema::Plain);
        let containers = Schema::keyed(["name"], Schema::record([("ports", ports)]));
        Schema::record([("spec", Schema::record([("containers", containers)])), ("metadata", Schema::metadata())])
    }

    fn strategic_patched(object: Value, patch: Value) -> Value {
        patched(&schema(), object, &Patch::Strategic(patch)).unwrap()
    }

    #[test]
    fn strategic_lists_merge_by_key() {
        let object = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "other": [1]}});
        let patch = json!({"spec": {"other": [2], "containers": [{"name": "a", "image": "2"}, {"name": "c"}]}});
        assert_eq!(
            strategic_patched(object, patch),
            json!({"spec": {"other": [2], "containers": [{"name": "a", "image": "2"}, {"name": "c"}, {"name": "b"}]}})
        );
    }

    #[test]
    fn strategic_directives() {
        let object = json!({
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "gone": 1, "map": {"x": 1, "y": 1}},
            "metadata": {"finalizers": ["f", "g"]},
        });
        let patch = json!({
            "spec": {"containers": [{"name": "a", "$patch": "delete"}], "gone": null, "map": {"$patch": "replace", "z": 1}},
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["f"], "finalizers": ["h"]},
        });
        assert_eq!(
            strategic_patched(object.clone(), patch),
            json!({
                "spec": {"containers": [{"name": "b"}], "map": {"z": 1}}, "metadata": {"finalizers": ["h", "g"]},
            })
        );
        let reordered = json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}], "containers": [{"name": "c"}],
        }});
        assert_eq!(
            strategic_patched(object, reordered)["spec"]["containers"],
            json!([{"name": "c"}, {"name": "a"}, {"name": "b"}])
        );
    }

    #[test]
    fn faulty_patches_are_refused() {
        let refused = |patch: Patch| patched(&schema(), json!({"a": 1}), &patch).unwrap_err().code();
        assert_eq!(refused(Patch::Json(json!([{"op": "remove", "path": "/b"}]))), 422);
        assert_eq!(refused(Patch::Json(json!([{"op": "burn", "path": "/a"}]))), 422);
        assert_eq!(refused(Patch::Strategic(json!({"spec": {"containers": [{"image": "x"}]}}))), 400);
        assert_eq!(refused(Patch::Strategic(json!({"$patch": "explode"}))), 400);
    }
}
