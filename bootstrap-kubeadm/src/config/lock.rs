//! The init lock: a `ConfigMap` `<cluster>-lock` that lets one machine at a time make the cluster.

use std::collections::BTreeMap;

use cluster_api::{labels, owner, v1beta2::Cluster};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::{Value, json};

const KEY: &str = "lock-information";

/// What the lock's `ConfigMap` says to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The machine itself.
    Ours,
    /// Another machine, by name.
    Other(String),
    /// Nobody can tell.
    Unreadable,
}

/// Name of the lock of a cluster.
pub fn name(cluster: &Cluster) -> String {
    format!("{}-lock", cluster.name_any())
}

/// The lock, held by a machine.
pub fn held_by(cluster: &Cluster, machine: &str) -> ConfigMap {
    let mut lock = ConfigMap::default();
    lock.metadata.name = Some(name(cluster));
    lock.metadata.namespace = cluster.namespace();
    lock.metadata.labels = Some([(labels::CLUSTER_NAME.to_owned(), cluster.name_any())].into());
    lock.metadata.owner_references = Some(vec![owner::plain(cluster)]);
    lock.data = Some(BTreeMap::from([(KEY.to_owned(), json!({"machineName": machine}).to_string())]));
    lock
}

/// Who holds a lock, from the view of a machine.
pub fn holder(lock: &ConfigMap, machine: &str) -> Holder {
    let text = lock.data.as_ref().and_then(|data| data.get(KEY));
    let parsed: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
    match parsed.as_ref().and_then(|value| value["machineName"].as_str()) {
        Some(name) if name == machine => Holder::Ours,
        Some(name) => Holder::Other(name.to_owned()),
        None => Holder::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_knows_its_holder() {
        let lock = held_by(&Cluster::new("c", cluster_api::v1beta2::ClusterSpec::default()), "m1");
        assert_eq!(lock.name_any(), "c-lock");
        assert_eq!(holder(&lock, "m1"), Holder::Ours);
        assert_eq!(holder(&lock, "m2"), Holder::Other("m1".to_owned()));
        assert_eq!(holder(&ConfigMap::default(), "m1"), Holder::Unreadable);
    }
}
