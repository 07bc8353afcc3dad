//! What cannot be: objects that are wrong, and changes of what does not change.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Corner, answer::Transcript, checks};

checks! {
    Use: bodies, metadata, pods, workloads, services, immutable, strictness;
}

fn spec() -> Value {
    json!({"containers": [{"name": "c", "image": "registry.k8s.io/web:1.0"}]})
}

fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": spec()})
}

async fn bodies(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let maps = c.core("configmaps");
    let json = "application/json";
    for (label, kind, body) in [
        ("empty", json, ""),
        ("no JSON", json, "{"),
        ("a list", json, "[]"),
        ("another kind", json, r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}"#),
        ("another version", json, r#"{"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "x"}}"#),
        ("a number for a text", json, r#"{"metadata": {"name": "x"}, "data": {"a": 1}}"#),
        ("a text for a map", json, r#"{"metadata": {"name": "x"}, "data": "a"}"#),
        ("an unknown type", "text/plain", "x"),
        ("YAML", "application/yaml", "metadata: {name: x}\n"),
    ] {
        heard.add(label, &c.post_raw(&maps, kind, body.as_bytes()).await?);
    }
    heard.add("create by name", &c.post(&c.core("configmaps/x"), &json!({})).await?);
    heard.add("update of all", &c.put(&maps, &json!({})).await?);
    heard.finish()
}

async fn metadata(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let cases = [
        ("upper case", json!({"name": "Upper"})),
        ("underscore", json!({"name": "a_b"})),
        ("too long", json!({"name": "x".repeat(254)})),
        ("label key", json!({"name": "x", "labels": {"a b": "c"}})),
        ("label value", json!({"name": "x", "labels": {"a": "b c"}})),
        ("annotation key", json!({"name": "x", "annotations": {"-": "b"}})),
        ("owner", json!({"name": "x", "ownerReferences": [{"kind": "ConfigMap", "name": "y"}]})),
        ("version of a new one", json!({"name": "x", "resourceVersion": "5"})),
        ("several", json!({"name": "Upper", "labels": {"a b": "c"}})),
    ];
    for (label, metadata) in cases {
        heard.add(label, &c.post(&c.core("configmaps?dryRun=All"), &json!({"metadata": metadata})).await?);
    }
    heard.add("namespace", &c.post("/api/v1/namespaces?dryRun=All", &json!({"metadata": {"name": "a.b"}})).await?);
    let key = json!({"metadata": {"name": "x"}, "data": {"a b": "c"}});
    heard.add("key of a map", &c.post(&c.core("configmaps?dryRun=All"), &key).await?);
    let base = json!({"metadata": {"name": "x"}, "data": {"a": "%"}});
    heard.add("no base64", &c.post(&c.core("secrets?dryRun=All"), &base).await?);
    heard.finish()
}

async fn pods(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut spec = spec();
        change(&mut spec);
        json!({"metadata": {"name": "p"}, "spec": spec})
    };
    let cases: Vec<(&str, Value)> = vec![
        ("no spec", json!({"metadata": {"name": "p"}})),
        ("no containers", with(&|spec| spec["containers"] = json!([]))),
        ("no image", with(&|spec| spec["containers"][0] = json!({"name": "c"}))),
        ("same names", with(&|spec| spec["containers"] = json!([spec["containers"][0], spec["containers"][0]]))),
        ("bad port", with(&|spec| spec["containers"][0]["ports"] = json!([{"containerPort": 70_000}]))),
        ("bad policy", with(&|spec| spec["restartPolicy"] = json!("Sometimes"))),
        (
            "unknown volume",
            with(&|spec| spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}])),
        ),
        ("bad quantity", with(&|spec| spec["containers"][0]["resources"] = json!({"limits": {"cpu": "much"}}))),
        (
            "requests above limits",
            with(&|spec| {
                spec["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}});
            }),
        ),
        ("unknown priority", with(&|spec| spec["priorityClassName"] = json!("none"))),
        ("unknown account", with(&|spec| spec["serviceAccountName"] = json!("none"))),
        ("bad toleration", with(&|spec| spec["tolerations"] = json!([{"operator": "Exists", "value": "x"}]))),
    ];
    for (label, pod) in cases {
        heard.add(label, &c.post(&c.core("pods?dryRun=All"), &pod).await?);
    }
    heard.finish()
}

async fn workloads(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let deployments = c.group("apps/v1", "deployments?dryRun=All");
    let selector = json!({"matchLabels": {"app": "a"}});
    let cases = [
        ("empty", json!({})),
        ("no selector", json!({"template": template("a")})),
        ("selector selects others", json!({"selector": selector, "template": template("b")})),
        ("negative", json!({"replicas": -1, "selector": selector, "template": template("a")})),
        (
            "strategy",
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}, "selector": selector, "template": template("a")}),
        ),
    ];
    for (label, spec) in cases {
        heard.add(label, &c.post(&deployments, &json!({"metadata": {"name": "d"}, "spec": spec})).await?);
    }
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "maxUnavailable": 1, "selector": selector}});
    heard.add("budget", &c.post(&c.group("policy/v1", "poddisruptionbudgets?dryRun=All"), &budget).await?);
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": spec()}}});
    heard.add("job", &c.post(&c.group("batch/v1", "jobs?dryRun=All"), &job).await?);
    heard.finish()
}

async fn services(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let cases = [
        ("no ports", json!({"selector": {"a": "b"}})),
        ("port 0", json!({"ports": [{"port": 0}]})),
        ("unnamed ports", json!({"ports": [{"port": 1}, {"port": 2}]})),
        ("type", json!({"type": "Odd", "ports": [{"port": 1}]})),
        ("address", json!({"clusterIP": "nonsense", "ports": [{"port": 1}]})),
    ];
    for (label, spec) in cases {
        heard.add(
            label,
            &c.post(&c.core("services?dryRun=All"), &json!({"metadata": {"name": "s"}, "spec": spec})).await?,
        );
    }
    heard.finish()
}

/// Fields that stay as they were made.
async fn immutable(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": template("a"),
    }});
    c.post(&c.group("apps/v1", "deployments"), &deployment).await?.ok()?;
    let other = json!({"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}});
    heard.add("selector", &c.patch(&c.group("apps/v1", "deployments/d"), "merge-patch", &other).await?);
    c.post(&c.core("services"), &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}})).await?.ok()?;
    let made = c.get(&c.core("services/s")).await?.ok()?;
    let address = made["spec"]["clusterIP"].as_str().context("the service has no address")?.to_owned();
    let patch = json!({"spec": {"clusterIP": "10.255.255.1", "clusterIPs": ["10.255.255.1"]}});
    let mut refused = c.patch(&c.core("services/s"), "merge-patch", &patch).await?;
    refused.body = serde_json::from_str(&refused.body.to_string().replace(&address, "{address}"))?;
    heard.add("cluster address", &refused);
    c.post(&c.core("secrets"), &json!({"metadata": {"name": "t"}, "type": "a.test/a"})).await?.ok()?;
    heard.add("type", &c.patch(&c.core("secrets/t"), "merge-patch", &json!({"type": "a.test/b"})).await?);
    let fixed = json!({"metadata": {"name": "f"}, "immutable": true, "data": {"a": "1"}});
    c.post(&c.core("configmaps"), &fixed).await?.ok()?;
    heard.add("immutable map", &c.patch(&c.core("configmaps/f"), "merge-patch", &json!({"data": {"a": "2"}})).await?);
    heard.add("mutable again", &c.patch(&c.core("configmaps/f"), "merge-patch", &json!({"immutable": false})).await?);
    let mut pod = json!({"metadata": {"name": "p"}, "spec": spec()});
    pod["spec"]["nodeSelector"] = json!({"no.such.test/node": "x"});
    c.post(&c.core("pods"), &pod).await?.ok()?;
    let changes = [
        ("restart policy", json!({"spec": {"restartPolicy": "Never"}})),
        ("node", json!({"spec": {"nodeName": "none"}})),
        ("service account", json!({"spec": {"serviceAccountName": "other"}})),
    ];
    for (label, change) in changes {
        let answer = c.patch(&c.core("pods/p?dryRun=All"), "merge-patch", &change).await?;
        let message = answer.body["message"].as_str().unwrap_or_default();
        // A picture of the whole difference follows.
        let message = message.split('\n').next().unwrap_or_default();
        heard.note(label, json!({"code": answer.code, "reason": answer.body["reason"], "message": message}));
    }
    let image = json!({"spec": {"containers": [{"name": "c", "image": "registry.k8s.io/web:2.0"}]}});
    let answer = c.patch(&c.core("pods/p?dryRun=All"), "strategic-merge-patch", &image).await?;
    heard.note("image", json!(answer.code));
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "r"}});
    c.post(&c.group(&format!("{rbac}/v1"), "rolebindings"), &binding).await?.ok()?;
    let other = json!({"roleRef": {"apiGroup": rbac, "kind": "Role", "name": "s"}});
    heard.add("role", &c.patch(&c.group(&format!("{rbac}/v1"), "rolebindings/b"), "merge-patch", &other).await?);
    let node = format!("/api/v1/nodes/{}?dryRun=All", c.subject.worker()?.name);
    let mut answer = c.patch(&node, "merge-patch", &json!({"spec": {"providerID": "other://x"}})).await?;
    let provider = answer.body["message"].as_str().unwrap_or_default().contains("spec.providerID");
    answer.body = json!({"reason": answer.body["reason"], "names the field": provider});
    heard.add("provider id", &answer);
    let mut answer = c
        .patch(&node, "merge-patch", &json!({"spec": {"podCIDR": "10.255.0.0/24", "podCIDRs": ["10.255.0.0/24"]}}))
        .await?;
    answer.body = json!({"reason": answer.body["reason"]});
    heard.add("pod CIDR", &answer);
    heard.finish()
}

/// Unknown and repeated fields, as strictly as the client asks.
async fn strictness(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let unknown = br#"{"metadata": {"name": "x", "nonsense": 1}, "datta": {"a": "b"}}"#;
    let twice = br#"{"metadata": {"name": "x"}, "data": {"a": "b"}, "data": {"a": "c"}}"#;
    let pod = br#"{"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "web", "prots": []}], "nodeNaem": "x"}}"#;
    for mode in ["Strict", "Warn", "Ignore", "Perhaps"] {
        for (label, what, body) in [
            ("unknown", "configmaps", &unknown[..]),
            ("twice", "configmaps", &twice[..]),
            ("of a pod", "pods", &pod[..]),
        ] {
            let path = c.core(&format!("{what}?dryRun=All&fieldValidation={mode}"));
            let answer = c.post_raw(&path, "application/json", body).await?;
            let said = json!({"code": answer.code, "warnings": answer.warnings, "message": answer.body["message"]});
            heard.note(&format!("{label}, {mode}"), said);
        }
    }
    let usual = c.post_raw(&c.core("configmaps?dryRun=All"), "application/json", unknown).await?;
    heard.note("unknown, as usual", json!({"code": usual.code, "warnings": usual.warnings}));
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "datta": {}});
    heard.add("applied", &c.apply(&c.core("configmaps/x"), "one", "&dryRun=All", &apply).await?);
    let path = c.core("configmaps/x");
    heard.add("applied, Ignore", &c.apply(&path, "one", "&dryRun=All&fieldValidation=Ignore", &apply).await?);
    heard.finish()
}
