//! Which fields there are: OpenAPI, and what becomes of fields that a kind does not have.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, config_map, widget},
};

checks!(
    documents_are_found_through_the_index,
    schemas_say_how_lists_are_merged,
    custom_schemas_are_those_of_the_definition,
    the_document_of_all_groups,
    unknown_fields_are_warned_of,
    unknown_fields_are_refused_when_strict,
    unknown_fields_are_ignored,
    fields_that_stand_twice,
    patches_are_checked,
    applied_fields_are_always_checked,
    faulty_validation_is_refused,
);

async fn document(c: &Cluster, path: &str) -> Value {
    let index = c.get("/openapi/v3").await.ok();
    let url = index["paths"][path]["serverRelativeURL"].as_str().unwrap_or_else(|| panic!("no {path} in {index}"));
    assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")), "{url}");
    c.get(url).await.ok()
}

/// The schema of a kind, found by group, version and kind.
fn schema<'a>(schemas: &'a Value, group: &str, kind: &str) -> &'a Value {
    let wanted = json!([{"group": group, "version": "v1", "kind": kind}]);
    let mut found = schemas.as_object().unwrap().values();
    found.find(|schema| schema["x-kubernetes-group-version-kind"] == wanted).unwrap()
}

/// Follows a reference, bare or wrapped.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    reference.map_or(schema, |reference| document.pointer(reference.trim_start_matches('#')).unwrap())
}

async fn documents_are_found_through_the_index(c: &Cluster) {
    for (path, group, object, kind) in [
        ("api/v1", "", "/api/v1/namespaces/{namespace}/pods/{name}", "Pod"),
        ("api/v1", "", "/api/v1/nodes/{name}", "Node"),
        ("apis/apps/v1", "apps", "/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "Deployment"),
        ("apis/model.test/v1", "model.test", "/apis/model.test/v1/namespaces/{namespace}/widgets/{name}", "Widget"),
    ] {
        let document = document(c, path).await;
        assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
        let patch = &document["paths"][object]["patch"];
        let gvk = json!({"group": group, "version": "v1", "kind": kind});
        assert_eq!((&patch["x-kubernetes-group-version-kind"], &patch["x-kubernetes-action"]), (&gvk, &json!("patch")));
        let types = patch["requestBody"]["content"].as_object().unwrap();
        for (content_type, is_taken) in [
            ("application/apply-patch+yaml", true),
            ("application/json-patch+json", true),
            ("application/merge-patch+json", true),
            ("application/strategic-merge-patch+json", group != "model.test"),
        ] {
            assert_eq!(types.contains_key(content_type), is_taken, "{kind} {content_type}");
        }
        for method in ["post", "put", "patch"] {
            let path = if method == "post" { object.trim_end_matches("/{name}") } else { object };
            let parameters = document["paths"][path][method]["parameters"].as_array().unwrap();
            let is_there = parameters.iter().any(|one| one["name"] == "fieldValidation" && one["in"] == "query");
            assert!(is_there, "{method} {path}");
        }
        assert_eq!(schema(&document["components"]["schemas"], group, kind)["type"], "object");
    }
    assert_eq!(c.get("/openapi/v3/apis/nobody.test/v1").await.code, 404);
}

async fn schemas_say_how_lists_are_merged(c: &Cluster) {
    let core = document(c, "api/v1").await;
    let at = |kind: &str, path: &str| {
        let mut schema = schema(&core["components"]["schemas"], "", kind);
        for name in path.split('/') {
            schema = resolved(&core, schema);
            schema = if name == "[]" { &schema["items"] } else { &schema["properties"][name] };
            assert!(!schema.is_null(), "{kind} {path}");
        }
        schema.clone()
    };
    for (kind, path, list_type, keys, merge_key) in [
        ("Pod", "spec/containers", "map", json!(["name"]), json!("name")),
        ("Pod", "spec/volumes", "map", json!(["name"]), json!("name")),
        ("Pod", "spec/containers/[]/ports", "map", json!(["containerPort", "protocol"]), json!("containerPort")),
        ("Pod", "spec/containers/[]/args", "atomic", Value::Null, Value::Null),
        ("Pod", "spec/tolerations", "atomic", Value::Null, Value::Null),
        ("Pod", "metadata/finalizers", "set", Value::Null, Value::Null),
        ("Pod", "metadata/ownerReferences", "map", json!(["uid"]), json!("uid")),
        ("Service", "spec/ports", "map", json!(["port", "protocol"]), json!("port")),
        ("Node", "status/conditions", "map", json!(["type"]), json!("type")),
    ] {
        let schema = at(kind, path);
        assert_eq!(schema["x-kubernetes-list-type"], list_type, "{kind} {path}");
        assert_eq!(schema["x-kubernetes-list-map-keys"], keys, "{kind} {path}");
        assert_eq!(schema["x-kubernetes-patch-merge-key"], merge_key, "{kind} {path}");
        let strategy = schema["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
        assert_eq!(strategy.starts_with("merge"), list_type != "atomic", "{kind} {path}");
    }
    assert_eq!(at("Pod", "spec/nodeSelector")["x-kubernetes-map-type"], "atomic");
    let phase = at("Pod", "status/phase");
    assert_eq!(phase["type"], "string");
    assert!(phase["description"].as_str().is_some_and(|text| !text.is_empty()));
}

async fn custom_schemas_are_those_of_the_definition(c: &Cluster) {
    let document = document(c, "apis/model.test/v1").await;
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["test.model.v1.Widget"], *schema(schemas, "model.test", "Widget"));
    let widget = &schemas["test.model.v1.Widget"];
    assert_eq!(widget["properties"]["spec"]["properties"]["size"]["type"], "integer");
    assert_eq!(widget["properties"]["spec"]["properties"]["mode"]["enum"], json!(["fast", "slow"]));
    let metadata = resolved(&document, &widget["properties"]["metadata"]);
    assert_eq!(metadata["properties"]["name"]["type"], "string");
    assert_eq!(widget["properties"]["kind"]["type"], "string");
    let list = &schemas["test.model.v1.WidgetList"]["properties"]["items"]["items"];
    assert_eq!(resolved(&document, list), widget);
}

async fn the_document_of_all_groups(c: &Cluster) {
    // The real server joins custom resources to this document some time after they are served.
    let all = || async { c.get("/openapi/v2").await.ok() };
    c.eventually(|| async { all().await["definitions"].get("test.model.v1.Widget").is_some() }).await;
    let all = all().await;
    assert_eq!(all["swagger"], "2.0");
    let pod = schema(&all["definitions"], "", "Pod");
    let spec = resolved(&all, &pod["properties"]["spec"]);
    assert_eq!(spec["properties"]["containers"]["x-kubernetes-patch-merge-key"], "name");
    let patch = &all["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
    assert!(patch["consumes"].as_array().unwrap().contains(&json!("application/strategic-merge-patch+json")));
    assert_eq!(c.get_as("/openapi/v2", "text/html").await.code, 406);
    let message = c.get_as("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf").await;
    assert_eq!(message.code, 200);
}

fn with_unknown(name: &str) -> Value {
    let mut object = config_map(name, &json!({"x": "1"}));
    object["foo"] = json!({"bar": 1});
    object["metadata"]["colour"] = json!("red");
    object
}

fn widget_with_unknown(name: &str) -> Value {
    let mut object = widget(name, &json!({"sizee": 1, "ports": [{"name": "a", "prot": "UDP"}], "open": {"any": 1}}));
    object["metadata"]["colour"] = json!("red");
    object
}

/// Fields whose order is not told.
fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

fn warned(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| format!("299 - \"unknown field \\\"{field}\\\"\"")).collect()
}

async fn unknown_fields_are_warned_of(c: &Cluster) {
    for query in ["", "?fieldValidation=Warn"] {
        let name = format!("a{}", query.len());
        let made = c.post(&c.core(&format!("configmaps{query}")), &with_unknown(&name)).await;
        assert_eq!(sorted(made.warnings.clone()), warned(&["foo", "metadata.colour"]));
        let made = made.ok();
        assert_eq!((made.get("foo"), made["metadata"].get("colour")), (None, None));
        let made = c.post(&c.widgets(query), &widget_with_unknown(&name)).await;
        assert_eq!(made.warnings, warned(&["metadata.colour", "spec.ports[0].prot", "spec.sizee"]));
        assert_eq!(made.ok()["spec"]["open"], json!({"any": 1}));
    }
    let mut object = c.get(&c.core("configmaps/a0")).await.ok();
    object["foo"] = json!(1);
    let updated = c.put(&c.core("configmaps/a0"), &object).await;
    assert_eq!(updated.warnings, warned(&["foo"]));
    assert_eq!(updated.ok().get("foo"), None);
}

async fn unknown_fields_are_refused_when_strict(c: &Cluster) {
    let mut object = config_map("a", &json!({}));
    object["foo"] = json!(1);
    c.post(&c.core("configmaps?fieldValidation=Strict"), &object).await.refused(
        400,
        "BadRequest",
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\"",
    );
    c.post(&c.widgets("?fieldValidation=Strict"), &widget_with_unknown("a")).await.refused(
        400,
        "BadRequest",
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \
         \"metadata.colour\", unknown field \"spec.ports[0].prot\", unknown field \"spec.sizee\"",
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "x", "image": "i"}, {"name": "y", "imagee": "i"}]},
    });
    c.post(&c.core("pods?fieldValidation=Strict"), &pod).await.refused(
        400,
        "BadRequest",
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \
         \"spec.containers[1].imagee\"",
    );
    let known = c.post(&c.core("configmaps?fieldValidation=Strict"), &config_map("a", &json!({"x": "1"}))).await.ok();
    let mut object = known;
    object["foo"] = json!(1);
    c.put(&c.core("configmaps/a?fieldValidation=Strict"), &object).await.refused(
        400,
        "BadRequest",
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\"",
    );
}

async fn unknown_fields_are_ignored(c: &Cluster) {
    let made = c.post(&c.core("configmaps?fieldValidation=Ignore"), &with_unknown("a")).await;
    assert_eq!((made.warnings.as_slice(), made.body.get("foo")), (&[][..], None));
    let made = c.post(&c.widgets("?fieldValidation=Ignore"), &widget_with_unknown("a")).await;
    assert_eq!((made.warnings.as_slice(), made.body["spec"].get("sizee")), (&[][..], None));
}

async fn fields_that_stand_twice(c: &Cluster) {
    let body = br#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1", "x": "2"}}"#;
    let path = c.core("configmaps?fieldValidation=Strict");
    c.post_raw(&path, "application/json", body.to_vec()).await.refused(
        400,
        "BadRequest",
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.x\"",
    );
    let made = c.post_raw(&c.core("configmaps"), "application/json", body.to_vec()).await;
    assert_eq!(made.warnings, ["299 - \"duplicate field \\\"data.x\\\"\""]);
    assert_eq!(made.ok()["data"], json!({"x": "2"}));
    let body = br#"{"apiVersion": "model.test/v1", "kind": "Widget", "metadata": {"name": "a"},
        "spec": {"size": 1, "typo": 1, "ports": [{"name": "a", "name": "b"}]}}"#;
    c.post_raw(&c.widgets("?fieldValidation=Strict"), "application/json", body.to_vec()).await.refused(
        400,
        "BadRequest",
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: duplicate field \
         \"spec.ports[0].name\", unknown field \"spec.typo\"",
    );
}

async fn patches_are_checked(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1"}))).await.ok();
    c.post(&c.widgets(""), &widget("a", &json!({"size": 1}))).await.ok();
    for (path, kind, patch, field) in [
        (c.core("configmaps/a"), "merge", json!({"foo": 1}), "foo"),
        (c.core("configmaps/a"), "strategic-merge", json!({"foo": 1}), "foo"),
        (c.core("configmaps/a"), "json", json!([{"op": "add", "path": "/foo", "value": 1}]), "foo"),
        (c.widgets("/a"), "merge", json!({"spec": {"sizee": 1}}), "spec.sizee"),
    ] {
        let patched = c.patch(&path, kind, &patch).await;
        assert_eq!(patched.warnings, warned(&[field]), "{kind}");
        assert_eq!(patched.ok().get("foo"), None);
        let refused = c.patch(&format!("{path}?fieldValidation=Strict"), kind, &patch).await;
        assert_eq!((refused.code, &refused.body["reason"]), (422, &json!("Invalid")), "{kind}: {refused:?}");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
        assert!(message.ends_with(&format!(": strict decoding error: unknown field {field:?}")), "{message}");
        assert_eq!(refused.body["details"]["causes"][0]["field"], "patch");
    }
    let patch = json!({"foo": {"b": null, "a": [1, "x"]}});
    let refused = c.patch(&c.core("configmaps/a?fieldValidation=Strict"), "strategic-merge", &patch).await;
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.contains("\"map[foo:map[a:[1 x]]]\""), "{message}");
    // What a patch removes need not be known.
    let removed = c.patch(&c.core("configmaps/a?fieldValidation=Strict"), "merge", &json!({"foo": null})).await;
    assert_eq!((removed.code, removed.warnings.len()), (200, 0));
}

async fn applied_fields_are_always_checked(c: &Cluster) {
    for query in ["", "&fieldValidation=Ignore", "&fieldValidation=Strict"] {
        let mut object = config_map("a", &json!({}));
        object["foo"] = json!(1);
        let refused = c.apply(&c.core("configmaps/a"), "me", query, &object).await;
        assert_eq!(refused.code, 500, "{refused:?}");
        let wanted =
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema";
        let message = refused.body["message"].as_str().unwrap();
        assert_eq!(message, wanted);
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "x", "imagee": "i"}]},
    });
    let refused = c.apply(&c.core("pods/p"), "me", "", &pod).await;
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.ends_with(": .spec.containers[name=\"x\"].imagee: field not declared in schema"), "{message}");
}

async fn faulty_validation_is_refused(c: &Cluster) {
    let object = config_map("a", &json!({}));
    let refused = c.post(&c.core("configmaps?fieldValidation=Maybe"), &object).await;
    let message = "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported \
                   values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
    refused.refused(422, "Invalid", message);
}
