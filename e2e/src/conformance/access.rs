//! Who is let in, and what they may do.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Corner,
    answer::{Speaker, Transcript, items},
    checks,
};

checks! {
    Look: anonymous, bad_credentials, reviews;
    Use: bootstrap_token, nodes, roles, escalation, service_account_tokens;
}

/// Nobody in particular sees health, version and what a join needs.
async fn anonymous(c: &Corner) -> Result<Value> {
    let anybody = c.subject.anonymous().await?;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        anybody.get(path).await?.ok().with_context(|| path.to_owned())?;
    }
    anybody.get("/api/v1/namespaces/kube-public/configmaps/cluster-info").await?.ok()?;
    let mut heard = Transcript::default();
    let root = anybody.get("/api").await?;
    root.refused_saying(403, "Forbidden", "forbidden: User \"system:anonymous\" cannot get path \"/api\"")?;
    heard.add("/api", &root);
    let nodes = anybody.get("/api/v1/nodes").await?;
    let why = "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the \
               cluster scope";
    nodes.refused_saying(403, "Forbidden", why)?;
    for path in [
        "/metrics",
        "/api/v1/nodes",
        "/api/v1/namespaces/kube-public/configmaps",
        "/api/v1/namespaces/kube-public/configmaps/kube-root-ca.crt",
        "/api/v1/namespaces/kube-system/pods/p/log",
        "/apis/nobody.test/v1/things",
        "/nowhere",
    ] {
        heard.add(path, &anybody.get(path).await?);
    }
    heard.add("create", &anybody.post("/api/v1/namespaces/default/pods", &json!({})).await?);
    heard.finish()
}

async fn bad_credentials(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    for (label, token) in
        [("nonsense", "nonsense"), ("unknown bootstrap token", "zzzzzz.0123456789abcdef"), ("no token", "a.b.c")]
    {
        let stranger = c.subject.with_token(token).await?;
        let answer = stranger.get("/version").await?;
        answer.refused_saying(401, "Unauthorized", "Unauthorized")?;
        heard.add(label, &answer);
    }
    heard.finish()
}

/// What the API server says of who asks, and of what they and others may.
async fn reviews(c: &Corner) -> Result<Value> {
    let mut heard = Transcript::default();
    let jane = c.subject.user("jane", Some("readers")).await?;
    let own = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    heard.add("who", &jane.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &own).await?);
    let may = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    heard.add("jane may", &jane.post(path, &may).await?);
    heard.add("admin may", &c.post(path, &may).await?);
    let other = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "jane", "resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}},
    });
    heard.add("of jane", &c.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &other).await?);
    heard.finish()
}

/// A Secret of a bootstrap token that expires at a moment.
fn token(id: &str, expires: &str, more: &[(&str, &str)]) -> Value {
    let mut data = json!({
        "token-id": id, "token-secret": "0123456789abcdef", "expiration": expires,
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    });
    for (key, value) in more {
        data[*key] = json!(value);
    }
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "stringData": data,
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
    })
}

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

/// A bootstrap token does what a join needs, and nothing else.
async fn bootstrap_token(c: &Corner) -> Result<Value> {
    let (good, bad) = ("c0nf0r", "c0nf0x");
    let gone = async |id: &str| c.delete(&format!("{SECRETS}/bootstrap-token-{id}"), &json!({})).await;
    gone(good).await?;
    gone(bad).await?;
    c.post(SECRETS, &token(good, "2100-01-01T00:00:00Z", &[])).await?.ok()?;
    // Without the right to authenticate it is nobody's.
    let without = [("usage-bootstrap-authentication", "false")];
    c.post(SECRETS, &token(bad, "2100-01-01T00:00:00Z", &without)).await?.ok()?;
    let heard = async {
        let mut heard = Transcript::default();
        let joins = c.subject.with_token(&format!("{good}.0123456789abcdef")).await?;
        let node = c.subject.worker()?.name.as_str();
        // The API server hears of a new token through a watch.
        let system = "/api/v1/namespaces/kube-system";
        joins.until(&format!("{system}/configmaps/kubeadm-config"), "readable by a token", |_| true).await?;
        joins.get(&format!("{system}/configmaps/kubelet-config")).await?.ok()?;
        joins.get(&format!("{system}/configmaps/kube-proxy")).await?.ok()?;
        joins.get(&format!("/api/v1/nodes/{node}")).await?.ok()?;
        let secrets = joins.get(SECRETS).await?;
        let why = format!(
            "secrets is forbidden: User \"system:bootstrap:{good}\" cannot list resource \"secrets\" in API group \"\" in \
             the namespace \"kube-system\""
        );
        secrets.refused_saying(403, "Forbidden", &why)?;
        heard.add("secrets", &secrets);
        heard.add("nodes", &joins.get("/api/v1/nodes").await?);
        heard.add("coredns", &joins.get(&format!("{system}/configmaps/coredns")).await?);
        heard.add("delete node", &joins.delete(&format!("/api/v1/nodes/{node}"), &json!({})).await?);
        let own = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        heard.add("who", &joins.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &own).await?);
        let wrong = c.subject.with_token(&format!("{good}.fedcba9876543210")).await?;
        wrong.get("/version").await?.refused_saying(401, "Unauthorized", "Unauthorized")?;
        let unusable = c.subject.with_token(&format!("{bad}.0123456789abcdef")).await?;
        unusable.get("/version").await?.refused_saying(401, "Unauthorized", "Unauthorized")?;
        heard.finish()
    };
    let heard = heard.await;
    gone(good).await?;
    gone(bad).await?;
    heard
}

/// A kubelet's certificate is good for its own node and what runs there (node authorizer and `NodeRestriction`).
async fn nodes(c: &Corner) -> Result<Value> {
    let worker = c.subject.worker()?.name.clone();
    let other = c.subject.control_plane().next().context("no control plane")?.name.clone();
    let kubelet = c.subject.user(&format!("system:node:{worker}"), Some("system:nodes")).await?;
    kubelet.get(&format!("/api/v1/nodes/{worker}")).await?.ok()?;
    let mut heard = Transcript::default();
    // What a node is like is for other checks to ask.
    heard.note("other node", json!(kubelet.get(&format!("/api/v1/nodes/{other}")).await?.code));
    heard.note("all nodes", json!(kubelet.get("/api/v1/nodes").await?.code));
    heard.add("delete itself", &kubelet.delete(&format!("/api/v1/nodes/{worker}"), &json!({})).await?);
    let label = |key: &str| json!({"metadata": {"labels": {key: "x"}}});
    let patch = async |who: &Speaker, node: &str, key: &str| {
        who.patch(&format!("/api/v1/nodes/{node}?dryRun=All"), "merge-patch", &label(key)).await
    };
    heard.add("label other", &patch(&kubelet, &other, "a").await?);
    heard.note("label itself", json!(patch(&kubelet, &worker, "example.test/a").await?.code));
    heard.add("restricted label", &patch(&kubelet, &worker, "node-restriction.kubernetes.io/a").await?);
    heard.add("role label", &patch(&kubelet, &worker, "node-role.kubernetes.io/control-plane").await?);
    let taint = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let itself = format!("/api/v1/nodes/{worker}?dryRun=All");
    heard.add("taint itself", &kubelet.patch(&itself, "merge-patch", &taint).await?);
    let own = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{worker}");
    ensure!(!items(&kubelet.get(&own).await?.ok()?).is_empty(), "no pod runs on {worker}");
    heard.add("all pods", &kubelet.get("/api/v1/pods").await?);
    heard.add("foreign pod", &kubelet.get(&format!("/api/v1/namespaces/kube-system/pods/etcd-{other}")).await?);
    heard.add("secrets", &kubelet.get(SECRETS).await?);
    let named = kubelet.get(&format!("{SECRETS}/nothing")).await?;
    named.refused(403, "Forbidden")?;
    heard.add("a secret", &named);
    heard.add(
        "unused map",
        &kubelet.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await?,
    );
    kubelet.get("/api/v1/namespaces/kube-system/configmaps/kubelet-config").await?.ok()?;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    kubelet.get(&format!("{lease}/{worker}")).await?.ok()?;
    heard.add("foreign lease", &kubelet.get(&format!("{lease}/{other}")).await?);
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": worker, "containers": [{"name": "c", "image": "registry.k8s.io/web:1.0"}]},
    });
    heard.add("create pod", &kubelet.post(&c.core("pods"), &pod).await?);
    heard.add("namespaces", &kubelet.get("/api/v1/namespaces").await?);
    heard.finish()
}

/// A Role and its binding, to a user and to a group.
async fn roles(c: &Corner) -> Result<Value> {
    let rbac = "rbac.authorization.k8s.io";
    let role = json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]},
    ]});
    c.post(&c.group(&format!("{rbac}/v1"), "roles"), &role).await?.ok()?;
    let binding = json!({
        "metadata": {"name": "readers"},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": "jane"}, {"apiGroup": rbac, "kind": "Group", "name": "staff"}],
    });
    c.post(&c.group(&format!("{rbac}/v1"), "rolebindings"), &binding).await?.ok()?;
    let jane = c.subject.user("jane", None).await?;
    jane.until(&c.core("pods"), "readable by whom the role is bound to", |_| true).await?;
    let joe = c.subject.user("joe", Some("staff")).await?;
    joe.get(&c.core("pods")).await?.ok()?;
    let mut heard = Transcript::default();
    heard.add("secrets", &jane.get(&c.core("secrets")).await?);
    heard.add("its map", &jane.get(&c.core("configmaps/mine")).await?);
    heard.add("another map", &jane.get(&c.core("configmaps/yours")).await?);
    heard.add("all maps", &jane.get(&c.core("configmaps")).await?);
    heard.add("create", &jane.post(&c.core("pods"), &json!({})).await?);
    heard.add("delete", &jane.delete(&c.core("pods/p"), &json!({})).await?);
    heard.add("delete all", &jane.delete(&c.core("pods"), &json!({})).await?);
    heard.add("elsewhere", &jane.get("/api/v1/namespaces/default/pods").await?);
    heard.add("everywhere", &jane.get("/api/v1/pods").await?);
    heard.add("log", &jane.get(&c.core("pods/p/log")).await?);
    heard.add("watch", &jane.get(&c.core("pods?watch=true&timeoutSeconds=1")).await?);
    heard.finish()
}

/// Nobody hands on what they do not have.
async fn escalation(c: &Corner) -> Result<Value> {
    let group = "rbac.authorization.k8s.io";
    let rbac = format!("{group}/v1");
    let role = json!({"metadata": {"name": "manager"}, "rules": [
        {"apiGroups": [group], "resources": ["roles", "rolebindings"], "verbs": ["*"]},
    ]});
    c.post(&c.group(&rbac, "roles"), &role).await?.ok()?;
    let binding = json!({
        "metadata": {"name": "managers"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "manager"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "max"}],
    });
    c.post(&c.group(&rbac, "rolebindings"), &binding).await?.ok()?;
    let max = c.subject.user("max", None).await?;
    max.until(&c.group(&rbac, "roles"), "readable by whom the role is bound to", |_| true).await?;
    let more = json!({"metadata": {"name": "more"}, "rules": [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    ]});
    let mut heard = Transcript::default();
    heard.add("role", &max.post(&c.group(&rbac, "roles"), &more).await?);
    let mut admin = binding.clone();
    admin["metadata"]["name"] = json!("admins");
    admin["roleRef"] = json!({"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"});
    heard.add("binding", &max.post(&c.group(&rbac, "rolebindings"), &admin).await?);
    heard.finish()
}

/// `kubectl create token`.
async fn service_account_tokens(c: &Corner) -> Result<Value> {
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600},
    });
    let answer = c.post(&c.core("serviceaccounts/default/token"), &asked).await?;
    let mut heard = Transcript::default();
    let mut shown = answer.clone();
    let token = shown.body["status"]["token"].as_str().map(str::to_owned);
    if let Some(token) = &token {
        let claims =
            token.split('.').nth(1).unwrap_or_default().trim_end_matches('=').replace('-', "+").replace('_', "/");
        let padded = format!("{claims}{}", "=".repeat((4 - claims.len() % 4) % 4));
        let claims: Value = serde_json::from_slice(&STANDARD.decode(padded)?)?;
        heard.note("claims", json!({"sub": claims["sub"], "aud": claims["aud"], "iss": claims["iss"]}));
        shown.body["status"]["token"] = json!("…");
    }
    heard.add("request", &shown);
    let token = token.unwrap_or_default();
    if !token.is_empty() {
        let account = c.subject.with_token(&token).await?;
        let own = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let who = account.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &own).await?.ok()?;
        heard.note("who", who["status"]["userInfo"]["groups"].clone());
        heard.add("pods", &account.get(&c.core("pods")).await?);
    }
    heard.finish()
}
