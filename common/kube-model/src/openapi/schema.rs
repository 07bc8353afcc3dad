//! The schemas that a document needs, with those that they refer to.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::{Map, Value, json};

use crate::{registry::Resource, schemas::Definitions};

/// Prefix of the names of what every kind shares.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Name of the schema of something that every kind shares.
pub(super) fn meta(name: &str) -> String {
    format!("{META}.{name}")
}

/// Name of the schema of a kind: of built-in kinds where their Go types are, of custom resources the group turned
/// round.
pub(super) fn name(resource: &Resource, version: &str) -> String {
    match Definitions::built_in().kind(&resource.group, &resource.kind) {
        Some(name) if resource.defined.is_none() => name.to_owned(),
        _ => {
            let group: Vec<_> = resource.group.split('.').rev().collect();
            format!("{}.{version}.{}", group.join("."), resource.kind)
        }
    }
}

/// Group, version and kind of a resource.
pub(super) fn group_version_kind(resource: &Resource, version: &str) -> Value {
    json!({"group": resource.group, "version": version, "kind": resource.kind})
}

/// Schemas by name, which refer to each other by names under a place.
pub(super) struct Collected {
    pub schemas: BTreeMap<String, Value>,
    place: &'static str,
    /// Whether a reference may stand beside other fields; otherwise it is wrapped.
    has_bare_references: bool,
}

impl Collected {
    /// Collects under a place such as `#/components/schemas/`.
    pub fn new(place: &'static str, has_bare_references: bool) -> Self {
        let mut collected = Self { schemas: BTreeMap::new(), place, has_bare_references };
        for name in ["DeleteOptions", "ListMeta", "ObjectMeta", "Status"] {
            collected.pull(&meta(name));
        }
        let patch = json!({"type": "object", "description": "A patch of an object, in a form that its type tells."});
        collected.schemas.insert(meta("Patch"), patch);
        collected
    }

    /// A reference to a schema.
    pub fn reference(&self, name: &str) -> Value {
        json!({"$ref": format!("{}{name}", self.place)})
    }

    /// Collects the schemas of a kind and of its list.
    pub fn add(&mut self, resource: &Resource, version: &str) {
        let name = name(resource, version);
        match resource.defined.as_ref().and_then(|defined| defined.schema(version)) {
            Some(schema) => self.insert_custom(&name, schema, resource, version),
            None if Definitions::built_in().get(&name).is_some() => self.pull(&name),
            None => {
                let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
                self.insert_custom(&name, &anything, resource, version);
            }
        }
        let mut gvk = group_version_kind(resource, version);
        gvk["kind"] = json!(format!("{}List", resource.kind));
        let list = json!({
            "type": "object", "description": format!("A list of objects of kind {}.", resource.kind),
            "required": ["items"], "x-kubernetes-group-version-kind": [gvk],
            "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                "items": {"type": "array", "items": self.reference(&name)},
                "metadata": self.reference(&meta("ListMeta")),
            },
        });
        self.schemas.insert(format!("{name}List"), list);
    }

    fn insert_custom(&mut self, name: &str, schema: &Value, resource: &Resource, version: &str) {
        let mut schema =
            Some(self.rendered(schema)).filter(Value::is_object).unwrap_or_else(|| json!({"type": "object"}));
        schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(resource, version)]);
        let metadata = self.reference(&meta("ObjectMeta"));
        if !schema["properties"].is_object() {
            schema["properties"] = json!({});
        }
        for field in ["apiVersion", "kind"] {
            let known = Definitions::built_in().get("io.k8s.api.core.v1.Namespace");
            let known = known.and_then(|schema| schema.pointer(&format!("/properties/{field}")));
            schema["properties"][field] = known.cloned().unwrap_or_default();
        }
        schema["properties"]["metadata"] = metadata;
        self.schemas.insert(name.to_owned(), schema);
    }

    /// Collects a built-in schema and those that it refers to.
    fn pull(&mut self, name: &str) {
        let Some(schema) = Definitions::built_in().get(name) else { return };
        match self.schemas.entry(name.to_owned()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(entry) => {
                entry.insert(Value::Null);
            }
        }
        let schema = self.rendered(schema);
        self.schemas.insert(name.to_owned(), schema);
    }

    /// A schema as the document shows it; what it refers to is collected too.
    fn rendered(&mut self, schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => {
                let mut shown = Map::new();
                let mut reference = None;
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("$ref", Value::String(to)) => {
                            let to = to.rsplit('/').next().unwrap_or_default();
                            self.pull(to);
                            reference = Some(self.reference(to));
                        }
                        ("properties", Value::Object(properties)) => {
                            let properties: Map<_, _> =
                                properties.iter().map(|(name, schema)| (name.clone(), self.rendered(schema))).collect();
                            shown.insert(name.clone(), Value::Object(properties));
                        }
                        // Defaults and examples are values, not schemas.
                        ("default" | "example" | "enum", value) => drop(shown.insert(name.clone(), value.clone())),
                        (_, value) => drop(shown.insert(name.clone(), self.rendered(value))),
                    }
                }
                match reference {
                    Some(Value::Object(reference)) if shown.is_empty() || self.has_bare_references => {
                        shown.extend(reference);
                    }
                    Some(reference) => drop(shown.insert("allOf".into(), json!([reference]))),
                    None => {}
                }
                Value::Object(shown)
            }
            Value::Array(items) => items.iter().map(|item| self.rendered(item)).collect(),
            other => other.clone(),
        }
    }
}
