use serde_json::json;

use super::fixture::{Site, get, is_ready, until};
use crate::guest::memory::{
    cluster::{
        api::{self, CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, NODES, PODS, SECRETS},
        controllers::workloads,
    },
    kubeadm::{config, files::Files, pki},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_init_makes_a_cluster_as_kubeadm_does() {
    let site = Site::new();
    let mut guest = site.machine("cp-1", 1);
    let endpoint = format!("{}:6443", site.address(1));
    guest.succeeds("init", &Site::init_documents(&endpoint)).await;
    let cluster = site.clusters.by_authority(&guest.pin()).unwrap();

    until("the node is ready", || is_ready(&cluster, "cp-1")).await;
    let node = get(&cluster, NODES, "", "cp-1");
    assert_eq!(node["spec"]["providerID"], "dcs://m");
    assert_eq!(node["spec"]["podCIDR"], "10.244.0.0/24");
    assert_eq!(node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"], "");
    assert_eq!(node["metadata"]["labels"]["a"], "b");
    assert_eq!(
        node["metadata"]["annotations"]["kubeadm.alpha.kubernetes.io/cri-socket"],
        "unix:///var/run/containerd/containerd.sock"
    );
    until("only the control plane's taint is left", || {
        let taints = get(&cluster, NODES, "", "cp-1")["spec"]["taints"].clone();
        taints == json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}])
    })
    .await;

    for component in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let name = format!("{component}-cp-1");
        until(&name, || workloads::is_ready(&get(&cluster, PODS, "kube-system", &name))).await;
    }
    let etcd = get(&cluster, PODS, "kube-system", "etcd-cp-1");
    let annotations = &etcd["metadata"]["annotations"];
    assert_eq!(
        annotations["kubeadm.kubernetes.io/etcd.advertise-client-urls"],
        format!("https://{}:2379", site.address(1)).as_str()
    );
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"]);
    assert_eq!(etcd["metadata"]["ownerReferences"][0]["kind"], "Node");

    let stored = get(&cluster, CONFIG_MAPS, "kube-system", "kubeadm-config");
    let stored = config::from_yaml(stored["data"]["ClusterConfiguration"].as_str().unwrap()).unwrap();
    assert_eq!((&stored["clusterName"], &stored["controlPlaneEndpoint"]), (&json!("c1"), &json!(endpoint)));
    until("the tokens' signature", || {
        get(&cluster, CONFIG_MAPS, "kube-public", "cluster-info")["data"]["jws-kubeconfig-abcdef"].is_string()
    })
    .await;
    assert!(get(&cluster, SECRETS, "kube-system", "bootstrap-token-abcdef")["data"]["token-secret"].is_string());

    until("kube-proxy runs", || get(&cluster, DAEMON_SETS, "kube-system", "kube-proxy")["status"]["numberReady"] == 1)
        .await;
    until("CoreDNS runs", || get(&cluster, DEPLOYMENTS, "kube-system", "coredns")["status"]["readyReplicas"] == 2)
        .await;
    let pods = api::Api::new(&cluster.server, "test").list(PODS, "kube-system");
    let dns = pods.iter().find(|pod| api::name(pod).starts_with("coredns-")).unwrap();
    assert!(dns["status"]["podIP"].as_str().unwrap().starts_with("10.244.0."), "{dns}");

    let served = pki::load_certificate(&guest.machine.root, "/etc/kubernetes/pki/apiserver.crt").unwrap();
    for name in ["cp-1", "kubernetes", "kubernetes.default.svc.cluster.local"] {
        assert!(served.dns.contains(&name.to_owned()), "{:?}", served.dns);
    }
    for address in ["10.96.0.1".to_owned(), site.address(1)] {
        assert!(served.addresses.contains(&address.parse().unwrap()), "{:?}", served.addresses);
    }
    assert!(!guest.console().contains("0123456789abcdef"), "tokens are secrets");
    assert!(guest.read("/etc/kubernetes/kubelet.conf").contains("kubelet-client-current.pem"));
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_finds_what_is_in_the_way() {
    let site = Site::new();
    let mut guest = site.machine("cp-1", 1);
    guest.write("/etc/kubernetes/manifests/etcd.yaml", "x");
    guest.write("/var/lib/etcd/member/wal", "x");
    guest.write("/proc/sys/net/ipv4/ip_forward", "0\n");
    let documents = Site::init_documents("").replace("v1.36.3", "v1.35.0").replace("controlPlaneEndpoint: \n", "");
    let said = guest.fails("init", &documents).await;
    for line in [
        "[ERROR FileAvailable--etc-kubernetes-manifests-etcd.yaml]: /etc/kubernetes/manifests/etcd.yaml already exists",
        "[ERROR DirAvailable--var-lib-etcd]: /var/lib/etcd is not empty",
        "[ERROR KubeletVersion]: the kubelet version is higher than the control plane version.",
        "[ERROR FileContent--proc-sys-net-ipv4-ip_forward]: /proc/sys/net/ipv4/ip_forward contents are not set to 1",
        "error: error execution phase preflight: preflight checks failed",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_nobody_serves_cannot_be_pulled() {
    let site = Site::new();
    let mut guest = site.machine_with("cp-1", 1, crate::guest::memory::image::system_disk(), "v1.99.0");
    let said = guest.fails("init", &Site::init_documents("").replace("v1.36.3", "v1.99.0")).await;
    assert!(said.contains("[ERROR ImagePull]: failed to pull image registry.k8s.io/kube-apiserver:v1.99.0"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_and_a_key_that_do_not_belong_together_are_found() {
    let site = Site::new();
    let mut other = site.machine("other", 2);
    let endpoint = format!("{}:6443", site.address(2));
    other.succeeds("init", &Site::init_documents(&endpoint)).await;
    let mut guest = site.machine("cp-1", 1);
    guest.copy_authorities(&other);
    let key = pki::Algorithm::EcdsaP256.generate().unwrap().serialize_pem();
    guest.write("/etc/kubernetes/pki/ca.key", &key);
    let said = guest.fails("init", &Site::init_documents("")).await;
    assert!(
        said.contains(
            "error execution phase certs/apiserver: unable to sign certificate: x509: provided PrivateKey doesn't match \
             parent's PublicKey"
        ),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_of_a_volume_keeps_the_api_server_from_starting() {
    let site = Site::new();
    let mut guest = site.machine("cp-1", 1);
    let endpoint = format!("{}:6443", site.address(1));
    let documents = Site::init_documents(&endpoint).replace(
        "networking:",
        "apiServer:\n  extraArgs:\n  - name: audit-policy-file\n    value: /etc/audit/policy.yaml\n  extraVolumes:\n  - \
         name: audit\n    hostPath: /etc/kubernetes/audit\n    mountPath: /etc/audit\n    pathType: DirectoryOrCreate\n\
         networking:",
    );
    let said = guest.fails("init", &documents).await;
    for line in [
        "kube-apiserver is not healthy",
        "open /etc/audit/policy.yaml: no such file or directory",
        "error execution phase wait-control-plane: failed while waiting for the control plane to start",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(Files::entry(&guest.machine.root, "/etc/kubernetes/audit").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_does_not_start_ends_the_init() {
    let site = Site::new();
    let mut guest = site.machine("cp-1", 1);
    let documents = Site::init_documents("").replace("a=b", "node-role.kubernetes.io/x=y");
    let said = guest.fails("init", &documents).await;
    for line in ["unknown 'kubernetes.io' or 'k8s.io' labels", "failed while waiting for the kubelet to start"] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}
