//! What kubeadm leaves in a cluster, and what joins by it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value, json};

use super::{
    Corner,
    answer::{items, name},
    checks, system,
};

checks! {
    Look: cluster_configuration, kubelet_configuration, cluster_info, signatures, bootstrap_tokens, roles, bindings;
}

const SYSTEM: &str = "/api/v1/namespaces/kube-system";

/// A `ConfigMap` whose values are documents, read as such.
pub(super) async fn documents(c: &Corner, path: &str, keys: &[&str]) -> Result<Value> {
    let mut map = c.get(path).await?.ok()?;
    for key in keys {
        let text = map["data"][key].as_str().with_context(|| format!("{path} has no {key}"))?;
        map["data"][key] = serde_saphyr::from_str(text).with_context(|| format!("{key} of {path}"))?;
    }
    Ok(map)
}

async fn cluster_configuration(c: &Corner) -> Result<Value> {
    let map = documents(c, &format!("{SYSTEM}/configmaps/kubeadm-config"), &["ClusterConfiguration"]).await?;
    let found = &map["data"]["ClusterConfiguration"];
    ensure!(found["kind"] == "ClusterConfiguration", "it holds {found}");
    ensure!(found["apiVersion"] == "kubeadm.k8s.io/v1beta4", "kubeadm of 1.31 and later writes v1beta4: {found}");
    ensure!(found["kubernetesVersion"] == c.subject.version.as_str(), "of another version: {found}");
    Ok(map)
}

async fn kubelet_configuration(c: &Corner) -> Result<Value> {
    let map = documents(c, &format!("{SYSTEM}/configmaps/kubelet-config"), &["kubelet"]).await?;
    let found = &map["data"]["kubelet"];
    ensure!(
        found["kind"] == "KubeletConfiguration" && found["staticPodPath"] == "/etc/kubernetes/manifests",
        "{found}"
    );
    Ok(map)
}

const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

async fn cluster_info(c: &Corner) -> Result<Value> {
    let mut map = documents(c, CLUSTER_INFO, &["kubeconfig"]).await?;
    // Signatures are another check's.
    if let Some(data) = map["data"].as_object_mut() {
        data.retain(|key, _| key == "kubeconfig");
    }
    let cluster = map["data"]["kubeconfig"]["clusters"][0]["cluster"].clone();
    let authority = STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap_or_default())?;
    ensure!(String::from_utf8_lossy(&authority).trim() == c.subject.authority().trim(), "another authority: {cluster}");
    Ok(map)
}

/// The Secrets of the tokens that have not been cleaned away.
async fn tokens(c: &Corner) -> Result<Vec<Value>> {
    let listed = c.get(&format!("{SYSTEM}/secrets?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken")).await?;
    Ok(items(&listed.ok()?))
}

/// What a Secret holds under a key, as text.
fn field(secret: &Value, key: &str) -> String {
    let bytes = STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every token that may sign has signed, with HMAC over header and kubeconfig, detached (RFC 7515, appendix F).
async fn signatures(c: &Corner) -> Result<Value> {
    let info = c.get(CLUSTER_INFO).await?.ok()?;
    let kubeconfig = info["data"]["kubeconfig"].as_str().context("cluster-info has no kubeconfig")?;
    let mut headers = BTreeSet::new();
    for token in tokens(c).await?.iter().filter(|token| field(token, "usage-bootstrap-signing") == "true") {
        let id = field(token, "token-id");
        let signature = info["data"][format!("jws-kubeconfig-{id}")].as_str();
        let parts: Vec<&str> = signature.context("a token has not signed")?.split('.').collect();
        let [header, "", signature] = parts[..] else { anyhow::bail!("{parts:?} is no detached signature") };
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(kubeconfig));
        let key = hmac::Key::new(hmac::HMAC_SHA256, field(token, "token-secret").as_bytes());
        let is_good = hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature)?).is_ok();
        ensure!(is_good, "a token's signature does not fit");
        headers.insert(String::from_utf8(URL_SAFE_NO_PAD.decode(header)?)?.replace(&id, "{id}"));
    }
    ensure!(!headers.is_empty(), "no token has signed");
    Ok(json!(headers))
}

/// The kinds of tokens there are: what each may, for whom, and who says so.
async fn bootstrap_tokens(c: &Corner) -> Result<Value> {
    let mut kinds = BTreeSet::new();
    for token in tokens(c).await? {
        let id = field(&token, "token-id");
        ensure!(name(&token) == format!("bootstrap-token-{id}"), "{} is the token {id}", name(&token));
        ensure!(field(&token, "token-secret").len() == 16, "the secret of {} is not of 16 characters", name(&token));
        let mut shown = Map::new();
        for key in token["data"].as_object().into_iter().flat_map(Map::keys) {
            let value = match key.as_str() {
                "token-id" | "token-secret" | "expiration" => "…".to_owned(),
                _ => field(&token, key),
            };
            shown.insert(key.clone(), value.into());
        }
        kinds.insert(json!({"type": token["type"], "data": shown}).to_string());
    }
    let kinds: Result<Vec<Value>, _> = kinds.iter().map(|kind| serde_json::from_str(kind)).collect();
    Ok(json!(kinds?))
}

/// What the sandbox image adds for its pod network (docs/guest-image.md).
const CONCESSION: &str = "sandbox-pod-network";

async fn own(c: &Corner, plural: &str) -> Result<Vec<Value>> {
    let listed = c.get(&format!("/apis/rbac.authorization.k8s.io/v1/{plural}")).await?.ok()?;
    let is_own = |object: &Value| {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        !system::is_default(object) && !name(object).contains(CONCESSION) && !namespace.starts_with("conformance-")
    };
    Ok(items(&listed).into_iter().filter(is_own).collect())
}

/// Roles that are not every server's: kubeadm's, and those that the control plane provider keeps.
async fn roles(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for plural in ["clusterroles", "roles"] {
        for role in own(c, plural).await? {
            let rules: Vec<String> = role["rules"].as_array().into_iter().flatten().map(system::rule).collect();
            let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
            found.insert(format!("{plural}/{namespace}/{}", name(&role)), json!(rules));
        }
    }
    for wanted in ["clusterroles//kubeadm:get-nodes", "roles/kube-system/kubeadm:nodes-kubeadm-config"] {
        ensure!(found.contains_key(wanted), "{wanted} is missing");
    }
    Ok(Value::Object(found))
}

async fn bindings(c: &Corner) -> Result<Value> {
    let mut found = Map::new();
    for plural in ["clusterrolebindings", "rolebindings"] {
        for binding in own(c, plural).await? {
            let namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
            let shown = json!({"roleRef": binding["roleRef"], "subjects": binding["subjects"]});
            found.insert(format!("{plural}/{namespace}/{}", name(&binding)), shown);
        }
    }
    let admins = &found["clusterrolebindings//kubeadm:cluster-admins"];
    ensure!(admins["roleRef"]["name"] == "cluster-admin", "kubeadm:cluster-admins are bound to {admins}");
    Ok(Value::Object(found))
}
