//! Resources from `CustomResourceDefinition` objects.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use crate::{
    apply::schema::Schema,
    errors::FieldError,
    registry::{Amend, Behaviour, Convert, Resource, Version},
    structural::Structural,
};

/// What a definition says of its served versions.
#[derive(Debug)]
pub struct Definition {
    versions: Vec<DefinedVersion>,
}

#[derive(Debug)]
struct DefinedVersion {
    name: String,
    /// Schema of its objects, as it is written.
    schema: Value,
    /// The same schema, read.
    structural: Structural,
    /// `additionalPrinterColumns`.
    columns: Vec<Value>,
}

impl Definition {
    fn version(&self, name: &str) -> Option<&DefinedVersion> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The schema of a served version, as it is written.
    pub fn schema(&self, version: &str) -> Option<&Value> {
        Some(&self.version(version)?.schema)
    }

    /// The columns of tables, besides the name; the age when the definition lists none.
    pub fn columns(&self, version: &str) -> &[Value] {
        static AGE: LazyLock<Value> =
            LazyLock::new(|| json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
        let columns = self.version(version).map_or(&[][..], |version| version.columns.as_slice());
        if columns.is_empty() { std::slice::from_ref(&*AGE) } else { columns }
    }
}

/// The resource that a definition describes; none while it lacks a name, a stored version or the like. Conversion
/// between its versions is by the given function; without one only `apiVersion` differs.
pub fn resource(definition: &Arc<Value>, convert: Option<Convert>) -> Option<Resource> {
    let spec = definition.get("spec")?;
    let text = |path: &str| spec.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let flag = |version: &Value, name: &str| version.get(name).and_then(Value::as_bool).unwrap_or_default();
    let mut versions: Vec<&Value> = spec.get("versions")?.as_array()?.iter().filter(|v| flag(v, "served")).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(priority(name_of(version))));
    let stored = spec.get("versions")?.as_array()?.iter().find(|version| flag(version, "storage"))?;
    let served = versions.iter().map(|version| {
        let schema = open_api(version);
        DefinedVersion {
            name: name_of(version).to_owned(),
            structural: Structural::read(&schema),
            schema,
            columns: version.get("additionalPrinterColumns").and_then(Value::as_array).cloned().unwrap_or_default(),
        }
    });
    let defined = Arc::new(Definition { versions: served.collect() });
    let plural = text("/names/plural")?;
    let kind = text("/names/kind")?;
    Some(Resource {
        group: text("/group")?,
        singular: text("/names/singular").unwrap_or_else(|| kind.to_lowercase()),
        kind,
        plural,
        short_names: texts(spec.pointer("/names/shortNames")),
        is_namespaced: text("/scope")? == "Namespaced",
        categories: texts(spec.pointer("/names/categories")),
        foreign: Vec::new(),
        versions: defined
            .versions
            .iter()
            .map(|version| Version { name: version.name.clone(), schema: Schema::custom_resource(&version.schema) })
            .collect(),
        stored: name_of(stored).to_owned(),
        behaviour: Behaviour {
            is_custom: true,
            has_generation: true,
            has_status: stored.pointer("/subresources/status").is_some(),
            ..Behaviour::default()
        },
        selectable: stored
            .get("selectableFields")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|field| Some(field.get("jsonPath")?.as_str()?.trim_start_matches('.').to_owned()))
            .collect(),
        definition: Some(Arc::clone(definition)),
        convert,
        decode: Some(amend(Arc::clone(&defined), |schema, object| {
            schema.prune(object);
            schema.drop_nulls(object);
        })),
        default: Some(amend(Arc::clone(&defined), Structural::fill_in)),
        prepare: None,
        admit: None,
        validate_update: None,
        defined: Some(Arc::clone(&defined)),
        validate: Some(Arc::new(move |object, version| {
            defined.version(version).map(|version| version.structural.validate(object)).unwrap_or_default()
        })),
    })
}

fn amend(defined: Arc<Definition>, change: fn(&Structural, &mut Value)) -> Amend {
    Arc::new(move |object, version| {
        if let Some(version) = defined.version(version) {
            change(&version.structural, object);
        }
        Ok(())
    })
}

fn name_of(version: &Value) -> &str {
    version.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn open_api(version: &Value) -> Value {
    version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_else(|| json!({"type": "object"}))
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Order of versions: releases before betas before alphas, the higher first (`apimachinery/pkg/version`).
fn priority(name: &str) -> (u8, u32, u32) {
    let Some(rest) = name.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let number = |text: &str| text.parse().unwrap_or_default();
    match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        _ if rest.is_empty() => (3, number(major), 0),
        (Some(minor), _) => (2, number(major), number(minor)),
        (_, Some(minor)) => (1, number(major), number(minor)),
        _ => (0, 0, 0),
    }
}

/// What the server writes into a definition that it serves.
pub fn accepted(definition: &mut Value, now: &str) {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now,
        })
    };
    let names = definition.pointer("/spec/names").cloned().unwrap_or_default();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).cloned().unwrap_or_default();
    let stored: Vec<_> = versions.iter().filter(|version| version["storage"] == true).map(name_of).collect();
    definition["status"] = json!({
        "acceptedNames": names,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": stored,
    });
}

/// What keeps a definition from being served.
pub fn validate(definition: &Value) -> Vec<FieldError> {
    let text = |path: &str| definition.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let mut errors = Vec::new();
    for (field, path) in [
        ("spec.group", "/spec/group"),
        ("spec.scope", "/spec/scope"),
        ("spec.names.plural", "/spec/names/plural"),
        ("spec.names.kind", "/spec/names/kind"),
    ] {
        if text(path).is_empty() {
            errors.push(FieldError::required(field, ""));
        }
    }
    let name = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
    if errors.is_empty() && text("/metadata/name") != name {
        errors.push(FieldError::invalid(
            "metadata.name",
            text("/metadata/name"),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let stored = versions.into_iter().flatten().filter(|version| version["storage"] == true).count();
    if stored != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            definition.pointer("/spec/versions").cloned().unwrap_or_default(),
            "must have exactly one version marked as storage version",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_come_before_betas_before_alphas() {
        let mut names = vec!["v1alpha1", "v1beta1", "v2", "v1", "v1beta2", "foo"];
        names.sort_by_key(|name| std::cmp::Reverse(priority(name)));
        assert_eq!(names, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }

    #[test]
    fn a_definition_is_checked_and_read() {
        let mut definition = json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true}]},
        });
        assert!(validate(&definition).is_empty());
        let widget = resource(&Arc::new(definition.clone()), None).unwrap();
        assert_eq!((widget.stored.as_str(), widget.singular.as_str()), ("v1", "widget"));
        definition["metadata"]["name"] = json!("other");
        definition["spec"]["versions"][0]["storage"] = json!(false);
        let fields: Vec<_> = validate(&definition).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["metadata.name", "spec.versions"]);
        assert!(resource(&Arc::new(definition), None).is_none());
    }
}
