//! Who is let in, and what they may do.

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::{
    api::{
        certificates::v1::CertificateSigningRequest,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Node, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{Bed, refused};
use crate::guest::memory::testing::Authority;

const DAY: u64 = 86_400_000;

fn config_map(bed: &Bed, namespace: &str, name: &str) {
    bed.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {},
    }));
}

#[tokio::test]
async fn administrators_may_do_anything() {
    let bed = Bed::new().await;
    for group in ["kubeadm:cluster-admins", "system:masters"] {
        let secrets: Api<Secret> = Api::all(bed.user("somebody", &[group]));
        assert!(secrets.list(&ListParams::default()).await.unwrap().items.is_empty(), "{group}");
    }
    assert_eq!(bed.admin().apiserver_version().await.unwrap().git_version, "v1.34.2");
}

#[tokio::test]
async fn nobody_in_particular_sees_what_a_join_needs() {
    let bed = Bed::new().await;
    config_map(&bed, "kube-public", "cluster-info");
    config_map(&bed, "kube-public", "other");
    let client = bed.client(json!({}));
    assert_eq!(client.apiserver_version().await.unwrap().minor, "34");
    let text = client.request_text(http::Request::get("/healthz").body(Vec::new()).unwrap()).await.unwrap();
    assert_eq!(text, "ok");
    let public: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    assert!(public.get("cluster-info").await.is_ok());
    assert_eq!(
        refused(public.get("other").await),
        (
            403,
            "configmaps \"other\" is forbidden: User \"system:anonymous\" cannot get resource \"configmaps\" in API \
             group \"\" in the namespace \"kube-public\""
                .into()
        )
    );
    assert_eq!(
        refused(Api::<Node>::all(client.clone()).list(&ListParams::default()).await),
        (
            403,
            "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the \
             cluster scope"
                .into()
        )
    );
    assert_eq!(
        refused(client.list_core_api_versions().await),
        (403, "forbidden: User \"system:anonymous\" cannot get path \"/api\"".into())
    );
}

#[tokio::test]
async fn certificates_must_be_the_clusters_and_in_date() {
    let bed = Bed::new().await;
    let stranger = Authority::new("kubernetes").client("kubernetes-admin", &["system:masters"]);
    let unauthorized = (401, "Unauthorized".to_owned());
    assert_eq!(refused(bed.client_of(&stranger).apiserver_version().await), unauthorized);
    let admin = bed.admin();
    assert!(admin.apiserver_version().await.is_ok());
    bed.hand.advance(400 * DAY);
    assert_eq!(refused(admin.apiserver_version().await), unauthorized, "on a connection that is open");
    assert_eq!(refused(bed.admin().apiserver_version().await), unauthorized);
}

fn token(bed: &Bed, id: &str, changes: &[(&str, &str)]) {
    let end = bed.hand.time().now() + DAY;
    let end = jiff::Timestamp::from_millisecond(i64::try_from(end).unwrap()).unwrap().to_string();
    let mut data = serde_json::Map::new();
    for (key, value) in [
        ("token-id", id),
        ("token-secret", "0123456789abcdef"),
        ("expiration", end.as_str()),
        ("usage-bootstrap-authentication", "true"),
        ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token"),
    ]
    .into_iter()
    .chain(changes.iter().copied())
    {
        data.insert(key.into(), json!(BASE64_STANDARD.encode(value)));
    }
    bed.create(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "data": data,
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
    }));
}

#[tokio::test]
async fn bootstrap_tokens_do_what_a_join_does_until_they_expire() {
    let bed = Bed::new().await;
    for name in ["kubeadm-config", "kubelet-config", "kube-proxy", "other"] {
        config_map(&bed, "kube-system", name);
    }
    token(&bed, "abcdef", &[]);
    let client = bed.client(json!({"token": "abcdef.0123456789abcdef"}));
    let config: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    for name in ["kubeadm-config", "kubelet-config", "kube-proxy"] {
        assert!(config.get(name).await.is_ok(), "{name}");
    }
    let (code, message) = refused(config.get("other").await);
    assert!(code == 403 && message.contains("User \"system:bootstrap:abcdef\" cannot get"), "{message}");
    assert_eq!(refused(Api::<Node>::all(client.clone()).get("n").await).0, 404, "it may look");
    assert_eq!(refused(Api::<Secret>::all(client.clone()).list(&ListParams::default()).await).0, 403);
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    assert!(requests.create(&PostParams::default(), &signing_request("csr")).await.is_ok());
    assert_eq!(refused(requests.delete("csr", &kube::api::DeleteParams::default()).await).0, 403);
    bed.hand.advance(2 * DAY);
    assert_eq!(refused(config.get("kubeadm-config").await), (401, "Unauthorized".into()));
}

/// A request that says that somebody else makes it.
fn signing_request(name: &str) -> CertificateSigningRequest {
    let request = json!({"metadata": {"name": name}, "spec": {
        "request": "eA==", "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
        "username": "system:admin", "groups": ["system:masters"],
    }});
    serde_json::from_value(request).unwrap()
}

#[tokio::test]
async fn requests_for_certificates_are_those_of_who_makes_them_and_decided_by_who_may() {
    let bed = Bed::new().await;
    let rules = |name: &str, resource: &str, verbs: &[&str], names: &[&str]| {
        bed.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{
                "apiGroups": ["certificates.k8s.io"], "resources": [resource], "verbs": verbs, "resourceNames": names,
            }],
        }));
    };
    let bind = |name: &str, user: &str| {
        bed.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("{name}-{user}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "name": user}],
        }));
    };
    rules("ask", "certificatesigningrequests", &["create"], &[]);
    rules("decide", "certificatesigningrequests/approval", &["patch"], &[]);
    rules("sign", "signers", &["approve"], &["kubernetes.io/kube-apiserver-client"]);
    bind("ask", "asker");
    bind("decide", "asker");
    bind("decide", "decider");
    bind("sign", "decider");

    let requests: Api<CertificateSigningRequest> = Api::all(bed.user("asker", &["people"]));
    let made = requests.create(&PostParams::default(), &signing_request("csr")).await.unwrap();
    assert_eq!(made.spec.username.as_deref(), Some("asker"));
    assert_eq!(made.spec.groups.unwrap(), ["people", "system:authenticated"]);

    let yes = json!({"status": {
        "certificate": "eA==", "conditions": [{"type": "Approved", "status": "True", "reason": "Test"}],
    }});
    let (yes, own) = (Patch::Merge(yes), PatchParams::default());
    let (code, message) = refused(requests.patch_approval("csr", &own, &yes).await);
    assert_eq!(code, 403);
    assert!(
        message.ends_with(
            "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
        ),
        "{message}"
    );
    let requests: Api<CertificateSigningRequest> = Api::all(bed.user("decider", &[]));
    let decided = requests.patch_approval("csr", &own, &yes).await.unwrap().status.unwrap();
    assert!(decided.certificate.is_none(), "that is the signer's");
    let condition = &decided.conditions.unwrap()[0];
    assert!(condition.last_update_time.is_some() && condition.last_transition_time.is_some());
    // Whoever signs cannot take a decision back.
    let requests: Api<CertificateSigningRequest> = Api::all(bed.admin());
    let signed = Patch::Merge(json!({"status": {"certificate": "eA==", "conditions": []}}));
    let signed = requests.patch_status("csr", &own, &signed).await.unwrap().status.unwrap();
    assert!(signed.certificate.is_some());
    assert_eq!(signed.conditions.unwrap().len(), 1);
}

#[tokio::test]
async fn faulty_tokens_are_nobodys() {
    let bed = Bed::new().await;
    token(&bed, "unused", &[("usage-bootstrap-authentication", "false")]);
    token(&bed, "groups", &[("auth-extra-groups", "system:masters")]);
    token(&bed, "idiotc", &[("token-id", "other0")]);
    token(&bed, "secret", &[]);
    for text in [
        "unused.0123456789abcdef",
        "groups.0123456789abcdef",
        "idiotc.0123456789abcdef",
        "secret.f123456789abcdef",
        "x",
    ] {
        let client = bed.client(json!({"token": text}));
        assert_eq!(refused(client.apiserver_version().await), (401, "Unauthorized".into()), "{text}");
    }
}

#[tokio::test]
async fn nodes_look_after_themselves() {
    let bed = Bed::new().await;
    bed.create_pod("mine", "a");
    bed.create_pod("yours", "b");
    let client = bed.user("system:node:a", &["system:nodes"]);
    let nodes: Api<Node> = Api::all(client.clone());
    let node = |name: &str| Node {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..Node::default()
    };
    nodes.create(&PostParams::default(), &node("a")).await.unwrap();
    assert!(nodes.get("a").await.is_ok());
    assert_eq!(
        refused(nodes.get("b").await),
        (
            403,
            "nodes \"b\" is forbidden: User \"system:node:a\" cannot get resource \"nodes\" in API group \"\" at the \
             cluster scope: node 'a' cannot read 'b', only its own Node object"
                .into()
        )
    );
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.patch_status("a", &PatchParams::default(), &Patch::Strategic(ready)).await.unwrap();
    assert_eq!(refused(nodes.delete("a", &kube::api::DeleteParams::default()).await).0, 403);

    let pods: Api<Pod> = Api::all(client.clone());
    let own = pods.list(&ListParams::default().fields("spec.nodeName=a")).await.unwrap();
    assert_eq!(own.items.len(), 1);
    let (code, message) = refused(pods.list(&ListParams::default()).await);
    let why = "can only list/watch pods with spec.nodeName field selector";
    assert!(code == 403 && message.ends_with(why), "{message}");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    assert!(pods.get("mine").await.is_ok());
    assert!(refused(pods.get("yours").await).1.ends_with("no relationship found between node 'a' and this object"));

    let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let own = PatchParams::default();
    assert!(nodes.patch("a", &own, &patch).await.is_ok());
    let other = "nodes \"b\" is forbidden: node \"a\" is not allowed to modify node \"b\"".to_owned();
    assert_eq!(refused(nodes.patch("b", &own, &patch).await), (403, other));
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    assert!(pods.patch_status("mine", &own, &running).await.is_ok());
    let why = "can only update pod status for pods with spec.nodeName set to itself";
    assert!(refused(pods.patch_status("yours", &own, &running).await).1.ends_with(why));

    let lease = |name: &str| Lease {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..Lease::default()
    };
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    leases.create(&PostParams::default(), &lease("a")).await.unwrap();
    assert_eq!(refused(leases.get("b").await).0, 403);
}
