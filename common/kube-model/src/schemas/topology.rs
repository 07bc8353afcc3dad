//! What a schema says of merging, from what server-side apply and strategic merge know of the kind. Clients compute
//! strategic merge patches from it.

use serde_json::{Map, Value, json};

use super::definitions::reference;
use crate::apply::schema::{ListKey, Schema};

/// Marks the lists and maps of a schema, and of those that it refers to.
pub(super) fn mark(schemas: &mut Map<String, Value>, name: &str, topology: &Schema) {
    let Some(Value::Object(properties)) = schemas.get_mut(name).and_then(|schema| schema.get_mut("properties")) else {
        return;
    };
    // Taken out for the time being, because what it refers to is in the same map.
    let mut properties = std::mem::take(properties);
    for (field, property) in &mut properties {
        mark_property(schemas, property, topology.field(field).0);
    }
    if let Some(schema) = schemas.get_mut(name) {
        schema["properties"] = Value::Object(properties);
    }
}

fn mark_property(schemas: &mut Map<String, Value>, property: &mut Value, topology: &Schema) {
    let kind = property.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match topology {
        Schema::Keyed { keys, element } if kind == "array" => {
            let names: Vec<_> = keys.iter().map(|ListKey { name, .. }| name.as_str()).collect();
            property["x-kubernetes-list-type"] = json!("map");
            property["x-kubernetes-list-map-keys"] = json!(names);
            property["x-kubernetes-patch-merge-key"] = json!(names.first());
            property["x-kubernetes-patch-strategy"] = json!("merge");
            let item = property.get("items").and_then(reference).map(str::to_owned);
            if let Some(item) = item {
                mark(schemas, &item, element);
            }
        }
        Schema::Set if kind == "array" => {
            property["x-kubernetes-list-type"] = json!("set");
            property["x-kubernetes-patch-strategy"] = json!("merge");
        }
        Schema::Leaf | Schema::Plain if kind == "array" => property["x-kubernetes-list-type"] = json!("atomic"),
        Schema::Leaf if kind == "object" || property.get("$ref").is_some() => {
            property["x-kubernetes-map-type"] = json!("atomic");
        }
        Schema::Record { .. } | Schema::Plain => {
            let below = reference(property).map(str::to_owned);
            // What is plain is plain below too, and may be marked elsewhere for good reasons.
            if let Some(below) = below.filter(|_| *topology != Schema::Plain) {
                mark(schemas, &below, topology);
            }
        }
        _ => {}
    }
}
