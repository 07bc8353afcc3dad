//! Objects that `kubeadm init` puts into the cluster, by the phase that makes them.

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    config::{
        self,
        types::{BootstrapToken, ClusterConfiguration},
    },
    tokens,
    version::Version,
};

mod addons;

pub use addons::{core_dns, kube_proxy};

const NODES: &str = "system:nodes";
const TOKENS: &str = "system:bootstrappers:kubeadm:default-node-token";

/// An object and the collection that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Path of the collection.
    pub collection: String,
    /// The object.
    pub object: Value,
}

fn placed(group: &str, plural: &str, namespace: &str, mut object: Value) -> Placed {
    let (prefix, version) = match group {
        "" => ("/api/v1".to_owned(), "v1".to_owned()),
        group => (format!("/apis/{group}/v1"), format!("{group}/v1")),
    };
    object["apiVersion"] = version.into();
    let collection = if namespace.is_empty() {
        format!("{prefix}/{plural}")
    } else {
        object["metadata"]["namespace"] = namespace.into();
        format!("{prefix}/namespaces/{namespace}/{plural}")
    };
    Placed { collection, object }
}

fn config_map(namespace: &str, name: &str, data: Value) -> Placed {
    placed("", "configmaps", namespace, json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": data}))
}

/// A component's configuration, with the hash by which kubeadm knows later that it is the one it made.
fn component_config(name: &str, data: Value) -> Placed {
    let mut hash = digest::Context::new(&digest::SHA256);
    let texts = data.as_object().into_iter().flatten().filter_map(|(_, text)| text.as_str());
    texts.for_each(|text| hash.update(text.as_bytes()));
    let hash = format!("sha256:{}", hex::encode(hash.finish()));
    let mut map = config_map("kube-system", name, data);
    map.object["metadata"]["annotations"] = json!({"kubeadm.kubernetes.io/component-config.hash": hash});
    map
}

/// Who a role is bound to.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Group(&'a str),
    User(&'a str),
    Account(&'a str),
}

impl Subject<'_> {
    fn document(self) -> Value {
        match self {
            Self::Group(name) => json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name}),
            Self::User(name) => json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}),
            Self::Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        }
    }
}

fn role(namespace: &str, name: &str, rules: Value) -> Placed {
    let (kind, plural) = if namespace.is_empty() { ("ClusterRole", "clusterroles") } else { ("Role", "roles") };
    let object = json!({"kind": kind, "metadata": {"name": name}, "rules": rules});
    placed("rbac.authorization.k8s.io", plural, namespace, object)
}

fn binding(namespace: &str, name: &str, role: &str, subjects: &[Subject<'_>]) -> Placed {
    let (kind, plural, role_kind) = if namespace.is_empty() {
        ("ClusterRoleBinding", "clusterrolebindings", "ClusterRole")
    } else {
        ("RoleBinding", "rolebindings", "Role")
    };
    let subjects: Vec<Value> = subjects.iter().map(|subject| subject.document()).collect();
    let object = json!({
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        "subjects": subjects,
    });
    placed("rbac.authorization.k8s.io", plural, namespace, object)
}

/// Reading one `ConfigMap`.
fn one_config_map(name: &str) -> Value {
    json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name]}])
}

/// Lets the administrators' group administrate.
pub fn administrators() -> Placed {
    binding("", "kubeadm:cluster-admins", "cluster-admin", &[Subject::Group("kubeadm:cluster-admins")])
}

/// Phase `upload-config/kubeadm`.
pub fn kubeadm_config(cluster: &ClusterConfiguration, kubeadm: &Version) -> Result<Vec<Placed>, String> {
    let text = config::stored_cluster(cluster, kubeadm).map_err(|error| error.to_string())?;
    let name = "kubeadm:nodes-kubeadm-config";
    Ok(vec![
        config_map("kube-system", "kubeadm-config", json!({"ClusterConfiguration": text})),
        role("kube-system", name, one_config_map("kubeadm-config")),
        binding("kube-system", name, name, &[Subject::Group(TOKENS), Subject::Group(NODES)]),
    ])
}

/// Phase `upload-config/kubelet`; `is_given` if it is not kubeadm's own.
pub fn kubelet_config(configuration: &Value, is_given: bool) -> Result<Vec<Placed>, String> {
    let text = config::yaml(configuration).map_err(|error| error.to_string())?;
    let (name, data) = ("kubeadm:kubelet-config", json!({"kubelet": text}));
    Ok(vec![
        if is_given {
            config_map("kube-system", "kubelet-config", data)
        } else {
            component_config("kubelet-config", data)
        },
        role("kube-system", name, one_config_map("kubelet-config")),
        binding("kube-system", name, name, &[Subject::Group(NODES), Subject::Group(TOKENS)]),
    ])
}

/// Phase `bootstrap-token`: tokens, what they allow, and the `ConfigMap` by which strangers find the cluster.
pub fn bootstrap(
    list: &[BootstrapToken],
    server: &str,
    authority: &[u8],
    now: Timestamp,
) -> Result<Vec<Placed>, String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let secrets = list.iter().filter_map(|token| tokens::secret(token, now));
    let mut all: Vec<Placed> = secrets.map(|secret| placed("", "secrets", "kube-system", secret)).collect();
    let tokens = [Subject::Group(TOKENS)];
    let get_nodes = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}]);
    let approve = "system:certificates.k8s.io:certificatesigningrequests";
    let client = Subject::User("kube-apiserver-kubelet-client");
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {
            "certificate-authority-data": BASE64_STANDARD.encode(authority),
            "server": server,
        }}],
        "contexts": null,
        "current-context": "",
        "users": null,
    });
    let kubeconfig = config::yaml(&kubeconfig).map_err(|error| error.to_string())?;
    let signer = "kubeadm:bootstrap-signer-clusterinfo";
    all.extend([
        role("", "kubeadm:get-nodes", get_nodes),
        binding("", "kubeadm:get-nodes", "kubeadm:get-nodes", &tokens),
        binding("", "kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &tokens),
        binding("", "kubeadm:node-autoapprove-bootstrap", &format!("{approve}:nodeclient"), &tokens),
        binding(
            "",
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{approve}:selfnodeclient"),
            &[Subject::Group(NODES)],
        ),
        binding("", "kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", &[client]),
        config_map("kube-public", "cluster-info", json!({"kubeconfig": kubeconfig})),
        role("kube-public", signer, one_config_map("cluster-info")),
        binding("kube-public", signer, signer, &[Subject::User("system:anonymous")]),
    ]);
    Ok(all)
}
