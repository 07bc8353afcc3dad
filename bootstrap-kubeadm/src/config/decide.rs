//! What is to be done about a `KubeadmConfig`. Pure: facts in, one step out; the first row that fits.

use cluster_api::paused;
use kube::Resource;

use super::observe::Facts;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is being deleted: garbage collection does the rest.
    Deleting,
    /// Nothing but to say that it is paused.
    Paused,
    /// The cluster's infrastructure is not there yet; the cluster's change wakes us.
    WaitForInfrastructure,
    /// The machine has boot data already: the status was lost in a move, and is rebuilt.
    Adopt {
        /// Secret that the machine names.
        secret: String,
    },
    /// The boot data exists, and the machine has not joined: its token must not expire.
    KeepToken,
    /// The boot data exists, and nothing is left to do.
    Settled,
    /// Another machine makes the cluster: wait for it.
    WaitForControlPlane,
    /// This machine may be the one that makes the cluster.
    Init,
    /// This machine joins.
    Join {
        /// The control plane, or as a worker.
        control_plane: bool,
    },
}

/// Decides.
pub fn decide(facts: &Facts) -> Step {
    let (config, machine) = (&facts.config, &facts.machine);
    if config.metadata.deletion_timestamp.is_some() {
        return Step::Deleting;
    }
    if paused::is_paused(Some(&facts.cluster), config.meta()) {
        return Step::Paused;
    }
    if !facts.cluster.is_infrastructure_provisioned() {
        return Step::WaitForInfrastructure;
    }
    let named = config.status.as_ref().is_some_and(|status| !status.data_secret_name.is_empty());
    let exists = config.is_data_secret_created();
    if let Some(secret) = machine.spec.bootstrap.data_secret_name.as_ref().filter(|_| !exists || !named) {
        return Step::Adopt { secret: secret.clone() };
    }
    if exists {
        let waits = facts.discovery_token().is_some() && machine.node_name().is_none();
        return if waits { Step::KeepToken } else { Step::Settled };
    }
    match (facts.is_control_plane_initialized(), machine.is_control_plane()) {
        (false, true) => Step::Init,
        (false, false) => Step::WaitForControlPlane,
        (true, control_plane) => Step::Join { control_plane },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// Facts of a control plane machine whose cluster has its infrastructure, changed by `change`.
    pub fn facts(change: Value) -> Facts {
        let mut all = json!({
            "config": {"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfig",
                "metadata": {"name": "m", "namespace": "ns", "uid": "u-config", "generation": 2}, "spec": {}},
            "machine": {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
                "metadata": {"name": "m", "namespace": "ns", "uid": "u-machine", "labels": {"cluster.x-k8s.io/control-plane": ""}},
                "spec": {"clusterName": "c", "version": "v1.36.3"}},
            "cluster": {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
                "metadata": {"name": "c", "namespace": "ns", "uid": "u-cluster"},
                "spec": {"controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443}},
                "status": {"initialization": {"infrastructureProvisioned": true}}},
        });
        merge(&mut all, change);
        Facts {
            config: Arc::new(serde_json::from_value(all["config"].take()).unwrap()),
            machine: Arc::new(serde_json::from_value(all["machine"].take()).unwrap()),
            cluster: Arc::new(serde_json::from_value(all["cluster"].take()).unwrap()),
        }
    }

    fn merge(into: &mut Value, change: Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (name, value) in change {
                    merge(into.entry(name).or_insert(Value::Null), value);
                }
            }
            (into, change) => *into = change,
        }
    }

    fn created() -> Value {
        json!({"status": {"dataSecretName": "m", "initialization": {"dataSecretCreated": true}}})
    }

    fn joined_by_token() -> Value {
        json!({"config": {"spec": {"joinConfiguration": {"discovery": {"bootstrapToken": {"token": "abcdef.0123456789abcdef"}}}}}})
    }

    #[rstest]
    #[case::makes_the_cluster(json!({}), Step::Init)]
    #[case::is_paused(json!({"cluster": {"spec": {"paused": true}}}), Step::Paused)]
    #[case::is_paused_by_annotation(json!({"config": {"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}}}), Step::Paused)]
    #[case::has_no_infrastructure(json!({"cluster": {"status": {"initialization": {"infrastructureProvisioned": false}}}}), Step::WaitForInfrastructure)]
    #[case::was_moved(json!({"machine": {"spec": {"bootstrap": {"dataSecretName": "m"}}}}), Step::Adopt { secret: "m".into() })]
    #[case::is_done(json!({"config": created(), "machine": {"spec": {"bootstrap": {"dataSecretName": "m"}}}}), Step::Settled)]
    #[case::is_a_worker_too_early(json!({"machine": {"metadata": {"labels": null}}}), Step::WaitForControlPlane)]
    #[case::joins_the_control_plane(json!({"cluster": {"status": {"initialization": {"controlPlaneInitialized": true}}}}), Step::Join { control_plane: true })]
    fn a_config_that(#[case] change: Value, #[case] step: Step) {
        assert_eq!(decide(&facts(change)), step);
    }

    #[test]
    fn a_token_is_kept_until_the_machine_has_a_node() {
        let mut change = joined_by_token();
        merge(&mut change, json!({"config": created()}));
        assert_eq!(decide(&facts(change.clone())), Step::KeepToken);
        merge(&mut change, json!({"machine": {"status": {"nodeRef": {"name": "n"}}}}));
        assert_eq!(decide(&facts(change)), Step::Settled);
    }
}
