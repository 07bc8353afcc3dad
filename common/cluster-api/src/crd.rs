//! The shape of CRDs: what `kube`'s derive gives, made into what Kubernetes' own tools write.
//!
//! Derived schemas say `nullable` for every optional field, print integers as `0.0`, and carry the defaults of our
//! deserialisers, which are not defaults of the API. Here all that is taken out, contract labels and conversion are put
//! in, and older versions are added as differences of the newest.

pub mod compare;
#[cfg(feature = "testing")]
pub mod samples;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

/// Schema of a field that takes any object: what is in it belongs to someone else.
pub fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Schema of a list of conditions (`metav1.Condition`) that merges by type.
pub fn conditions(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array", "maxItems": 32, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "description": "When the status changed last.", "type": "string", "format": "date-time",
                },
                "message": {"description": "Cause for people; may be empty.", "type": "string", "maxLength": 32768},
                "observedGeneration": {
                    "description": "Generation of the object that the condition was set for.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
                "reason": {
                    "description": "Cause for machines, in CamelCase.",
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "status": {
                    "description": "Whether it holds.", "type": "string", "enum": ["True", "False", "Unknown"],
                },
                "type": {
                    "description": "What is claimed.", "type": "string", "maxLength": 316,
                    "pattern": QUALIFIED_NAME,
                },
            },
        },
    })
}

/// Pattern of a qualified name: a DNS subdomain as prefix, which may be left out, and a name.
pub const QUALIFIED_NAME: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

/// A CRD under construction.
pub struct Definition {
    document: Value,
}

impl Definition {
    /// The definition of one version, stored and served, from a derived CRD.
    pub fn new(derived: &CustomResourceDefinition) -> Self {
        let mut document = serde_json::to_value(derived).unwrap_or_default();
        for version in document["spec"]["versions"].as_array_mut().into_iter().flatten() {
            let schema = &mut version["schema"]["openAPIV3Schema"];
            tidy(schema);
            for (field, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
                at(schema, &["properties"])[field] = json!({"type": kind});
            }
            if let Some(columns) = version.get_mut("additionalPrinterColumns").and_then(Value::as_array_mut) {
                for column in columns.iter_mut().filter_map(Value::as_object_mut) {
                    column.retain(|_, value| !value.is_null() && *value != json!(0));
                }
            }
        }
        if let Some(names) = document["spec"]["names"].as_object_mut() {
            names.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
            let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default();
            names.insert("listKind".to_owned(), json!(format!("{kind}List")));
        }
        Self { document }
    }

    /// Says which version implements which contract.
    #[must_use]
    pub fn contracts(mut self, contracts: &[(&str, &str)]) -> Self {
        let label = |(contract, version): &(&str, &str)| (format!("cluster.x-k8s.io/{contract}"), json!(version));
        self.document["metadata"]["labels"] = Value::Object(contracts.iter().map(label).collect());
        self
    }

    /// Adds a served version before the stored one: its schema is the stored one's, changed by `differ`.
    #[must_use]
    pub fn older(mut self, name: &str, deprecated: bool, columns: Value, differ: impl FnOnce(&mut Value)) -> Self {
        let Some(versions) = self.document["spec"]["versions"].as_array_mut() else { return self };
        let Some(mut version) = versions.last().cloned() else { return self };
        version["name"] = json!(name);
        version["storage"] = json!(false);
        version["served"] = json!(true);
        if deprecated {
            version["deprecated"] = json!(true);
        }
        version["additionalPrinterColumns"] = columns;
        differ(&mut version["schema"]["openAPIV3Schema"]);
        versions.insert(0, version);
        self
    }

    /// Changes the stored version's schema where the derive cannot say it.
    #[must_use]
    pub fn refine(mut self, refine: impl FnOnce(&mut Value)) -> Self {
        if let Some(version) = self.document["spec"]["versions"].as_array_mut().and_then(|versions| versions.last_mut())
        {
            refine(&mut version["schema"]["openAPIV3Schema"]);
        }
        self
    }

    /// Converts between versions by a webhook behind a Service.
    #[must_use]
    pub fn converted_by(mut self, namespace: &str, service: &str) -> Self {
        let client = json!({"service": {"namespace": namespace, "name": service, "path": "/convert"}});
        self.document["spec"]["conversion"] =
            json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}});
        self
    }

    /// The document.
    pub fn into_value(self) -> Value {
        self.document
    }
}

/// Documents as one YAML stream.
pub fn to_yaml(documents: &[Value]) -> Result<String, serde_saphyr::ser::Error> {
    let texts: Result<Vec<String>, _> = documents.iter().map(serde_saphyr::to_string).collect();
    Ok(texts?.join("---\n"))
}

/// One RBAC rule.
pub fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

/// A `ClusterRole`.
pub fn cluster_role(name: &str, labels: &BTreeMap<&str, &str>, rules: &[Value]) -> Value {
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules,
    });
    if !labels.is_empty() {
        role["metadata"]["labels"] = json!(labels);
    }
    role
}

/// Makes a derived schema what Kubernetes' own tools write.
fn tidy(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for ours in ["nullable", "default", "title", "$schema"] {
        fields.remove(ours);
    }
    // References of core are atomic maps, and their defaults are the API's.
    let is_reference = fields.get("x-kubernetes-map-type") == Some(&json!("atomic"));
    if let Some(values) = fields.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
    for bound in ["minimum", "maximum"] {
        if let Some(whole) = fields.get(bound).and_then(Value::as_f64).and_then(whole) {
            fields.insert(bound.to_owned(), json!(whole));
        }
    }
    if fields.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
        fields.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
    }
    // OpenAPI as Kubernetes reads it knows no unsigned numbers.
    let unknown =
        |format: &Value| format.as_str().is_some_and(|format| format.starts_with("uint") || format == "double");
    if fields.get("format").is_some_and(unknown) {
        fields.remove("format");
    }
    for property in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let default = property.get("default").filter(|default| is_reference && !default.is_null()).cloned();
        tidy(property);
        if let Some(default) = default {
            property["default"] = default;
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(inner) {
            tidy(inner);
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // Checked: it is whole and small.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// Places of a document by field names; made where they are missing.
pub fn at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(value, |value, field| {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        &mut value[*field]
    })
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;
    use crate::v1beta2::Machine;

    #[test]
    fn a_schema_has_no_traces_of_the_derive() {
        let document = Definition::new(&Machine::crd()).contracts(&[("v1beta2", "v1beta2")]).into_value();
        let text = document.to_string();
        for trace in ["nullable", "\"default\":", "0.0", "uint"] {
            assert!(!text.contains(trace), "{trace}");
        }
        assert_eq!(document["metadata"]["labels"]["cluster.x-k8s.io/v1beta2"], "v1beta2");
        assert_eq!(document["spec"]["names"]["listKind"], "MachineList");
    }

    #[test]
    fn an_older_version_is_served_before_the_stored_one() {
        let document = Definition::new(&Machine::crd())
            .older("v1beta1", true, json!([]), |schema| at(schema, &["properties", "extra"])["type"] = json!("string"))
            .converted_by("ns", "svc")
            .into_value();
        let versions = document["spec"]["versions"].as_array().unwrap();
        assert_eq!((&versions[0]["name"], &versions[0]["storage"]), (&json!("v1beta1"), &json!(false)));
        assert_eq!(versions[0]["schema"]["openAPIV3Schema"]["properties"]["extra"]["type"], "string");
        assert!(versions[1]["schema"]["openAPIV3Schema"]["properties"].get("extra").is_none());
        assert_eq!(document["spec"]["conversion"]["strategy"], "Webhook");
    }
}
