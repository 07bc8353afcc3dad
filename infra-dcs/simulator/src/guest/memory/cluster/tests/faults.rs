use std::sync::Arc;

use super::fixture::{Guest, PATIENCE, Site, get, is_ready, until};
use crate::guest::memory::{
    cluster::{
        Cluster,
        api::{Api, NODES, PODS, name},
        node,
    },
    host::address,
};

async fn pair(site: &Site) -> (Guest, Guest, Arc<Cluster>) {
    let mut first = site.machine("cp-1", 1);
    let endpoint = format!("{}:6443", site.address(1));
    first.succeeds("init", &Site::init_documents(&endpoint)).await;
    let cluster = site.clusters.by_authority(&first.pin()).unwrap();
    let mut worker = site.machine("w-1", 11);
    worker.succeeds("join", &Site::join_document(&endpoint, &first.pin(), false)).await;
    until("both are ready", || is_ready(&cluster, "cp-1") && is_ready(&cluster, "w-1")).await;
    (first, worker, cluster)
}

fn ready(cluster: &Cluster, node: &str) -> String {
    node::condition_status(&get(cluster, NODES, "", node), "Ready").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_noticed_and_comes_back() {
    let site = Site::new();
    let (_first, worker, cluster) = pair(&site).await;
    worker.powered.set_partitioned(true);
    until("it is unknown", || ready(&cluster, "w-1") == "Unknown").await;
    until("it is tainted", || {
        let taints = get(&cluster, NODES, "", "w-1")["spec"]["taints"].to_string();
        taints.contains("node.kubernetes.io/unreachable") && taints.contains("NoExecute")
    })
    .await;
    worker.powered.set_partitioned(false);
    until("it is ready again", || ready(&cluster, "w-1") == "True").await;
    until("the taints are gone", || get(&cluster, NODES, "", "w-1")["spec"]["taints"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_at_an_address_that_is_nobodys() {
    const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
    let site = Site::new();
    let (_first, mut worker, cluster) = pair(&site).await;
    let (server, other) = (format!("{}:6443", site.address(1)), format!("{}:6443", site.address(200)));
    let kubeconfig = worker.read(KUBECONFIG);
    assert!(kubeconfig.contains(&server), "{kubeconfig}");
    worker.write(KUBECONFIG, &kubeconfig.replace(&server, &other));
    worker.powered.start_kubelet(&worker.machine.root, "w-1", address(&worker.machine));
    until("it is unknown", || ready(&cluster, "w-1") == "Unknown").await;
    let _open = cluster.signals.balance(other.parse().unwrap(), &[server.parse().unwrap()]);
    cluster.wake();
    until("it is ready behind a load balancer", || ready(&cluster, "w-1") == "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_judges_the_others_certificate_by_its_own_clock() {
    const YEAR_MS: i64 = 366 * 24 * 3600 * 1000;
    let site = Site::new();
    let (first, worker, cluster) = pair(&site).await;
    worker.powered.set_clock_skew_ms(2 * YEAR_MS);
    until("the API server's has expired for the worker", || ready(&cluster, "w-1") == "Unknown").await;
    assert_eq!(ready(&cluster, "cp-1"), "True");
    worker.powered.set_clock_skew_ms(0);
    until("the worker is ready again", || ready(&cluster, "w-1") == "True").await;

    // The authority lives for ten years: what has expired is what the kubelets show.
    first.powered.set_clock_skew_ms(2 * YEAR_MS);
    until("the worker's has expired for the API server", || ready(&cluster, "w-1") == "Unknown").await;
    until("so has that of its own machine", || ready(&cluster, "cp-1") == "Unknown").await;
    first.powered.set_clock_skew_ms(3_600_000);
    until("an hour is within their time", || is_ready(&cluster, "cp-1") && is_ready(&cluster, "w-1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn word_goes_out_when_an_api_server_begins_to_answer_and_when_it_ceases() {
    let site = Site::new();
    let endpoint = format!("{}:6443", site.address(1));
    let signal = site.clusters.around.signals.of(endpoint.parse().unwrap());
    let heard = async |what: &str| tokio::time::timeout(PATIENCE, signal.notified()).await.expect(what);
    let mut first = site.machine("cp-1", 1);
    first.succeeds("init", &Site::init_documents(&endpoint)).await;
    heard("it was started").await;
    first.powered.set_partitioned(true);
    heard("its cable is out").await;
    first.powered.set_partitioned(false);
    heard("its cable is in").await;
    first.powered.power_off();
    heard("its machine is off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_comes_back_from_its_disk() {
    let site = Site::new();
    let (first, _worker, cluster) = pair(&site).await;
    first.powered.power_off();
    until("nothing serves", || !cluster.is_serving()).await;
    let version = cluster.server.version();
    let again = site.machine_with("cp-1", 1, first.system.clone(), "v1.36.3");
    let address = address(&again.machine);
    again.powered.start_kubelet(&again.machine.root, "cp-1", address);
    until("it serves again", || cluster.is_serving()).await;
    until("the node is ready", || is_ready(&cluster, "cp-1")).await;
    assert!(cluster.server.version() >= version, "etcd's data was kept");
    until("its pods are shown", || {
        let pods = Api::new(&cluster.server, "test").list(PODS, "kube-system");
        pods.iter().any(|pod| name(pod) == "kube-apiserver-cp-1" && pod["status"]["phase"] == "Running")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_node_takes_its_pods_with_it() {
    let site = Site::new();
    let (_first, worker, cluster) = pair(&site).await;
    let api = Api::new(&cluster.server, "test");
    let on_worker = || api.list(PODS, "").into_iter().filter(|pod| pod["spec"]["nodeName"] == "w-1").count();
    until("kube-proxy runs there", || on_worker() == 1).await;
    worker.powered.power_off();
    api.delete(NODES, "", "w-1", None);
    cluster.wake();
    until("its pods are gone", || on_worker() == 0).await;
    assert!(get(&cluster, NODES, "", "w-1").is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_ends_with_the_last_disk_that_holds_it() {
    let site = Site::new();
    let (first, worker, cluster) = pair(&site).await;
    drop(cluster);
    worker.powered.power_off();
    site.clusters.forget_machine("i-w-1");
    assert_eq!(site.clusters.count(), 1);
    first.powered.power_off();
    site.clusters.forget_machine("i-cp-1");
    assert_eq!(site.clusters.count(), 0);
}
