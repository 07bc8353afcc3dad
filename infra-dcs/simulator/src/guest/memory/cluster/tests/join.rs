use serde_json::json;

use super::fixture::{Guest, Site, get, is_ready, until};
use crate::guest::memory::{
    cluster::{
        Cluster,
        api::{Api, DEPLOYMENTS, NODES, PODS, SECRETS, name},
    },
    kubeadm::pki,
};

async fn first(site: &Site) -> (Guest, std::sync::Arc<Cluster>, String) {
    let mut guest = site.machine("cp-1", 1);
    let endpoint = format!("{}:6443", site.address(1));
    guest.succeeds("init", &Site::init_documents(&endpoint)).await;
    let cluster = site.clusters.by_authority(&guest.pin()).unwrap();
    (guest, cluster, endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_control_planes_join() {
    let site = Site::new();
    let (first, cluster, endpoint) = first(&site).await;
    let mut worker = site.machine("w-1", 11);
    worker.succeeds("join", &Site::join_document(&endpoint, &first.pin(), false)).await;
    until("the worker is ready", || is_ready(&cluster, "w-1")).await;
    let node = get(&cluster, NODES, "", "w-1");
    assert_eq!(node["spec"]["providerID"], "dcs://w");
    assert!(node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"].is_null());
    assert!(worker.read("/var/lib/kubelet/pki/kubelet-client-current.pem").contains("CERTIFICATE"));
    assert_eq!(worker.read("/etc/kubernetes/pki/ca.crt").trim(), first.read("/etc/kubernetes/pki/ca.crt").trim());

    let mut others = Vec::new();
    for host in [2, 3] {
        let mut guest = site.machine(&format!("cp-{host}"), host);
        guest.copy_authorities(&first);
        guest.succeeds("join", &Site::join_document(&endpoint, &first.pin(), true)).await;
        others.push(guest);
    }
    for name in ["cp-2", "cp-3"] {
        until(name, || is_ready(&cluster, name)).await;
        assert_eq!(get(&cluster, NODES, "", name)["metadata"]["labels"]["node-role.kubernetes.io/control-plane"], "");
        let pod = get(&cluster, PODS, "kube-system", &format!("etcd-{name}"));
        let command = pod["spec"]["containers"][0]["command"].to_string();
        assert!(command.contains("--initial-cluster-state=existing"), "{command}");
    }

    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]},
            },
        },
    });
    let api = Api::new(&cluster.server, "test");
    api.create(DEPLOYMENTS, "default", deployment).unwrap();
    cluster.wake();
    until("the workload runs", || get(&cluster, DEPLOYMENTS, "default", "web")["status"]["readyReplicas"] == 3).await;
    let pods = api.list(PODS, "default");
    assert!(pods.iter().all(|pod| pod["spec"]["nodeName"] == "w-1"), "only the worker has no taint");
    api.merge(DEPLOYMENTS, "default", "web", json!({"spec": {"replicas": 1}})).unwrap();
    cluster.wake();
    until("it shrinks", || api.list(PODS, "default").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_not_believed() {
    let site = Site::new();
    let (first, _cluster, endpoint) = first(&site).await;
    let mut guest = site.machine("w-1", 11);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let said = guest.fails("join", &Site::join_document(&endpoint, &wrong, false)).await;
    assert!(
        said.contains("error execution phase preflight: couldn't validate the identity of the API Server: cluster CA found in cluster-info ConfigMap is invalid: none of the public keys")
            && said.contains(&first.pin()),
        "{said}"
    );
    let token = Site::join_document(&endpoint, &first.pin(), false).replace("0123456789abcdef", "0123456789abcdee");
    let said = site_machine(&site, 12).fails("join", &token).await;
    assert!(said.contains("failed to verify JWS signature of received cluster info object"), "{said}");
    let token = Site::join_document(&endpoint, &first.pin(), false).replace("abcdef.", "fedcba.");
    let said = site_machine(&site, 13).fails("join", &token).await;
    assert!(
        said.contains("could not find a JWS signature in the cluster-info ConfigMap for token ID \"fedcba\""),
        "{said}"
    );
    assert!(!said.contains("0123456789abcdef"), "tokens are secrets");
}

fn site_machine(site: &Site, host: u8) -> Guest {
    site.machine(&format!("w-{host}"), host)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time() {
    let site = Site::new();
    let (first, cluster, endpoint) = first(&site).await;
    site.clock.advance(25 * 3600 * 1000);
    cluster.wake();
    until("the token is gone", || get(&cluster, SECRETS, "kube-system", "bootstrap-token-abcdef").is_null()).await;
    let said = site_machine(&site, 11).fails("join", &Site::join_document(&endpoint, &first.pin(), false)).await;
    assert!(said.contains("could not find a JWS signature"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_another_version_or_name_is_refused() {
    let site = Site::new();
    let (first, cluster, endpoint) = first(&site).await;
    let disk = || crate::guest::memory::image::system_disk();
    let mut newer = site.machine_with("w-1", 11, disk(), "v1.38.0");
    let said = newer.fails("join", &Site::join_document(&endpoint, &first.pin(), false)).await;
    assert!(said.contains("only supports deploying clusters with the control plane version >= 1.37.0"), "{said}");
    until("the first is ready", || is_ready(&cluster, "cp-1")).await;
    let mut twin = site.machine("cp-1", 12);
    let said = twin.fails("join", &Site::join_document(&endpoint, &first.pin(), false)).await;
    assert!(said.contains("a Node with name \"cp-1\" and status \"Ready\" already exists in the cluster"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_needs_its_authorities() {
    let site = Site::new();
    let (first, _cluster, endpoint) = first(&site).await;
    let mut guest = site.machine("cp-2", 2);
    let said = guest.fails("join", &Site::join_document(&endpoint, &first.pin(), true)).await;
    for line in [
        "One or more conditions for hosting a new control plane instance is not satisfied.",
        "failure loading certificate for CA: couldn't load the certificate file /etc/kubernetes/pki/ca.crt",
        "failure loading key for service account",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let mut guest = site.machine("cp-3", 3);
    guest.copy_authorities(&first);
    // Another authority for etcd than the members have.
    let mut stranger = site.machine("stranger", 4);
    let own = format!("{}:6443", site.address(4));
    stranger.succeeds("init", &Site::init_documents(&own)).await;
    for end in ["crt", "key"] {
        let path = format!("/etc/kubernetes/pki/etcd/ca.{end}");
        let text = stranger.read(&path);
        guest.write(&path, &text);
    }
    let said = guest.fails("join", &Site::join_document(&endpoint, &first.pin(), true)).await;
    assert!(said.contains("error execution phase check-etcd") && said.contains("tls: bad certificate"), "{said}");
    assert!(pki::load_certificate(&guest.machine.root, "/etc/kubernetes/pki/etcd/server.crt").is_ok());
    let _ = name;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_etcd_while_a_member_is_down() {
    let site = Site::new();
    let (first, cluster, endpoint) = first(&site).await;
    let document = Site::join_document(&endpoint, &first.pin(), true);
    let mut others = Vec::new();
    for host in [2, 3] {
        let mut guest = site.machine(&format!("cp-{host}"), host);
        guest.copy_authorities(&first);
        guest.succeeds("join", &document).await;
        others.push(guest);
    }
    others[0].powered.set_partitioned(true);
    until("two of three are enough", || cluster.is_serving()).await;
    let mut fourth = site.machine("cp-4", 4);
    fourth.copy_authorities(&first);
    let said = fourth.fails("join", &document).await;
    let why = format!(
        "error execution phase check-etcd: etcd cluster is not healthy: failed to dial endpoint https://{}:2379 with \
         maintenance client: context deadline exceeded",
        site.address(2)
    );
    assert!(said.contains("[check-etcd] Checking that the etcd cluster is healthy") && said.contains(&why), "{said}");
    assert!(!said.contains("[kubelet-start]") && fourth.powered.kubelet().is_none(), "{said}");
    assert_eq!(cluster.etcd.describe().len(), 3, "nobody has been announced");

    others[0].powered.set_partitioned(false);
    let mut fifth = site.machine("cp-5", 5);
    fifth.copy_authorities(&first);
    fifth.succeeds("join", &document).await;
    assert_eq!(cluster.etcd.describe().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_forwards_nothing_is_refused() {
    let site = Site::new();
    let (first, _cluster, endpoint) = first(&site).await;
    let mut worker = site.machine("w-1", 11);
    worker.write("/proc/sys/net/ipv4/ip_forward", "0\n");
    let said = worker.fails("join", &Site::join_document(&endpoint, &first.pin(), false)).await;
    let why =
        "[ERROR FileContent--proc-sys-net-ipv4-ip_forward]: /proc/sys/net/ipv4/ip_forward contents are not set to 1";
    assert!(said.contains(why), "{said}");
    // Where discovery is by name, kubeadm does not know of which family addresses are.
    let by_name = Site::join_document(&endpoint, &first.pin(), false).replace(&site.address(1), "cluster.example");
    let said = worker.fails("join", &by_name).await;
    assert!(said.matches("ip_forward").count() == 2, "{said}");
}
