//! The simulator from outside: REST over TLS, uploads, faults, control API.

// Helpers of tests: a failure in one is the failure of its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, time::Duration};

use dcs_simulator::{Config, Simulator, site::inventory::SiteFile};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

const TEMPLATE: &str = "i-000004A1";

struct Client {
    simulator: Option<Simulator>,
    http: reqwest::Client,
    token: String,
    _dir: tempfile::TempDir,
}

impl Client {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut site = SiteFile::default();
        site.latency.scale = 0.01;
        let simulator = Simulator::start(Config::local(dir.path(), site)).await.unwrap();
        let ca = reqwest::Certificate::from_pem(&fs::read(simulator.ca.as_ref().unwrap()).unwrap()).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let mut client = Self { simulator: Some(simulator), http, token: String::new(), _dir: dir };
        client.token =
            client.login("basalt", "Basalt@12345").await.headers()["X-Auth-Token"].to_str().unwrap().to_owned();
        client
    }

    fn simulator(&self) -> &Simulator {
        self.simulator.as_ref().unwrap()
    }

    async fn login(&self, user: &str, key: &str) -> Response {
        self.raw(Method::POST, "/service/session")
            .header("X-Auth-User", user)
            .header("X-Auth-Key", key)
            .header("X-ENCRYPT-ALGORITHM", "1")
            .send()
            .await
            .unwrap()
    }

    fn raw(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("https://{}{path}", self.simulator().address);
        self.http.request(method, url).header("Accept", "application/json;version=8.1;charset=UTF-8")
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.raw(method, &format!("/service/sites/5A1C0D3E{path}")).header("X-Auth-Token", &self.token)
    }

    async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        self.request(method, path).json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// Sends, waits for the task, and tells its end.
    async fn task(&self, method: Method, path: &str, body: Value) -> (Value, Value) {
        let accepted = self.send(method, path, body).await;
        let id = accepted["taskUri"]
            .as_str()
            .unwrap_or_else(|| panic!("no task: {accepted}"))
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        for _ in 0..500 {
            let task = self.get(&format!("/tasks/{id}")).await;
            if matches!(task["status"].as_str(), Some("success" | "failed")) {
                return (accepted, task);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("task {id} does not end");
    }

    async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("http://{}{path}", self.simulator().control_address);
        let answer = self.http.request(method, url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    async fn machine(&self, name: &str) -> String {
        let (accepted, task) = self
            .task(Method::POST, &format!("/vms/{TEMPLATE}/action/clone"), json!({"name": name, "autoBoot": false}))
            .await;
        assert_eq!(task["status"], "success");
        accepted["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    async fn end(mut self) {
        let violations = self.control(Method::GET, "/violations", json!({})).await;
        assert_eq!(violations, json!([]));
        self.simulator.take().unwrap().shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_tokens_and_locks() {
    let client = Client::new().await;
    let versions: Value = client.raw(Method::GET, "/service/versions").send().await.unwrap().json().await.unwrap();
    assert_eq!(versions["versions"][0]["version"], "v8.1");
    let url = format!("https://{}/service/sites", client.simulator().address);
    let unversioned = client.http.get(&url).header("X-Auth-Token", &client.token).send().await.unwrap();
    assert_eq!(unversioned.json::<Value>().await.unwrap()["errorCode"], "10000022");
    let stranger = client.raw(Method::GET, "/service/sites").send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
    let elsewhere = client
        .raw(Method::GET, "/service/sites/FFFFFFFF/vms")
        .header("X-Auth-Token", &client.token)
        .send()
        .await
        .unwrap();
    assert_eq!(elsewhere.json::<Value>().await.unwrap()["errorCode"], "10000020");

    client.control(Method::POST, "/clock/advance", json!({"ms": 600_001})).await;
    assert_eq!(client.get("/vms").await["errorCode"], "10000002", "tokens end");
    let mut codes = vec![];
    for key in ["wrong", "wrong", "wrong", "wrong", "wrong", "Basalt@12345"] {
        codes.push(
            client.login("basalt", key).await.json::<Value>().await.unwrap()["errorCode"].as_str().unwrap().to_owned(),
        );
    }
    assert_eq!(codes, ["10100103", "10100103", "10100103", "10100103", "10100113", "10100116"]);
    client.control(Method::POST, "/clock/advance", json!({"ms": 300_001})).await;
    assert!(client.login("basalt", "Basalt@12345").await.headers().contains_key("X-Auth-Token"));
    client.control(Method::PUT, "/users/basalt", json!({"account": "mustChange"})).await;
    let refused = client.login("basalt", "Basalt@12345").await;
    assert_eq!(refused.status(), StatusCode::OK);
    assert_eq!(refused.json::<Value>().await.unwrap()["errorCode"], "10100108");
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inventory_lists_are_fuzzy_and_paged() {
    let client = Client::new().await;
    assert_eq!(client.get("/hosts").await["total"], 3);
    assert_eq!(client.get("/hosts?limit=2&offset=2").await["hosts"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("/clusters?name=COMPUTE").await["clusters"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("/vms?isTemplate=true&name=BASALT-n").await["vms"][0]["name"], "basalt-node");
    assert_eq!(client.get("/vms?limit=101").await["errorCode"], "10000001");
    assert_eq!(client.get("/volumes").await["errorCode"], "10000001", "limit and offset are required");
    assert_eq!(client.get("/datastores?scope=urn:sites:5A1C0D3E:datastorecluster:5").await["total"], 2);
    assert_eq!(
        client.get("/folder?parentObjUrn=urn:sites:5A1C0D3E").await["total"],
        0,
        "without type: cluster folders"
    );
    assert_eq!(client.get("/folder?parentObjUrn=urn:sites:5A1C0D3E&type=1").await["folders"][0]["name"], "kubernetes");
    let switch = client.get("/dvswitchs?name=dvs").await["dvSwitchs"][0]["uri"].as_str().unwrap().to_owned();
    let groups = client
        .get(&format!("{}/portgroups?portGroupName=PG", switch.trim_start_matches("/service/sites/5A1C0D3E")))
        .await;
    assert_eq!(groups["total"], 2);
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_from_clone_to_deletion_with_its_medium() {
    let client = Client::new().await;
    let vm = client.machine("m1").await;
    let applied =
        client.send(Method::POST, "/datastores/8/applyUpload", json!({"fileName": "m1.iso", "fileSize": 4096})).await;
    let (url, token) = (applied["uploadUrl"].as_str().unwrap(), applied["token"].as_str().unwrap());
    let upload =
        |bytes: usize, token: &str| client.http.put(url).header("X-Auth-Token", token).body(vec![7_u8; bytes]).send();
    assert_eq!(upload(4096, "other").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(upload(4095, token).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(client.get("/datastores/8/file").await["total"], 0, "half a file is no file");
    assert_eq!(upload(4096, token).await.unwrap().status(), StatusCode::OK);
    let file = client.get("/datastores/8/file").await["files"][0].clone();
    assert_eq!((&file["name"], &file["size"]), (&json!("m1.iso"), &json!(4096)));

    let cd = json!({"devicePath": "8@m1.iso", "protocol": "file", "attachAtPowerOn": true});
    assert_eq!(client.task(Method::POST, &format!("/vms/{vm}/action/attachCdrom"), cd).await.1["status"], "success");
    assert_eq!(client.task(Method::POST, &format!("/vms/{vm}/action/start"), json!({})).await.1["status"], "success");
    let path = format!("/vms/{vm}");
    let mut detail = client.get(&path).await;
    for _ in 0..100 {
        if detail["pvDriverStatus"] == "running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        detail = client.get(&path).await;
    }
    assert_eq!(
        (&detail["status"], &detail["cdRomStatus"], &detail["pvDriverStatus"]),
        (&json!("running"), &json!("fill"), &json!("running"))
    );
    assert!(detail["hostUrn"].is_string());
    assert_eq!(client.send(Method::DELETE, &path, json!({})).await["errorCode"], "102212808");
    assert_eq!(
        client.task(Method::POST, &format!("/vms/{vm}/action/detachCdrom"), json!({})).await.1["status"],
        "success"
    );
    let delete_file = format!("/datastores/8/file/{}", file["id"]);
    assert_eq!(client.send(Method::DELETE, &delete_file, json!({})).await, json!({}));
    assert_eq!(client.send(Method::DELETE, &delete_file, json!({})).await["errorCode"], "10000008");
    assert_eq!(
        client.task(Method::POST, &format!("/vms/{vm}/action/stop"), json!({"mode": "safe"})).await.1["status"],
        "success"
    );
    assert_eq!(client.task(Method::DELETE, &path, json!({})).await.1["status"], "success");
    assert_eq!(client.get(&path).await["errorCode"], "10300001");
    let disks = fs::read_dir(client.simulator().engine().data_dir().join("disks")).unwrap().count();
    assert_eq!(disks, 0, "the disk's file is gone with it");
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_rules_and_folders_over_rest() {
    let client = Client::new().await;
    let (one, other) = (client.machine("m1").await, client.machine("m2").await);
    let body = json!({"name": "pool-1", "quantityGB": 40, "datastoreUrn": "urn:sites:5A1C0D3E:datastores:8", "type": "normal",
        "indepDisk": true, "persistentDisk": true, "customProperties": {"capi-dcs": "team/pool"}});
    let (accepted, _) = client.task(Method::POST, "/volumes", body).await;
    let urn = accepted["urn"].as_str().unwrap();
    let listed = client.get("/volumes?limit=100&offset=0&name=POOL").await;
    assert_eq!(
        (&listed["total"], &listed["volumes"][0]["bindToVm"], &listed["volumes"][0]["status"]),
        (&json!(1), &json!(2), &json!("USE"))
    );
    let query = json!({"condition": {"name": "capi-dcs", "value": "team/pool"}});
    assert_eq!(client.send(Method::POST, "/volumes/queryby/custom-properties", query).await["total"], 1);
    let attach = json!({"volUrn": urn, "pciType": "VIRTIO", "sequenceNum": 4});
    client.task(Method::POST, &format!("/vms/{one}/action/attachvol"), attach.clone()).await;
    assert_eq!(
        client.send(Method::POST, &format!("/vms/{other}/action/attachvol"), attach).await["errorCode"],
        "10300074"
    );
    assert_eq!(client.get(&format!("/vms?scope={urn}")).await["vms"][0]["name"], "m1");
    let grown = client
        .task(Method::POST, &format!("/vms/{one}/action/expandvol"), json!({"volUrn": urn, "size": 51_200}))
        .await;
    assert_eq!(grown.1["status"], "success");
    client.task(Method::POST, &format!("/vms/{one}/action/detachvol"), json!({"volUrn": urn, "isFormat": false})).await;
    let volume = client.get(accepted["uri"].as_str().unwrap().trim_start_matches("/service/sites/5A1C0D3E")).await;
    assert_eq!((&volume["quantityGB"], &volume["indepDisk"]), (&json!(50), &json!(true)));

    let rule = json!({"drsSetting": {"drsRules": [{"operationType": 2, "ruleName": "cp", "ruleType": 2,
        "vms": [{"urn": format!("urn:sites:5A1C0D3E:vms:{one}")}]}]}});
    assert_eq!(client.send(Method::PUT, "/clusters/17", rule.clone()).await, json!({}));
    assert_eq!(client.send(Method::PUT, "/clusters/17", rule).await["errorCode"], "10300128");
    assert_eq!(client.get("/clusters/17").await["drsSetting"]["drsRules"][0]["vms"][0]["name"], "m1");
    let moved = json!({"elementType": 1, "elementUrns": [format!("urn:sites:5A1C0D3E:vms:{one}"), "urn:sites:5A1C0D3E:vms:i-00000001"],
        "parentFolderUrn": "urn:sites:5A1C0D3E:folders:391"});
    let moved = client.send(Method::POST, "/folder/action/move-into-folder", moved).await;
    assert_eq!(moved["moveVmsSucceededList"][0]["vmName"], "m1");
    assert_eq!(moved["moveVmsFaileddList"][0]["errorCode"], "10300001");
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_strike_where_they_are_set_and_the_audit_tells() {
    let client = Client::new().await;
    let clone = format!("/vms/{TEMPLATE}/action/clone");
    let lost = |fault: &str| json!({"path": "*/action/clone", "times": 1, "fault": fault});
    for (fault, made) in [("dropBefore", 0), ("dropAfter", 1)] {
        client.control(Method::POST, "/faults", lost(fault)).await;
        let answer = client.request(Method::POST, &clone).json(&json!({"name": fault, "autoBoot": false})).send().await;
        assert!(answer.is_err(), "{fault}: the connection breaks");
        assert_eq!(client.get(&format!("/vms?name={fault}")).await["total"], made, "{fault}");
    }
    for (fault, status) in [
        (json!({"refuse": {"status": 503, "code": 10_000_006}}), 503),
        (json!({"throttle": {"after": 7}}), 429),
        (json!({"html": {"status": 502}}), 502),
        (json!("expireToken"), 401),
    ] {
        client.control(Method::POST, "/faults", json!({"method": "GET", "times": 1, "fault": fault})).await;
        assert_eq!(client.request(Method::GET, "/tasks").send().await.unwrap().status().as_u16(), status, "{fault}");
    }
    let audit = client.control(Method::GET, "/audit", json!({})).await;
    let records: Vec<&Value> = audit.as_array().unwrap().iter().collect();
    let clones: Vec<_> = records.iter().filter(|record| record["path"].as_str().unwrap().ends_with("clone")).collect();
    assert_eq!(clones.iter().map(|record| record["effects"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
    assert!(clones.iter().all(|record| record["status"] == 0));
    let text = fs::read_to_string(client.simulator().engine().data_dir().join("audit.jsonl")).unwrap();
    assert!(text.lines().count() >= records.len() && !text.contains("Basalt@12345") && !text.contains(&client.token));
    let counters = client.control(Method::GET, "/counters", json!({})).await;
    assert_eq!(counters["logins"], 1);
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_tokens_and_tasks() {
    let client = Client::new().await;
    client.control(Method::POST, "/task-faults", json!({"task": "DeployVM", "stallAt": 35})).await;
    let accepted = client.send(Method::POST, &format!("/vms/{TEMPLATE}/action/clone"), json!({"name": "m"})).await;
    assert!(accepted["taskUrn"].is_string());
    client.control(Method::POST, "/restart", json!({})).await;
    assert_eq!(client.get("/vms").await["errorCode"], "10000002");
    let tasks = client.control(Method::GET, "/tasks", json!({})).await;
    assert_eq!((&tasks[0]["status"], &tasks[0]["reason"]), (&json!("failed"), &json!("10000005")));
    client.end().await;
}
