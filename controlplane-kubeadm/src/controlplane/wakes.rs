//! What wakes a control plane beside its own changes.

use cluster_api::{
    owner,
    v1beta2::{Cluster, GROUP},
};
use kubeadm::api::v1beta2::KubeadmConfig;
use manager::ObjectKey;

/// The control plane of a cluster, where it is of our kind.
pub(super) fn control_plane_of(cluster: &Cluster) -> Option<ObjectKey> {
    let reference =
        cluster.spec.control_plane_ref.as_ref().filter(|reference| reference.kind == "KubeadmControlPlane")?;
    Some(ObjectKey::of(cluster).sibling(&reference.name))
}

/// A cluster wakes its control plane when something in it changed that a decision depends on.
pub(super) fn of_cluster(old: Option<&Cluster>, new: Option<&Cluster>) -> Option<ObjectKey> {
    let new = new?;
    let matters = old.is_none_or(|old| {
        let domains = |cluster: &Cluster| cluster.status.as_ref().map(|status| status.failure_domains.clone());
        old.spec != new.spec
            || old.is_infrastructure_provisioned() != new.is_infrastructure_provisioned()
            || domains(old) != domains(new)
            || old.metadata.annotations != new.metadata.annotations
            || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
    });
    if matters { control_plane_of(new) } else { None }
}

/// The machine of a config that the cache did not show as that machine's before. Where the machine has a node by then, the
/// config is late: the expiry of the machine's certificates is noted on it, and nothing else might happen for long.
pub(super) fn machine_of_new_config(old: Option<&KubeadmConfig>, new: Option<&KubeadmConfig>) -> Option<ObjectKey> {
    let machine_of = |config: &KubeadmConfig| {
        let owner = owner::of_kind(&config.metadata, GROUP, "Machine")?;
        Some(ObjectKey::of(config).sibling(&owner.name))
    };
    if old.and_then(machine_of).is_some() { None } else { new.and_then(machine_of) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(owner: &str) -> KubeadmConfig {
        let owner = json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": owner, "name": "m", "uid": "u"});
        let metadata = json!({"name": "c", "namespace": "ns", "ownerReferences": [owner]});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap()
    }

    fn cluster(spec: &Value, conditions: &Value) -> Cluster {
        let metadata = json!({"name": "c", "namespace": "ns"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": {"conditions": conditions}}))
            .unwrap()
    }

    #[test]
    fn a_config_is_new_when_it_appears_as_its_machines_or_becomes_that() {
        let (of_machine, of_other) = (config("Machine"), config("KubeadmControlPlane"));
        let machine = Some(ObjectKey::new("ns", "m"));
        assert_eq!(machine_of_new_config(None, Some(&of_machine)), machine);
        assert_eq!(machine_of_new_config(Some(&of_other), Some(&of_machine)), machine, "core became its owner late");
        assert_eq!(machine_of_new_config(Some(&of_machine), Some(&of_machine)), None);
        assert_eq!(machine_of_new_config(None, Some(&of_other)), None);
        assert_eq!(machine_of_new_config(Some(&of_machine), None), None);
    }

    #[test]
    fn a_cluster_wakes_no_more_than_it_must() {
        let reference =
            json!({"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": "cp"});
        let before = cluster(&json!({"controlPlaneRef": reference}), &json!([]));
        let condition = json!([{"type": "Available", "status": "True", "reason": "Available", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let said = cluster(&json!({"controlPlaneRef": reference}), &condition);
        let paused = cluster(&json!({"controlPlaneRef": reference, "paused": true}), &json!([]));
        let other = json!({"apiGroup": "example.com", "kind": "OtherControlPlane", "name": "cp"});
        let control_plane = Some(ObjectKey::new("ns", "cp"));
        assert_eq!(of_cluster(None, Some(&before)), control_plane);
        assert_eq!(of_cluster(Some(&before), Some(&paused)), control_plane);
        assert_eq!(of_cluster(Some(&before), Some(&said)), None, "core says something of it");
        assert_eq!(of_cluster(None, Some(&cluster(&json!({"controlPlaneRef": other}), &json!([])))), None);
        assert_eq!(of_cluster(Some(&before), None), None);
    }
}
