//! The document of OpenAPI v2, for clients from before v3, and for those that read how lists are merged from it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    routes::{Content, Operation, patch_types, routes},
    schema::{Collected, group_version_kind},
    v3::content_name,
};
use crate::registry::Resource;

/// What schemas of version 3 may have and those of version 2 may not.
const NEWER: [&str; 5] = ["anyOf", "not", "nullable", "oneOf", "x-kubernetes-validations"];

/// The document of resources, each in a version.
pub(super) fn document(served: &[(Arc<Resource>, String)]) -> Value {
    let mut collected = Collected::new("#/definitions/", true);
    let mut paths = Map::new();
    for (resource, version) in served {
        collected.add(resource, version);
        for route in routes(resource, version) {
            let mut path = Map::new();
            for operation in route.operations {
                path.insert(operation.method.into(), shown(resource, version, operation, &collected));
            }
            let places = route.places.iter();
            let places = places.map(|name| json!({"name": name, "in": "path", "required": true, "type": "string"}));
            path.insert("parameters".into(), places.collect());
            paths.insert(route.path, Value::Object(path));
        }
    }
    collected.schemas.values_mut().for_each(lower);
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": "unversioned"}, "paths": paths,
        "definitions": collected.schemas,
    })
}

fn shown(resource: &Resource, version: &str, operation: &Operation, collected: &Collected) -> Value {
    let content = |content: Content| collected.reference(&content_name(resource, version, content));
    let body = operation.body.map(|body| {
        json!({"name": "body", "in": "body", "required": body != Content::DeleteOptions, "schema": content(body)})
    });
    let query = operation
        .parameters
        .iter()
        .map(|parameter| json!({"name": parameter.name, "in": "query", "type": parameter.kind, "uniqueItems": true}));
    let consumes: Vec<_> = match operation.body {
        Some(Content::Patch) => patch_types(resource).collect(),
        _ => vec!["application/json", "application/yaml"],
    };
    json!({
        "consumes": consumes, "produces": ["application/json"],
        "parameters": body.into_iter().chain(query).collect::<Value>(),
        "responses": {"200": {"description": "OK", "schema": content(operation.answer)}},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": group_version_kind(resource, version),
    })
}

/// Turns a schema of version 3 into one of version 2.
fn lower(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    fields.retain(|name, _| !NEWER.contains(&name.as_str()));
    if fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        fields.insert("type".into(), json!("string"));
        fields.insert("format".into(), json!("int-or-string"));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(lower);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = fields.get_mut(below) {
            lower(schema);
        }
    }
    if let Some(Value::Array(schemas)) = fields.get_mut("allOf") {
        schemas.iter_mut().for_each(lower);
    }
}
