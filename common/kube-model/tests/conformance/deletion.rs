//! Deletion: preconditions, finalizers, grace, collections, owners, namespaces.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, config_map, version, widget},
};

checks!(
    a_deletion_is_confirmed,
    preconditions_are_checked,
    finalizers_hold_an_object,
    a_held_object_takes_no_new_finalizers,
    a_deletion_counts_as_a_generation,
    a_collection_is_deleted_by_selector,
    a_running_pod_is_given_time,
    a_pod_that_runs_nowhere_goes_at_once,
    an_evicted_pod_goes,
    a_faulty_policy_is_refused,
    dependents_follow_their_owner,
    dependents_go_before_their_owner,
    orphans_stay,
    one_owner_is_enough,
    a_namespace_goes_with_what_is_in_it,
);

async fn a_deletion_is_confirmed(c: &Cluster) {
    let live = c.post(&c.widgets(""), &widget("w", &json!({}))).await.ok();
    let answer = c.delete(&c.widgets("/w"), &json!({})).await;
    assert_eq!(
        (answer.code, &answer.body),
        (
            200,
            &json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {"name": "w", "group": "model.test", "kind": "widgets", "uid": live["metadata"]["uid"]},
            })
        )
    );
    assert_eq!(c.get(&c.widgets("/w")).await.code, 404);
}

async fn preconditions_are_checked(c: &Cluster) {
    let live = c.post(&c.core("configmaps"), &config_map("a", &json!({}))).await.ok();
    let uid = live["metadata"]["uid"].as_str().unwrap();
    c.delete(&c.core("configmaps/a"), &json!({"preconditions": {"uid": "other"}})).await.refused(
        409,
        "Conflict",
        &format!(
            "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the \
             UID in record ({uid}). The object might have been deleted and then recreated"
        ),
    );
    c.delete(&c.core("configmaps/a"), &json!({"preconditions": {"resourceVersion": "1"}})).await.refused(
        409,
        "Conflict",
        &format!(
            "Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (1) does not match \
             the ResourceVersion in record ({}). The object might have been modified",
            version(&live)
        ),
    );
    let right = json!({"preconditions": {"uid": uid, "resourceVersion": version(&live)}});
    c.delete(&c.core("configmaps/a"), &right).await.ok();
}

fn held() -> Value {
    let mut widget = widget("w", &json!({"size": 1}));
    widget["metadata"]["finalizers"] = json!(["model.test/a", "model.test/b"]);
    widget
}

async fn finalizers_hold_an_object(c: &Cluster) {
    let live = c.post(&c.widgets(""), &held()).await.ok();
    let marked = c.delete(&c.widgets("/w"), &json!({})).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_ne!(version(&marked), version(&live));
    // Asking again changes nothing, and it can still be written.
    assert_eq!(c.delete(&c.widgets("/w"), &json!({})).await.ok(), marked);
    c.patch(&c.widgets("/w"), "merge", &json!({"spec": {"size": 2}})).await.ok();
    c.patch(&c.widgets("/w"), "merge", &json!({"metadata": {"finalizers": ["model.test/b"]}})).await.ok();
    assert_eq!(c.get(&c.widgets("/w")).await.code, 200);
    let last = c.patch(&c.widgets("/w"), "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!((&last["kind"], last["metadata"].get("finalizers")), (&json!("Widget"), None));
    assert_eq!(c.get(&c.widgets("/w")).await.code, 404);
}

async fn a_held_object_takes_no_new_finalizers(c: &Cluster) {
    c.post(&c.widgets(""), &held()).await.ok();
    c.delete(&c.widgets("/w"), &json!({})).await.ok();
    let more = json!({"metadata": {"finalizers": ["model.test/a", "model.test/b", "model.test/c"]}});
    c.patch(&c.widgets("/w"), "merge", &more).await.refused(
        422,
        "Invalid",
        "Widget.model.test \"w\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object \
         is being deleted, found new finalizers []string{\"model.test/c\"}",
    );
    c.patch(&c.widgets("/w"), "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
}

async fn a_deletion_counts_as_a_generation(c: &Cluster) {
    c.post(&c.widgets(""), &held()).await.ok();
    let marked = c.delete(&c.widgets("/w"), &json!({})).await.ok();
    assert_eq!(marked["metadata"]["generation"], 2);
    c.patch(&c.widgets("/w"), "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
}

async fn a_collection_is_deleted_by_selector(c: &Cluster) {
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut widget = widget(name, &json!({}));
        widget["metadata"]["labels"] = json!({"l": label});
        c.post(&c.widgets(""), &widget).await.ok();
    }
    let deleted = c.delete(&c.widgets("?labelSelector=l%3Dx"), &json!({})).await.ok();
    assert_eq!((&deleted["kind"], deleted["items"].as_array().map(Vec::len)), (&json!("WidgetList"), Some(2)));
    let left = c.get(&c.widgets("")).await.ok();
    assert_eq!(left["items"].as_array().unwrap().iter().map(|one| &one["metadata"]["name"]).collect::<Vec<_>>(), ["c"]);
}

async fn pod(c: &Cluster, node: &str) -> Value {
    c.eventually(|| async { c.get(&c.core("serviceaccounts/default")).await.code == 200 || c.is_model() }).await;
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {
        "automountServiceAccountToken": false, "containers": [{"name": "a", "image": "x:1"}],
    }});
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    c.post(&c.core("pods"), &pod).await.ok()
}

async fn a_running_pod_is_given_time(c: &Cluster) {
    let created = pod(c, "some-node").await;
    assert_eq!((&created["status"]["phase"], &created["metadata"]["generation"]), (&json!("Pending"), &json!(1)));
    let marked = c.delete(&c.core("pods/p"), &json!({})).await.ok();
    assert_eq!((&marked["kind"], &marked["metadata"]["deletionGracePeriodSeconds"]), (&json!("Pod"), &json!(30)));
    assert_eq!(marked["metadata"]["generation"], 2);
    let sooner = c.delete(&c.core("pods/p"), &json!({"gracePeriodSeconds": 5})).await.ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let later = c.delete(&c.core("pods/p"), &json!({"gracePeriodSeconds": 60})).await.ok();
    assert_eq!(later["metadata"]["deletionGracePeriodSeconds"], 5);
    let gone = c.delete(&c.core("pods/p"), &json!({"gracePeriodSeconds": 0})).await.ok();
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(c.get(&c.core("pods/p")).await.code, 404);
}

async fn a_pod_that_runs_nowhere_goes_at_once(c: &Cluster) {
    pod(c, "").await;
    let gone = c.delete(&c.core("pods/p"), &json!({})).await.ok();
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(c.get(&c.core("pods/p")).await.code, 404);
}

async fn an_evicted_pod_goes(c: &Cluster) {
    pod(c, "").await;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": c.namespace},
        "deleteOptions": {"preconditions": {"uid": "other"}},
    });
    let refused = c.post(&c.core("pods/p/eviction"), &eviction).await;
    assert_eq!((refused.code, &refused.body["reason"]), (409, &json!("Conflict")));
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": c.namespace},
    });
    let evicted = c.post(&c.core("pods/p/eviction"), &eviction).await;
    assert_eq!(
        (evicted.code, &evicted.body),
        (
            201,
            &json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
            })
        )
    );
    assert_eq!(c.get(&c.core("pods/p")).await.code, 404);
}

async fn a_faulty_policy_is_refused(c: &Cluster) {
    c.post(&c.widgets(""), &widget("w", &json!({}))).await.ok();
    let refused = c.delete(&c.widgets("/w"), &json!({"propagationPolicy": "Wild"})).await;
    assert_eq!((refused.code, &refused.body["reason"]), (422, &json!("Invalid")));
    assert_eq!(refused.body["details"]["causes"][0]["field"], "propagationPolicy");
}

/// An owner and two dependents: one blocks its deletion.
async fn family(c: &Cluster) {
    let owner = c.post(&c.widgets(""), &widget("owner", &json!({}))).await.ok();
    for (name, blocks) in [("blocking", true), ("loose", false)] {
        let mut child = config_map(name, &json!({}));
        child["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "model.test/v1", "kind": "Widget", "name": "owner", "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocks,
        }]);
        c.post(&c.core("configmaps"), &child).await.ok();
    }
}

async fn is_gone(c: &Cluster, path: String) -> bool {
    c.get(&path).await.code == 404
}

async fn dependents_follow_their_owner(c: &Cluster) {
    family(c).await;
    let answer = c.delete(&c.widgets("/owner"), &json!({"propagationPolicy": "Background"})).await.ok();
    assert_eq!(answer["status"], "Success");
    for name in ["blocking", "loose"] {
        c.eventually(|| is_gone(c, c.core(&format!("configmaps/{name}")))).await;
    }
}

async fn dependents_go_before_their_owner(c: &Cluster) {
    family(c).await;
    c.patch(&c.core("configmaps/blocking"), "merge", &json!({"metadata": {"finalizers": ["model.test/f"]}})).await.ok();
    let marked = c.delete(&c.widgets("/owner"), &json!({"propagationPolicy": "Foreground"})).await.ok();
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    c.eventually(|| is_gone(c, c.core("configmaps/loose"))).await;
    let blocking = c.get(&c.core("configmaps/blocking")).await.ok();
    assert!(blocking["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(c.get(&c.widgets("/owner")).await.code, 200);
    c.patch(&c.core("configmaps/blocking"), "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
    c.eventually(|| is_gone(c, c.core("configmaps/blocking"))).await;
    c.eventually(|| is_gone(c, c.widgets("/owner"))).await;
}

async fn orphans_stay(c: &Cluster) {
    family(c).await;
    c.delete(&c.widgets("/owner"), &json!({"propagationPolicy": "Orphan"})).await.ok();
    c.eventually(|| is_gone(c, c.widgets("/owner"))).await;
    for name in ["blocking", "loose"] {
        let child = c.get(&c.core(&format!("configmaps/{name}"))).await.ok();
        assert_eq!(child["metadata"].get("ownerReferences"), None);
    }
}

async fn one_owner_is_enough(c: &Cluster) {
    family(c).await;
    let other = c.post(&c.widgets(""), &widget("other", &json!({}))).await.ok();
    let mut owners = c.get(&c.core("configmaps/loose")).await.ok()["metadata"]["ownerReferences"].clone();
    owners.as_array_mut().unwrap().push(json!({
        "apiVersion": "model.test/v1", "kind": "Widget", "name": "other", "uid": other["metadata"]["uid"],
    }));
    c.patch(&c.core("configmaps/loose"), "merge", &json!({"metadata": {"ownerReferences": owners}})).await.ok();
    c.delete(&c.widgets("/owner"), &json!({"propagationPolicy": "Background"})).await.ok();
    c.eventually(|| is_gone(c, c.core("configmaps/blocking"))).await;
    let has_one_owner = || async {
        let loose = c.get(&c.core("configmaps/loose")).await.ok();
        let owners = loose["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        owners.len() == 1 && owners[0]["name"] == "other"
    };
    c.eventually(has_one_owner).await;
}

async fn a_namespace_goes_with_what_is_in_it(c: &Cluster) {
    let name = format!("{}-more", c.namespace);
    let path = format!("/api/v1/namespaces/{name}");
    let made = c.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await.ok();
    assert_eq!((&made["spec"], &made["status"]), (&json!({"finalizers": ["kubernetes"]}), &json!({"phase": "Active"})));
    assert_eq!(made["metadata"]["labels"], json!({"kubernetes.io/metadata.name": name}));
    let mut map = config_map("held", &json!({}));
    map["metadata"]["finalizers"] = json!(["model.test/f"]);
    c.post(&format!("{path}/configmaps"), &map).await.ok();
    let marked = c.delete(&path, &json!({})).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = c.post(&format!("{path}/configmaps"), &config_map("late", &json!({}))).await;
    refused.refused(
        403,
        "Forbidden",
        &format!("configmaps \"late\" is forbidden: unable to create new content in namespace {name} because it is being terminated"),
    );
    assert_eq!(
        refused.body["details"]["causes"][0],
        json!({
            "reason": "NamespaceTerminating", "message": format!("namespace {name} is being terminated"), "field": "metadata.namespace",
        })
    );
    let is_marked =
        || async { c.get(&format!("{path}/configmaps/held")).await.body["metadata"]["deletionTimestamp"].is_string() };
    c.eventually(is_marked).await;
    c.patch(&format!("{path}/configmaps/held"), "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
    c.eventually(|| is_gone(c, path.clone())).await;
}
