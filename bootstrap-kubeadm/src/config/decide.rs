//! What is to be done about a `KubeadmConfig`. Pure: facts in, one step out; the first row that fits.

use cluster_api::paused;
use kube::Resource;

use super::observe::{DataSecret, Facts};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The config is being deleted, or its machine before it got boot data: garbage collection does the rest.
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
    /// The boot data exists, and machines are still to join by it: its token must not expire.
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

impl Step {
    /// Whether the step takes it for granted that the Secret with the boot data exists.
    pub fn rests_on_data_secret(&self) -> bool {
        matches!(self, Self::Adopt { .. } | Self::KeepToken | Self::Settled)
    }
}

/// Decides.
pub fn decide(facts: &Facts) -> Step {
    let (config, owner) = (&facts.config, &facts.owner);
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
    if let Some(secret) = owner.data_secret_name.as_ref().filter(|_| !exists || !named) {
        return Step::Adopt { secret: secret.clone() };
    }
    // A Secret that was deleted before its machine could read it is made again: nobody else would.
    let is_lost = facts.data_secret == DataSecret::Lost && !owner.is_provisioned;
    if exists && !is_lost {
        // A pool may get more machines at any time.
        let waits = facts.discovery_token().is_some() && (owner.is_pool || !owner.has_joined) && !owner.is_deleting;
        return if waits { Step::KeepToken } else { Step::Settled };
    }
    if owner.is_deleting {
        return Step::Deleting;
    }
    match (facts.is_control_plane_initialized(), owner.is_control_plane) {
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

    use super::{super::observe::Owner, *};

    /// Facts of a control plane machine whose cluster has its infrastructure, changed by `change`.
    pub fn facts(change: Value) -> Facts {
        all(&[change])
    }

    /// The same, changed by one after the other.
    fn all(changes: &[Value]) -> Facts {
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
        for change in changes {
            json_patch::merge(&mut all, change);
        }
        Facts {
            config: Arc::new(serde_json::from_value(all["config"].take()).unwrap()),
            owner: match all["pool"].take() {
                Value::Null => Owner::of_machine(&serde_json::from_value(all["machine"].take()).unwrap()),
                pool => Owner::of_pool(&serde_json::from_value(pool).unwrap()),
            },
            cluster: Arc::new(serde_json::from_value(all["cluster"].take()).unwrap()),
            data_secret: DataSecret::Unknown,
        }
    }

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn created() -> Value {
        json!({"config": {"status": {"dataSecretName": "m", "initialization": {"dataSecretCreated": true}},
            "spec": {"joinConfiguration": {"discovery": {"bootstrapToken": {"token": TOKEN}}}}}})
    }

    fn worker() -> Value {
        json!({"machine": {"metadata": {"labels": null}}})
    }

    fn initialized() -> Value {
        json!({"cluster": {"status": {"initialization": {"controlPlaneInitialized": true}}}})
    }

    #[rstest]
    #[case::makes_the_cluster(json!({}), Step::Init)]
    #[case::is_deleted(json!({"config": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}}), Step::Deleting)]
    #[case::is_deleted_while_paused(json!({"cluster": {"spec": {"paused": true}}, "config": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}}), Step::Deleting)]
    #[case::has_a_machine_that_goes(json!({"machine": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}}), Step::Deleting)]
    #[case::is_paused(json!({"cluster": {"spec": {"paused": true}}}), Step::Paused)]
    #[case::is_paused_by_annotation(json!({"config": {"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}}}), Step::Paused)]
    #[case::has_no_infrastructure(json!({"cluster": {"status": {"initialization": {"infrastructureProvisioned": false}}}}), Step::WaitForInfrastructure)]
    #[case::was_moved_before_the_infrastructure(json!({"cluster": {"status": null}, "machine": {"spec": {"bootstrap": {"dataSecretName": "m"}}}}), Step::WaitForInfrastructure)]
    #[case::was_moved(json!({"machine": {"spec": {"bootstrap": {"dataSecretName": "m"}}}}), Step::Adopt { secret: "m".into() })]
    #[case::lost_only_the_name(json!({"config": {"status": {"initialization": {"dataSecretCreated": true}}}, "machine": {"spec": {"bootstrap": {"dataSecretName": "m"}}}}), Step::Adopt { secret: "m".into() })]
    #[case::is_a_worker_too_early(worker(), Step::WaitForControlPlane)]
    #[case::joins_the_control_plane(initialized(), Step::Join { control_plane: true })]
    #[case::joins_when_the_condition_says_so(json!({"cluster": {"status": {"conditions": [{"type": "ControlPlaneInitialized", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}}), Step::Join { control_plane: true })]
    fn a_config_that(#[case] change: Value, #[case] step: Step) {
        assert_eq!(decide(&facts(change)), step);
    }

    #[test]
    fn a_worker_joins_once_the_control_plane_is_there() {
        assert_eq!(decide(&all(&[worker(), initialized()])), Step::Join { control_plane: false });
    }

    #[rstest]
    #[case::it_has_not_joined(json!({}), Step::KeepToken)]
    #[case::it_has_joined(json!({"machine": {"status": {"nodeRef": {"name": "n"}}}}), Step::Settled)]
    #[case::it_goes(json!({"machine": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}}), Step::Settled)]
    #[case::it_joins_by_a_file(json!({"config": {"spec": {"joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/k"}}}}}}), Step::Settled)]
    #[case::it_made_the_cluster(json!({"config": {"spec": {"joinConfiguration": null}}}), Step::Settled)]
    #[case::it_is_paused(json!({"cluster": {"spec": {"paused": true}}}), Step::Paused)]
    fn a_machine_with_boot_data_when(#[case] change: Value, #[case] step: Step) {
        assert_eq!(decide(&all(&[created(), change])), step);
    }

    #[rstest]
    #[case::made_again(json!({}), DataSecret::Lost, Step::Init)]
    #[case::made_again_for_a_join(initialized(), DataSecret::Lost, Step::Join { control_plane: true })]
    #[case::not_made_again_once_it_was_read(json!({"machine": {"status": {"initialization": {"infrastructureProvisioned": true}}}}), DataSecret::Lost, Step::KeepToken)]
    #[case::not_made_again_for_a_machine_that_goes(json!({"machine": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}}), DataSecret::Lost, Step::Deleting)]
    #[case::left_alone_while_it_is_there(json!({}), DataSecret::Present, Step::KeepToken)]
    fn a_deleted_secret_is(#[case] change: Value, #[case] secret: DataSecret, #[case] step: Step) {
        let facts = Facts { data_secret: secret, ..all(&[created(), change]) };
        assert_eq!(decide(&facts), step);
    }

    fn pool(change: Value) -> Value {
        let mut pool = json!({"pool": {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"clusterName": "c", "replicas": 2,
            "template": {"spec": {"clusterName": "c", "version": "v1.36.3"}}}}});
        json_patch::merge(&mut pool, &json!({"pool": change}));
        pool
    }

    #[rstest]
    #[case::waits_for_the_control_plane(pool(json!({})), json!({}), Step::WaitForControlPlane)]
    #[case::joins(pool(json!({})), initialized(), Step::Join { control_plane: false })]
    #[case::keeps_its_token(pool(json!({})), created(), Step::KeepToken)]
    #[case::keeps_its_token_when_all_have_joined(pool(json!({"status": {"nodeRefs": [{"name": "a"}, {"name": "b"}]}})), created(), Step::KeepToken)]
    #[case::lets_it_go_when_deleted(pool(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), created(), Step::Settled)]
    #[case::was_moved(pool(json!({"spec": {"template": {"spec": {"bootstrap": {"dataSecretName": "m"}}}}})), json!({}), Step::Adopt { secret: "m".into() })]
    fn a_pool(#[case] pool: Value, #[case] change: Value, #[case] step: Step) {
        assert_eq!(decide(&all(&[pool, change])), step);
    }
}
