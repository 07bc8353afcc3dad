//! A document of OpenAPI v3.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    routes::{Content, Operation, patch_types, routes},
    schema::{self, Collected, group_version_kind, meta},
};
use crate::registry::Resource;

/// The document of a group and version.
pub(super) fn document(resources: &[Arc<Resource>], group: &str, version: &str) -> Value {
    let mut collected = Collected::new("#/components/schemas/", false);
    let mut paths = Map::new();
    for resource in resources {
        collected.add(resource, version);
        for route in routes(resource, version) {
            let mut path = Map::new();
            for operation in route.operations {
                path.insert(operation.method.into(), shown(resource, version, operation, &collected));
            }
            let places = route.places.iter().map(|name| {
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
            });
            path.insert("parameters".into(), places.collect());
            paths.insert(route.path, Value::Object(path));
        }
    }
    let title = if group.is_empty() { "core" } else { group };
    json!({
        "openapi": "3.0.0", "info": {"title": format!("Kubernetes {title}/{version}"), "version": "unversioned"},
        "paths": paths, "components": {"schemas": collected.schemas},
    })
}

fn shown(resource: &Resource, version: &str, operation: &Operation, collected: &Collected) -> Value {
    let content = |content: Content| collected.reference(&content_name(resource, version, content));
    let parameters = operation.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name, "in": "query", "schema": {"type": parameter.kind, "uniqueItems": true},
        })
    });
    let mut shown = json!({
        "parameters": parameters.collect::<Value>(),
        "responses": {"200": {
            "description": "OK", "content": {"application/json": {"schema": content(operation.answer)}},
        }},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": group_version_kind(resource, version),
    });
    if let Some(body) = operation.body {
        let types: Vec<_> = match body {
            Content::Patch => patch_types(resource).collect(),
            _ => vec!["application/json", "application/yaml"],
        };
        let types: Map<_, _> =
            types.into_iter().map(|kind| (kind.to_owned(), json!({"schema": content(body)}))).collect();
        shown["requestBody"] = json!({"content": types, "required": body != Content::DeleteOptions});
    }
    shown
}

/// Name of the schema of what is sent or answered.
pub(super) fn content_name(resource: &Resource, version: &str, content: Content) -> String {
    match content {
        Content::Object => schema::name(resource, version),
        Content::List => format!("{}List", schema::name(resource, version)),
        Content::Patch => meta("Patch"),
        Content::DeleteOptions => meta("DeleteOptions"),
        Content::Status => meta("Status"),
    }
}
