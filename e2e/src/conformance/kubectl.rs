//! What kubectl needs of an API server: tables, OpenAPI, and its own commands as users type them.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::{Corner, answer::Transcript, checks, workloads::serving};

checks! {
    Look: tables, open_api, get, explain, describe;
    Use: apply, rollouts, scale_and_delete;
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Columns of every kind that people list.
async fn tables(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for path in [
        "/api/v1/nodes",
        "/api/v1/namespaces",
        "/api/v1/pods",
        "/api/v1/services",
        "/api/v1/configmaps",
        "/api/v1/secrets",
        "/api/v1/serviceaccounts",
        "/api/v1/events",
        "/api/v1/endpoints",
        "/api/v1/persistentvolumes",
        "/api/v1/persistentvolumeclaims",
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/daemonsets",
        "/apis/apps/v1/replicasets",
        "/apis/apps/v1/statefulsets",
        "/apis/batch/v1/jobs",
        "/apis/policy/v1/poddisruptionbudgets",
        "/apis/coordination.k8s.io/v1/leases",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/rolebindings",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/apis/storage.k8s.io/v1/storageclasses",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ] {
        let answer = c.get_as(&format!("{path}?limit=1"), TABLE).await?;
        let columns = answer.body["columnDefinitions"].as_array().into_iter().flatten();
        let columns: Vec<String> = columns
            .map(|column| {
                let text = |field: &str| column[field].as_str().unwrap_or_default().to_owned();
                format!("{} {} {} {}", text("name"), text("type"), text("format"), column["priority"])
            })
            .collect();
        found.insert(path.to_owned(), json!({"code": answer.code, "kind": answer.body["kind"], "columns": columns}));
    }
    let map = c.get_as("/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt", TABLE).await?;
    let mut row = map.body["rows"][0].clone();
    if let Some(age) = row.pointer_mut("/cells/2") {
        *age = json!("…");
    }
    found.insert("row".to_owned(), row);
    Ok(Value::Object(found))
}

/// Which documents there are, and whether what kubectl looks up is in them.
async fn open_api(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let index = c.get("/openapi/v3").await?;
    let paths: Vec<String> = index.body["paths"].as_object().into_iter().flat_map(Map::keys).cloned().collect();
    heard.note("index", json!({"code": index.code, "paths": paths}));
    let apps = c.get("/openapi/v3/apis/apps/v1").await?;
    let deployment = &apps.body["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    heard.note(
        "deployment",
        json!({
            "code": apps.code, "kinds": deployment["x-kubernetes-group-version-kind"],
            "fields": deployment["properties"].as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()),
        }),
    );
    let two = c.get("/openapi/v2").await?;
    heard.note("v2", json!({"code": two.code, "version": two.body["swagger"]}));
    heard.finish()
}

/// The first line that a command prints.
async fn heading(c: &Corner, arguments: &[&str]) -> Result<Value> {
    let said = c.subject.kubectl_says(arguments, None).await?;
    let line = said.lines().next().unwrap_or_default();
    Ok(json!(line.split_whitespace().collect::<Vec<_>>().join(" ")))
}

async fn get(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    for what in ["nodes", "pods", "deployments", "services", "configmaps", "leases"] {
        for more in [&[][..], &["--output=wide"]] {
            let mut arguments = vec!["get", what, "--namespace=kube-system"];
            if what == "leases" {
                arguments[2] = "--namespace=kube-node-lease";
            }
            arguments.extend(more);
            heard.note(&arguments.join(" "), heading(c, &arguments).await?);
        }
    }
    heard.note("api-resources", heading(c, &["api-resources"]).await?);
    let versions = c.subject.kubectl_says(&["version", "--output=json"], None).await?;
    let versions: Value = serde_json::from_str(&versions)?;
    ensure!(versions["serverVersion"]["gitVersion"] == c.subject.version.as_str(), "versions: {versions}");
    let may = c.subject.kubectl_says(&["auth", "can-i", "delete", "nodes"], None).await;
    heard.note("can-i", json!(may.map_or_else(|_| "fails".to_owned(), |said| said.trim().to_owned())));
    let who = c.subject.kubectl_says(&["auth", "whoami", "--output=json"], None).await;
    let who = who.ok().and_then(|said| serde_json::from_str::<Value>(&said).ok());
    heard.note("whoami", who.map_or(json!("fails"), |who| who["status"]["userInfo"]["groups"].clone()));
    heard.finish()
}

async fn explain(c: &Corner) -> Result<Value> {
    let said = c.subject.kubectl_says(&["explain", "pod.spec.containers"], None).await;
    Ok(match said {
        Ok(said) => {
            let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("  ") && line.contains('\t')).collect();
            let field = |line: &&str| line.trim().replace('\t', " ");
            json!({"head": said.lines().take(2).collect::<Vec<_>>(), "fields": lines.iter().map(field).collect::<Vec<_>>()})
        }
        Err(_) => json!("fails"),
    })
}

/// `describe` reads around an object: what it looks up must be there, or be missed in peace.
async fn describe(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let node = c.subject.worker()?.name.clone();
    let etcd = format!("etcd-{}", c.subject.control_plane().next().context("no control plane")?.name);
    for (label, arguments) in [
        ("node", ["describe", "node", &node, "--namespace=default"]),
        ("pod", ["describe", "pod", &etcd, "--namespace=kube-system"]),
        ("deployment", ["describe", "deployment", "coredns", "--namespace=kube-system"]),
        ("service", ["describe", "service", "kube-dns", "--namespace=kube-system"]),
    ] {
        let said = c.subject.kubectl_says(&arguments, None).await?;
        let sections = said.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
        let sections: Vec<&str> = sections.filter_map(|line| line.split(':').next()).collect();
        heard.note(label, json!(sections));
    }
    heard.finish()
}

fn manifest(c: &Corner) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": c.namespace},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": serving()},
        },
    })
}

/// Client-side and server-side apply, diff, and the validation that kubectl asks for.
async fn apply(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let text = manifest(c).to_string();
    let client = ["apply", "--filename=-"];
    heard.note("created", json!(c.subject.kubectl_says(&client, Some(&text)).await?));
    heard.note("again", json!(c.subject.kubectl_says(&client, Some(&text)).await?));
    let mut changed = manifest(c);
    changed["spec"]["replicas"] = json!(0);
    heard.note("configured", json!(c.subject.kubectl_says(&client, Some(&changed.to_string())).await?));
    let mut unknown = manifest(c);
    unknown["spec"]["replicaz"] = json!(1);
    let refused = c.subject.kubectl_says(&client, Some(&unknown.to_string())).await;
    let why = refused.err().map(|why| format!("{why:#}"));
    let why = why.as_deref().and_then(|why| why.lines().last());
    heard.note("unknown field", json!(why));
    let server = ["apply", "--server-side", "--field-manager=other", "--force-conflicts", "--filename=-"];
    heard.note("server side", json!(c.subject.kubectl_says(&server, Some(&text)).await?));
    heard.finish()
}

async fn rollouts(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let space = format!("--namespace={}", c.namespace);
    c.subject.kubectl_says(&["create", "--filename=-"], Some(&manifest(c).to_string())).await?;
    let status = ["rollout", "status", "deployment/web", "--timeout=60s", &space];
    let said = c.subject.kubectl_says(&status, None).await?;
    heard.note("status", json!(said.lines().last()));
    let said = c.subject.kubectl_says(&["rollout", "restart", "deployment/web", &space], None).await?;
    heard.note("restart", json!(said));
    c.subject.kubectl_says(&status, None).await?;
    let said = c.subject.kubectl_says(&["rollout", "history", "deployment/web", &space], None).await?;
    heard.note("history", json!(said.lines().map(str::trim_end).collect::<Vec<_>>()));
    let wait = ["wait", "--for=condition=Available", "deployment/web", "--timeout=60s", &space];
    heard.note("wait", json!(c.subject.kubectl_says(&wait, None).await?));
    heard.finish()
}

async fn scale_and_delete(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let space = format!("--namespace={}", c.namespace);
    c.subject.kubectl_says(&["create", "--filename=-"], Some(&manifest(c).to_string())).await?;
    let scale = ["scale", "deployment/web", "--replicas=2", &space];
    heard.note(
        "scale",
        json!(c.subject.kubectl_says(&scale, None).await.map_err(|_| "fails").unwrap_or_else(str::to_owned)),
    );
    for arguments in [
        &["label", "deployment/web", "a=b"][..],
        &["annotate", "deployment/web", "a=b"],
        &["set", "image", "deployment/web", "web=registry.k8s.io/web:2.0"],
        &["create", "configmap", "m", "--from-literal=a=b"],
        &["create", "service", "clusterip", "s", "--tcp=80:8080"],
        &["delete", "deployment/web", "--wait=true", "--timeout=60s"],
    ] {
        let mut all = arguments.to_vec();
        all.push(&space);
        heard.note(&arguments[..2].join(" "), json!(c.subject.kubectl_says(&all, None).await?));
    }
    heard.finish()
}
