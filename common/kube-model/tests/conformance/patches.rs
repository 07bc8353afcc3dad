//! JSON patch, merge patch, strategic merge patch.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, config_map, version, widget},
};

checks!(
    a_merge_patch_sets_and_removes,
    a_patch_of_a_stale_version_is_refused,
    a_json_patch_is_all_or_nothing,
    a_strategic_patch_merges_lists,
    a_strategic_patch_of_a_custom_resource_is_refused,
    a_patch_cannot_rename,
    a_patch_of_an_unknown_type_is_refused,
    a_patch_is_validated,
);

async fn a_merge_patch_sets_and_removes(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1", "y": "1"}))).await.ok();
    let patched = c.patch(&c.core("configmaps/a"), "merge", &json!({"data": {"x": null, "z": "1"}})).await.ok();
    assert_eq!(patched["data"], json!({"y": "1", "z": "1"}));
}

async fn a_patch_of_a_stale_version_is_refused(c: &Cluster) {
    for (collection, object) in
        [(c.core("configmaps"), config_map("a", &json!({}))), (c.widgets(""), widget("a", &json!({})))]
    {
        let first = c.post(&collection, &object).await.ok();
        let patch = json!({"metadata": {"resourceVersion": version(&first), "annotations": {"a": "1"}}});
        let path = format!("{collection}/a");
        c.patch(&path, "merge", &patch).await.ok();
        let patch = json!({"metadata": {"resourceVersion": version(&first), "annotations": {"a": "2"}}});
        let refused = c.patch(&path, "merge", &patch).await;
        assert_eq!((refused.code, &refused.body["reason"]), (409, &json!("Conflict")));
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        assert!(refused.body["message"].as_str().unwrap().ends_with(why));
    }
}

async fn a_json_patch_is_all_or_nothing(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1"}))).await.ok();
    let path = c.core("configmaps/a");
    let add = json!({"op": "add", "path": "/data/y", "value": "1"});
    let test = |value: &str| json!({"op": "test", "path": "/data/x", "value": value});
    let patched = c.patch(&path, "json", &json!([test("1"), add])).await.ok();
    assert_eq!(patched["data"], json!({"x": "1", "y": "1"}));
    let remove = json!({"op": "remove", "path": "/data/y"});
    c.patch(&path, "json", &json!([remove, test("2")])).await.refused(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    );
    assert_eq!(c.get(&path).await.ok(), patched);
    assert_eq!(c.patch(&path, "json", &json!({"op": "add"})).await.code, 400);
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "x:1"}],
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "automountServiceAccountToken": false,
    }})
}

async fn a_strategic_patch_merges_lists(c: &Cluster) {
    c.eventually(|| async { c.get(&c.core("serviceaccounts/default")).await.code == 200 || c.is_model() }).await;
    c.post(&c.core("pods"), &pod("p")).await.ok();
    let path = c.core("pods/p");
    let patch = json!({"spec": {"containers": [{"name": "b", "image": "x:2"}]}, "metadata": {"finalizers": ["m.t/a"]}});
    let patched = c.patch(&path, "strategic-merge", &patch).await.ok();
    let images = |pod: &Value| -> Vec<Value> {
        pod["spec"]["containers"].as_array().unwrap().iter().map(|one| json!([one["name"], one["image"]])).collect()
    };
    assert_eq!(images(&patched), [json!(["a", "x:1"]), json!(["b", "x:2"])]);
    let patch = json!({"metadata": {"finalizers": ["m.t/b"]}});
    let patched = c.patch(&path, "strategic-merge", &patch).await.ok();
    assert_eq!(patched["metadata"]["finalizers"], json!(["m.t/b", "m.t/a"]));
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["m.t/a"]}});
    let patched = c.patch(&path, "strategic-merge", &patch).await.ok();
    assert_eq!(patched["metadata"]["finalizers"], json!(["m.t/b"]));
    let conditions = json!({"status": {"conditions": [{"type": "A", "status": "True"}]}});
    c.patch(&c.core("pods/p/status"), "strategic-merge", &conditions).await.ok();
    let conditions = json!({"status": {"conditions": [{"type": "B", "status": "True"}]}});
    let patched = c.patch(&c.core("pods/p/status"), "strategic-merge", &conditions).await.ok();
    let kinds = |pod: &Value| -> Vec<Value> {
        pod["status"]["conditions"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect()
    };
    assert_eq!(kinds(&patched), [json!("B"), json!("A")]);
    let ordered = json!({"status": {
        "$setElementOrder/conditions": [{"type": "C"}, {"type": "A"}], "conditions": [{"type": "C", "status": "True"}],
    }});
    let patched = c.patch(&c.core("pods/p/status"), "strategic-merge", &ordered).await.ok();
    assert_eq!(kinds(&patched), [json!("C"), json!("B"), json!("A")]);
    c.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
}

async fn a_strategic_patch_of_a_custom_resource_is_refused(c: &Cluster) {
    c.post(&c.widgets(""), &widget("w", &json!({}))).await.ok();
    let refused = c.patch(&c.widgets("/w"), "strategic-merge", &json!({})).await;
    refused.refused(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    );
}

async fn a_patch_cannot_rename(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    c.patch(&c.core("configmaps/a"), "merge", &json!({"metadata": {"name": "b"}})).await.refused(
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    let refused = c.patch(&c.core("configmaps/a"), "merge", &json!({"metadata": {"uid": "other"}})).await;
    refused.refused(
        422,
        "Invalid",
        "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable",
    );
}

async fn a_patch_of_an_unknown_type_is_refused(c: &Cluster) {
    c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    let refused = c.patch_raw(&c.core("configmaps/a"), "application/json", "{}").await;
    assert_eq!((refused.code, &refused.body["reason"]), (415, &json!("UnsupportedMediaType")));
    let refused = c.patch_raw(&c.core("configmaps/a"), "application/merge-patch+json", "{").await;
    assert_eq!((refused.code, &refused.body["reason"]), (400, &json!("BadRequest")));
}

async fn a_patch_is_validated(c: &Cluster) {
    c.post(&c.widgets(""), &widget("w", &json!({"size": 1}))).await.ok();
    let refused = c.patch(&c.widgets("/w"), "merge", &json!({"spec": {"size": 0}})).await;
    assert_eq!((refused.code, &refused.body["reason"]), (422, &json!("Invalid")));
    assert_eq!(refused.body["details"]["causes"][0]["field"], "spec.size");
    let pruned = c.patch(&c.widgets("/w"), "merge", &json!({"spec": {"typo": 1}})).await.ok();
    assert_eq!(pruned["spec"].get("typo"), None);
}
