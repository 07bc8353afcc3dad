//! Getting, listing, selecting, paging, discovery.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, config_map, version, widget},
};

checks!(
    labels_select,
    fields_select,
    an_unknown_field_does_not_select,
    lists_are_ordered_and_complete,
    pages_show_one_state,
    a_bad_continue_is_refused,
    a_list_at_an_exact_version,
    a_future_version_is_refused,
    faulty_list_options_are_refused,
    metadata_alone,
    what_is_served_is_told,
);

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

async fn three(c: &Cluster) {
    for (name, labels) in [("a", json!({"app": "x", "n": "1"})), ("b", json!({"app": "y"})), ("c", json!({}))] {
        let mut object = config_map(name, &json!({}));
        object["metadata"]["labels"] = labels;
        c.post(&c.core("configmaps"), &object).await.ok();
    }
}

/// Config maps that the check made: a controller may have put one of its own beside them.
async fn selected(c: &Cluster, query: &str) -> Vec<String> {
    let list = c.get(&c.core(&format!("configmaps?{query}"))).await.ok();
    names(&list).into_iter().filter(|name| !name.starts_with("kube-")).map(str::to_owned).collect()
}

async fn labels_select(c: &Cluster) {
    three(c).await;
    for (selector, wanted) in [
        ("app%3Dx", vec!["a"]),
        ("app", vec!["a", "b"]),
        ("!app", vec!["c"]),
        ("app%20in%20(x,y),n!%3D1", vec!["b"]),
        ("app%20notin%20(x)", vec!["b", "c"]),
    ] {
        assert_eq!(selected(c, &format!("labelSelector={selector}")).await, wanted, "{selector}");
    }
    assert_eq!(c.get(&c.core("configmaps?labelSelector=a%20b%20c")).await.code, 400);
}

async fn fields_select(c: &Cluster) {
    three(c).await;
    assert_eq!(selected(c, "fieldSelector=metadata.name%3Db").await, ["b"]);
    assert_eq!(selected(c, "fieldSelector=metadata.name!%3Db,metadata.name!%3Dc").await, ["a"]);
    for (name, mode) in [("f", "fast"), ("s", "slow")] {
        c.post(&c.widgets(""), &widget(name, &json!({"mode": mode}))).await.ok();
    }
    let slow = c.get(&c.widgets("?fieldSelector=spec.mode%3Dslow")).await.ok();
    assert_eq!(names(&slow), ["s"]);
    let pods = c.get(&c.core("pods?fieldSelector=spec.nodeName%3Dnone,status.phase%3DPending")).await.ok();
    assert_eq!(pods["items"], json!([]));
}

async fn an_unknown_field_does_not_select(c: &Cluster) {
    c.get(&c.widgets("?fieldSelector=spec.size%3D1")).await.refused(
        400,
        "BadRequest",
        "field label not supported: spec.size",
    );
    c.get(&c.core("configmaps?fieldSelector=data.x%3D1")).await.refused(
        400,
        "BadRequest",
        "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
    );
    c.get(&c.core("pods?fieldSelector=spec.image%3D1")).await.refused(
        400,
        "BadRequest",
        "field label not supported: spec.image",
    );
}

async fn lists_are_ordered_and_complete(c: &Cluster) {
    for name in ["b", "a.b", "a-b", "ab"] {
        c.post(&c.widgets(""), &widget(name, &json!({}))).await.ok();
    }
    let list = c.get(&c.widgets("")).await.ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("WidgetList"), &json!("model.test/v1")));
    assert_eq!(names(&list), ["a-b", "a.b", "ab", "b"]);
    assert_eq!(list["items"][0]["kind"], "Widget");
    assert!(version(&list).parse::<u64>().unwrap() >= version(&list["items"][3]).parse().unwrap());
    three(c).await;
    let maps = c.get(&c.core("configmaps")).await.ok();
    assert_eq!((&maps["kind"], maps["items"][0].get("kind")), (&json!("ConfigMapList"), None));
    let all = c.get("/apis/model.test/v1/widgets?limit=500").await.ok();
    assert!(all["items"].as_array().unwrap().iter().any(|item| item["metadata"]["namespace"] == json!(c.namespace)));
}

async fn pages_show_one_state(c: &Cluster) {
    for name in ["a", "b", "c", "d", "e"] {
        c.post(&c.widgets(""), &widget(name, &json!({"size": 1}))).await.ok();
    }
    let first = c.get(&c.widgets("?limit=2")).await.ok();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(3)));
    c.delete(&c.widgets("/c"), &json!({})).await.ok();
    c.patch(&c.widgets("/d"), "merge", &json!({"spec": {"size": 2}})).await.ok();
    c.post(&c.widgets(""), &widget("dd", &json!({}))).await.ok();
    let token = |list: &Value| list["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = c.get(&c.widgets(&format!("?limit=2&continue={}", token(&first)))).await.ok();
    assert_eq!((names(&second), version(&second)), (vec!["c", "d"], version(&first)));
    assert_eq!(second["items"][1]["spec"]["size"], 1);
    let third = c.get(&c.widgets(&format!("?limit=2&continue={}", token(&second)))).await.ok();
    assert_eq!((names(&third), &third["metadata"]["continue"]), (vec!["e"], &json!("")));
    let selected = c.get(&c.widgets("?limit=1&labelSelector=!x")).await.ok();
    assert_eq!(selected["metadata"].get("remainingItemCount"), None);
    let versioned = format!("?limit=2&continue={}&resourceVersion={}", token(&first), version(&first));
    c.get(&c.widgets(&versioned)).await.refused(
        400,
        "BadRequest",
        "specifying resource version is not allowed when using continue",
    );
}

async fn a_bad_continue_is_refused(c: &Cluster) {
    let refused = c.get(&c.widgets("?limit=1&continue=nonsense")).await;
    assert_eq!((refused.code, &refused.body["reason"]), (400, &json!("BadRequest")));
    assert!(refused.body["message"].as_str().unwrap().starts_with("invalid continue token: continue key is not valid"));
}

async fn a_list_at_an_exact_version(c: &Cluster) {
    let first = c.post(&c.widgets(""), &widget("a", &json!({"size": 1}))).await.ok();
    c.post(&c.widgets(""), &widget("b", &json!({"size": 1}))).await.ok();
    let then =
        c.get(&c.widgets(&format!("?resourceVersion={}&resourceVersionMatch=Exact", version(&first)))).await.ok();
    assert_eq!((names(&then), version(&then)), (vec!["a"], version(&first)));
    for query in [&format!("?resourceVersion={}", version(&first)), "?resourceVersion=0&limit=1"] {
        // The watch cache answers, which may be a moment behind.
        c.eventually(|| async { names(&c.get(&c.widgets(query)).await.ok()) == ["a", "b"] }).await;
    }
    c.get(&c.widgets("?resourceVersion=x")).await.refused(
        400,
        "BadRequest",
        "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
    );
}

async fn a_future_version_is_refused(c: &Cluster) {
    let refused = c.get(&c.widgets("?resourceVersion=9000000000")).await;
    assert_eq!((refused.code, &refused.body["reason"]), (504, &json!("Timeout")));
    assert!(
        refused.body["message"]
            .as_str()
            .unwrap()
            .starts_with("Timeout: Too large resource version: 9000000000, current: ")
    );
    assert_eq!(
        refused.body["details"]["causes"][0],
        json!({
            "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
        })
    );
}

async fn faulty_list_options_are_refused(c: &Cluster) {
    for (query, field) in [
        ("resourceVersionMatch=Exact", "resourceVersionMatch"),
        ("resourceVersion=0&resourceVersionMatch=Exact", "resourceVersionMatch"),
        ("resourceVersion=1&resourceVersionMatch=Most", "resourceVersionMatch"),
        ("sendInitialEvents=true", "sendInitialEvents"),
        ("watch=1&sendInitialEvents=true", "resourceVersionMatch"),
        ("watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan", "resourceVersionMatch"),
    ] {
        let refused = c.get(&c.widgets(&format!("?{query}"))).await;
        assert_eq!((refused.code, &refused.body["reason"]), (422, &json!("Invalid")), "{query}: {refused:?}");
        assert_eq!(refused.body["details"]["causes"][0]["field"], field, "{query}");
        assert_eq!(refused.body["details"]["kind"], "ListOptions");
    }
}

async fn metadata_alone(c: &Cluster) {
    let object = c.post(&c.core("configmaps"), &config_map("a", &json!({"x": "1"}))).await.ok();
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let one = c.get_as(&c.core("configmaps/a"), accept).await.ok();
    assert_eq!(
        one,
        json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        })
    );
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = c.get_as(&c.core("configmaps?fieldSelector=metadata.name%3Da"), accept).await.ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PartialObjectMetadataList"), &json!("meta.k8s.io/v1")));
    assert_eq!(list["items"][0]["metadata"], one["metadata"]);
    assert_eq!(list["items"][0].get("data"), None);
}

async fn what_is_served_is_told(c: &Cluster) {
    assert_eq!(c.get("/api").await.ok()["versions"], json!(["v1"]));
    let version = c.get("/version").await.ok();
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1."), "{version}");
    assert_eq!(c.get("/readyz").await.body, json!("ok"));
    let groups = c.get("/apis").await.ok();
    let group = groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == "model.test").unwrap();
    assert_eq!(group["preferredVersion"]["groupVersion"], "model.test/v1");
    assert_eq!(group["versions"].as_array().unwrap().len(), 2);
    assert_eq!(c.get("/apis/model.test").await.ok()["versions"], group["versions"]);
    let resources = c.get("/apis/model.test/v1").await.ok();
    let find = |name: &str| resources["resources"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
    assert_eq!((&find("widgets")["kind"], &find("widgets")["namespaced"]), (&json!("Widget"), &json!(true)));
    let verbs: BTreeSet<_> = find("widgets")["verbs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let wanted = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    assert_eq!(verbs, BTreeSet::from(wanted));
    assert_eq!(find("widgets/status")["verbs"], json!(["get", "patch", "update"]));
    let core = c.get("/api/v1").await.ok();
    for name in ["configmaps", "secrets", "pods", "pods/status", "nodes", "namespaces"] {
        assert!(core["resources"].as_array().unwrap().iter().any(|one| one["name"] == name), "{name}");
    }
}
