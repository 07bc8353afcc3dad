//! Rules between objects of one namespace: an address stands for one thing. Pure; what the caches show counts, so two
//! objects that are written at the same moment may both pass.

use kube::ResourceExt;
use manager::webhook::FieldError;

use crate::api::{DCSCluster, DCSIpHostnamePool, cluster::LoadBalancerType};

/// The virtual address of a cluster, when it has one of its own making.
fn virtual_address(cluster: &DCSCluster) -> Option<&str> {
    let balancer = &cluster.spec.control_plane_load_balancer;
    (balancer.type_ == LoadBalancerType::Internal).then_some(balancer.host.as_str())
}

/// Where in a pool an address is.
fn place(pool: &DCSIpHostnamePool, address: &str) -> Option<String> {
    pool.spec.pool.iter().enumerate().find_map(|(index, entry)| {
        if entry.ip.as_deref() == Some(address) {
            return Some(format!("spec.pool[{index}].ip"));
        }
        let nic = entry.addition_nic.iter().position(|nic| nic.ip.as_deref() == Some(address))?;
        Some(format!("spec.pool[{index}].additionNic[{nic}].ip"))
    })
}

/// The virtual address of a cluster is no node's. One that was taken before is not judged again.
pub fn cluster_address<'a>(
    old: Option<&DCSCluster>,
    new: &DCSCluster,
    pools: impl IntoIterator<Item = &'a DCSIpHostnamePool>,
) -> Vec<FieldError> {
    let Some(address) = virtual_address(new).filter(|address| old.and_then(virtual_address) != Some(*address)) else {
        return Vec::new();
    };
    let of_namespace = pools.into_iter().filter(|pool| pool.namespace() == new.namespace());
    let taken = of_namespace.filter_map(|pool| Some((pool.name_any(), place(pool, address)?)));
    let error = |(pool, place): (String, String)| {
        let message =
            format!("{address} is the address of a node: {place} of DCSIpHostnamePool {pool}; choose another");
        FieldError::new("spec.controlPlaneLoadBalancer.host", message)
    };
    taken.map(error).collect()
}

/// No node has the virtual address of a cluster. Entries that were there before are not judged again.
pub fn pool_addresses<'a>(
    old: Option<&DCSIpHostnamePool>,
    new: &DCSIpHostnamePool,
    clusters: impl IntoIterator<Item = &'a DCSCluster>,
) -> Vec<FieldError> {
    let of_namespace = clusters.into_iter().filter(|cluster| cluster.namespace() == new.namespace());
    let error = |cluster: &DCSCluster| {
        let address = virtual_address(cluster)?;
        let place = place(new, address).filter(|_| old.is_none_or(|old| place(old, address).is_none()))?;
        let message = format!("{address} is the virtual address of DCSCluster {}; choose another", cluster.name_any());
        Some(FieldError::new(place, message))
    };
    of_namespace.filter_map(error).collect()
}

/// Warns of pools of the same name elsewhere: at one site their volumes would have the same names.
pub fn namesakes<'a>(new: &DCSIpHostnamePool, pools: impl IntoIterator<Item = &'a DCSIpHostnamePool>) -> Vec<String> {
    let has_disks = |pool: &DCSIpHostnamePool| pool.spec.pool.iter().any(|entry| !entry.persistent_disk.is_empty());
    if !has_disks(new) {
        return Vec::new();
    }
    let others =
        pools.into_iter().filter(|pool| pool.name_any() == new.name_any() && pool.namespace() != new.namespace());
    let warning = |pool: &DCSIpHostnamePool| {
        let namespace = pool.namespace().unwrap_or_default();
        format!(
            "metadata.name: namespace {namespace} has a pool of this name, with disks too; at one site their volumes \
             would have the same names, and the later pool gets none"
        )
    };
    others.filter(|pool| has_disks(pool)).map(warning).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(namespace: &str, type_: &str, host: &str) -> DCSCluster {
        serde_json::from_value(json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DCSCluster",
            "metadata": {"name": "c", "namespace": namespace}, "spec": {"networkType": "kube-ovn",
                "controlPlaneLoadBalancer": {"type": type_, "host": host, "port": 6443, "vrid": 7},
                "credentialSecretRef": {"name": "login"}}}))
        .unwrap()
    }

    fn pool(namespace: &str, ip: &str, disks: bool) -> DCSIpHostnamePool {
        let disks = if disks { json!([{"slot": 0, "quantityGB": 1, "datastoreName": "d"}]) } else { json!([]) };
        serde_json::from_value(json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
            "kind": "DCSIpHostnamePool", "metadata": {"name": "p", "namespace": namespace}, "spec": {"pool": [
                {"ip": ip, "persistentDisk": disks, "additionNic": [{"ip": "10.1.0.9"}]}]}}))
        .unwrap()
    }

    #[test]
    fn a_virtual_address_is_no_nodes() {
        let pools = [pool("ns", "10.0.0.7", false)];
        for (cluster, expected) in [
            (cluster("ns", "internal", "10.0.0.7"), Some("spec.pool[0].ip")),
            (cluster("ns", "internal", "10.1.0.9"), Some("spec.pool[0].additionNic[0].ip")),
            (cluster("ns", "internal", "10.0.0.8"), None),
            // One replica and no balancer: the endpoint is the node's own.
            (cluster("ns", "external", "10.0.0.7"), None),
            (cluster("other", "internal", "10.0.0.7"), None),
        ] {
            let errors = cluster_address(None, &cluster, &pools);
            assert_eq!(errors.is_empty(), expected.is_none(), "{errors:?}");
            if let Some(place) = expected {
                assert_eq!(errors[0].field, "spec.controlPlaneLoadBalancer.host");
                assert!(errors[0].message.contains(place), "{errors:?}");
                assert!(cluster_address(Some(&cluster), &cluster, &pools).is_empty(), "it is so already");
            }
        }
    }

    #[test]
    fn a_node_gets_no_virtual_address() {
        let clusters = [cluster("ns", "internal", "10.0.0.7"), cluster("ns", "external", "10.0.0.8")];
        let fields = |old: Option<&DCSIpHostnamePool>, ip: &str| {
            let errors = pool_addresses(old, &pool("ns", ip, false), &clusters);
            errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(None, "10.0.0.7"), ["spec.pool[0].ip"]);
        assert!(fields(None, "10.0.0.8").is_empty());
        assert!(fields(Some(&pool("ns", "10.0.0.7", false)), "10.0.0.7").is_empty(), "it is so already");
    }

    #[test]
    fn pools_whose_volumes_would_have_the_same_names_are_a_warning() {
        let others = [pool("other", "10.0.0.9", true), pool("ns", "10.0.0.9", true)];
        let warnings = namesakes(&pool("ns", "10.0.0.7", true), &others);
        assert!(warnings.len() == 1 && warnings[0].contains("namespace other"), "{warnings:?}");
        assert!(namesakes(&pool("ns", "10.0.0.7", false), &others).is_empty());
    }
}
