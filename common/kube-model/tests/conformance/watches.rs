//! Watching.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, version, widget},
};

checks!(
    a_watch_goes_on_from_a_version,
    a_watch_without_a_version_begins_with_what_is_there,
    selected_objects_come_and_go,
    a_streaming_list_ends_with_a_bookmark,
    a_watch_of_one_name,
    a_watch_of_metadata,
    a_watch_ends_in_time,
    a_watch_tells_every_difference,
);

fn told(events: &[(String, Value)]) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    events.iter().map(|(kind, object)| format!("{kind} {}", name(object))).collect()
}

async fn a_watch_goes_on_from_a_version(c: &Cluster) {
    let first = c.post(&c.widgets(""), &widget("a", &json!({"size": 1}))).await.ok();
    c.patch(&c.widgets("/a"), "merge", &json!({"spec": {"size": 2}})).await.ok();
    let path = c.widgets(&format!("?watch=1&resourceVersion={}", version(&first)));
    let events = c
        .watch_while(&path, 4, async {
            c.post(&c.widgets(""), &widget("b", &json!({}))).await.ok();
            c.delete(&c.widgets("/a"), &json!({})).await.ok();
            c.delete(&c.widgets("/b"), &json!({})).await.ok();
        })
        .await;
    assert_eq!(told(&events), ["MODIFIED a", "ADDED b", "DELETED a", "DELETED b"]);
    let versions: Vec<u64> = events.iter().map(|(_, object)| version(object).parse().unwrap()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    // The last state of a deleted object, under the version of the deletion.
    assert_eq!(events[2].1["spec"]["size"], 2);
    assert_eq!((&events[0].1["kind"], &events[0].1["apiVersion"]), (&json!("Widget"), &json!("model.test/v1")));
}

async fn a_watch_without_a_version_begins_with_what_is_there(c: &Cluster) {
    c.post(&c.widgets(""), &widget("a", &json!({}))).await.ok();
    c.post(&c.widgets(""), &widget("b", &json!({}))).await.ok();
    for query in ["?watch=true", "?watch=true&resourceVersion=0"] {
        let mut events = told(&c.watch(&c.widgets(query), 2).await);
        events.sort();
        assert_eq!(events, ["ADDED a", "ADDED b"], "{query}");
    }
}

async fn selected_objects_come_and_go(c: &Cluster) {
    let first = c.post(&c.widgets(""), &widget("a", &json!({}))).await.ok();
    let path = c.widgets(&format!("?watch=1&labelSelector=on&resourceVersion={}", version(&first)));
    let label = |value: Value| json!({"metadata": {"labels": {"on": value}}});
    let events = c
        .watch_while(&path, 4, async {
            c.patch(&c.widgets("/a"), "merge", &json!({"spec": {"size": 1}})).await.ok();
            c.patch(&c.widgets("/a"), "merge", &label(json!("1"))).await.ok();
            c.patch(&c.widgets("/a"), "merge", &label(json!("2"))).await.ok();
            c.patch(&c.widgets("/a"), "merge", &label(Value::Null)).await.ok();
            c.patch(&c.widgets("/a"), "merge", &label(json!("3"))).await.ok();
        })
        .await;
    assert_eq!(told(&events), ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a"]);
    // What is not selected any more is told as it was, under the version at which it left.
    assert_eq!(events[2].1["metadata"]["labels"]["on"], "2");
    assert_ne!(version(&events[2].1), version(&events[1].1));
}

async fn a_streaming_list_ends_with_a_bookmark(c: &Cluster) {
    c.post(&c.widgets(""), &widget("a", &json!({}))).await.ok();
    let last = c.post(&c.widgets(""), &widget("b", &json!({}))).await.ok();
    let path = c.widgets("?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let events = c
        .watch_while(&path, 4, async {
            c.post(&c.widgets(""), &widget("c", &json!({}))).await.ok();
        })
        .await;
    let kinds: Vec<_> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "BOOKMARK", "ADDED"]);
    let bookmark = &events[2].1;
    assert_eq!(bookmark["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!((&bookmark["kind"], &bookmark["apiVersion"]), (&json!("Widget"), &json!("model.test/v1")));
    assert!(version(bookmark).parse::<u64>().unwrap() >= version(&last).parse().unwrap());
}

async fn a_watch_of_one_name(c: &Cluster) {
    let first = c.post(&c.widgets(""), &widget("a", &json!({}))).await.ok();
    let path = c.widgets(&format!("?watch=1&fieldSelector=metadata.name%3Db&resourceVersion={}", version(&first)));
    let events = c
        .watch_while(&path, 1, async {
            c.patch(&c.widgets("/a"), "merge", &json!({"spec": {"size": 1}})).await.ok();
            c.post(&c.widgets(""), &widget("b", &json!({}))).await.ok();
        })
        .await;
    assert_eq!(told(&events), ["ADDED b"]);
}

async fn a_watch_of_metadata(c: &Cluster) {
    c.post(&c.widgets(""), &widget("a", &json!({"size": 1}))).await.ok();
    let (kind, object) = c
        .watch_as(&c.widgets("?watch=1"), 1, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
        .await
        .remove(0);
    assert_eq!((kind.as_str(), &object["kind"]), ("ADDED", &json!("PartialObjectMetadata")));
    assert_eq!((&object["metadata"]["name"], object.get("spec")), (&json!("a"), None));
}

async fn a_watch_ends_in_time(c: &Cluster) {
    assert!(c.watch(&c.widgets("?watch=1&timeoutSeconds=1"), 1).await.is_empty());
}

async fn a_watch_tells_every_difference(c: &Cluster) {
    let list = c.get(&c.widgets("")).await.ok();
    for round in 1..4 {
        for name in ["a", "b", "c"] {
            let path = c.widgets(&format!("/{name}"));
            match (round, name) {
                (1, _) | (3, "b") => drop(c.post(&c.widgets(""), &widget(name, &json!({"size": round}))).await),
                (2, "b") => drop(c.delete(&path, &json!({})).await.ok()),
                _ => drop(c.patch(&path, "merge", &json!({"spec": {"size": round}})).await.ok()),
            }
        }
    }
    let mut replayed = std::collections::BTreeMap::new();
    let path = c.widgets(&format!("?watch=1&resourceVersion={}", version(&list)));
    for (kind, object) in c.watch(&path, 9).await {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "DELETED" => assert!(replayed.remove(&name).is_some()),
            "ADDED" => assert!(replayed.insert(name, object).is_none()),
            _ => assert!(replayed.insert(name, object).is_some()),
        }
    }
    let now = c.get(&c.widgets("")).await.ok();
    assert_eq!(Value::Array(replayed.into_values().collect()), now["items"]);
}
