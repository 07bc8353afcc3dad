//! Evictions, disruption budgets, cordons, taints and drains.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Corner,
    answer::{Transcript, condition, items, name},
    checks,
    workloads::serving,
};

checks! {
    Use: evictions, budgets;
    Alone: cordon, taints, drain;
}

fn eviction(pod: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace},
        "deleteOptions": {"gracePeriodSeconds": 1},
    })
}

fn deployment(replicas: u32, spec: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec},
    }})
}

async fn ready(c: &Corner, count: usize) -> Result<Vec<Value>> {
    let are_ready = move |list: &Value| {
        let is_ready =
            |pod: &&Value| condition(pod, "Ready") == "True" && pod["metadata"]["deletionTimestamp"].is_null();
        items(list).iter().filter(is_ready).count() == count && items(list).len() == count
    };
    Ok(items(&c.until(&c.core("pods"), "as many ready pods as wanted", are_ready).await?))
}

async fn evictions(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    c.post(&c.core("pods"), &json!({"metadata": {"name": "p"}, "spec": serving()})).await?.ok()?;
    ready(c, 1).await?;
    let path = c.core("pods/p/eviction");
    heard.add("missing", &c.post(&c.core("pods/none/eviction"), &eviction("none", &c.namespace)).await?);
    heard.add("another", &c.post(&path, &eviction("q", &c.namespace)).await?);
    heard.add("dry run", &c.post(&format!("{path}?dryRun=All"), &eviction("p", &c.namespace)).await?);
    c.get(&c.core("pods/p")).await?.ok()?;
    let evicted = c.post(&path, &eviction("p", &c.namespace)).await?;
    ensure!(evicted.code == 201, "an eviction is answered with {}", evicted.code);
    heard.add("evicted", &evicted);
    c.gone(&c.core("pods/p")).await?;
    heard.finish()
}

/// A budget that is used up refuses, with a moment to come again.
async fn budgets(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let budget =
        json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}});
    c.post(&c.group("policy/v1", "poddisruptionbudgets"), &budget).await?.ok()?;
    c.post(&c.group("apps/v1", "deployments"), &deployment(2, serving())).await?.ok()?;
    let pods = ready(c, 2).await?;
    let path = c.group("policy/v1", "poddisruptionbudgets/web");
    let knows = |budget: &Value| budget["status"]["currentHealthy"] == 2;
    let full = c.until(&path, "aware of two healthy pods", knows).await?;
    heard.note("used up", full["status"].clone());
    let first = name(&pods[0]).to_owned();
    let refused = c.post(&c.core(&format!("pods/{first}/eviction")), &eviction(&first, &c.namespace)).await?;
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    refused.refused_saying(429, "TooManyRequests", why)?;
    heard.add("refused", &refused);
    c.patch(&path, "merge-patch", &json!({"spec": {"minAvailable": 1}})).await?.ok()?;
    let allows = |budget: &Value| budget["status"]["disruptionsAllowed"] == 1;
    let free = c.until(&path, "allowing one disruption", allows).await?;
    heard.note("free", free["status"].clone());
    let evicted = c.post(&c.core(&format!("pods/{first}/eviction")), &eviction(&first, &c.namespace)).await?;
    heard.note("evicted", json!(evicted.code));
    let replaced = ready(c, 2).await?;
    ensure!(replaced.iter().all(|pod| name(pod) != first), "{first} is still there");
    heard.finish()
}

/// No new pods for a node that is cordoned; those that are there stay.
async fn cordon(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let worker = c.subject.worker()?.name.clone();
    let path = format!("/api/v1/nodes/{worker}");
    let pinned = |name: &str| {
        let mut spec = serving();
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": worker});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    c.post(&c.core("pods"), &pinned("before")).await?.ok()?;
    ready(c, 1).await?;
    c.patch(&path, "merge-patch", &json!({"spec": {"unschedulable": true}})).await?.ok()?;
    let result = async {
        let is_tainted = |node: &Value| node["spec"]["taints"].to_string().contains("node.kubernetes.io/unschedulable");
        let node = c.until(&path, "tainted", is_tainted).await?;
        heard.note("taints", node["spec"]["taints"].clone());
        c.post(&c.core("pods"), &pinned("after")).await?.ok()?;
        let waits = |pod: &Value| condition(pod, "PodScheduled") == "False";
        let waiting = c.until(&c.core("pods/after"), "refused by the scheduler", waits).await?;
        heard.note("waiting", waiting["status"]["conditions"].clone());
        c.get(&c.core("pods/before")).await?.ok()
    };
    let result = result.await;
    c.patch(&path, "merge-patch", &json!({"spec": {"unschedulable": null}})).await?.ok()?;
    result?;
    let node = c.until(&path, "free of taints", |node| node["spec"]["taints"].is_null()).await?;
    heard.note("uncordoned", json!(node["spec"]["unschedulable"]));
    ready(c, 2).await?;
    heard.finish()
}

/// `NoExecute` sends pods away that do not bear it, those that bear it for a time after that.
async fn taints(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let worker = c.subject.worker()?.name.clone();
    let path = format!("/api/v1/nodes/{worker}");
    let key = "conformance.test/away";
    for (pod, tolerations) in [
        ("leaves", json!([])),
        ("stays", json!([{"key": key, "operator": "Exists"}])),
        ("lingers", json!([{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}])),
    ] {
        let mut spec = serving();
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": worker});
        spec["tolerations"] = tolerations;
        c.post(&c.core("pods"), &json!({"metadata": {"name": pod}, "spec": spec})).await?.ok()?;
    }
    ready(c, 3).await?;
    let taint = json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]}});
    c.patch(&path, "merge-patch", &taint).await?.ok()?;
    let result = async {
        c.gone(&c.core("pods/leaves")).await?;
        c.gone(&c.core("pods/lingers")).await?;
        c.get(&c.core("pods/stays")).await?.ok()
    };
    let result = result.await;
    c.patch(&path, "merge-patch", &json!({"spec": {"taints": null}})).await?.ok()?;
    let stays = result?;
    heard.note("stays", stays["spec"]["tolerations"].clone());
    heard.finish()
}

/// `kubectl drain`: what a set keeps goes elsewhere, what a `DaemonSet` keeps stays, and mirror pods are passed over.
async fn drain(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let worker = c.subject.worker()?.name.clone();
    let mut spec = serving();
    // Both would rather be on the node that is drained.
    spec["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [worker]},
        ]},
    }]}});
    c.post(&c.group("apps/v1", "deployments"), &deployment(2, spec)).await?.ok()?;
    ready(c, 2).await?;
    let drain = ["drain", &worker, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"];
    let drained = c.subject.kubectl_says(&drain, None).await;
    let result = async {
        let said = drained?;
        ensure!(said.contains(&format!("node/{worker} drained")), "kubectl says {said}");
        let pods = ready(c, 2).await?;
        ensure!(pods.iter().all(|pod| pod["spec"]["nodeName"] != worker.as_str()), "a pod is still on {worker}");
        Ok(())
    };
    let result: Result<()> = result.await;
    let said = c.subject.kubectl_says(&["uncordon", &worker], None).await;
    result?;
    heard.note("uncordon", json!(said?));
    heard.finish()
}
