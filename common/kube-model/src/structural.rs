//! Custom resources by the OpenAPI v3 schema of their definition: pruning, defaults and validation.
//!
//! What is checked is what the schema's types, bounds, enumerations, required fields and list types say. CEL rules,
//! patterns and formats are not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::errors::FieldError;

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// The schemas of the fields, and that of any other field.
fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let known = schema.get("properties").and_then(|properties| properties.get(name));
    known.or_else(|| schema.get("additionalProperties").filter(|other| other.is_object()))
}

/// Removes fields that the schema does not know. The root keeps what every object has.
pub fn prune(schema: &Value, object: &mut Value) {
    prune_at(schema, object, true);
}

fn prune_at(schema: &Value, value: &mut Value, is_root: bool) {
    let keeps_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields")
        || schema.get("additionalProperties").and_then(Value::as_bool) == Some(true);
    let is_object = is_root || flag(schema, "x-kubernetes-embedded-resource");
    match value {
        Value::Object(fields) => {
            let kept_by_all = |name: &str| is_object && ["apiVersion", "kind", "metadata"].contains(&name);
            fields.retain(|name, _| keeps_unknown || kept_by_all(name) || property(schema, name).is_some());
            for (name, value) in fields.iter_mut().filter(|(name, _)| !kept_by_all(name)) {
                if let Some(schema) = property(schema, name) {
                    prune_at(schema, value, false);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    prune_at(schema, item, false);
                }
            }
        }
        _ => {}
    }
}

/// Drops the nulls of fields that may not be null and have no default.
pub fn drop_nulls(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let keeps_null = |schema: &Value| flag(schema, "nullable") || schema.get("default").is_some();
                !value.is_null() || property(schema, name).is_none_or(keeps_null)
            });
            for (name, value) in fields {
                if let Some(schema) = property(schema, name) {
                    drop_nulls(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    drop_nulls(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// Fills in defaults; a null in a field that may not be null and has a default counts as missing.
pub fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let counts_as_missing = |schema: &Value| !flag(schema, "nullable") && schema.get("default").is_some();
                !value.is_null() || !property(schema, name).is_some_and(counts_as_missing)
            });
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                if let Some(default) = property.get("default") {
                    fields.entry(name).or_insert_with(|| default.clone());
                }
            }
            for (name, value) in fields {
                if let Some(schema) = property(schema, name) {
                    default(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    default(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// What is wrong with an object.
pub fn validate(schema: &Value, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_at(schema, object, "", &mut errors);
    errors
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn validate_at(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let shown = if path.is_empty() { "<nil>" } else { path };
    let actual = type_of(value);
    if value.is_null() && flag(schema, "nullable") {
        return;
    }
    if let Some(wanted) = schema.get("type").and_then(Value::as_str) {
        let fits = wanted == actual || (wanted == "number" && actual == "integer");
        if !fits {
            let detail = format!("{shown} in body must be of type {wanted}: {}", quoted_type(actual));
            errors.push(FieldError::type_invalid(shown, &json!(actual), detail));
            return;
        }
    }
    if flag(schema, "x-kubernetes-int-or-string") && !["integer", "string"].contains(&actual) {
        let detail = format!("{shown} in body must be of type integer,string: {}", quoted_type(actual));
        errors.push(FieldError::type_invalid(shown, &json!(actual), detail));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<_> =
            allowed.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
        errors.push(FieldError::not_supported(shown, value, &allowed));
    }
    validate_bounds(schema, value, shown, errors);
    match value {
        Value::Object(fields) => {
            for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
            {
                if !fields.contains_key(name) {
                    errors.push(FieldError::required(joined(path, name), ""));
                }
            }
            for (name, value) in fields {
                if let Some(schema) = property(schema, name) {
                    validate_at(schema, value, &joined(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            validate_list(schema, items, path, errors);
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    validate_at(schema, item, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn quoted_type(actual: &str) -> String {
    format!("{actual:?}")
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

fn validate_bounds(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(number) = value.as_f64() {
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{path} in body should be greater than or equal to {least}"),
            ));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{path} in body should be less than or equal to {most}"),
            ));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count();
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
        if let Some(least) = bound("minLength").filter(|least| length < *least) {
            errors.push(FieldError::invalid(
                path,
                text,
                format!("{path} in body should be at least {least} chars long"),
            ));
        }
        if let Some(most) = bound("maxLength").filter(|most| length > *most) {
            let body = format!("Too long: may not be more than {most} bytes");
            errors.push(FieldError { field: path.into(), reason: "FieldValueTooLong", body });
        }
    }
}

fn validate_list(schema: &Value, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let keys: Vec<_> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => Vec::new(),
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            keys.into_iter().flatten().filter_map(Value::as_str).collect()
        }
        _ => return,
    };
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let identity = if keys.is_empty() {
            item.clone()
        } else {
            keys.iter().filter_map(|key| Some(((*key).to_owned(), item.get(*key)?.clone()))).collect()
        };
        if !seen.insert(identity.to_string()) {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), &identity));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"default": 80}}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}}})
    }

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let mut object = json!({
            "kind": "Widget", "metadata": {"name": "w"}, "extra": 1,
            "spec": {"size": 1, "mode": null, "typo": 1, "open": {"x": {}}, "ports": [{"name": "p", "typo": 1}]},
        });
        prune(&schema(), &mut object);
        drop_nulls(&schema(), &mut object);
        default(&schema(), &mut object);
        assert_eq!(
            object,
            json!({
                "kind": "Widget", "metadata": {"name": "w"},
                "spec": {"size": 1, "mode": "a", "open": {"x": {}}, "ports": [{"name": "p", "port": 80}]},
            })
        );
    }

    #[test]
    fn each_fault_is_named() {
        let errors = |spec: Value| -> Vec<_> {
            let errors = validate(&schema(), &json!({"spec": spec}));
            errors.into_iter().map(|error| (error.field, error.reason)).collect()
        };
        assert!(errors(json!({"size": 1})).is_empty());
        assert_eq!(errors(json!({})), [("spec.size".into(), "FieldValueRequired")]);
        assert_eq!(errors(json!({"size": "1"})), [("spec.size".into(), "FieldValueTypeInvalid")]);
        assert_eq!(errors(json!({"size": 0})), [("spec.size".into(), "FieldValueInvalid")]);
        assert_eq!(errors(json!({"size": 1, "mode": "c"})), [("spec.mode".into(), "FieldValueNotSupported")]);
        assert_eq!(
            errors(json!({"size": 1, "ports": [{"name": "a"}, {"name": "a"}]})),
            [("spec.ports[1]".into(), "FieldValueDuplicate")]
        );
    }
}
