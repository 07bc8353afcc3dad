//! What a site refuses, with which status and code. A simulator that accepts what a site would refuse proves nothing.

use dcs_simulator::site::inventory::SiteFile;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, TEMPLATE, refused};

const STORE: &str = "urn:sites:5A1C0D3E:datastores:8";
const BAD: &str = "10000001";

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_in_the_sites_own_words() {
    let client = Client::new().await;
    let get = |path: &'static str, code: &'static str| (Method::GET, path, Value::Null, 400, code);
    client
        .refuses(&[
            (Method::GET, "/nothing", Value::Null, 404, BAD),
            (Method::PATCH, "/vms", Value::Null, 405, BAD),
            (Method::POST, "/volumes", json!({"quantityGB": "40", "datastoreUrn": STORE}), 400, BAD),
            (Method::POST, "/volumes", json!([]), 400, BAD),
            get("/volumes/abc", BAD),
            get("/vms/abc", "10300001"),
            get("/vms/i-0000FFFF", "10300001"),
            get("/volumes/1", "10420004"),
            get("/tasks/1", "10000008"),
            get("/clusters/99", "10300028"),
            get("/hosts/1", "10000008"),
            get("/hosts/1/datastores", "10000008"),
            get("/datastores/99", "10410006"),
            get("/datastores/99/file", "10410006"),
            get("/dvswitchs/9/portgroups", "10540010"),
            get("/dvswitchs/1/portgroups/99", "10540108"),
        ])
        .await;
    let untyped = client.request(Method::POST, "/volumes").body("{}").send().await.unwrap();
    assert_eq!(refused(untyped).await, (400, BAD.to_owned()), "a body without its type");
    let broken =
        client.request(Method::POST, "/volumes").header("Content-Type", "application/json").body("{\"a").send();
    assert_eq!(refused(broken.await.unwrap()).await, (400, BAD.to_owned()));
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_do_not_fit_are_refused_not_ignored() {
    let client = Client::new().await;
    for (path, code) in [
        ("/vms?limit=0", BAD),
        ("/vms?limit=101", BAD),
        ("/vms?offset=-1", BAD),
        ("/vms?detail=3", BAD),
        ("/vms?isTemplate=maybe", BAD),
        ("/vms?orderField=name", BAD),
        ("/vms?orderField=mac&order=ASC", BAD),
        ("/vms?templateUrn=urn:sites:5A1C0D3E:vms:i-000004A1", BAD),
        ("/vms?drsRuleIndex=1", BAD),
        ("/vms?vmurns=urn:sites:5A1C0D3E:vms:i-000004A1&name=a", BAD),
        ("/vms?scope=somewhere", "10300624"),
        ("/vms?scope=urn:sites:FFFFFFFF:clusters:17", "10300624"),
        ("/tasks?status=done", BAD),
        ("/tasks?scope=urn:sites:5A1C0D3E:volumes:901", "10300624"),
        ("/tasks?taskUrns=urn:sites:5A1C0D3E:tasks:1&user=a", BAD),
        ("/volumes?limit=10&offset=0&attachstatus=2", BAD),
        ("/volumes?limit=10&offset=0&name=", BAD),
        ("/volumes?limit=10&offset=0&customProperty=a&name=b", BAD),
        ("/volumes?limit=10&offset=0&volUrns=urn:sites:5A1C0D3E:volumes:1&scope=urn:sites:5A1C0D3E:clusters:17", BAD),
        ("/volumes?limit=10&offset=0&scope=urn:sites:5A1C0D3E:vms:i-000004A1", "10300624"),
        ("/volumes?limit=10", BAD),
        ("/datastores?shareType=1", BAD),
        ("/datastores?scope=urn:sites:5A1C0D3E:datastorecluster:99", "10410488"),
        ("/folder?type=7", BAD),
        ("/folder?type=1&parentObjUrn=urn:sites:5A1C0D3E:folders:9", "10300621"),
        ("/clusters?parentObjUrn=urn:sites:5A1C0D3E:hosts:101", "10300624"),
    ] {
        assert_eq!(client.refusal(Method::GET, path, &Value::Null).await, (400, code.to_owned()), "{path}");
    }
    let urns = vec!["urn:sites:5A1C0D3E:vms:i-000004A1"; 51].join(",");
    assert_eq!(client.refusal(Method::GET, &format!("/vms?vmurns={urns}"), &Value::Null).await.1, BAD);
    assert_eq!(client.get("/vms?orderField=name&order=DESC&isTemplate=true").await["total"], 1);
    assert_eq!(client.get("/vms?isLinkClone=true").await["total"], 0);
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_of_bad_bodies_leave_nothing() {
    let client = Client::new().await;
    let volume = client.volume(10).await;
    let clone = format!("/vms/{TEMPLATE}/action/clone");
    let disk = |sequence: u32| json!({"sequenceNum": sequence, "quantityGB": 1, "datastoreUrn": STORE});
    let disks = |more: Value| json!({"vmConfig": {"disks": [disk(1), more]}});
    let with = |sequence: u32, field: &str, value: Value| {
        let mut disk = disk(sequence);
        disk[field] = value;
        disk
    };
    for (mut body, code) in [
        (json!({"name": "n".repeat(257)}), BAD),
        (json!({"description": "d".repeat(1025)}), BAD),
        (json!({"vmConfig": {"cpu": {"quantity": 65}}}), BAD),
        (json!({"vmConfig": {"cpu": {}}}), BAD),
        (json!({"vmConfig": {"memory": {"quantityMB": 127}}}), BAD),
        (json!({"isLinkClone": true}), BAD),
        (json!({"clonedVmUUID": "3f0b6a52000040008000000000000001"}), BAD),
        (json!({"clonedVmUUID": "{3f0b6a52-0000-4000-8000-000000000001}"}), BAD),
        (json!({"location": "urn:sites:5A1C0D3E:hosts:101"}), "10300067"),
        (json!({"isBindingHost": true}), "10300067"),
        (json!({"location": "urn:sites:5A1C0D3E:folders:391"}), "10300067"),
        (json!({"parentObjUrn": "urn:sites:5A1C0D3E:clusters:17"}), "10300624"),
        (json!({"customProperties": {"k": "v".repeat(257)}}), BAD),
        (json!({"vmConfig": {"disks": []}}), "10300010"),
        (json!({"vmConfig": {"disks": [with(1, "isDataCopy", json!(false))]}}), "10300010"),
        (json!({"vmConfig": {"disks": [with(1, "volumeUrn", json!(volume))]}}), "10300010"),
        (disks(json!({"sequenceNum": 2})), "10300010"),
        (disks(json!({"quantityGB": 1})), BAD),
        (disks(with(1, "quantityGB", json!(1))), "10300070"),
        (disks(with(0, "quantityGB", json!(1))), "10300070"),
        (disks(with(26, "quantityGB", json!(1))), "10300070"),
        (disks(with(3, "pciType", json!("IDE"))), "10300070"),
        (disks(with(2, "pciType", json!("NVME"))), "10300424"),
        (disks(with(2, "quantityGB", json!(70_000))), BAD),
        (disks(with(2, "datastoreUrn", json!("urn:sites:5A1C0D3E:datastores:99"))), "10410006"),
        (disks(with(2, "volumeUrn", json!("urn:sites:5A1C0D3E:volumes:1"))), "10420004"),
        (
            json!({"vmConfig": {"disks": [disk(1), with(2, "volumeUrn", json!(volume)), with(3, "volumeUrn", json!(volume))]}}),
            "10300010",
        ),
        (json!({"vmConfig": {"nics": [{"name": "other"}]}}), "10300012"),
        (json!({"vmCustomization": {"nicSpecification": [{"sequenceNum": 0}]}}), "10300012"),
        (json!({"vmCustomization": {"nicSpecification": [{"sequenceNum": 1, "ip": "10.0.0.256"}]}}), "10300349"),
        (json!({"cdRomProtocol": "cifs", "cdRomDevicePath": "//a/b.iso"}), "10300343"),
    ] {
        if body.get("name").is_none() {
            body["name"] = "m".into();
        }
        assert_eq!(client.refusal(Method::POST, &clone, &body).await, (400, code.to_owned()), "{body}");
    }
    let tasks = client.get("/tasks?type=DeployVM").await["total"].clone();
    assert_eq!((client.get("/vms").await["total"].clone(), tasks), (json!(1), json!(0)));
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_in_the_making_and_its_template_are_left_alone() {
    let client = Client::new().await;
    let (volume, template) = (client.volume(10).await, format!("/vms/{TEMPLATE}"));
    client.control(Method::POST, "/task-faults", json!({"task": "DeployVM", "times": 1, "stallAt": 40})).await;
    let clone = client.send(Method::POST, &format!("{template}/action/clone"), json!({"autoBoot": false})).await;
    let vm = clone["uri"].as_str().unwrap().trim_start_matches("/service/sites/5A1C0D3E").to_owned();
    let attach = json!({"volUrn": volume});
    client
        .refuses(&[
            (Method::POST, &format!("{vm}/action/start"), Value::Null, 400, "10300162"),
            (Method::POST, &format!("{vm}/action/stop"), Value::Null, 400, "10300162"),
            (Method::POST, &format!("{vm}/action/attachvol"), attach.clone(), 400, "10300162"),
            (Method::DELETE, &vm, Value::Null, 400, "10300162"),
            (Method::PUT, &vm, json!({"name": "other"}), 400, "10300162"),
            (Method::POST, &format!("{vm}/action/clone"), json!({}), 400, "10300162"),
            (Method::POST, &format!("{template}/action/start"), Value::Null, 400, "10300169"),
            (Method::POST, &format!("{template}/action/attachvol"), attach, 400, "10300170"),
            (Method::DELETE, &template, Value::Null, 400, "10300133"),
            (Method::PUT, &template, json!({"isTemplate": false}), 400, "10300133"),
        ])
        .await;
    client.control(Method::POST, "/tasks/resume", json!({})).await;
    client.settled().await;

    // A VM can be a source too, if it is off; then it is busy in the same way.
    client.control(Method::POST, "/task-faults", json!({"task": "CloneVM", "times": 1, "stallAt": 40})).await;
    client.send(Method::POST, &format!("{vm}/action/clone"), json!({"autoBoot": false})).await;
    let start = format!("{vm}/action/start");
    client
        .refuses(&[
            (Method::POST, &start, Value::Null, 400, "10300133"),
            (Method::DELETE, &vm, Value::Null, 400, "10300133"),
        ])
        .await;
    client.control(Method::POST, "/tasks/resume", json!({})).await;
    client.settled().await;
    assert_eq!(client.task(Method::POST, &start, Value::Null).await.1["status"], "success");
    client
        .refuses(&[
            (Method::POST, &start, Value::Null, 400, "10300094"),
            (Method::POST, &format!("{vm}/action/clone"), json!({}), 400, "10300320"),
            (Method::POST, &format!("{template}/action/start"), Value::Null, 400, "10300021"),
        ])
        .await;
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_and_deletion_ask_for_the_right_state() {
    let client = Client::new().await;
    client.control(Method::PATCH, "/policy", json!({"toolsWithoutGuest": false})).await;
    let vm = format!("/vms/{}", client.machine("m").await);
    let act = |verb: &str| format!("{vm}/action/{verb}");
    client
        .refuses(&[
            (Method::POST, &act("stop"), Value::Null, 400, "10300092"),
            (Method::POST, &act("reboot"), Value::Null, 400, "10300015"),
            (Method::POST, &act("pause"), Value::Null, 400, "10300015"),
            (Method::POST, &act("dance"), Value::Null, 400, BAD),
            (Method::DELETE, &format!("{vm}?isReserveDisks=2"), Value::Null, 400, BAD),
            (Method::DELETE, &format!("{vm}?isReserveDisks=1&isFormat=1"), Value::Null, 400, BAD),
            (Method::DELETE, &format!("{vm}?holdTime=1441"), Value::Null, 400, BAD),
            (Method::DELETE, &format!("{vm}?vmBin=1"), Value::Null, 400, "10300015"),
            (Method::DELETE, &format!("{vm}?isOnlyDeleteDisksInDB=1"), Value::Null, 400, BAD),
            (Method::PUT, &vm, json!({"cpu": {"quantity": 4}, "memory": {"quantityMB": 4096}}), 400, BAD),
            (Method::PUT, &vm, json!({"externalUuid": "ABC"}), 400, BAD),
        ])
        .await;
    client.task(Method::POST, &act("start"), Value::Null).await;
    client
        .refuses(&[
            (Method::POST, &act("stop"), json!({"mode": "gently"}), 400, BAD),
            (Method::POST, &act("stop"), Value::Null, 400, "10300026"),
            (Method::POST, &act("reboot"), json!({"mode": "safe"}), 400, "10300026"),
            (Method::DELETE, &vm, Value::Null, 400, "102212808"),
            (Method::PUT, &vm, json!({"cpu": {"quantity": 4}}), 400, "10300320"),
        ])
        .await;
    client.task(Method::POST, &act("pause"), Value::Null).await;
    let volume = client.volume(1).await;
    client
        .refuses(&[
            (Method::POST, &act("start"), Value::Null, 400, "10300015"),
            (Method::POST, &act("attachvol"), json!({"volUrn": volume}), 400, "10300331"),
            (Method::DELETE, &vm, Value::Null, 400, "102212808"),
        ])
        .await;
    client.task(Method::POST, &act("stop"), json!({"mode": "force"})).await;
    client.task(Method::DELETE, &format!("{vm}?holdTime=24"), Value::Null).await;
    client
        .refuses(&[
            (Method::POST, &act("start"), Value::Null, 400, "10300015"),
            (Method::DELETE, &vm, Value::Null, 400, "10300015"),
        ])
        .await;
    client.task(Method::DELETE, &format!("{vm}?vmBin=1"), Value::Null).await;
    assert_eq!(client.refusal(Method::DELETE, &vm, &Value::Null).await, (400, "10300001".to_owned()));
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_only_read_change_nothing() {
    let mut site = SiteFile::default();
    site.users[0].role = "auditor".to_owned();
    let client = Client::on(site).await;
    assert_eq!(client.get("/vms").await["total"], 1);
    let machine = format!("/vms/{TEMPLATE}");
    let expected = (500, "10000003".to_owned());
    assert_eq!(client.refusal(Method::DELETE, &machine, &Value::Null).await, expected);
    let volume = json!({"quantityGB": 1, "datastoreUrn": STORE});
    assert_eq!(client.refusal(Method::POST, "/volumes", &volume).await, expected);
    assert_eq!(client.refusal(Method::POST, "/tasks/1/cancel", &Value::Null).await, expected);
    client.end().await;
}
