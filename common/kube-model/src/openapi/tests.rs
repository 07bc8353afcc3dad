use super::*;
use crate::crd;

fn with_widgets() -> Registry {
    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
            }}}]},
    });
    let mut registry = builtin::registry();
    registry.install(crd::resource(&Arc::new(definition), None).unwrap());
    registry
}

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap()
}

/// Every reference of a document leads somewhere in it.
fn check_references(document: &Value, place: &str) {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let name = reference.strip_prefix(&format!("#{place}/")).expect(reference);
        assert!(document.pointer(place).unwrap().get(name).is_some(), "{reference}");
    }
}

#[test]
fn the_index_names_every_document() {
    let registry = with_widgets();
    let index = index(&registry);
    for (group, version) in group_versions(&registry) {
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let document = group_version(&registry, &group, &version).unwrap();
        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
        assert_eq!(index["paths"][&path]["serverRelativeURL"], url);
        check_references(&parsed(&document), "/components/schemas");
    }
    assert!(group_version(&registry, "nobody", "v1").is_none());
}

#[test]
fn documents_of_built_in_kinds_are_shared() {
    let one = group_version(&builtin::registry(), "apps", "v1").unwrap();
    let other = group_version(&with_widgets(), "apps", "v1").unwrap();
    assert_eq!(one.bytes.as_ptr(), other.bytes.as_ptr());
}

#[test]
fn patches_say_what_they_take() {
    let patch = |group: &str, path: &str| {
        parsed(&group_version(&with_widgets(), group, "v1").unwrap())["paths"][path]["patch"].clone()
    };
    let pods = patch("", "/api/v1/namespaces/{namespace}/pods/{name}");
    assert_eq!(pods["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    assert!(pods["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
    assert!(
        pods["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "fieldValidation" && one["in"] == "query")
    );
    let widgets = patch("example.com", "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}");
    assert!(widgets["requestBody"]["content"].get("application/merge-patch+json").is_some());
    assert!(widgets["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
}

#[test]
fn the_document_of_all_has_every_kind() {
    let document = parsed(&all(&with_widgets(), Form::Json));
    check_references(&document, "/definitions");
    let definition = &document["definitions"]["com.example.v1.Widget"];
    assert_eq!(definition["properties"]["spec"]["properties"]["size"]["type"], "integer");
    assert_eq!(
        definition["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let quantity = &document["definitions"]["io.k8s.apimachinery.pkg.api.resource.Quantity"];
    assert_eq!((&quantity["type"], &quantity["format"]), (&json!("string"), &json!("int-or-string")));
    // The schema of schemas knows fields that schemas of version 2 must not have.
    let schemas = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    assert!(document["definitions"][schemas]["properties"].get("nullable").is_some());
    assert!(!all(&with_widgets(), Form::Protobuf).bytes.is_empty());
}
