//! The four kinds of patches.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Corner, answer::Transcript, checks};

checks! {
    Use: merge, strategic, json_patches, apply, apply_conflicts, refused;
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [
                        {"name": "a", "image": "registry.k8s.io/web:1.0", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                         "ports": [{"containerPort": 80}]},
                        {"name": "b", "image": "registry.k8s.io/web:1.0"},
                    ],
                    "tolerations": [{"key": "a", "operator": "Exists"}],
                },
            },
        },
    })
}

async fn merge(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    c.post(&c.core("configmaps"), &json!({"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}})).await?.ok()?;
    let path = c.core("configmaps/m");
    heard.add("set and remove", &c.patch(&path, "merge-patch", &json!({"data": {"a": null, "c": "3"}})).await?);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "4"}});
    heard.add("stale", &c.patch(&path, "merge-patch", &stale).await?);
    heard.add("missing", &c.patch(&c.core("configmaps/none"), "merge-patch", &json!({})).await?);
    heard.finish()
}

/// Lists with keys are merged by them; directives replace, delete and order.
async fn strategic(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = c.group("apps/v1", "deployments/d");
    c.post(&c.group("apps/v1", "deployments"), &deployment("d")).await?.ok()?;
    let pod = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    let steps = [
        ("by name", pod(json!({"containers": [{"name": "b", "image": "registry.k8s.io/web:2.0"}]}))),
        (
            "env",
            pod(
                json!({"containers": [{"name": "a", "env": [{"name": "C", "value": "3"}, {"name": "A", "$patch": "delete"}]}]}),
            ),
        ),
        ("ports", pod(json!({"containers": [{"name": "a", "ports": [{"containerPort": 81}]}]}))),
        ("added", pod(json!({"containers": [{"name": "z", "image": "registry.k8s.io/web:1.0"}]}))),
        ("removed", pod(json!({"containers": [{"name": "z", "$patch": "delete"}]}))),
        ("tolerations", pod(json!({"tolerations": [{"key": "b", "operator": "Exists"}]}))),
        (
            "replaced",
            pod(json!({"containers": [{"name": "a", "image": "registry.k8s.io/web:3.0"}, {"$patch": "replace"}]})),
        ),
        ("retained", json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})),
    ];
    for (label, patch) in steps {
        let answer = c.patch(&path, "strategic-merge-patch", &patch).await?;
        heard.note(label, json!({"code": answer.code, "spec": answer.body["spec"], "message": answer.body["message"]}));
    }
    heard.finish()
}

async fn json_patches(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    c.post(&c.core("configmaps"), &json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).await?.ok()?;
    let path = c.core("configmaps/m");
    let steps = [
        ("add", json!([{"op": "add", "path": "/data/b", "value": "2"}])),
        (
            "test fails",
            json!([{"op": "add", "path": "/data/x", "value": "9"}, {"op": "test", "path": "/data/a", "value": "2"}]),
        ),
        ("nothing to remove", json!([{"op": "remove", "path": "/data/none"}])),
        ("no such operation", json!([{"op": "burn", "path": "/data"}])),
        ("no list", json!({"op": "add", "path": "/data/b", "value": "2"})),
        ("move", json!([{"op": "move", "from": "/data/b", "path": "/data/c"}])),
    ];
    for (label, patch) in steps {
        heard.add(label, &c.patch(&path, "json-patch", &patch).await?);
    }
    heard.finish()
}

fn owners(object: &Value) -> Value {
    let managed = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    // Controllers come when they come.
    let managed = managed.filter(|entry| entry["manager"] != "kube-controller-manager");
    // By manager: an API server lists them by the second in which they wrote last.
    let owners = managed.map(|entry| {
        let manager = entry["manager"].as_str().unwrap_or_default().to_owned();
        let owner = json!({
            "operation": entry["operation"], "fields": entry["fieldsV1"], "subresource": entry["subresource"],
        });
        (manager, owner)
    });
    Value::Object(owners.collect())
}

/// Who applies owns; what is applied no more goes.
async fn apply(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = c.group("apps/v1", "deployments/d");
    let made = c.apply(&path, "one", "", &deployment("d")).await?;
    ensure!(made.code == 201, "an apply of what is not there answers {}", made.code);
    heard.note("created", owners(&made.body));
    ensure!(changes_nothing(c, &path, &deployment("d")).await?, "a repeat makes a version");
    let labels =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"x": "y"}}});
    heard.note("shared", owners(&c.apply(&path, "two", "", &labels).await?.ok()?));
    let mut less = deployment("d");
    less["spec"]["template"]["spec"]["containers"] = json!([{"name": "a", "image": "registry.k8s.io/web:1.0"}]);
    let left = c.apply(&path, "one", "", &less).await?.ok()?;
    heard.note("given up", json!({"spec": left["spec"], "owners": owners(&left)}));
    heard.finish()
}

/// Whether a repeated apply leaves the version as it is. What a controller writes in between is no answer.
async fn changes_nothing(c: &Corner, path: &str, body: &Value) -> Result<bool> {
    for _ in 0..5 {
        let before = c.get(path).await?.ok()?;
        let after = c.apply(path, "one", "", body).await?.ok()?;
        if before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"] {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn apply_conflicts(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    let path = c.core("configmaps/m");
    c.apply(&path, "one", "", &map(json!({"a": "1", "b": "1"}))).await?.ok()?;
    let refused = c.apply(&path, "two", "", &map(json!({"a": "2"}))).await?;
    refused.refused_saying(409, "Conflict", "Apply failed with 1 conflict: conflict with \"one\": .data.a")?;
    heard.add("one field", &refused);
    heard.add("two fields", &c.apply(&path, "two", "", &map(json!({"a": "2", "b": "2"}))).await?);
    let forced = c.apply(&path, "two", "&force=true", &map(json!({"a": "2"}))).await?.ok()?;
    heard.note("forced", owners(&forced));
    c.patch(&format!("{path}?fieldManager=three"), "merge-patch", &json!({"data": {"b": "3"}})).await?.ok()?;
    let mut against = c.apply(&path, "one", "", &map(json!({"b": "1"}))).await?;
    against.refused(409, "Conflict")?;
    // The message names the moment of an update.
    against.body["message"] = json!(against.body["message"].as_str().unwrap_or_default());
    heard.add("against an update", &against);
    heard.finish()
}

async fn refused(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    c.post(&c.core("configmaps"), &json!({"metadata": {"name": "m"}})).await?.ok()?;
    let path = c.core("configmaps/m");
    heard.add("unknown kind", &c.patch(&path, "paper", &json!({})).await?);
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    heard.add("no manager", &c.apply(&path, "", "", &nameless).await?);
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m"}});
    heard.add("other kind", &c.apply(&path, "one", "", &other).await?);
    let renamed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}});
    heard.add("other name", &c.apply(&path, "one", "", &renamed).await?);
    heard.add("renamed", &c.patch(&path, "merge-patch", &json!({"metadata": {"name": "n"}})).await?);
    heard.add("no object", &c.patch(&path, "merge-patch", &json!([1])).await?);
    let managed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "managedFields": [{}]}});
    heard.add("managed fields", &c.apply(&path, "one", "", &managed).await?);
    heard.finish()
}
