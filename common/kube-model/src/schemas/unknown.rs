//! Fields that a kind does not have.

use serde_json::Value;

use super::definitions::{Definitions, OBJECT_META};
use crate::{
    apply::schema::{ListKey, Schema},
    registry::Resource,
};

/// Most fields that are named.
const MOST: usize = 100;

/// Takes out of an object the fields that its kind does not have, as decoding does; gives their paths. Of kinds without
/// a schema every field is known.
pub fn drop_unknown(resource: &Resource, version: &str, object: &mut Value) -> Vec<String> {
    let mut walk = Walk::new(resource);
    let Some(schema) = schema(resource, version) else { return Vec::new() };
    walk.visit(schema, None, object, true);
    let mut found = walk.found;
    // Metadata come first in a body, as a rule, and of custom resources they are decoded first.
    found.sort_by_key(|path| !path.starts_with("metadata."));
    found.truncate(MOST);
    found
}

/// The paths of fields of an applied configuration that a built-in kind does not have, as server-side apply writes
/// them.
pub fn undeclared(resource: &Resource, version: &str, applied: &Value) -> Vec<String> {
    if resource.defined.is_some() {
        return Vec::new();
    }
    let topology = resource.versions.iter().find(|served| served.name == version).map(|version| &version.schema);
    let mut walk = Walk::new(resource);
    if let Some(schema) = schema(resource, version) {
        walk.visit(schema, topology, &mut applied.clone(), true);
    }
    walk.found.iter().map(|path| format!(".{path}")).collect()
}

fn schema<'a>(resource: &'a Resource, version: &str) -> Option<&'a Value> {
    if let Some(defined) = &resource.defined {
        return defined.schema(version);
    }
    let definitions = Definitions::built_in();
    definitions.kind(&resource.group, &resource.kind).and_then(|name| definitions.get(name))
}

struct Walk {
    definitions: &'static Definitions,
    /// By the schema of a definition, where a map without fields has none.
    is_structural: bool,
    path: String,
    found: Vec<String>,
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

impl Walk {
    fn new(resource: &Resource) -> Self {
        Self {
            definitions: Definitions::built_in(),
            is_structural: resource.defined.is_some(),
            path: String::new(),
            found: Vec::new(),
        }
    }

    fn visit(&mut self, schema: &Value, topology: Option<&Schema>, value: &mut Value, is_root: bool) {
        let definitions = self.definitions;
        let schema = definitions.resolve(schema);
        match value {
            Value::Object(fields) => {
                let properties = schema.get("properties");
                let others = schema.get("additionalProperties");
                let keeps_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields")
                    || others.and_then(Value::as_bool) == Some(true)
                    || !self.is_structural && properties.is_none() && others.is_none();
                let is_object = self.is_structural && (is_root || flag(schema, "x-kubernetes-embedded-resource"));
                fields.retain(|name, value| {
                    let start = self.path.len();
                    if start > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(name);
                    let below = topology.map(|topology| topology.field(name).0);
                    let known = properties.and_then(|properties| properties.get(name));
                    let known = known.or_else(|| others.filter(|others| others.is_object()));
                    let is_kept = match (is_object, name.as_str(), known) {
                        (true, "apiVersion" | "kind", _) => true,
                        (true, "metadata", _) => {
                            self.visit_metadata(value);
                            true
                        }
                        (_, _, Some(known)) => {
                            self.visit(known, below, value, false);
                            true
                        }
                        _ => keeps_unknown,
                    };
                    if !is_kept {
                        self.found.push(self.path.clone());
                    }
                    self.path.truncate(start);
                    is_kept
                });
            }
            Value::Array(items) => {
                let Some(schema) = schema.get("items") else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    let start = self.path.len();
                    self.path.push_str(&item_path(topology, item, index));
                    self.visit(schema, topology.map(Schema::element), item, false);
                    self.path.truncate(start);
                }
            }
            _ => {}
        }
    }

    /// Metadata of custom resources are those of every kind.
    fn visit_metadata(&mut self, value: &mut Value) {
        if let Some(schema) = self.definitions.get(OBJECT_META) {
            self.is_structural = false;
            self.visit(schema, None, value, false);
            self.is_structural = true;
        }
    }
}

/// An item as decoding names it, by its index, or as apply does, by its keys.
fn item_path(topology: Option<&Schema>, item: &Value, index: usize) -> String {
    let Some(Schema::Keyed { keys, .. }) = topology else { return format!("[{index}]") };
    let shown = |key: &ListKey| Some(format!("{}={}", key.name, item.get(&key.name).or(key.default.as_ref())?));
    let mut shown: Vec<_> = keys.iter().filter_map(shown).collect();
    shown.sort_unstable();
    format!("[{}]", shown.join(","))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{builtin, crd};

    fn built_in(group: &str, kind: &str) -> Resource {
        let registry = builtin::registry();
        registry.get(registry.find_kind(group, kind).unwrap()).unwrap().as_ref().clone()
    }

    #[test]
    fn unknown_fields_of_built_in_kinds_go() {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "extra": 1,
            "metadata": {"name": "a", "labels": {"any": "x"}, "owner": 1, "managedFields": [{"fieldsV1": {"f:x": {}}}]},
            "spec": {"containers": [{"name": "x"}, {"name": "y", "imagee": "z", "resources": {"limits": {"cpu": 1}}}]},
        });
        let found = drop_unknown(&built_in("", "Pod"), "v1", &mut pod);
        assert_eq!(found, ["metadata.owner", "extra", "spec.containers[1].imagee"]);
        assert_eq!(pod.get("extra"), None);
        assert!(drop_unknown(&built_in("", "Pod"), "v1", &mut pod).is_empty());
    }

    #[test]
    fn apply_names_items_by_their_keys() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "x", "imagee": "y"}], "foo": 1}});
        let found = undeclared(&built_in("", "Pod"), "v1", &pod);
        assert_eq!(found, [".spec.containers[name=\"x\"].imagee", ".spec.foo"]);
    }

    #[test]
    fn unknown_fields_of_custom_resources_go() {
        let definition = json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object", "properties": {
                        "size": {"type": "integer"}, "empty": {"type": "object"},
                        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }}},
                }}}]},
        });
        let widget = crd::resource(&Arc::new(definition), None).unwrap();
        let mut object = json!({
            "apiVersion": "example.com/v1", "kind": "Widget", "extra": 1, "metadata": {"name": "w", "owner": 1},
            "spec": {"size": 1, "sizee": 2, "empty": {"a": 1}, "open": {"b": 1}},
        });
        let found = drop_unknown(&widget, "v1", &mut object);
        assert_eq!(found, ["metadata.owner", "extra", "spec.empty.a", "spec.sizee"]);
    }
}
