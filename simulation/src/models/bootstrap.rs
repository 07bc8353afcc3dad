//! A bootstrap provider without peculiarities: boot data as soon as it can be made.

use std::time::Duration;

use serde_json::{Value, json};

use super::Model;
use crate::{
    kinds::{CLUSTER, KUBEADM_CONFIG, SECRET},
    store::{Store, at, flag, is_deleting, items, text},
};

/// The token by which machines join; it lasts for ever.
pub const TOKEN: (&str, &str) = ("abcdef", "0123456789abcdef");

/// The model bootstrap provider.
pub struct Bootstrap {
    store: Store,
}

impl Bootstrap {
    /// Over these objects; the token is put into the workload cluster.
    pub fn new(store: Store, workload: &Store) -> Self {
        put_token(workload);
        Self { store }
    }

    fn config(&self, config: &Value) {
        let name = text(config, "/metadata/name");
        let is_owned = items(config, "/metadata/ownerReferences").any(|owner| owner["kind"] == "Machine");
        let cluster = at(config, "/metadata/labels").map(|labels| text_of(labels, "cluster.x-k8s.io/cluster-name"));
        let Some(cluster) = cluster.and_then(|cluster| self.store.get(CLUSTER, cluster)) else { return };
        let is_made = flag(config, "/status/initialization/dataSecretCreated");
        let is_ready = flag(&cluster, "/status/initialization/infrastructureProvisioned");
        if !is_owned || is_made || !is_ready || is_deleting(config) {
            return;
        }
        let joins = at(config, "/spec/joinConfiguration").is_some();
        if joins && !flag(&cluster, "/status/initialization/controlPlaneInitialized") {
            return;
        }
        let owner = json!({
            "apiVersion": KUBEADM_CONFIG.api_version(), "kind": "KubeadmConfig", "name": name,
            "uid": text(config, "/metadata/uid"), "controller": true,
        });
        let data = if joins { join_data(true) } else { init_data() };
        self.store.create(
            SECRET,
            json!({
                "metadata": {"name": name, "ownerReferences": [owner]},
                "stringData": {"value": data, "format": "cloud-config"},
            }),
        );
        let initialization = json!({"dataSecretCreated": true});
        self.store.merge_status(
            KUBEADM_CONFIG,
            name,
            json!({"dataSecretName": name, "initialization": initialization}),
        );
    }
}

fn text_of<'a>(labels: &'a Value, name: &str) -> &'a str {
    labels.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Puts the token into the workload cluster.
pub fn put_token(workload: &Store) {
    let (id, secret) = TOKEN;
    let data = json!({"token-secret": secret, "expiration": "2099-01-01T00:00:00Z"});
    workload.create(SECRET, json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "stringData": data}));
}

/// Boot data of the machine that makes the cluster.
pub fn init_data() -> String {
    "#cloud-config\nruncmd:\n  - kubeadm init --config /run/kubeadm.yaml\n".to_owned()
}

/// Boot data of a machine that joins.
pub fn join_data(control_plane: bool) -> String {
    let (id, secret) = TOKEN;
    let role = if control_plane { "    controlPlane: {}\n" } else { "" };
    format!(
        "#cloud-config\nruncmd:\n  - kubeadm join --config /run/kubeadm.yaml\n  - |\n    token: {id}.{secret}\n{role}"
    )
}

impl Model for Bootstrap {
    fn step(&mut self) -> Option<Duration> {
        for config in self.store.list(KUBEADM_CONFIG) {
            self.config(&config);
        }
        None
    }
}
