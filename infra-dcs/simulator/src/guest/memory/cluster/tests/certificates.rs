use std::sync::Arc;

use kube_model::{DeleteParams, Target};
use serde_json::{Value, json};

use super::fixture::{Guest, Site, get, is_ready, until};
use crate::guest::memory::{
    cluster::{
        Cluster,
        api::{Api, SIGNING_REQUESTS, name},
    },
    host::Settings,
    kubeadm::files::Files,
};

async fn first(site: &Site, documents: &str) -> (Guest, Arc<Cluster>) {
    let mut guest = site.machine("cp-1", 1);
    guest.succeeds("init", documents).await;
    let cluster = site.clusters.by_authority(&guest.pin()).unwrap();
    (guest, cluster)
}

fn requests(cluster: &Cluster, signer: &str) -> Vec<Arc<Value>> {
    let all = Api::new(&cluster.server, "test").list(SIGNING_REQUESTS, "");
    all.into_iter().filter(|request| request["spec"]["signerName"] == signer).collect()
}

fn approve(cluster: &Cluster, request: &Value) {
    let condition = json!([{"type": "Approved", "status": "True", "reason": "Test"}]);
    Api::new(&cluster.server, "test").merge_approval(name(request), condition).unwrap();
    cluster.wake();
}

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";

#[tokio::test(flavor = "multi_thread")]
async fn a_joining_kubelet_asks_is_approved_and_signed_for() {
    let site = Site::new();
    let endpoint = format!("{}:6443", site.address(1));
    let (first, cluster) = first(&site, &Site::init_documents(&endpoint)).await;
    let mut worker = site.machine("w-1", 11);
    worker.succeeds("join", &Site::join_document(&endpoint, &first.pin(), false)).await;
    until("the node is ready", || is_ready(&cluster, "w-1")).await;

    let all = requests(&cluster, CLIENT);
    assert_eq!(all.len(), 1, "{all:?}");
    let request = &all[0];
    assert!(name(request).starts_with("csr-"), "{request}");
    assert_eq!(request["spec"]["username"], "system:bootstrap:abcdef");
    assert_eq!(request["status"]["conditions"][0]["reason"], "AutoApproved");
    let kept = worker.read("/var/lib/kubelet/pki/kubelet-client-current.pem");
    assert!(kept.contains("BEGIN CERTIFICATE") && kept.contains("PRIVATE KEY"));
    assert!(Files::text(&worker.machine.root, "/var/lib/kubelet/pki/kubelet-client.key.tmp").is_none());

    site.clock.advance(2 * 3600 * 1000);
    cluster.wake();
    until("old requests are thrown away", || requests(&cluster, CLIENT).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_nobody_approves_waits() {
    let mut site = Site::new();
    // It must not give up before the test has looked.
    site.settings = Arc::new(Settings { wait_scale: 0.5, ..Settings::default() });
    let endpoint = format!("{}:6443", site.address(1));
    let (first, cluster) = first(&site, &Site::init_documents(&endpoint)).await;
    let binding = Target {
        group: "rbac.authorization.k8s.io".into(),
        version: "v1".into(),
        plural: "clusterrolebindings".into(),
        name: "kubeadm:node-autoapprove-bootstrap".into(),
        ..Target::default()
    };
    cluster.server.delete(&binding, &DeleteParams::default()).unwrap();
    let mut worker = site.machine("w-1", 11);
    let document = Site::join_document(&endpoint, &first.pin(), false);
    let joins = worker.succeeds("join", &document);
    let approves = async {
        until("it asks", || !requests(&cluster, CLIENT).is_empty()).await;
        cluster.wake();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let waiting = requests(&cluster, CLIENT);
        assert!(waiting[0]["status"]["conditions"].is_null(), "{waiting:?}");
        assert!(!is_ready(&cluster, "w-1"));
        approve(&cluster, &waiting[0]);
    };
    tokio::join!(joins, approves);
    until("the node is ready", || is_ready(&cluster, "w-1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serving_certificate_waits_for_a_person() {
    let site = Site::new();
    let endpoint = format!("{}:6443", site.address(1));
    let documents = Site::init_documents(&endpoint)
        + "---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nserverTLSBootstrap: true\n";
    let (first, cluster) = first(&site, &documents).await;
    until("it asks", || !requests(&cluster, SERVING).is_empty()).await;
    let kubelet = first.powered.kubelet().unwrap();
    assert_eq!(kubelet.serving_certificate().unwrap_err(), "remote error: tls: internal error");
    let request = &requests(&cluster, SERVING)[0];
    assert_eq!(request["spec"]["username"], "system:node:cp-1");
    assert!(get(&cluster, SIGNING_REQUESTS, "", name(request))["status"]["conditions"].is_null());
    approve(&cluster, request);
    until("it serves with it", || kubelet.serving_certificate().is_ok_and(|served| served.is_some())).await;
    let served = kubelet.serving_certificate().unwrap().unwrap();
    assert_eq!(served.dns, ["cp-1"]);
    assert_eq!(served.addresses, [site.address(1).parse::<std::net::IpAddr>().unwrap()]);
    assert!(first.read("/var/lib/kubelet/pki/kubelet-server-current.pem").contains("BEGIN CERTIFICATE"));
}
