//! What a thousand clusters cost.

use std::{net::SocketAddr, sync::Arc};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::WatchParams};
use kube_model::Server;
use serde_json::{Value, json};

use super::{ApiServer, Bed, Config, Counter, Echo, MODEL_OPTIONS, create, kubeadm_objects};
use crate::guest::memory::{
    etcd::{EtcdCluster, LocalMember, Model, REQUEST_TIMEOUT, Rules},
    testing::{Authority, Hand},
    tls::ServerFiles,
};

const CLUSTERS: usize = 1_000;
/// A few hundred KiB for each, so that a thousand and all else stay under 2 GiB.
const LIMIT: usize = 512;

/// Memory that the process has in RAM, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What lies in a cluster of one control plane machine and one worker.
fn objects() -> Vec<Value> {
    let mut objects = kubeadm_objects();
    for node in ["control-plane", "worker"] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": {"kubernetes.io/hostname": node}},
            "spec": {"providerID": format!("dcs://{node}"), "podCIDR": "10.244.0.0/24"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "capacity": {"cpu": "4", "memory": "8Gi"}, "allocatable": {"cpu": "4", "memory": "8Gi"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                "nodeInfo": {"kubeletVersion": "v1.34.2", "osImage": "x", "architecture": "amd64"},
            },
        }));
        objects.push(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": node, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": node},
        }));
    }
    for pod in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "proxy-a", "proxy-b", "dns-a"] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": "kube-system"},
            "spec": {
                "nodeName": "control-plane", "volumes": [{"name": "certs", "hostPath": {"path": "/etc/kubernetes/pki"}}],
                "containers": [{"name": "c", "image": "i:1", "command": ["x", "--a", "--b", "--c", "--d", "--e"]}],
            },
        }));
    }
    for map in ["kubeadm-config", "kubelet-config", "kube-proxy", "coredns"] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map, "namespace": "kube-system"},
            "data": {"config": "x".repeat(1500)},
        }));
    }
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it by itself with --nocapture"]
async fn a_thousand_clusters() {
    // The first one brings what all share.
    let bed = Bed::new().await;
    let (hand, authority) = (Hand::at_present(), Authority::new("kubernetes"));
    let pair = authority.server(&["127.0.0.1"]);
    let before = resident();
    let mut clusters = Vec::new();
    for _ in 0..CLUSTERS {
        let model = Arc::new(Server::new(Arc::new(Counter(hand.clone(), 0.into())), MODEL_OPTIONS));
        for object in objects() {
            create(&model, object);
        }
        let etcd = EtcdCluster::new(Model::new(Rules::default()), REQUEST_TIMEOUT, hand.time(), model.clone());
        let id = etcd.bootstrap("a", "https://10.0.0.1:2380", "https://10.0.0.1:2379").unwrap();
        let config = Config {
            server: model,
            git_version: "v1.34.2",
            files: ServerFiles {
                certificate: pair.certificate.as_bytes(),
                key: pair.key.as_bytes(),
                client_ca: authority.pem.as_bytes(),
            },
            time: hand.time(),
            storage: Arc::new(LocalMember { cluster: etcd, id }),
            ports: Arc::new(Echo),
            cable: Default::default(),
        };
        clusters.push(ApiServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), config).await.unwrap());
    }
    let each = (resident() - before) / CLUSTERS;
    println!("an idle cluster: {each} KiB");
    assert!(each < LIMIT, "{each} KiB for each cluster");

    // One client with a watch, which has its own half of the memory here.
    let before = resident();
    let mut watches = Vec::new();
    for _ in 0..100 {
        let nodes: Api<Node> = Api::all(bed.admin());
        let mut watch = Box::pin(nodes.watch(&WatchParams::default().timeout(290), "0").await.unwrap());
        bed.model.send_bookmarks();
        watch.try_next().await.unwrap();
        watches.push(watch);
    }
    println!("a connection with a watch, both ends and the client: {} KiB", (resident() - before) / 100);
}
