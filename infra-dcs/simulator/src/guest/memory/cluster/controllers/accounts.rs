//! What the controller manager puts into every namespace: the account `default`, and the authority by which pods know the
//! API server (`pkg/controller/serviceaccount`, `pkg/controller/certificates/rootcacertpublisher`).

use serde_json::{Value, json};

use super::Context;
use crate::guest::memory::cluster::api::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, is_deleting, name};

const ACCOUNT: &str = "default";
const AUTHORITY: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
     such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
     Kubernetes clusters.";

/// See the module.
pub fn pass(context: &Context<'_>) {
    let api = context.api.by("kube-controller-manager");
    let authority = context.manager.map_or("", |flags| flags.root_authority.as_str());
    for namespace in context.api.list(NAMESPACES, "").iter().filter(|namespace| !is_deleting(namespace)) {
        let namespace = name(namespace);
        if api.get(SERVICE_ACCOUNTS, namespace, ACCOUNT).is_none() {
            let _ = api.create(SERVICE_ACCOUNTS, namespace, account());
        }
        if !authority.is_empty() {
            publish(context, namespace, authority);
        }
    }
}

fn account() -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
}

fn publish(context: &Context<'_>, namespace: &str, authority: &str) {
    let api = context.api.by("kube-controller-manager");
    let data = json!({"ca.crt": authority});
    match api.get(CONFIG_MAPS, namespace, AUTHORITY) {
        None => {
            let annotations = json!({"kubernetes.io/description": DESCRIPTION});
            let metadata = json!({"name": AUTHORITY, "annotations": annotations});
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            let _ = api.create(CONFIG_MAPS, namespace, map);
        }
        Some(known) if known["data"] != data => {
            let _ = api.merge(CONFIG_MAPS, namespace, AUTHORITY, json!({"data": data}));
        }
        Some(_) => {}
    }
}
