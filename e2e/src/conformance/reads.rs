//! Lists, pages, selectors and watches.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Corner,
    answer::{Transcript, items, name},
    checks,
};

checks! {
    Use: pages, versions, labels, fields, unknown_fields, metadata, watches, streaming_lists, expired, collections;
}

async fn some(c: &Corner, count: usize) -> Result<()> {
    for index in 0..count {
        let labels = json!({"n": index.to_string(), "parity": if index % 2 == 0 { "even" } else { "odd" }});
        let map = json!({"metadata": {"name": format!("m{index}"), "labels": labels}, "data": {}});
        c.post(&c.core("configmaps"), &map).await?.ok()?;
    }
    // What the controller manager puts into each namespace comes when it comes.
    c.until(&c.core("configmaps/kube-root-ca.crt"), "made", |_| true).await.map(drop)
}

fn names(list: &Value) -> Vec<String> {
    items(list).iter().map(|item| name(item).to_owned()).collect()
}

/// Pages show the state of the first one.
async fn pages(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    some(c, 5).await?;
    let path = c.core("configmaps?labelSelector=parity&limit=2");
    let first = c.get(&path).await?.ok()?;
    heard.add("first", &c.get(&c.core("configmaps?limit=2")).await?);
    let token = first["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    ensure!(!token.is_empty() && names(&first) == ["m0", "m1"], "the first page is {first}");
    c.delete(&c.core("configmaps/m3"), &json!({})).await?.ok()?;
    let second = c.get(&format!("{path}&continue={token}")).await?.ok()?;
    ensure!(names(&second) == ["m2", "m3"], "the second page is {:?}", names(&second));
    let version = |list: &Value| list["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    ensure!(version(&first) == version(&second), "pages are of several versions");
    heard.add("bad token", &c.get(&c.core("configmaps?limit=2&continue=nonsense")).await?);
    let both = format!("{path}&continue={token}&resourceVersion=5");
    heard.add("token and version", &c.get(&both).await?);
    heard.finish()
}

async fn versions(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    some(c, 1).await?;
    let list = c.get(&c.core("configmaps")).await?.ok()?;
    heard.note("list", list.clone());
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    c.post(&c.core("configmaps"), &json!({"metadata": {"name": "later"}})).await?.ok()?;
    let at = async |query: &str| c.get(&c.core(&format!("configmaps?{query}"))).await;
    let exact = at(&format!("resourceVersion={version}&resourceVersionMatch=Exact")).await?.ok()?;
    ensure!(!names(&exact).contains(&"later".to_owned()), "an exact version shows what came later");
    let newer = at(&format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan")).await?.ok()?;
    ensure!(names(&newer).contains(&"m0".to_owned()), "{:?}", names(&newer));
    for (label, query) in [
        ("nonsense", "resourceVersion=nonsense"),
        ("match alone", "resourceVersionMatch=Exact"),
        ("exact zero", "resourceVersion=0&resourceVersionMatch=Exact"),
        ("unknown match", "resourceVersion=1&resourceVersionMatch=Perhaps"),
        ("initial events of a list", "sendInitialEvents=true"),
    ] {
        heard.add(label, &at(query).await?);
    }
    heard.finish()
}

async fn labels(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    some(c, 4).await?;
    for selector in [
        "parity=even",
        "parity==even",
        "parity!=even",
        "parity in (even,odd)",
        "parity notin (odd)",
        "parity",
        "!parity",
        "n>1",
        "n<2",
        "parity=even,n!=0",
        "n in ()",
        "a b",
        "=",
        "parity in even",
        "-x=1",
        "x=/",
    ] {
        let encoded: String = selector.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = c.get(&c.core(&format!("configmaps?labelSelector={encoded}"))).await?;
        let said = if answer.code < 300 { json!(names(&answer.body)) } else { answer.said() };
        heard.note(selector, said);
    }
    heard.finish()
}

async fn fields(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    some(c, 2).await?;
    let select = async |what: &str, selector: &str| -> Result<Value> {
        let encoded: String = selector.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = c.get(&format!("{what}?fieldSelector={encoded}")).await?;
        Ok(if answer.code < 300 { json!(names(&answer.body)) } else { answer.said() })
    };
    let maps = c.core("configmaps");
    for selector in [
        "metadata.name=m1",
        "metadata.name!=m1",
        "metadata.name in (m1)",
        "metadata.name=m1,metadata.name=m0",
        "metadata.name",
    ] {
        heard.note(selector, select(&maps, selector).await?);
    }
    let all = select("/api/v1/nodes", "spec.unschedulable=false").await?;
    ensure!(all.as_array().is_some_and(|names| names.len() == c.subject.nodes.len()), "schedulable nodes: {all}");
    let pods = "/api/v1/namespaces/kube-system/pods";
    let running = c.get(&format!("{pods}?fieldSelector=status.phase%3DRunning")).await?.ok()?;
    ensure!(!items(&running).is_empty(), "nothing runs in kube-system");
    let node = c.subject.worker()?.name.clone();
    let there = c.get(&format!("{pods}?fieldSelector=spec.nodeName%3D{node}")).await?.ok()?;
    ensure!(items(&there).iter().all(|pod| pod["spec"]["nodeName"] == node.as_str()), "pods of other nodes");
    heard.finish()
}

/// Which fields select, kind by kind.
async fn unknown_fields(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let known = [
        (
            "/api/v1/pods",
            "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName spec.hostNetwork \
          status.phase status.podIP status.podIPs status.nominatedNodeName",
        ),
        ("/api/v1/nodes", "spec.unschedulable"),
        ("/api/v1/namespaces", "status.phase"),
        ("/api/v1/secrets", "type"),
        ("/api/v1/services", "spec.clusterIP spec.type"),
        (
            "/api/v1/events",
            "involvedObject.kind involvedObject.name involvedObject.fieldPath reason reportingComponent source type",
        ),
        ("/api/v1/configmaps", "data.a"),
        ("/apis/apps/v1/replicasets", "status.replicas"),
        ("/apis/apps/v1/deployments", "spec.replicas"),
        ("/apis/batch/v1/jobs", "status.successful"),
        ("/apis/certificates.k8s.io/v1/certificatesigningrequests", "spec.signerName"),
        ("/apis/coordination.k8s.io/v1/leases", "spec.holderIdentity"),
    ];
    for (path, fields) in known {
        for field in fields.split_whitespace().chain(["no.such.field"]) {
            let answer = c.get(&format!("{path}?fieldSelector={field}%3Dnothing&limit=1")).await?;
            let label = format!("{path} {field}");
            heard.note(&label, if answer.code < 300 { json!("selects") } else { answer.said() });
        }
    }
    heard.finish()
}

async fn metadata(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    some(c, 1).await?;
    let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    heard.add("one", &c.get_as(&c.core("configmaps/m0"), partial).await?);
    let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    heard.add("list", &c.get_as(&c.core("configmaps?labelSelector=n"), list).await?);
    heard.add("unknown form", &c.get_as(&c.core("configmaps/m0"), "text/html").await?);
    let yaml = c.get_as(&c.core("configmaps/m0"), "application/yaml").await?.ok()?;
    ensure!(yaml.as_str().is_some_and(|text| text.contains("kind: ConfigMap")), "as YAML: {yaml}");
    heard.finish()
}

/// Type and name of events, with what came of the object.
fn told(events: &[Value]) -> Value {
    let told =
        events.iter().map(|event| json!([event["type"], event["object"]["metadata"]["name"], event["object"]["kind"]]));
    json!(told.collect::<Vec<_>>())
}

/// From a version on, everything in its order; a selector makes objects come and go.
async fn watches(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let list = c.get(&c.core("configmaps?labelSelector=w")).await?.ok()?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let map = json!({"metadata": {"name": "w", "labels": {"w": "1"}}, "data": {"a": "1"}});
    c.post(&c.core("configmaps"), &map).await?.ok()?;
    let path = c.core("configmaps/w");
    c.patch(&path, "merge-patch", &json!({"data": {"a": "2"}})).await?.ok()?;
    c.patch(&path, "merge-patch", &json!({"metadata": {"labels": {"w": null}}})).await?.ok()?;
    c.patch(&path, "merge-patch", &json!({"metadata": {"labels": {"w": "2"}}})).await?.ok()?;
    c.delete(&path, &json!({})).await?.ok()?;
    let watch = c.core(&format!("configmaps?watch=true&labelSelector=w&resourceVersion={version}&timeoutSeconds=10"));
    let (code, events) = c.watch(&watch, 5, 15).await?;
    ensure!(code == 200, "the watch is answered with {code}");
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    ensure!(types == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"], "events are {types:?}");
    heard.note("selected", told(&events));
    heard.note("last", events.last().cloned().unwrap_or_default());
    // Without a version it begins with what is there.
    c.post(&c.core("configmaps"), &map).await?.ok()?;
    let (_, events) = c.watch(&c.core("configmaps?watch=true&labelSelector=w&timeoutSeconds=10"), 1, 15).await?;
    heard.note("from now", told(&events));
    let (code, events) = c.watch(&c.core("configmaps?watch=true&resourceVersion=nonsense"), 1, 5).await?;
    heard.note("nonsense", json!([code, events]));
    let (_, events) =
        c.watch(&c.core("configmaps?watch=true&fieldSelector=metadata.name%3Dw&timeoutSeconds=10"), 1, 15).await?;
    heard.note("one name", told(&events));
    // The server ends it in time.
    let (code, _) = c.watch(&c.core("configmaps?watch=true&labelSelector=none&timeoutSeconds=1"), 1, 10).await?;
    heard.note("ended", json!(code));
    heard.finish()
}

/// What is there, a bookmark that says so, and what comes after (`WatchList`).
async fn streaming_lists(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    some(c, 2).await?;
    let query = "watch=true&labelSelector=n&sendInitialEvents=true&allowWatchBookmarks=true&timeoutSeconds=10";
    let list = c.core(&format!("configmaps?{query}&resourceVersionMatch=NotOlderThan"));
    let (code, events) = c.watch(&list, 3, 15).await?;
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    ensure!(code == 200 && types == ["ADDED", "ADDED", "BOOKMARK"], "{code}: {types:?}");
    let shown: BTreeSet<&str> = events.iter().take(2).map(|event| name(&event["object"])).collect();
    ensure!(shown == BTreeSet::from(["m0", "m1"]), "it begins with {shown:?}");
    heard.note("bookmark", events[2].clone());
    let (code, events) = c.watch(&c.core(&format!("configmaps?{query}")), 1, 5).await?;
    heard.note("without a match", json!([code, events]));
    heard.finish()
}

/// What is too old, as far as the server that is asked forgot it, or not yet.
async fn expired(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let (code, events) = c.watch(&c.core("configmaps?watch=true&resourceVersion=1&timeoutSeconds=2"), 1, 10).await?;
    let event = events.first().cloned().unwrap_or_default();
    if event["type"] == "ERROR" {
        let object = &event["object"];
        ensure!(object["code"] == 410 && object["reason"] == "Expired", "a watch from long ago: {code}, {event}");
        let message = object["message"].as_str().unwrap_or_default();
        ensure!(message.starts_with("too old resource version: 1 ("), "it says {message:?}");
    } else {
        // A server that was there from the beginning knows everything.
        ensure!(code == 200 && (event.is_null() || event["type"] == "ADDED"), "a watch from long ago: {code}, {event}");
    }
    let future = c.get(&c.core("configmaps?resourceVersion=999999999999")).await?;
    let mut said = future.said();
    if let Some(message) = said["body"]["message"].as_str() {
        // It names the present version.
        let before = message.split(", current: ").next().unwrap_or_default().to_owned();
        said["body"]["message"] = json!(before);
    }
    heard.note("future list", said);
    heard.finish()
}

async fn collections(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    some(c, 4).await?;
    let deleted = c.delete(&c.core("configmaps?labelSelector=parity%3Deven"), &json!({})).await?.ok()?;
    heard.note("answer", json!({"kind": deleted["kind"], "names": names(&deleted)}));
    heard.note("left", json!(names(&c.get(&c.core("configmaps?labelSelector=n")).await?.ok()?)));
    heard.add("services", &c.delete(&c.core("services?labelSelector=none"), &json!({})).await?);
    heard.finish()
}
