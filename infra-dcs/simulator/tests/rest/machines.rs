//! Machines and their media, volumes, rules and folders.

use std::{fs, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::client::{Client, TEMPLATE};

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
async fn a_clone_lies_in_its_folder_or_is_moved_there() {
    const FOLDER: &str = "urn:sites:5A1C0D3E:folders:391";
    let client = Client::new().await;
    let site = &client;
    let folder_of = |vm: String| async move { site.get(&format!("/vms/{vm}")).await["params"]["parentObjUrn"].clone() };
    let clone = |name: &'static str| async move {
        let body = json!({"name": name, "autoBoot": false, "parentObjUrn": FOLDER});
        let (accepted, _) = site.task(Method::POST, &format!("/vms/{TEMPLATE}/action/clone"), body).await;
        accepted["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(folder_of(clone("m1").await).await, FOLDER);
    client.control(Method::PATCH, "/policy", json!({"cloneTakesFolder": false})).await;
    let astray = clone("m2").await;
    assert_eq!(folder_of(astray.clone()).await, "urn:sites:5A1C0D3E");
    let into = |folder: &str| json!({"elementType": 1, "elementUrns": [format!("urn:sites:5A1C0D3E:vms:{astray}")], "parentFolderUrn": folder});
    let path = "/folder/action/move-into-folder";
    let refused = client.send(Method::POST, path, into("urn:sites:5A1C0D3E:folders:1")).await;
    assert_eq!(refused["errorCode"], "10300621");
    client.send(Method::POST, path, into(FOLDER)).await;
    assert_eq!(folder_of(astray.clone()).await, FOLDER);
    client.end().await;
}
