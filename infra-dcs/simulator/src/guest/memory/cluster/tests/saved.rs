use serde_json::json;

use super::fixture::{Site, get, is_ready, until};
use crate::guest::memory::{
    cluster::{
        SavedCluster,
        api::{Api, CONFIG_MAPS, NODES},
    },
    disk::Disk,
    host::address,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_back_with_the_disks_of_its_members() {
    let site = Site::new();
    let mut first = site.machine("cp-1", 1);
    let endpoint = format!("{}:6443", site.address(1));
    first.succeeds("init", &Site::init_documents(&endpoint)).await;
    let cluster = site.clusters.by_authority(&first.pin()).unwrap();
    until("the node is ready", || is_ready(&cluster, "cp-1")).await;
    let api = Api::new(&cluster.server, "test");
    api.create(CONFIG_MAPS, "default", json!({"metadata": {"name": "kept"}, "data": {"a": "b"}})).unwrap();

    let disk = serde_json::to_vec(&Disk::with(first.system.clone())).unwrap();
    // Its controllers go on writing while it is saved.
    let (pin, id, version) = (first.pin(), cluster.id.clone(), cluster.server.version());
    let saved = serde_json::to_vec(&cluster.saved()).unwrap();
    let node = get(&cluster, NODES, "", "cp-1")["metadata"]["uid"].clone();
    let members = cluster.etcd.describe().into_iter().map(|member| member.name).collect::<Vec<_>>();
    drop(first);
    drop(cluster);

    let again = site.restarted();
    again.clusters.restore([serde_json::from_slice::<SavedCluster>(&saved).unwrap()]);
    let cluster = again.clusters.by_authority(&pin).unwrap();
    assert_eq!(cluster.id, id);
    assert!(!cluster.is_serving() && cluster.etcd.members.leader().is_none(), "no machine has power yet");
    assert!(again.clusters.machines().contains("i-cp-1"));

    let disk: Disk = serde_json::from_slice(&disk).unwrap();
    let guest = again.machine_with("cp-1", 1, disk.volume().unwrap(), "v1.36.3");
    guest.powered.start_kubelet(&guest.machine.root, "cp-1", address(&guest.machine));
    until("it serves again", || cluster.is_serving()).await;
    until("the node is ready", || is_ready(&cluster, "cp-1")).await;
    assert!(cluster.server.version() >= version);
    assert_eq!(get(&cluster, CONFIG_MAPS, "default", "kept")["data"]["a"], "b");
    assert_eq!(get(&cluster, NODES, "", "cp-1")["metadata"]["uid"], node);
    let found = cluster.etcd.describe();
    assert!(found.iter().all(|member| member.running), "{found:?}");
    assert_eq!(found.into_iter().map(|member| member.name).collect::<Vec<_>>(), members);
    // The last disk that holds it still ends it.
    drop((guest, cluster));
    again.clusters.forget_machine("i-cp-1");
    assert_eq!(again.clusters.count(), 0);
}
