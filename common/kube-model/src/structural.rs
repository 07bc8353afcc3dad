//! Custom resources by the OpenAPI v3 schema of their definition: pruning, defaults and validation.
//!
//! What is checked is what the schema's types, bounds, enumerations, required fields and list types say. CEL rules,
//! patterns and formats are not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value, json};

use crate::errors::FieldError;

/// What a schema says of one value, read once: every write of a custom resource walks over all of it.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    kind: Option<String>,
    nullable: bool,
    int_or_string: bool,
    keeps_unknown: bool,
    is_embedded: bool,
    default: Option<Value>,
    properties: BTreeMap<String, Self>,
    /// What any other field is.
    additional: Option<Box<Self>>,
    items: Option<Box<Self>>,
    required: Vec<String>,
    allowed: Option<Vec<Value>>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    /// The fields that tell items of the list apart; none of them: the items themselves.
    unique_by: Option<Vec<String>>,
}

impl Structural {
    /// Reads an OpenAPI v3 schema.
    pub fn read(schema: &Value) -> Self {
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or_default();
        let texts = |name: &str| -> Vec<String> {
            let list = schema.get(name).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let number = |name: &str| schema.get(name).and_then(Value::as_f64);
        let length = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|length| length.try_into().ok());
        let below = |name: &str| schema.get(name).filter(|below| below.is_object()).map(Self::read).map(Box::new);
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        Self {
            kind: schema.get("type").and_then(Value::as_str).map(str::to_owned),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            keeps_unknown: flag("x-kubernetes-preserve-unknown-fields") || flag("additionalProperties"),
            is_embedded: flag("x-kubernetes-embedded-resource"),
            default: schema.get("default").cloned(),
            properties: properties.map(|(name, property)| (name.clone(), Self::read(property))).collect(),
            additional: below("additionalProperties"),
            items: below("items"),
            required: texts("required"),
            allowed: schema.get("enum").and_then(Value::as_array).cloned(),
            minimum: number("minimum"),
            maximum: number("maximum"),
            min_length: length("minLength"),
            max_length: length("maxLength"),
            unique_by: match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("set") => Some(Vec::new()),
                Some("map") => Some(texts("x-kubernetes-list-map-keys")),
                _ => None,
            },
        }
    }

    /// What a field is.
    fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// Removes fields that the schema does not know. The root keeps what every object has.
    pub fn prune(&self, object: &mut Value) {
        self.prune_at(object, true);
    }

    fn prune_at(&self, value: &mut Value, is_root: bool) {
        let is_object = is_root || self.is_embedded;
        match value {
            Value::Object(fields) => {
                let kept_by_all = |name: &str| is_object && ["apiVersion", "kind", "metadata"].contains(&name);
                fields.retain(|name, value| {
                    if kept_by_all(name) {
                        return true;
                    }
                    let property = self.property(name);
                    if let Some(property) = property {
                        property.prune_at(value, false);
                    }
                    self.keeps_unknown || property.is_some()
                });
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items {
                        schema.prune_at(item, false);
                    }
                }
            }
            _ => {}
        }
    }

    /// Drops the nulls of fields that may not be null and have no default.
    pub fn drop_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => fields.retain(|name, value| {
                let Some(property) = self.property(name) else { return true };
                property.drop_nulls(value);
                !value.is_null() || property.nullable || property.default.is_some()
            }),
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items {
                        schema.drop_nulls(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults; a null in a field that may not be null and has a default counts as missing.
    pub fn fill_in(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, property) in &self.properties {
                    let Some(default) = &property.default else { continue };
                    let is_missing = match fields.get(name) {
                        Some(value) => value.is_null() && !property.nullable,
                        None => true,
                    };
                    if is_missing {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                // A null under a name that the schema does not know counts as missing too, and nothing is filled in.
                if self.additional.as_ref().is_some_and(|other| !other.nullable && other.default.is_some()) {
                    fields.retain(|name, value| !value.is_null() || self.properties.contains_key(name));
                }
                for (name, value) in fields {
                    if let Some(property) = self.property(name) {
                        property.fill_in(value);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items {
                        schema.fill_in(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// What is wrong with an object.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.validate_at(object, &Place::Root, &mut errors);
        errors
    }

    fn validate_at(&self, value: &Value, place: &Place<'_>, errors: &mut Vec<FieldError>) {
        let actual = type_of(value);
        if value.is_null() && self.nullable {
            return;
        }
        if let Some(wanted) = &self.kind
            && !(wanted == actual || (wanted == "number" && actual == "integer"))
        {
            let shown = place.shown();
            let detail = format!("{shown} in body must be of type {wanted}: {actual:?}");
            errors.push(FieldError::type_invalid(&shown, &json!(actual), detail));
            return;
        }
        if self.int_or_string && !["integer", "string"].contains(&actual) {
            let shown = place.shown();
            let detail = format!("{shown} in body must be of type integer,string: {actual:?}");
            errors.push(FieldError::type_invalid(&shown, &json!(actual), detail));
            return;
        }
        if let Some(allowed) = self.allowed.as_ref().filter(|allowed| !allowed.contains(value)) {
            let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let allowed: Vec<_> = allowed.iter().map(shown).collect();
            errors.push(FieldError::not_supported(place.shown(), value, &allowed));
        }
        self.validate_bounds(value, place, errors);
        match value {
            Value::Object(fields) => self.validate_fields(fields, place, errors),
            Value::Array(items) => {
                self.validate_list(items, place, errors);
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter().enumerate() {
                        schema.validate_at(item, &Place::Item(place, index), errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn validate_fields(&self, fields: &Map<String, Value>, place: &Place<'_>, errors: &mut Vec<FieldError>) {
        for name in self.required.iter().filter(|name| !fields.contains_key(*name)) {
            errors.push(FieldError::required(Place::Field(place, name).to_string(), ""));
        }
        for (name, value) in fields {
            if let Some(property) = self.property(name) {
                property.validate_at(value, &Place::Field(place, name), errors);
            }
        }
    }

    fn validate_bounds(&self, value: &Value, place: &Place<'_>, errors: &mut Vec<FieldError>) {
        if let Some(number) = value.as_f64() {
            if let Some(least) = self.minimum.filter(|least| number < *least) {
                let path = place.shown();
                let why = format!("{path} in body should be greater than or equal to {least}");
                errors.push(FieldError::invalid(path, value.clone(), why));
            }
            if let Some(most) = self.maximum.filter(|most| number > *most) {
                let path = place.shown();
                let why = format!("{path} in body should be less than or equal to {most}");
                errors.push(FieldError::invalid(path, value.clone(), why));
            }
        }
        if let Some(text) = value.as_str().filter(|_| self.min_length.is_some() || self.max_length.is_some()) {
            let length = text.chars().count();
            if let Some(least) = self.min_length.filter(|least| length < *least) {
                let path = place.shown();
                let why = format!("{path} in body should be at least {least} chars long");
                errors.push(FieldError::invalid(path, text, why));
            }
            if let Some(most) = self.max_length.filter(|most| length > *most) {
                let body = format!("Too long: may not be more than {most} bytes");
                errors.push(FieldError { field: place.shown(), reason: "FieldValueTooLong", body });
            }
        }
    }

    fn validate_list(&self, items: &[Value], place: &Place<'_>, errors: &mut Vec<FieldError>) {
        let Some(keys) = &self.unique_by else { return };
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let identity = if keys.is_empty() {
                item.clone()
            } else {
                keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect()
            };
            if !seen.insert(identity.to_string()) {
                errors.push(FieldError::duplicate(Place::Item(place, index).to_string(), &identity));
            }
        }
    }
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

/// A place in an object. It is written out only where something is wrong with it.
enum Place<'a> {
    Root,
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl Place<'_> {
    /// The place as messages name it.
    fn shown(&self) -> String {
        if matches!(self, Self::Root) { "<nil>".into() } else { self.to_string() }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(outer, name) => write!(f, "{outer}.{name}"),
            Self::Item(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Structural {
        Structural::read(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "minimum": 1},
                "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"default": 80}}}},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }}}}),
        )
    }

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let mut object = json!({
            "kind": "Widget", "metadata": {"name": "w"}, "extra": 1,
            "spec": {"size": 1, "mode": null, "typo": 1, "open": {"x": {}}, "ports": [{"name": "p", "typo": 1}]},
        });
        schema().prune(&mut object);
        schema().drop_nulls(&mut object);
        schema().fill_in(&mut object);
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
            let errors = schema().validate(&json!({"spec": spec}));
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
