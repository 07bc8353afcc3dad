//! What decoding into the type of a built-in kind refuses, and what encoding it again leaves out.

use serde_json::{Map, Value};

use super::definitions::{Definitions, reference};
use crate::{go, quantity, registry::Resource};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// Types that read more than one form of JSON, or any.
const OWN_FORM: [&str; 7] = ["IntOrString", "Time", "MicroTime", "RawExtension", "JSONSchemaProps", "FieldsV1", "JSON"];
/// Optional fields that are shown although they are empty: an empty text says something else than none.
const KEPT: [(&str, &str); 8] = [
    ("ClusterRole", "rules"),
    ("EndpointPort", "name"),
    ("EndpointSlice", "ports"),
    ("HostPathVolumeSource", "type"),
    ("PersistentVolumeClaimSpec", "storageClassName"),
    ("PersistentVolumeClaimSpec", "volumeAttributesClassName"),
    ("Role", "rules"),
    ("ServiceSpec", "loadBalancerClass"),
];

/// Takes out of an object what its type does not show. The error is what decoding says of a value of another type; kinds
/// that are defined by others have none.
pub fn decode(resource: &Resource, object: &mut Value) -> Result<(), String> {
    let definitions = Definitions::built_in();
    let name = definitions.kind(&resource.group, &resource.kind).filter(|_| resource.defined.is_none());
    let Some((name, schema)) = name.and_then(|name| Some((name, definitions.get(name)?))) else { return Ok(()) };
    Decoder { definitions, path: String::new() }.fields(short(name), schema, object)
}

/// A type without its package.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

struct Decoder {
    definitions: &'static Definitions,
    /// Names of fields, as Go strings them together: neither keys of maps nor indices of lists.
    path: String,
}

impl Decoder {
    /// The fields of a struct.
    fn fields(&mut self, name: &str, schema: &Value, value: &mut Value) -> Result<(), String> {
        let Some(fields) = value.as_object_mut() else { return Ok(()) };
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
        for (field, value) in fields.iter_mut() {
            let Some(schema) = properties.get(field) else { continue };
            let start = self.path.len();
            if start > 0 {
                self.path.push('.');
            }
            self.path.push_str(field);
            self.value(name, schema, value)?;
            self.path.truncate(start);
        }
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        fields.retain(|field, value| {
            let is_struct = properties.get(field).is_none_or(|schema| reference(schema).is_some());
            !is_empty(value)
                || is_struct
                || required.iter().any(|name| name == field)
                || KEPT.contains(&(name, field.as_str()))
        });
        Ok(())
    }

    /// A value of a field of a struct, or within it.
    fn value(&mut self, owner: &str, schema: &Value, value: &mut Value) -> Result<(), String> {
        let name = reference(schema).unwrap_or_default();
        if value.is_null() || OWN_FORM.contains(&short(name)) {
            return Ok(());
        }
        if name == QUANTITY {
            return quantity::parse(value).map(drop).ok_or_else(|| quantity::MALFORMED.to_owned());
        }
        let known = self.definitions.resolve(schema);
        let Some(kind) = known.get("type").and_then(Value::as_str) else { return Ok(()) };
        if !is_of(kind, value) {
            let (given, wanted) = (go::json_type(value), go_type(schema, known));
            let path = &self.path;
            return Err(format!("json: cannot unmarshal {given} into Go struct field {owner}.{path} of type {wanted}"));
        }
        match value {
            Value::Object(entries) => match known.get("additionalProperties").filter(|schema| schema.is_object()) {
                Some(schema) => entries.values_mut().try_for_each(|value| self.value(owner, schema, value)),
                None if name.is_empty() => Ok(()),
                None => self.fields(short(name), known, value),
            },
            Value::Array(items) => match known.get("items") {
                Some(schema) => items.iter_mut().try_for_each(|item| self.value(owner, schema, item)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

/// The type of a field as Go writes it.
fn go_type(schema: &Value, known: &Value) -> String {
    if let Some(name) = reference(schema) {
        let mut parts = name.rsplit('.');
        let (kind, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return format!("{package}.{kind}");
    }
    let below = |field: &str| {
        let schema = known.get(field).unwrap_or(&Value::Null);
        go_type(schema, schema)
    };
    let text = |field: &str| known.get(field).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("object", _) => format!("map[string]{}", below("additionalProperties")),
        ("array", _) => format!("[]{}", below("items")),
        ("integer", "int64") => "int64".into(),
        ("integer", _) => "int32".into(),
        ("number", _) => "float64".into(),
        ("boolean", _) => "bool".into(),
        ("string", "byte") => "[]uint8".into(),
        _ => "string".into(),
    }
}

/// What a type does not show of its optional fields. Numbers and switches are: of those only some are left out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => Map::is_empty(fields),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::builtin;

    fn decoded(kind: &str, mut object: Value) -> Result<Value, String> {
        let registry = builtin::registry();
        let resource = registry.get(registry.find_kind("", kind).unwrap()).unwrap();
        decode(resource, &mut object).map(|()| object)
    }

    #[test]
    fn values_of_other_types_are_named_by_their_struct() {
        let wrong = |kind, object| decoded(kind, object).unwrap_err();
        assert_eq!(
            wrong("ConfigMap", json!({"data": {"a": 1}})),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        );
        assert_eq!(
            wrong("ConfigMap", json!({"data": "a"})),
            "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string"
        );
        assert_eq!(
            wrong("Pod", json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": "x"}]}]}})),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
        );
        assert_eq!(
            wrong("Pod", json!({"spec": {"containers": {}}})),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
        );
        let much = json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "much"}}}]}});
        assert_eq!(wrong("Pod", much), quantity::MALFORMED);
    }

    #[test]
    fn what_is_empty_is_not_shown_again() {
        let pod = json!({"spec": {
            "securityContext": {}, "nodeName": "", "nodeSelector": {}, "containers": [{
                "name": "c", "args": [], "env": [{"name": "A", "value": ""}], "livenessProbe": {"httpGet": {"port": "http"}},
            }],
            "volumes": [{"name": "h", "hostPath": {"path": "/x", "type": ""}}],
        }});
        let wanted = json!({"spec": {
            "securityContext": {}, "containers": [{
                "name": "c", "env": [{"name": "A"}], "livenessProbe": {"httpGet": {"port": "http"}},
            }],
            "volumes": [{"name": "h", "hostPath": {"path": "/x", "type": ""}}],
        }});
        assert_eq!(decoded("Pod", pod).unwrap(), wanted);
    }
}
