//! Accidents as the control API stages them, on machines that VRM has made.

use std::{
    fs,
    time::{Duration, Instant},
};

use dcs_simulator::{
    Guests, MemorySettings,
    guest::memory::{cluster::Pace, host::Settings},
    site::inventory::SiteFile,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    client::Client,
    document::{Pki, init, join, machine},
    medium,
    site::{Admin, PATIENCE},
};

const TWO_YEARS_MS: i64 = 2 * 366 * 24 * 3600 * 1000;
/// A twentieth of what Kubernetes waits.
const PACE: f64 = 0.05;

/// All that a machine may suffer from, nothing of it but this.
fn suffering(from: Value) -> Value {
    let mut all = json!({
        "partitioned": false, "slowDisk": false, "clockSkewMs": 0, "etcdNoSpace": false, "etcdCorrupt": false,
    });
    all.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
    all
}

/// A site with a cluster: `cp-1`, and `w-1` where a test wants it.
struct Staged {
    client: Client,
    admin: Admin,
    pki: Pki,
    network: u8,
}

impl Staged {
    async fn new() -> Self {
        let settings = MemorySettings {
            machines: Settings { wait_scale: PACE, ..Settings::default() },
            pace: Pace { scale: PACE, ..Pace::default() },
            ..MemorySettings::default()
        };
        let client = Client::with(SiteFile::default(), Guests::Memory(settings)).await;
        // Tests run side by side.
        let network = rand::random_range(1..=250);
        let pki = Pki::new();
        let endpoint = format!("127.{network}.7.1:6443");
        let admin = Admin::new(&pki, &endpoint);
        let staged = Self { client, admin, pki, network };
        let document = machine("cp-1", &staged.address(1), "init", &init(&endpoint), Some(&staged.pki));
        staged.boot("cp-1", &document).await;
        staged.admin.node_is("cp-1", "True").await;
        staged
    }

    async fn with_worker() -> Self {
        let staged = Self::new().await;
        staged.join("w-1", 11).await;
        staged
    }

    fn address(&self, host: u8) -> String {
        format!("127.{}.7.{host}", self.network)
    }

    /// Makes a VM that boots from a document, to the end: a machine that an accident meets while kubeadm runs is lost.
    async fn boot(&self, name: &str, document: &Value) {
        let vm = self.client.machine(name).await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("medium.iso");
        medium::write(&path, document);
        let file = format!("{name}.iso");
        self.client.upload_content(&file, fs::read(&path).unwrap()).await;
        let medium = json!({"devicePath": format!("8@{file}"), "protocol": "file", "attachAtPowerOn": true});
        let action = |action: &str| format!("/vms/{vm}/action/{action}");
        assert_eq!(self.client.task(Method::POST, &action("attachCdrom"), medium).await.1["status"], "success");
        self.start(name).await;
        let end = Instant::now() + PATIENCE;
        while !self.console(name).await.contains(&format!("{name} login:")) {
            assert!(Instant::now() < end, "{name} does not boot: {}", self.console(name).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn join(&self, name: &str, host: u8) {
        let configuration = join(&format!("{}:6443", self.address(1)), &self.pki, false);
        self.boot(name, &machine(name, &self.address(host), "join", &configuration, None)).await;
        self.admin.node_is(name, "True").await;
    }

    async fn start(&self, name: &str) {
        let path = format!("/vms/{}/action/start", self.vm(name).await);
        assert_eq!(self.client.task(Method::POST, &path, json!({})).await.1["status"], "success");
    }

    /// VRM's id of a VM.
    async fn vm(&self, name: &str) -> String {
        let all = self.client.get("/vms?limit=100&offset=0").await;
        let mut all = all["vms"].as_array().unwrap().iter();
        let found = all.find(|vm| vm["name"] == name).unwrap_or_else(|| panic!("no VM {name}"));
        found["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    /// What VRM shows of a VM.
    async fn status(&self, name: &str) -> Value {
        self.client.get(&format!("/vms/{}", self.vm(name).await)).await["status"].clone()
    }

    /// Waits for what VRM shows of a VM.
    async fn shows(&self, name: &str, status: &str) {
        let end = Instant::now() + PATIENCE;
        while self.status(name).await != status {
            assert!(Instant::now() < end, "{name} is never shown as {status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn put(&self, path: &str, change: Value) -> Value {
        self.client.control(Method::PUT, path, change).await
    }

    async fn post(&self, path: &str) {
        self.client.control(Method::POST, path, json!({})).await;
    }

    /// What the control API says to an accident that it refuses.
    async fn refused(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.client.simulator().control_address);
        let answer = self.client.http.post(url).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{path}");
        answer.json::<Value>().await.unwrap()["error"].as_str().unwrap_or_default().to_owned()
    }

    async fn suffers(&self, name: &str) -> Value {
        self.client.control(Method::GET, &format!("/vms/{name}/guest"), json!({})).await
    }

    /// The cluster as the control API shows it.
    async fn cluster(&self) -> Value {
        self.client.control(Method::GET, "/guest-clusters", json!({})).await[0].clone()
    }

    async fn cluster_path(&self, what: &str) -> String {
        format!("/guest-clusters/{}/{what}", self.cluster().await["id"].as_str().unwrap())
    }

    async fn boot_id(&self, node: &str) -> String {
        let node = self.admin.get(&format!("/api/v1/nodes/{node}")).await;
        node["status"]["nodeInfo"]["bootID"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a node tells of another boot; VRM shows a VM that runs all the while.
    async fn boots_again(&self, node: &str, before: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            assert_eq!(self.status(node).await, "running");
            let boot = self.boot_id(node).await;
            if !boot.is_empty() && boot != before {
                break;
            }
            if Instant::now() > end {
                let (cluster, console) = (self.cluster().await, self.console(node).await);
                panic!("{node} does not boot again: {cluster}\n{console}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.admin.node_is(node, "True").await;
        let console = self.console(node).await;
        assert!(console.contains("The machine is rebooted.") && console.contains("not the first boot"), "{console}");
    }

    async fn console(&self, name: &str) -> String {
        let path = format!("/console/{}?lines=1000", self.vm(name).await);
        self.client.control(Method::GET, &path, json!({})).await.to_string()
    }

    /// Whether the API answers an administrator, within a moment.
    async fn answers(&self) -> bool {
        let asked = tokio::time::timeout(Duration::from_millis(500), self.admin.get("/api/v1/nodes/cp-1")).await;
        asked.is_ok_and(|node| !node.is_null())
    }

    /// How long a write takes.
    async fn write(&self, name: &str) -> Duration {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        self.admin.create("/api/v1/namespaces/default/configmaps", &map).await.expect("the write is answered")
    }

    async fn end(self) {
        self.client.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_suffers_what_its_vm_is_said_to_suffer() {
    let staged = Staged::with_worker().await;
    let answer = staged.put("/vms/w-1/guest", json!({"partitioned": true})).await;
    assert_eq!(answer, suffering(json!({"partitioned": true})));
    staged.admin.node_is("w-1", "Unknown").await;
    staged.put("/vms/w-1/guest", json!({"partitioned": false})).await;
    staged.admin.node_is("w-1", "True").await;

    // The API server's certificate has expired by the machine's clock, or its authority is not valid yet.
    for skew in [TWO_YEARS_MS, -TWO_YEARS_MS] {
        staged.put("/vms/w-1/guest", json!({"clockSkewMs": skew})).await;
        staged.admin.node_is("w-1", "Unknown").await;
        staged.admin.node_is("cp-1", "True").await;
        staged.put("/vms/w-1/guest", json!({"clockSkewMs": 0})).await;
        staged.admin.node_is("w-1", "True").await;
    }

    staged.put("/vms/cp-1/guest", json!({"slowDisk": true})).await;
    let slow = staged.write("slow").await;
    assert!(slow >= Duration::from_millis(500), "{slow:?}");
    staged.put("/vms/cp-1/guest", json!({"slowDisk": false})).await;
    let quick = staged.write("quick").await;
    assert!(quick < Duration::from_millis(500), "{quick:?}");
    staged.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_crashes_or_reboots() {
    let staged = Staged::with_worker().await;
    let before = staged.boot_id("w-1").await;
    staged.post("/vms/w-1/reboot").await;
    staged.boots_again("w-1", &before).await;

    let before = staged.boot_id("w-1").await;
    staged.post("/vms/w-1/crash").await;
    staged.shows("w-1", "stopped").await;
    staged.admin.node_is("w-1", "Unknown").await;
    staged.start("w-1").await;
    staged.admin.node_is("w-1", "True").await;
    assert_ne!(staged.boot_id("w-1").await, before);

    assert_eq!(staged.refused("/vms/nobody/crash").await, "there is no VM \"nobody\"");
    staged.post("/vms/w-1/crash").await;
    staged.shows("w-1", "stopped").await;
    let id = staged.vm("w-1").await;
    for accident in ["crash", "reboot"] {
        let refused = staged.refused(&format!("/vms/w-1/{accident}")).await;
        assert_eq!(refused, format!("machine {id} is not running; power it on first"));
    }
    assert_eq!(staged.status("w-1").await, "stopped");
    staged.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_takes_no_writes() {
    const FULL: &str = "etcdserver: mvcc: database space exceeded";
    let staged = Staged::with_worker().await;
    let guest = staged.cluster_path("guest").await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    for path in [guest.as_str(), "/vms/cp-1/guest"] {
        staged.put(path, json!({"etcdNoSpace": true})).await;
        assert_eq!(staged.cluster().await["members"][0]["alarms"], json!(["NOSPACE"]));
        let refused = staged.admin.refused("/api/v1/namespaces/default/configmaps", &map).await;
        assert_eq!(refused, (500, FULL.to_owned()));
        assert!(staged.answers().await, "what is there can be read");
        staged.put(path, json!({"etcdNoSpace": false})).await;
        assert_eq!(staged.cluster().await["members"][0]["alarms"], json!([]));
        staged.write(&format!("m-{}", path.len())).await;
    }
    // What is wrong with the disk of a machine that is off is mended there too.
    staged.put("/vms/cp-1/guest", json!({"etcdNoSpace": true})).await;
    staged.post("/vms/cp-1/crash").await;
    staged.shows("cp-1", "stopped").await;
    assert_eq!(staged.cluster().await["members"][0]["alarms"], json!(["NOSPACE"]));
    staged.put("/vms/cp-1/guest", json!({"etcdNoSpace": false})).await;
    assert_eq!(staged.cluster().await["members"][0]["alarms"], json!([]));
    staged.start("cp-1").await;
    staged.admin.node_is("cp-1", "True").await;
    staged.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_etcd_serves_nobody() {
    let staged = Staged::new().await;
    staged.put("/vms/cp-1/guest", json!({"etcdCorrupt": true})).await;
    let cluster = staged.cluster().await;
    assert_eq!((&cluster["serving"], &cluster["members"][0]["alarms"]), (&json!(false), &json!(["CORRUPT"])));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    let refused = staged.admin.refused("/api/v1/namespaces/default/configmaps", &map).await;
    assert_eq!(refused, (500, "etcdserver: corrupt cluster".to_owned()));
    assert!(!staged.answers().await);
    staged.put("/vms/cp-1/guest", json!({"etcdCorrupt": false})).await;
    staged.admin.node_is("cp-1", "True").await;
    staged.write("m").await;
    staged.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_suffers_as_one() {
    let staged = Staged::with_worker().await;
    let guest = staged.cluster_path("guest").await;
    for (fault, cure) in [
        (json!({"partitioned": true}), json!({"partitioned": false})),
        (json!({"clockSkewMs": TWO_YEARS_MS}), json!({"clockSkewMs": 0})),
    ] {
        staged.put(&guest, fault.clone()).await;
        for name in ["cp-1", "w-1"] {
            let suffered = staged.suffers(name).await;
            let (key, value) = fault.as_object().unwrap().iter().next().unwrap();
            assert_eq!(&suffered[key], value, "{name}");
        }
        assert!(!staged.answers().await, "{fault}");
        staged.put(&guest, cure).await;
        for name in ["cp-1", "w-1"] {
            staged.admin.node_is(name, "True").await;
        }
    }
    staged.put(&guest, json!({"slowDisk": true})).await;
    let slow = staged.write("slow").await;
    assert!(slow >= Duration::from_millis(500), "{slow:?}");
    staged.put(&guest, json!({"slowDisk": false})).await;
    let quick = staged.write("quick").await;
    assert!(quick < Duration::from_millis(500), "{quick:?}");
    staged.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_crashes_or_reboots_as_one() {
    let staged = Staged::with_worker().await;
    let names = ["cp-1", "w-1"];
    let before = [staged.boot_id("cp-1").await, staged.boot_id("w-1").await];
    staged.post(&staged.cluster_path("reboot").await).await;
    for (name, before) in names.iter().zip(&before) {
        staged.boots_again(name, before).await;
    }
    staged.post(&staged.cluster_path("crash").await).await;
    for name in names {
        staged.shows(name, "stopped").await;
    }
    let cluster = staged.cluster().await;
    assert_eq!((&cluster["serving"], &cluster["machines"]), (&json!(false), &json!([])));
    for name in names {
        staged.start(name).await;
    }
    for name in names {
        staged.admin.node_is(name, "True").await;
    }
    staged.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_suffers_reaches_machines_that_are_off_and_those_that_come_later() {
    let staged = Staged::with_worker().await;
    let guest = staged.cluster_path("guest").await;
    staged.put(&guest, json!({"partitioned": true, "slowDisk": true})).await;
    staged.post("/vms/w-1/crash").await;
    staged.shows("w-1", "stopped").await;
    let healed = staged.put(&guest, json!({"partitioned": false})).await;
    assert_eq!(healed, suffering(json!({"slowDisk": true})));
    assert_eq!(staged.suffers("w-1").await, healed, "it was off when the cable was put back");
    staged.start("w-1").await;
    staged.admin.node_is("w-1", "True").await;

    staged.join("w-2", 12).await;
    assert_eq!(staged.suffers("w-2").await["slowDisk"], true, "it has joined a cluster of slow disks");
    staged.post("/vms/w-2/crash").await;
    staged.shows("w-2", "stopped").await;
    staged.put(&guest, json!({"slowDisk": false, "partitioned": true})).await;
    assert_eq!(staged.suffers("w-2").await, suffering(json!({"partitioned": true})));
    staged.start("w-2").await;
    staged.put(&guest, json!({"partitioned": false})).await;
    for name in ["cp-1", "w-1", "w-2"] {
        staged.admin.node_is(name, "True").await;
    }
    staged.end().await;
}
