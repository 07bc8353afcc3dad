//! The init lock: a `ConfigMap` `<cluster>-lock` that lets one machine at a time make the cluster. Pure.

use std::collections::BTreeMap;

use cluster_api::{labels, owner, v1beta2::Cluster};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::{Value, json};

const KEY: &str = "lock-information";

/// What a machine that may make the cluster does about the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nobody holds it: take it.
    Take,
    /// It is ours, from now or from an earlier pass: go on.
    GoOn,
    /// Another machine holds it, by name. If that machine is gone the lock is removed, and the next pass may take it.
    AskFor(String),
    /// Nobody can tell who holds it: wait for a person.
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

/// What a machine does about the lock as it is.
pub fn next(lock: Option<&ConfigMap>, machine: &str) -> Move {
    let Some(lock) = lock else { return Move::Take };
    let text = lock.data.as_ref().and_then(|data| data.get(KEY));
    let parsed: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
    match parsed.as_ref().and_then(|value| value["machineName"].as_str()) {
        Some(name) if name == machine => Move::GoOn,
        Some(name) if !name.is_empty() => Move::AskFor(name.to_owned()),
        _ => Move::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn cluster() -> Cluster {
        let mut cluster = Cluster::new("c", cluster_api::v1beta2::ClusterSpec::default());
        cluster.metadata.namespace = Some("ns".to_owned());
        cluster.metadata.uid = Some("u".to_owned());
        cluster
    }

    fn saying(text: &str) -> ConfigMap {
        ConfigMap { data: Some(BTreeMap::from([(KEY.to_owned(), text.to_owned())])), ..ConfigMap::default() }
    }

    #[rstest]
    #[case::nobody_has_it(None, Move::Take)]
    #[case::we_took_it_before(Some(held_by(&cluster(), "m1")), Move::GoOn)]
    #[case::another_has_it(Some(held_by(&cluster(), "m2")), Move::AskFor("m2".to_owned()))]
    #[case::it_is_empty(Some(ConfigMap::default()), Move::Unreadable)]
    #[case::it_is_no_json(Some(saying("m1")), Move::Unreadable)]
    #[case::it_names_nobody(Some(saying("{\"machineName\":\"\"}")), Move::Unreadable)]
    #[case::it_says_something_else(Some(saying("{\"machine\":\"m1\"}")), Move::Unreadable)]
    fn the_lock_when(#[case] lock: Option<ConfigMap>, #[case] expected: Move) {
        assert_eq!(next(lock.as_ref(), "m1"), expected);
    }

    #[test]
    fn it_has_the_shape_that_other_providers_read_and_dies_with_the_cluster() {
        insta::assert_json_snapshot!(held_by(&cluster(), "m1"));
    }
}
