//! Life of an object: created, found, changed under its version, held by finalizers, collected with its owner.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Corner,
    answer::{Transcript, name},
    checks,
};

checks! {
    Use: names, versions, dry_run, preconditions, finalizers, owners, orphans, namespaces, leases;
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

async fn names(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let maps = c.core("configmaps");
    heard.add("created", &c.post(&maps, &map("one")).await?);
    let again = c.post(&maps, &map("one")).await?;
    again.refused_saying(409, "AlreadyExists", "configmaps \"one\" already exists")?;
    heard.add("again", &again);
    let missing = c.get(&c.core("configmaps/none")).await?;
    missing.refused_saying(404, "NotFound", "configmaps \"none\" not found")?;
    heard.add("missing", &missing);
    let generated = c.post(&maps, &json!({"metadata": {"generateName": "some-"}})).await?.ok()?;
    let suffix = name(&generated).strip_prefix("some-").context("a generated name without its prefix")?;
    let is_drawn = |character: char| "bcdfghjklmnpqrstvwxz2456789".contains(character);
    ensure!(suffix.len() == 5 && suffix.chars().all(is_drawn), "it was called {}", name(&generated));
    heard.add("nameless", &c.post(&maps, &json!({"data": {}})).await?);
    heard.add("nowhere", &c.post("/api/v1/namespaces/c-nowhere/configmaps", &map("one")).await?);
    let elsewhere = json!({"metadata": {"name": "two", "namespace": "default"}});
    heard.add("other namespace", &c.post(&maps, &elsewhere).await?);
    heard.add("deleted", &c.delete(&c.core("configmaps/one"), &json!({})).await?);
    heard.add("deleted again", &c.delete(&c.core("configmaps/one"), &json!({})).await?);
    heard.finish()
}

/// What was read is what is changed, or nothing is.
async fn versions(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let one = c.core("configmaps/one");
    let first = c.post(&c.core("configmaps"), &map("one")).await?.ok()?;
    let mut changed = first.clone();
    changed["data"]["a"] = json!("2");
    let second = c.put(&one, &changed).await?.ok()?;
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    ensure!(version(&second) != version(&first), "a change keeps the resource version");
    let same = c.put(&one, &second).await?.ok()?;
    ensure!(version(&same) == version(&second), "an update that changes nothing makes a new version");
    let stale = c.put(&one, &changed).await?;
    let why = "Operation cannot be fulfilled on configmaps \"one\": the object has been modified; please apply your changes to \
               the latest version and try again";
    stale.refused_saying(409, "Conflict", why)?;
    heard.add("stale", &stale);
    let mut other = second.clone();
    other["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    heard.add("another uid", &c.put(&one, &other).await?);
    let mut nonsense = second.clone();
    nonsense["metadata"]["resourceVersion"] = json!("nonsense");
    heard.add("nonsense", &c.put(&one, &nonsense).await?);
    let mut whatever = second.clone();
    whatever["metadata"]["resourceVersion"] = json!("");
    heard.note("without a version", json!(c.put(&one, &whatever).await?.code));
    let mut renamed = second.clone();
    renamed["metadata"]["name"] = json!("two");
    heard.add("renamed", &c.put(&one, &renamed).await?);
    heard.add("missing", &c.put(&c.core("configmaps/none"), &map("none")).await?);
    heard.finish()
}

async fn dry_run(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let maps = c.core("configmaps");
    heard.add("create", &c.post(&format!("{maps}?dryRun=All"), &map("dry")).await?);
    c.get(&c.core("configmaps/dry")).await?.refused(404, "NotFound")?;
    heard.add("some", &c.post(&format!("{maps}?dryRun=Some"), &map("dry")).await?);
    c.post(&maps, &map("wet")).await?.ok()?;
    let wet = c.core("configmaps/wet");
    c.patch(&format!("{wet}?dryRun=All"), "merge-patch", &json!({"data": {"a": "9"}})).await?.ok()?;
    c.delete(&format!("{wet}?dryRun=All"), &json!({})).await?.ok()?;
    heard.add("untouched", &c.get(&wet).await?);
    heard.finish()
}

async fn preconditions(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let made = c.post(&c.core("configmaps"), &map("one")).await?.ok()?;
    let one = c.core("configmaps/one");
    let uid = json!({"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}});
    heard.add("uid", &c.delete(&one, &uid).await?);
    let version = json!({"preconditions": {"resourceVersion": "1"}});
    let mut refused = c.delete(&one, &version).await?;
    refused.refused(409, "Conflict")?;
    // The message names the versions.
    let message = refused.body["message"].as_str().unwrap_or_default();
    let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    refused.body["message"] = json!(message.replace(version, "{version}"));
    heard.add("version", &refused);
    heard.add("policy", &c.delete(&one, &json!({"propagationPolicy": "Sideways"})).await?);
    c.delete(&one, &json!({"preconditions": {"uid": made["metadata"]["uid"]}})).await?.ok()?;
    c.get(&one).await?.refused(404, "NotFound")?;
    heard.finish()
}

/// An object is there until its last finalizer is gone.
async fn finalizers(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["conformance.test/hold"]);
    c.post(&c.core("configmaps"), &held).await?.ok()?;
    let path = c.core("configmaps/held");
    heard.add("deleted", &c.delete(&path, &json!({})).await?);
    let waiting = c.get(&path).await?;
    ensure!(waiting.body["metadata"]["deletionTimestamp"].is_string(), "it does not wait: {}", waiting.body);
    heard.add("waiting", &waiting);
    let more = json!({"metadata": {"finalizers": ["conformance.test/hold", "conformance.test/more"]}});
    heard.add("another finalizer", &c.patch(&path, "merge-patch", &more).await?);
    heard.add("created again", &c.post(&c.core("configmaps"), &held).await?);
    heard.add("let go", &c.patch(&path, "merge-patch", &json!({"metadata": {"finalizers": null}})).await?);
    c.get(&path).await?.refused(404, "NotFound")?;
    let bad = json!({"metadata": {"name": "bad", "finalizers": ["unqualified"]}});
    heard.add("unqualified", &c.post(&c.core("configmaps"), &bad).await?);
    heard.finish()
}

/// A map that is owned by another.
async fn owned(c: &Corner, name: &str, owner: &Value) -> Result<()> {
    let mut dependent = map(name);
    dependent["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": true, "controller": true,
    }]);
    c.post(&c.core("configmaps"), &dependent).await?.ok().map(drop)
}

/// Dependents go with their owner, before it where that is asked for, and where the owner never was.
async fn owners(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let owner = c.post(&c.core("configmaps"), &map("owner")).await?.ok()?;
    owned(c, "child", &owner).await?;
    c.delete(&c.core("configmaps/owner"), &json!({"propagationPolicy": "Background"})).await?.ok()?;
    c.gone(&c.core("configmaps/child")).await?;
    let owner = c.post(&c.core("configmaps"), &map("elder")).await?.ok()?;
    owned(c, "younger", &owner).await?;
    let foreground = c.delete(&c.core("configmaps/elder"), &json!({"propagationPolicy": "Foreground"})).await?;
    heard.note("foreground", json!({"code": foreground.code, "finalizers": foreground.body["metadata"]["finalizers"]}));
    c.gone(&c.core("configmaps/elder")).await?;
    c.get(&c.core("configmaps/younger")).await?.refused(404, "NotFound")?;
    let nobody = json!({"metadata": {"name": "nobody", "uid": "00000000-0000-4000-8000-000000000000"}});
    owned(c, "foundling", &nobody).await?;
    c.gone(&c.core("configmaps/foundling")).await?;
    let twice = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "a", "controller": true},
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "b", "controller": true},
    ]);
    let mut served = map("served");
    served["metadata"]["ownerReferences"] = twice;
    heard.add("two controllers", &c.post(&c.core("configmaps"), &served).await?);
    heard.finish()
}

async fn orphans(c: &Corner) -> Result<Value> {
    let owner = c.post(&c.core("configmaps"), &map("owner")).await?.ok()?;
    owned(c, "child", &owner).await?;
    c.delete(&c.core("configmaps/owner"), &json!({"propagationPolicy": "Orphan"})).await?.ok()?;
    c.gone(&c.core("configmaps/owner")).await?;
    let child = c.get(&c.core("configmaps/child")).await?;
    let mut heard = Transcript::default();
    heard.add("child", &child);
    heard.finish()
}

/// A namespace waits for what is in it, takes nothing new meanwhile, and says what it waits for.
async fn namespaces(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = "/api/v1/namespaces/conformance-going";
    c.gone(path).await?;
    heard.add("created", &c.post("/api/v1/namespaces", &json!({"metadata": {"name": "conformance-going"}})).await?);
    c.until(&format!("{path}/serviceaccounts/default"), "made", |_| true).await?;
    c.until(&format!("{path}/configmaps/kube-root-ca.crt"), "made", |_| true).await?;
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["conformance.test/hold"]);
    c.post(&format!("{path}/configmaps"), &held).await?.ok()?;
    heard.add("deleted", &c.delete(path, &json!({})).await?);
    let late = c.post(&format!("{path}/configmaps"), &map("late")).await?;
    late.refused(403, "Forbidden")?;
    heard.add("late", &late);
    let waits = |namespace: &Value| super::answer::condition(namespace, "NamespaceFinalizersRemaining") == "True";
    let waiting = c.until(path, "waiting for a finalizer", waits).await?;
    heard.note("waiting", json!({"status": waiting["status"], "spec": waiting["spec"]}));
    heard.add("deleted again", &c.delete(path, &json!({})).await?);
    let free = json!({"metadata": {"finalizers": null}});
    c.patch(&format!("{path}/configmaps/held"), "merge-patch", &free).await?.ok()?;
    c.gone(path).await?;
    heard.add("default", &c.delete("/api/v1/namespaces/kube-system?dryRun=All", &json!({})).await?);
    heard.finish()
}

/// Leases are created by an update, and have microseconds.
async fn leases(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = c.group("coordination.k8s.io/v1", "leases");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": c.namespace},
        "spec": {"holderIdentity": "h", "leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.678901Z"},
    });
    let made = c.put(&format!("{path}/l"), &lease).await?;
    heard.note("by update", json!(made.code));
    if made.code < 300 {
        ensure!(made.body["spec"]["renewTime"] == "2026-01-02T03:04:05.678901Z", "it says {}", made.body["spec"]);
    }
    let wrong = json!({"metadata": {"name": "w"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
    heard.add("wrong", &c.post(&path, &wrong).await?);
    let without = json!({"spec": {"holderIdentity": "i"}, "metadata": {"name": "l"}});
    heard.add("without a version", &c.put(&format!("{path}/l"), &without).await?);
    heard.finish()
}
