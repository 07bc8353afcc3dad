//! What the API server says of itself: groups, versions, resources, health.

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::{
    Corner,
    answer::{Transcript, name},
    checks,
};

checks! {
    Look: groups, resources, version, paths, health, unknown_paths;
}

/// Group by group: versions, the preferred one first.
async fn groups(c: &Corner) -> Result<Value> {
    let core = c.get("/api").await?.ok()?;
    ensure!(core["kind"] == "APIVersions" && core["versions"] == json!(["v1"]), "/api answers {core}");
    let listed = c.get("/apis").await?.ok()?;
    let one = c.get("/apis/apps").await?.ok()?;
    ensure!(one["kind"] == "APIGroup" && one["preferredVersion"]["groupVersion"] == "apps/v1", "/apis/apps: {one}");
    let mut groups = Map::new();
    for group in listed["groups"].as_array().into_iter().flatten() {
        let versions = group["versions"].as_array().into_iter().flatten();
        let versions: Vec<&str> = versions.filter_map(|version| version["version"].as_str()).collect();
        ensure!(group["preferredVersion"]["version"] == versions.first().copied().unwrap_or_default(), "{group}");
        groups.insert(group["name"].as_str().unwrap_or_default().to_owned(), versions.join(" ").into());
    }
    for group in ["apps", "rbac.authorization.k8s.io", "coordination.k8s.io", "policy", "discovery.k8s.io"] {
        ensure!(groups.contains_key(group), "the group {group} is not served");
    }
    Ok(Value::Object(groups))
}

/// Every resource and subresource of every version: kind, scope, verbs, short names, categories.
async fn resources(c: &Corner) -> Result<Value> {
    let mut paths = vec![("v1".to_owned(), "/api/v1".to_owned())];
    for group in c.get("/apis").await?.ok()?["groups"].as_array().into_iter().flatten() {
        let versions = group["versions"].as_array().into_iter().flatten();
        let versions = versions.filter_map(|version| version["groupVersion"].as_str());
        paths.extend(versions.map(|version| (version.to_owned(), format!("/apis/{version}"))));
    }
    let mut all = Map::new();
    for (version, path) in paths {
        let listed = c.get(&path).await?.ok()?;
        ensure!(listed["kind"] == "APIResourceList" && listed["groupVersion"] == version.as_str(), "{path}: {listed}");
        let mut resources = Map::new();
        for resource in listed["resources"].as_array().into_iter().flatten() {
            let words = |field: &str| {
                let words = resource[field].as_array().into_iter().flatten().filter_map(Value::as_str);
                words.collect::<Vec<_>>().join(" ")
            };
            let named = resource["name"].as_str().unwrap_or_default().to_owned();
            let shown = json!({
                "kind": resource["kind"], "singular": resource["singularName"], "namespaced": resource["namespaced"],
                "verbs": words("verbs"), "short": words("shortNames"), "categories": words("categories"),
                "group": resource["group"], "version": resource["version"],
            });
            resources.insert(named, shown);
        }
        all.insert(version, Value::Object(resources));
    }
    Ok(Value::Object(all))
}

async fn version(c: &Corner) -> Result<Value> {
    let version = c.get("/version").await?.ok()?;
    let wanted = c.subject.version.as_str();
    ensure!(version["gitVersion"] == wanted, "it is {}, not {wanted}", version["gitVersion"]);
    let mut numbers = wanted.trim_start_matches('v').split('.');
    let numbers = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    ensure!(version["major"] == numbers.0 && version["minor"] == numbers.1, "{version} is not {wanted}");
    ensure!(version["platform"] == "linux/amd64", "{version} runs elsewhere");
    // Who built it and when is of no interest; what is told is.
    let fields: Vec<&String> = version.as_object().into_iter().flat_map(Map::keys).collect();
    Ok(json!({"fields": fields}))
}

/// Which of the paths that clients know there are.
async fn paths(c: &Corner) -> Result<Value> {
    let root = c.get("/").await?.ok()?;
    let listed: Vec<&str> = root["paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let known = ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/livez", "/metrics"];
    let known = known.into_iter().chain(["/openapi/v2", "/openapi/v3", "/readyz", "/version"]);
    let mut found = Map::new();
    for path in known {
        let code = c.get(path).await?.code;
        found.insert(path.to_owned(), json!({"listed": listed.contains(&path), "code": code}));
    }
    Ok(Value::Object(found))
}

async fn health(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/readyz/etcd", "/livez/nonsense"] {
        heard.add(path, &c.get(path).await?);
    }
    let verbose = c.get("/readyz?verbose").await?.ok()?;
    let text = verbose.as_str().unwrap_or_default();
    ensure!(text.contains("[+]ping ok\n") && text.ends_with("readyz check passed\n"), "/readyz?verbose: {text}");
    let excluded = c.get("/readyz?verbose&exclude=etcd").await?.ok()?;
    ensure!(excluded.as_str().is_some_and(|text| text.contains("[+]etcd excluded: ok\n")), "without etcd: {excluded}");
    heard.finish()
}

async fn unknown_paths(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    for path in [
        "/nowhere",
        "/api/v2",
        "/api/v2/pods",
        "/apis/nobody.test",
        "/apis/nobody.test/v1/things",
        "/apis/apps/v9/deployments",
        "/api/v1/things",
        "/api/v1/namespaces/default/pods/p/nothing",
        "/api/v1/namespaces/default/nodes",
    ] {
        heard.add(path, &c.get(path).await?);
    }
    let kinds = c.get("/api/v1/namespaces").await?.ok()?;
    ensure!(kinds["items"].as_array().into_iter().flatten().any(|one| name(one) == "default"), "{kinds}");
    heard.finish()
}
