//! Pods and what keeps them: scheduled, run, replaced, counted, found by services.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::{
    Corner, addons,
    answer::{Transcript, condition, items, name},
    checks, defaults,
};
use crate::ground::Guests;

checks! {
    Use: pod_life, unschedulable, deployment, rollout, service_endpoints, daemon_set, job, failing_job, stateful_set, logs;
}

/// A container that serves. Every node bears it.
pub(super) fn serving() -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "web", "image": "registry.k8s.io/web:1.0", "ports": [{"containerPort": 8080}]}],
    })
}

/// A container that ends: well, or not.
fn ending(c: &Corner, well: bool) -> Value {
    // No program runs in memory guests, and they know none of curl's options; real images have no `false`.
    let (command, argument) = match (well, c.subject.guests) {
        (true, _) => ("curl", "--version"),
        (false, Guests::Sandbox) => ("curl", "--no-such-option"),
        (false, Guests::Memory) => ("false", "now"),
    };
    json!({
        "restartPolicy": "Never",
        "containers": [
            {"name": "once", "image": "registry.k8s.io/web:1.0", "command": [command], "args": [argument]},
        ],
    })
}

/// The steps of a pod that runs and is deleted.
async fn pod_life(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let made = c.post(&c.core("pods"), &json!({"metadata": {"name": "p"}, "spec": serving()})).await?;
    ensure!(made.body["status"]["phase"] == "Pending", "a new pod is {}", made.body["status"]);
    let running = c.until(&c.core("pods/p"), "ready", |pod| condition(pod, "Ready") == "True").await?;
    ensure!(running["status"]["phase"] == "Running", "a ready pod is {}", running["status"]["phase"]);
    let node = running["spec"]["nodeName"].as_str().context("it runs nowhere")?;
    ensure!(c.subject.nodes.iter().any(|known| known.name == node && !known.is_control_plane), "it runs on {node}");
    heard.note("running", addons::pod(&running));
    let address = running["status"]["podIP"].as_str().unwrap_or_default();
    let range = c.get(&format!("/api/v1/nodes/{node}")).await?.ok()?["spec"]["podCIDR"].clone();
    let prefix = range.as_str().and_then(|range| range.rsplit_once('.')).map(|(prefix, _)| format!("{prefix}."));
    ensure!(prefix.is_some_and(|prefix| address.starts_with(&prefix)), "{address} is not of the node's {range}");
    let deleted = c.delete(&c.core("pods/p"), &json!({"gracePeriodSeconds": 1})).await?.ok()?;
    heard.note("deleted", json!({"kind": deleted["kind"], "grace": deleted["metadata"]["deletionGracePeriodSeconds"]}));
    c.gone(&c.core("pods/p")).await?;
    heard.finish()
}

/// A pod that fits nowhere says why.
async fn unschedulable(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let mut spec = serving();
    spec["nodeSelector"] = json!({"no.such.test/node": "x"});
    c.post(&c.core("pods"), &json!({"metadata": {"name": "p"}, "spec": spec})).await?.ok()?;
    let waits = |pod: &Value| condition(pod, "PodScheduled") == "False";
    let waiting = c.until(&c.core("pods/p"), "refused by the scheduler", waits).await?;
    heard.note("status", waiting["status"].clone());
    heard.note("deleted", json!(c.delete(&c.core("pods/p"), &json!({})).await?.code));
    c.get(&c.core("pods/p")).await?.refused(404, "NotFound")?;
    heard.finish()
}

fn deployment_of(replicas: u32) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": serving()},
    }})
}

async fn rolled_out(c: &Corner, replicas: u32) -> Result<Value> {
    let is_done = move |deployment: &Value| {
        let status = &deployment["status"];
        let count = |field: &str| status[field].as_u64().unwrap_or_default();
        status["observedGeneration"] == deployment["metadata"]["generation"]
            && [count("replicas"), count("updatedReplicas"), count("availableReplicas")] == [u64::from(replicas); 3]
    };
    c.until(&c.group("apps/v1", "deployments/web"), "rolled out", is_done).await
}

/// A Deployment, its `ReplicaSet` and their pods.
async fn deployment(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    c.post(&c.group("apps/v1", "deployments"), &deployment_of(2)).await?.ok()?;
    let done = rolled_out(c, 2).await?;
    heard.note("metadata", done["metadata"].clone());
    heard.note("status", status_without_names(&done));
    let sets = items(&c.get(&c.group("apps/v1", "replicasets")).await?.ok()?);
    let [set] = &sets[..] else { anyhow::bail!("a Deployment has {} ReplicaSets", sets.len()) };
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().context("no pod-template-hash")?.to_owned();
    ensure!(name(set) == format!("web-{hash}"), "the set of hash {hash} is called {}", name(set));
    let text = set.to_string().replace(&hash, "{hash}");
    heard.note("set", serde_json::from_str(&text)?);
    let pods = items(&c.get(&c.core("pods")).await?.ok()?);
    ensure!(pods.len() == 2, "{} pods", pods.len());
    let owner = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"].clone();
    ensure!(pods.iter().all(|pod| owner(pod) == set["metadata"]["uid"]), "the set does not own the pods");
    heard.note(
        "pod",
        json!({
            "metadata": addons::pod(&pods[0])["metadata"],
        }),
    );
    let scale = c.get(&c.group("apps/v1", "deployments/web/scale")).await?;
    heard.add("scale", &scale);
    let fewer = json!({"spec": {"replicas": 0}});
    heard.add("scaled", &c.patch(&c.group("apps/v1", "deployments/web/scale"), "merge-patch", &fewer).await?);
    c.patch(&c.group("apps/v1", "deployments/web"), "merge-patch", &fewer).await?.ok()?;
    c.until(&c.core("pods"), "empty", |list| items(list).is_empty()).await?;
    c.delete(&c.group("apps/v1", "deployments/web"), &json!({"propagationPolicy": "Foreground"})).await?.ok()?;
    c.gone(&c.group("apps/v1", "deployments/web")).await?;
    c.until(&c.group("apps/v1", "replicasets"), "empty", |list| items(list).is_empty()).await?;
    heard.finish()
}

/// A status in whose messages the set's name is a word.
fn status_without_names(deployment: &Value) -> Value {
    let mut status = deployment["status"].clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let message = condition["message"].as_str().unwrap_or_default();
        if let Some((before, rest)) = message.split_once("\"web-")
            && let Some((_, after)) = rest.split_once('"')
        {
            condition["message"] = json!(format!("{before}\"web-{{hash}}\"{after}"));
        }
    }
    status
}

/// Another template makes another `ReplicaSet`, and the old one stays, empty.
async fn rollout(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    c.post(&c.group("apps/v1", "deployments"), &deployment_of(2)).await?.ok()?;
    rolled_out(c, 2).await?;
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"conformance.test/round": "2"}}}}});
    c.patch(&c.group("apps/v1", "deployments/web"), "merge-patch", &change).await?.ok()?;
    let done = rolled_out(c, 2).await?;
    let is_left = |list: &Value| {
        let mut sizes: Vec<_> = items(list).iter().map(|set| set["status"]["replicas"].as_u64()).collect();
        sizes.sort_unstable();
        sizes == [Some(0), Some(2)]
    };
    let sets = c.until(&c.group("apps/v1", "replicasets"), "two, one of them empty", is_left).await?;
    let mut revisions: Vec<Value> = items(&sets)
        .iter()
        .map(|set| {
            json!([set["metadata"]["annotations"]["deployment.kubernetes.io/revision"], set["spec"]["replicas"]])
        })
        .collect();
    revisions.sort_by_key(ToString::to_string);
    heard.note("revisions", json!(revisions));
    heard.note("revision", done["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone());
    heard.finish()
}

/// A Service finds ready pods by their labels.
async fn service_endpoints(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }});
    let mut made = c.post(&c.core("services"), &service).await?;
    defaults::drawn(&mut made.body);
    heard.add("service", &made);
    let list = c.group("discovery.k8s.io/v1", "endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dweb");
    c.until(&list, "one and empty", |list| items(list).len() == 1).await?;
    c.post(&c.group("apps/v1", "deployments"), &deployment_of(2)).await?.ok()?;
    rolled_out(c, 2).await?;
    let are_ready = |list: &Value| {
        let endpoints: Vec<Value> =
            items(list).iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default()).collect();
        endpoints.len() == 2 && endpoints.iter().all(|endpoint| endpoint["conditions"]["ready"] == true)
    };
    let slices = items(&c.until(&list, "full", are_ready).await?);
    let mut slice = slices.first().cloned().unwrap_or_default();
    ensure!(name(&slice).starts_with("web-"), "the slice is called {}", name(&slice));
    slice["metadata"]["name"] = json!("web-…");
    for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
        endpoint["addresses"] = json!(["{address}"]);
        endpoint["nodeName"] = json!("{node}");
        endpoint["targetRef"]["name"] = json!("{pod}");
    }
    heard.note("slice", slice);
    let is_full = |endpoints: &Value| {
        endpoints["subsets"][0]["addresses"].as_array().is_some_and(|addresses| addresses.len() == 2)
    };
    let mut endpoints = c.until(&c.core("endpoints/web"), "full", is_full).await?;
    for address in endpoints["subsets"][0]["addresses"].as_array_mut().into_iter().flatten() {
        address["ip"] = json!("{address}");
        address["nodeName"] = json!("{node}");
        address["targetRef"]["name"] = json!("{pod}");
    }
    heard.note("endpoints", endpoints);
    c.delete(&c.core("services/web"), &json!({})).await?.ok()?;
    c.until(&list, "gone with the service", |list| items(list).is_empty()).await?;
    heard.finish()
}

/// A pod on every node that bears it.
async fn daemon_set(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let set = json!({"metadata": {"name": "every"}, "spec": {
        "selector": {"matchLabels": {"app": "every"}},
        "template": {"metadata": {"labels": {"app": "every"}}, "spec": serving()},
    }});
    c.post(&c.group("apps/v1", "daemonsets"), &set).await?.ok()?;
    let workers = c.subject.nodes.iter().filter(|node| !node.is_control_plane).count();
    let path = c.group("apps/v1", "daemonsets/every");
    let done = c.until(&path, "ready on every worker", move |set| set["status"]["numberReady"] == workers).await?;
    heard.note("status", done["status"].clone());
    let pods = items(&c.get(&c.core("pods")).await?.ok()?);
    let first = pods.first().context("no pods")?;
    let node = first["spec"]["nodeName"].as_str().unwrap_or_default();
    let text = addons::pod(first).to_string().replace(&format!("{node:?}"), "\"{node}\"");
    heard.note("pod", serde_json::from_str(&text)?);
    let all = json!({"spec": {"template": {"spec": {"tolerations": [{"operator": "Exists"}]}}}});
    c.patch(&path, "merge-patch", &all).await?.ok()?;
    let nodes = c.subject.nodes.len();
    c.until(&path, "ready on every node", move |set| set["status"]["numberReady"] == nodes).await?;
    heard.finish()
}

fn job_of(c: &Corner, well: bool) -> Value {
    json!({"metadata": {"name": "once"}, "spec": {"backoffLimit": 0, "template": {"spec": ending(c, well)}}})
}

/// A Job whose uid stands in labels.
fn job_shown(job: &Value, what: &Value) -> Result<Value> {
    let uid = job["metadata"]["uid"].as_str().unwrap_or("none");
    Ok(serde_json::from_str(&what.to_string().replace(uid, "{uid}"))?)
}

async fn job(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = c.group("batch/v1", "jobs");
    c.post(&path, &job_of(c, true)).await?.ok()?;
    let done = c.until(&format!("{path}/once"), "complete", |job| condition(job, "Complete") == "True").await?;
    heard.note("job", job_shown(&done, &done)?);
    let pods = items(&c.get(&c.core("pods")).await?.ok()?);
    let pod = pods.first().context("the pod is not kept")?;
    ensure!(pods.len() == 1 && pod["status"]["phase"] == "Succeeded", "pods: {}", pod["status"]);
    heard.note(
        "pod",
        json!({
            "metadata": job_shown(&done, &addons::pod(pod))?["metadata"], "phase": pod["status"]["phase"],
            "conditions": pod["status"]["conditions"],
            "exit": pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        }),
    );
    c.delete(&format!("{path}/once"), &json!({"propagationPolicy": "Background"})).await?.ok()?;
    c.until(&c.core("pods"), "gone with the job", |list| items(list).is_empty()).await?;
    heard.finish()
}

async fn failing_job(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let path = c.group("batch/v1", "jobs");
    c.post(&path, &job_of(c, false)).await?.ok()?;
    let done = c.until(&format!("{path}/once"), "failed", |job| condition(job, "Failed") == "True").await?;
    heard.note("status", job_shown(&done, &done["status"])?);
    heard.finish()
}

/// Pods of a `StatefulSet` have names of their own and come one after the other.
async fn stateful_set(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let set = json!({"metadata": {"name": "ordered"}, "spec": {
        "replicas": 2, "serviceName": "ordered", "selector": {"matchLabels": {"app": "ordered"}},
        "template": {"metadata": {"labels": {"app": "ordered"}}, "spec": serving()},
    }});
    let path = c.group("apps/v1", "statefulsets");
    c.post(&path, &set).await?.ok()?;
    c.until(&format!("{path}/ordered"), "ready", |set| set["status"]["readyReplicas"] == 2).await?;
    let pods = items(&c.get(&c.core("pods")).await?.ok()?);
    let mut found = Map::new();
    for pod in &pods {
        let mut labels = pod["metadata"]["labels"].clone();
        labels["controller-revision-hash"] = json!("{hash}");
        found.insert(name(pod).to_owned(), labels);
    }
    ensure!(found.contains_key("ordered-0") && found.contains_key("ordered-1"), "{found:?}");
    heard.note("pods", Value::Object(found));
    heard.finish()
}

/// What a container wrote, and what is refused.
async fn logs(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    c.post(&c.core("pods"), &json!({"metadata": {"name": "p"}, "spec": ending(c, true)})).await?.ok()?;
    c.until(&c.core("pods/p"), "over", |pod| pod["status"]["phase"] == "Succeeded").await?;
    let log = c.get(&c.core("pods/p/log")).await?;
    let has_said = log.body.as_str().is_some_and(|text| text.starts_with("curl "));
    heard.note("log", json!({"code": log.code, "has said": has_said}));
    heard.add("missing pod", &c.get(&c.core("pods/none/log")).await?);
    heard.add("missing container", &c.get(&c.core("pods/p/log?container=none")).await?);
    heard.finish()
}
