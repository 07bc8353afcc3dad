//! Rules of `metadata` that hold for every kind, after `apimachinery/pkg/api/validation` and `registry/rest`.

use serde_json::{Map, Value, json};

use crate::{errors::FieldError, object, registry::Resource};

/// The fields of `ObjectMeta`; others are dropped, as decoding into it drops them.
const KNOWN: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Annotations of one object may have this many bytes in all.
const ANNOTATION_BYTES: usize = 256 * 1024;
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                         and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                         validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                     and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                          with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                          validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                           '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                           'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Drops what decoding into `ObjectMeta` drops: unknown fields, nulls, and empty lists, maps and texts. An empty list of
/// managed fields stays: it asks for them to be forgotten.
pub fn normalise(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    let Some(metadata) = metadata.as_object_mut() else { return };
    metadata.retain(|name, value| {
        let is_empty = match &*value {
            Value::Null => true,
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty() && name != "managedFields",
            Value::String(text) => text.is_empty(),
            Value::Number(number) => number.as_i64() == Some(0) && name == "generation",
            Value::Bool(_) => false,
        };
        !is_empty && KNOWN.contains(&name.as_str())
    });
    for name in ["labels", "annotations"] {
        if let Some(texts) = metadata.get_mut(name).and_then(Value::as_object_mut) {
            texts.values_mut().filter(|value| value.is_null()).for_each(|value| *value = json!(""));
        }
    }
    if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
        let mut seen: Vec<Value> = Vec::new();
        owners.retain(|owner| {
            let is_new = !seen.contains(owner);
            seen.push(owner.clone());
            is_new
        });
    }
}

/// What is wrong with the metadata of a new or changed object.
pub fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::name(object);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if resource.behaviour.has_path_names {
        errors.extend(path_name(name).map(|why| FieldError::invalid("metadata.name", name, why)));
    } else {
        let wrong = if resource.behaviour.has_label_names { label(name) } else { subdomain(name) };
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid("metadata.name", name, why)));
    }
    if resource.is_namespaced && object::namespace(object).is_empty() {
        errors.push(FieldError::required("metadata.namespace", ""));
    }
    errors.extend(validate_maps(object));
    errors.extend(validate_owners(object));
    for (index, finalizer) in object::finalizers(object).into_iter().enumerate() {
        let field = format!("metadata.finalizers[{index}]");
        let why = qualified_name(finalizer);
        errors.extend(why.map(|why| FieldError::invalid(field.clone(), finalizer, why)));
        let is_standard = ["orphan", "foregroundDeletion", "kubernetes"].contains(&finalizer);
        if !resource.behaviour.is_custom && !finalizer.contains('/') && !is_standard {
            errors.push(FieldError::invalid(
                field,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

/// What keeps a text from being a domain (`IsDNS1123Subdomain`).
pub fn subdomain(text: &str) -> Vec<&'static str> {
    let is_long = (text.len() > 253).then_some("must be no more than 253 characters");
    is_long.into_iter().chain((!has_domain_form(text)).then_some(SUBDOMAIN)).collect()
}

/// What keeps a text from being one part of a domain (`IsDNS1123Label`).
fn label(text: &str) -> Vec<&'static str> {
    let is_long = (text.len() > 63).then_some("must be no more than 63 characters");
    let form = match has_domain_form(text) {
        true if text.contains('.') => Some("must not contain dots"),
        true => None,
        false => Some(LABEL),
    };
    is_long.into_iter().chain(form).collect()
}

/// What keeps a name from being part of a path (`apimachinery/pkg/api/validation/path`).
fn path_name(name: &str) -> Option<String> {
    if [".", ".."].contains(&name) {
        return Some(format!("may not be '{name}'"));
    }
    ['/', '%'].into_iter().find(|c| name.contains(*c)).map(|c| format!("may not contain '{c}'"))
}

/// What is wrong with a change of metadata: told twice, by the rules of all kinds and by each kind's own.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let errors = changes(new, old);
    errors.iter().chain(&errors).cloned().collect()
}

fn changes(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::is_deleting(old) {
        let before = object::finalizers(old);
        let added: Vec<_> = object::finalizers(new).into_iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let shown: Vec<_> = added.iter().map(|name| format!("{name:?}")).collect();
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    shown.join(", ")
                ),
            ));
        }
    }
    for name in ["name", "namespace", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (new.get("metadata"), old.get("metadata"));
        let (new, old) = (new.and_then(|new| new.get(name)), old.and_then(|old| old.get(name)));
        if new != old {
            let value = new.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(format!("metadata.{name}"), value, "field is immutable"));
        }
    }
    errors
}

fn validate_maps(object: &Value) -> Vec<FieldError> {
    let texts = |name: &str| {
        let map = object.get("metadata").and_then(|metadata| metadata.get(name)).and_then(Value::as_object);
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
    };
    let mut errors = Vec::new();
    for (key, value) in texts("labels") {
        errors.extend(qualified_name(key).map(|why| FieldError::invalid("metadata.labels", key, why)));
        errors.extend(label_value(value).map(|why| FieldError::invalid("metadata.labels", value, why)));
    }
    let mut bytes = 0;
    for (key, value) in texts("annotations") {
        bytes += key.len() + value.len();
        let why = qualified_name(&key.to_lowercase());
        errors.extend(why.map(|why| FieldError::invalid("metadata.annotations", key, why)));
    }
    if bytes > ANNOTATION_BYTES {
        let body = format!("Too long: may not be more than {ANNOTATION_BYTES} bytes");
        errors.push(FieldError { field: "metadata.annotations".into(), reason: "FieldValueTooLong", body });
    }
    errors
}

fn validate_owners(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for owner in object::owners(object) {
        let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        for name in ["apiVersion", "kind", "name", "uid"] {
            if text(name).is_empty() {
                let what = if name == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                errors.push(FieldError::invalid(format!("metadata.ownerReferences.{name}"), text(name), what));
            }
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let current = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                Some(first) => errors.push(FieldError::invalid_shown(
                    "metadata.ownerReferences",
                    &owners_shown(object),
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {current}"
                    ),
                )),
                None => controller = Some(current),
            }
        }
    }
    errors
}

/// References to owners in the order of the fields of their type.
fn owners_shown(object: &Value) -> String {
    const FIELDS: [&str; 6] = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let shown = object::owners(object).map(|owner| {
        let fields = FIELDS.iter().filter_map(|field| Some(format!("{:?}:{}", field, owner.get(*field)?)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    });
    format!("[{}]", shown.collect::<Vec<_>>().join(","))
}

/// Whether a text can be a label's key; otherwise why not.
pub fn label_key(text: &str) -> Option<&'static str> {
    qualified_name(text)
}

/// Whether a text can be a label's value; otherwise why not.
pub fn label_value(text: &str) -> Option<&'static str> {
    match text {
        "" => None,
        text if text.len() > 63 => Some("must be no more than 63 bytes"),
        text if !is_label_name(text) => Some(LABEL_VALUE),
        _ => None,
    }
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && has_domain_form(name)
}

fn has_domain_form(name: &str) -> bool {
    let is_label = |label: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(label.chars().next())
            && edge(label.chars().last())
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.split('.').all(is_label)
}

fn is_label_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// What is wrong with a name that may have a domain before it.
fn qualified_name(text: &str) -> Option<&'static str> {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    match domain {
        Some("") => Some("prefix part must be non-empty"),
        Some(domain) if !is_subdomain(domain) => Some(SUBDOMAIN),
        _ if name.is_empty() => Some("name part must be non-empty"),
        _ if name.len() > 63 => Some("name part must be no more than 63 bytes"),
        _ if !is_label_name(name) => Some(LABEL_NAME),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::schema::Schema;

    fn errors(metadata: Value) -> Vec<String> {
        let resource = Resource::new("", "v1", "ConfigMap", "configmaps", false, Schema::Plain);
        validate(&resource, &json!({"metadata": metadata})).into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn roles_are_called_by_what_can_stand_in_a_path() {
        let wrong = |has_path_names: bool, name: &str| {
            let mut resource = Resource::new("rbac.authorization.k8s.io", "v1", "Role", "roles", false, Schema::Plain);
            resource.behaviour.has_path_names = has_path_names;
            let errors = validate(&resource, &json!({"metadata": {"name": name}}));
            errors.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(wrong(true, "kubeadm:cluster-admins"), "");
        assert!(wrong(true, "a/b").contains("may not contain '/'"));
        assert!(wrong(false, "kubeadm:cluster-admins").contains(SUBDOMAIN));
    }

    #[test]
    fn names_and_labels() {
        assert!(errors(json!({"name": "a-1.b", "labels": {"a.b/c_D": "x.Y", "e": ""}})).is_empty());
        assert_eq!(errors(json!({"name": "A"})), ["metadata.name"]);
        assert_eq!(errors(json!({"name": "a..b"})), ["metadata.name"]);
        assert_eq!(errors(json!({})), ["metadata.name"]);
        assert_eq!(errors(json!({"name": "a", "labels": {"/x": "-"}})), ["metadata.labels", "metadata.labels"]);
        assert_eq!(errors(json!({"name": "a", "finalizers": ["loose"]})), ["metadata.finalizers[0]"]);
    }

    #[test]
    fn owners() {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true});
        assert!(errors(json!({"name": "a", "ownerReferences": [owner.clone()]})).is_empty());
        assert_eq!(
            errors(json!({"name": "a", "ownerReferences": [owner.clone(), owner]})),
            ["metadata.ownerReferences"]
        );
        assert_eq!(
            errors(json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "uid": "u"}]})),
            ["metadata.ownerReferences.name"]
        );
    }

    #[test]
    fn empty_metadata_is_dropped() {
        let mut object =
            json!({"metadata": {"name": "a", "labels": {}, "annotations": {"a": null}, "clusterName": "x"}});
        normalise(&mut object);
        assert_eq!(object, json!({"metadata": {"name": "a", "annotations": {"a": ""}}}));
    }
}
