use futures::future::join_all;

use super::fixture::{Site, get, is_ready, until};
use crate::guest::memory::cluster::api::{NODES, PODS};

const EXTRA: &str = "/etc/default/kubelet";

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_takes_flags_from_drop_ins_and_environment_files() {
    let site = Site::new();
    let mut guest = site.machine("cp-1", 1);
    let endpoint = format!("{}:6443", site.address(1));
    guest.write(
        "/etc/systemd/system/kubelet.service.d/20-site.conf",
        "[Service]\nEnvironment=KUBELET_CONFIG_ARGS=\"--config=/var/lib/kubelet/config.yaml --max-pods 7\"\n",
    );
    guest.write(EXTRA, "KUBELET_EXTRA_ARGS=\"--node-labels=site=one --cloud-provider=external\"\n");
    guest.succeeds("init", &Site::init_documents(&endpoint)).await;
    let cluster = site.clusters.by_authority(&guest.pin()).unwrap();
    let node = get(&cluster, NODES, "", "cp-1");
    let labels = &node["metadata"]["labels"];
    assert_eq!((&labels["site"], &labels["a"]), (&"one".into(), &"b".into()), "those of kubeadm stay");
    assert_eq!(node["status"]["capacity"]["pods"], "7");
    assert!(node["spec"]["taints"].to_string().contains("node.cloudprovider.kubernetes.io/uninitialized"), "{node}");
    let addresses = node["status"]["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), 1, "the provider has not told any: {addresses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_does_not_come_up_with_a_flag_that_it_does_not_know() {
    let site = Site::new();
    let endpoint = format!("{}:6443", site.address(1));
    let mut guest = site.machine("cp-1", 1);
    guest.write(EXTRA, "KUBELET_EXTRA_ARGS=--nope\n");
    let console = guest.fails("init", &Site::init_documents(&endpoint)).await;
    assert!(console.contains("The kubelet is not healthy"), "{console}");
    let why = guest.powered.kubelet().unwrap().health().unwrap_err();
    assert_eq!(why, "failed to parse kubelet flag: unknown flag: --nope");
}

#[tokio::test(flavor = "multi_thread")]
async fn components_do_not_come_up_with_flags_that_they_cannot_read() {
    let site = Site::new();
    let (site, cases) = (
        &site,
        [
            ("apiServer: {", "kube-apiserver", "{name: nope, value: '1'}", "unknown flag: --nope"),
            ("apiServer: {", "kube-apiserver", "{name: event-ttl, value: '1'}", "time: missing unit in duration \"1\""),
            (
                "controllerManager: {",
                "kube-controller-manager",
                "{name: node-eviction-rate, value: x}",
                "strconv.ParseFloat",
            ),
            ("scheduler: {", "kube-scheduler", "{name: leader-elect, value: maybe}", "strconv.ParseBool"),
            (
                "etcd: {local: {",
                "etcd",
                "{name: snapshot-count, value: x}",
                "invalid value \"x\" for flag -snapshot-count",
            ),
        ],
    );
    // Each waits for its component in vain, all at the same time.
    join_all((1..).zip(cases).map(|(host, (section, component, argument, expected))| async move {
        let mut guest = site.machine("cp-1", host);
        let documents = Site::init_documents(&format!("{}:6443", site.address(host)));
        let end = "}".repeat(section.matches('{').count());
        let more = format!("{section}extraArgs: [{argument}]{end}\nnetworking:");
        let console = guest.fails("init", &documents.replacen("networking:", &more, 1)).await;
        let kubelet = guest.powered.kubelet().expect(&console);
        let why = kubelet.component_health(component).unwrap_err();
        assert!(why.starts_with("CrashLoopBackOff: Error: ") && why.contains(expected), "{component}: {why}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_does_not_start_is_seen_in_its_pod() {
    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-scheduler.yaml";
    let site = Site::new();
    let endpoint = format!("{}:6443", site.address(1));
    let mut guest = site.machine("cp-1", 1);
    guest.succeeds("init", &Site::init_documents(&endpoint)).await;
    let cluster = site.clusters.by_authority(&guest.pin()).unwrap();
    until("it is ready", || is_ready(&cluster, "cp-1")).await;
    let manifest = guest.read(MANIFEST);
    guest.write(MANIFEST, &manifest.replace("--leader-elect=true", "--leader-elects=true"));
    cluster.wake();
    let state =
        || get(&cluster, PODS, "kube-system", "kube-scheduler-cp-1")["status"]["containerStatuses"][0]["state"].clone();
    until("it waits", || state()["waiting"]["message"] == "Error: unknown flag: --leader-elects").await;
    assert_eq!(state()["waiting"]["reason"], "CrashLoopBackOff");
    guest.write(MANIFEST, &manifest);
    cluster.wake();
    until("it runs", || state()["running"].is_object()).await;
}
