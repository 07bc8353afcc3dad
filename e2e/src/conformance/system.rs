//! What is in a cluster before anybody asked for it, apart from kubeadm's objects.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::{
    Corner,
    answer::{items, name},
    checks,
};

checks! {
    Look: namespaces, config_maps, service_accounts, kubernetes_service, leases, default_roles, default_bindings,
        priority_classes;
}

/// The four namespaces, whole.
async fn namespaces(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let object = c.get(&format!("/api/v1/namespaces/{namespace}")).await?.ok()?;
        ensure!(object["status"]["phase"] == "Active", "{namespace} is {}", object["status"]);
        found.insert(namespace.to_owned(), object);
    }
    Ok(Value::Object(found))
}

/// Which there are, and their keys. Namespaces of checks come and go meanwhile.
async fn config_maps(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let listed = c.get(&format!("/api/v1/namespaces/{namespace}/configmaps")).await?.ok()?;
        for map in items(&listed) {
            let keys: Vec<String> = map["data"].as_object().into_iter().flat_map(Map::keys).cloned().collect();
            // Those of cluster-info are signatures, one a token.
            let keys: Vec<String> = keys.into_iter().filter(|key| !key.starts_with("jws-kubeconfig-")).collect();
            found.insert(format!("{namespace}/{}", name(&map)), json!(keys.join(" ")));
        }
    }
    let root = c.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt").await?.ok()?;
    let shown = root["data"]["ca.crt"].as_str().unwrap_or_default();
    ensure!(shown.trim() == c.subject.authority().trim(), "kube-root-ca.crt is not the cluster's authority");
    Ok(Value::Object(found))
}

async fn service_accounts(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let listed = c.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts")).await?.ok()?;
        let accounts: Map<String, Value> =
            items(&listed).into_iter().map(|account| (name(&account).to_owned(), account)).collect();
        ensure!(accounts.contains_key("default"), "{namespace} has no account `default`");
        found.insert(namespace.to_owned(), Value::Object(accounts));
    }
    Ok(Value::Object(found))
}

/// The API server's own service, with an endpoint for each machine of the control plane.
async fn kubernetes_service(c: &Corner) -> Result<Value> {
    let service = c.get("/api/v1/namespaces/default/services/kubernetes").await?.ok()?;
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = c.get(slice).await?.ok()?;
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let mut addresses: Vec<&str> = endpoints.filter_map(|endpoint| endpoint["addresses"][0].as_str()).collect();
    addresses.sort_unstable();
    let mut wanted: Vec<String> = c.subject.control_plane().map(|node| node.address.to_string()).collect();
    wanted.sort_unstable();
    ensure!(addresses == wanted, "its endpoints are {addresses:?}, not {wanted:?}");
    let older = c.get("/api/v1/namespaces/default/endpoints/kubernetes").await?.ok()?;
    let count = older["subsets"][0]["addresses"].as_array().map_or(0, Vec::len);
    ensure!(count == wanted.len(), "{count} addresses in Endpoints: {older}");
    Ok(json!({"service": service, "slice": slice, "endpoints": older}))
}

/// Leases of nodes and of the control plane, the latter by the component that holds them.
async fn leases(c: &Corner) -> Result<Value> {
    let of = "/apis/coordination.k8s.io/v1/namespaces";
    let nodes = items(&c.get(&format!("{of}/kube-node-lease/leases")).await?.ok()?);
    for node in &c.subject.nodes {
        let lease = nodes.iter().find(|lease| name(lease) == node.name);
        let lease = lease.with_context(|| format!("{} has no lease", node.name))?;
        ensure!(lease["spec"]["holderIdentity"] == node.name.as_str(), "{} holds the lease of {}", lease, node.name);
        ensure!(lease["metadata"]["ownerReferences"][0]["kind"] == "Node", "the lease of {} has no owner", node.name);
    }
    let mut found = Map::new();
    found.insert("node".into(), nodes.first().cloned().unwrap_or_default());
    for lease in items(&c.get(&format!("{of}/kube-system/leases")).await?.ok()?) {
        // Those of API servers are named by a hash of the machine.
        let component = if name(&lease).starts_with("apiserver-") { "apiserver" } else { name(&lease) };
        let fields: Vec<String> = lease["spec"].as_object().into_iter().flat_map(Map::keys).cloned().collect();
        let labels = lease["metadata"]["labels"]["apiserver.kubernetes.io/identity"].clone();
        found.insert(
            component.to_owned(),
            json!({"fields": fields, "seconds": lease["spec"]["leaseDurationSeconds"], "identity": labels}),
        );
    }
    Ok(Value::Object(found))
}

/// A rule as one line.
pub fn rule(rule: &Value) -> String {
    let words = |field: &str| {
        let words = rule[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        words.map(|word| if word.is_empty() { "core" } else { word }).collect::<Vec<_>>().join(",")
    };
    let parts = ["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"];
    let parts = parts.map(|field| (field, words(field))).into_iter().filter(|(_, words)| !words.is_empty());
    parts.map(|(field, words)| format!("{field}={words}")).collect::<Vec<_>>().join(" ")
}

/// Whether every API server makes an object for itself.
pub fn is_default(object: &Value) -> bool {
    object["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn default_roles(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for plural in ["clusterroles", "roles"] {
        for role in items(&c.get(&format!("{RBAC}/{plural}")).await?.ok()?).iter().filter(|role| is_default(role)) {
            let rules: Vec<String> = role["rules"].as_array().into_iter().flatten().map(rule).collect();
            let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
            let shown =
                json!({"rules": rules, "aggregates": role["aggregationRule"], "labels": role["metadata"]["labels"]});
            found.insert(format!("{plural}/{namespace}/{}", name(role)), shown);
        }
    }
    Ok(Value::Object(found))
}

async fn default_bindings(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for plural in ["clusterrolebindings", "rolebindings"] {
        for binding in items(&c.get(&format!("{RBAC}/{plural}")).await?.ok()?).iter().filter(|one| is_default(one)) {
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            let subjects: Vec<String> = subjects
                .map(|subject| {
                    let text = |field: &str| subject[field].as_str().unwrap_or_default().to_owned();
                    format!("{} {} {}", text("kind"), text("namespace"), text("name"))
                })
                .collect();
            let namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
            let role =
                json!({"role": binding["roleRef"]["name"], "kind": binding["roleRef"]["kind"], "subjects": subjects});
            found.insert(format!("{plural}/{namespace}/{}", name(binding)), role);
        }
    }
    Ok(Value::Object(found))
}

async fn priority_classes(c: &Corner) -> Result<Value> {
    let listed = c.get("/apis/scheduling.k8s.io/v1/priorityclasses").await?;
    Ok(json!({"code": listed.code, "items": items(&listed.body)}))
}
