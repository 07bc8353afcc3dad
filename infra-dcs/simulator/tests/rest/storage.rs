//! What a site refuses about volumes, uploads and media.

use dcs_simulator::site::inventory::SiteFile;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, TEMPLATE};

const STORE: &str = "urn:sites:5A1C0D3E:datastores:8";
const BAD: &str = "10000001";

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_refused_what_they_cannot_be() {
    let mut site = SiteFile::default();
    site.datastores[1].thin = false;
    site.datastores[1].storage_type = "LOCALPOME".to_owned();
    site.datastores[2].storage_type = "eVol".to_owned();
    site.templates[0].datastore = "ds-san-1".to_owned();
    let client = Client::on(site).await;
    let on = |store: u32, gb: u64, thin: bool| json!({"quantityGB": gb, "isThin": thin, "datastoreUrn": format!("urn:sites:5A1C0D3E:datastores:{store}")});
    let with = |field: &str, value: Value| {
        let mut body = on(8, 1, true);
        body[field] = value;
        body
    };
    let marks: serde_json::Map<String, Value> = (0..11).map(|key| (key.to_string(), json!("v"))).collect();
    let create = |body: Value, code: &'static str| (Method::POST, "/volumes", body, 400, code);
    client
        .refuses(&[
            create(json!({"datastoreUrn": STORE}), BAD),
            create(json!({"quantityGB": 1}), "10300624"),
            create(on(99, 1, true), "10410006"),
            create(on(8, 70_000, true), BAD),
            create(on(8, 20_000, false), "10420037"),
            create(on(9, 1, true), "10420045"),
            create(on(9, 16_384, false), BAD),
            create(on(10, 1, false), "10420066"),
            create(with("name", json!("n".repeat(257))), BAD),
            create(with("type", json!("share")), "10420071"),
            create(with("datastoreUrn", json!("urn:sites:5A1C0D3E:datastorecluster:5")), "10300624"),
            create(with("customProperties", marks.into()), "10110001"),
        ])
        .await;
    client.control(Method::PUT, "/datastores/ds-san-1", json!({"status": "READONLY"})).await;
    client.refuses(&[create(on(8, 1, true), "10410154")]).await;
    client.control(Method::PUT, "/datastores/ds-san-1", json!({"status": "NORMAL"})).await;
    assert_eq!(client.get("/volumes?limit=10&offset=0&name=n").await["total"], 1, "the VM template's only");
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_volumes_keep_their_place_and_their_rules() {
    let client = Client::new().await;
    let (one, other) =
        (format!("/vms/{}", client.machine("one").await), format!("/vms/{}", client.machine("two").await));
    let (free, held) = (client.volume(10).await, client.volume(10).await);
    let attach = |urn: &str, bus: &str, sequence: u32| json!({"volUrn": urn, "pciType": bus, "sequenceNum": sequence});
    client.task(Method::POST, &format!("{one}/action/attachvol"), attach(&held, "VIRTIO", 4)).await;
    let path = format!("/volumes/{}", held.rsplit(':').next().unwrap());
    let (put, off) = (format!("{one}/action/attachvol"), format!("{one}/action/detachvol"));
    let system = client.get(&one).await["vmConfig"]["disks"][0]["volumeUrn"].clone();
    client
        .refuses(&[
            (Method::POST, &put, json!({}), 400, "10300624"),
            (Method::POST, &put, json!({"volUrn": "urn:sites:5A1C0D3E:volumes:1"}), 400, "10420004"),
            (Method::POST, &put, attach(&free, "NVME", 5), 400, "10300424"),
            (Method::POST, &put, attach(&free, "VIRTIO", 4), 400, "10300070"),
            (Method::POST, &put, attach(&free, "VIRTIO", 0), 400, "10300070"),
            (Method::POST, &put, attach(&free, "VIRTIO", 26), 400, "10300070"),
            (Method::POST, &put, attach(&free, "IDE", 3), 400, "10300070"),
            (Method::POST, &put, attach(&free, "IDE", 4), 400, "10300070"),
            (Method::POST, &put, attach(&free, "SCSI", 61), 400, "10300070"),
            (Method::POST, &put, attach(&held, "VIRTIO", 5), 400, "10300076"),
            (Method::POST, &format!("{other}/action/attachvol"), attach(&held, "VIRTIO", 5), 400, "10300074"),
            (Method::POST, &format!("/vms/{TEMPLATE}/action/attachvol"), attach(&free, "VIRTIO", 5), 400, "10300170"),
            (Method::POST, &format!("{other}/action/detachvol"), json!({"volUrn": held}), 400, "10300037"),
            (Method::POST, &off, json!({"volUrn": free}), 400, "10300330"),
            (Method::POST, &off, json!({"volUrn": system}), 400, "10300165"),
            (Method::DELETE, &path, Value::Null, 400, "10420009"),
            (Method::DELETE, &format!("{path}?isFormat=2"), Value::Null, 400, BAD),
            (Method::POST, &format!("{path}/action/expandVol"), json!({"size": 20_480}), 400, "10420142"),
            (Method::POST, &format!("{one}/action/expandvol"), json!({"volUrn": held, "size": 20_481}), 400, BAD),
            (
                Method::POST,
                &format!("{one}/action/expandvol"),
                json!({"volUrn": held, "size": 10_240}),
                400,
                "10300323",
            ),
            (
                Method::POST,
                &format!("{one}/action/expandvol"),
                json!({"volUrn": free, "size": 20_480}),
                400,
                "10300321",
            ),
            (
                Method::POST,
                &format!("{other}/action/expandvol"),
                json!({"volUrn": held, "size": 20_480}),
                400,
                "10300322",
            ),
            (Method::PUT, &path, json!({"type": "share"}), 400, "10420071"),
            (Method::POST, "/volumes/queryby/custom-properties", json!({"condition": {"name": "a"}}), 400, BAD),
            (
                Method::POST,
                "/volumes/queryby/custom-properties",
                json!({"condition": {"name": "a", "value": "b"}, "limit": 101}),
                400,
                BAD,
            ),
        ])
        .await;

    client.control(Method::PATCH, "/policy", json!({"diskHotPlug": false, "diskHotUnplug": false})).await;
    client.task(Method::POST, &format!("{one}/action/start"), Value::Null).await;
    client
        .refuses(&[
            (Method::POST, &put, attach(&free, "VIRTIO", 5), 400, "10300320"),
            (Method::POST, &off, json!({"volUrn": held}), 400, "10300569"),
        ])
        .await;
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_ask_for_a_name_room_and_a_ticket_in_time() {
    let mut site = SiteFile::default();
    site.datastores[1].uploads = false;
    let client = Client::on(site).await;
    let apply = |store: u32| format!("/datastores/{store}/applyUpload");
    let file = |name: &str, size: u64| json!({"fileName": name, "fileSize": size});
    client.upload("there.iso").await;
    client
        .refuses(&[
            (Method::POST, &apply(99), file("a.iso", 1), 400, "10410006"),
            (Method::POST, &apply(9), file("a.iso", 1), 400, "10410052"),
            (Method::POST, &apply(8), json!({"fileName": "a.iso"}), 400, BAD),
            (Method::POST, &apply(8), json!({"fileName": "a.iso", "fileSize": "1"}), 400, BAD),
            (Method::POST, &apply(8), file("a.iso", 0), 400, BAD),
            (Method::POST, &apply(8), file("a.iso", 1 << 50), 400, "10410003"),
            (Method::POST, &apply(8), file("", 1), 400, BAD),
            (Method::POST, &apply(8), file("../a.iso", 1), 400, BAD),
            (Method::POST, &apply(8), file("8@a.iso", 1), 400, BAD),
            (Method::POST, &apply(8), file(&"n".repeat(257), 1), 400, BAD),
            (Method::POST, &apply(8), file("there.iso", 1), 400, "10300381"),
            (Method::DELETE, &apply(99), json!({"hostId": 101}), 400, "10410006"),
            (Method::DELETE, "/datastores/8/file/1", Value::Null, 400, "10000008"),
        ])
        .await;

    let ticket = async || {
        let ticket = client.send(Method::POST, &apply(8), file("late.iso", 4)).await;
        (ticket["uploadUrl"].as_str().unwrap().to_owned(), ticket["token"].as_str().unwrap().to_owned())
    };
    let send = async |(url, token): &(String, String), bytes: usize| {
        client.http.put(url).header("X-Auth-Token", token).body(vec![7; bytes]).send().await.unwrap().status()
    };
    let (first, second) = (ticket().await, ticket().await);
    assert_eq!(send(&(first.0.clone(), second.1.clone()), 4).await, StatusCode::FORBIDDEN, "another's token");
    assert_eq!(send(&first, 5).await, StatusCode::BAD_REQUEST, "more than announced");
    assert_eq!(send(&first, 4).await, StatusCode::OK);
    assert_eq!(send(&first, 4).await, StatusCode::FORBIDDEN, "a ticket is good once");
    assert_eq!(send(&second, 4).await, StatusCode::BAD_REQUEST, "the name is taken meanwhile");
    client.control(Method::PATCH, "/policy", json!({"uploadOverwrites": true})).await;
    let late = ticket().await;
    client.control(Method::POST, "/clock/advance", json!({"ms": 300_001})).await;
    assert_eq!(send(&late, 4).await, StatusCode::FORBIDDEN, "a ticket ends");
    let host = format!("https://{}/fileupload/none", client.simulator().upload_address);
    assert_eq!(client.http.get(&host).send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_ask_for_the_right_moment() {
    let client = Client::new().await;
    client.upload("a.iso").await;
    let vm = format!("/vms/{}", client.machine("m").await);
    let (put, out) = (format!("{vm}/action/attachCdrom"), format!("{vm}/action/detachCdrom"));
    let medium =
        |path: &str, protocol: &str| json!({"devicePath": path, "protocol": protocol, "attachAtPowerOn": true});
    let file = client.get("/datastores/8/file").await["files"][0]["id"].clone();
    let delete = format!("/datastores/8/file/{file}");
    client
        .refuses(&[
            (Method::POST, &put, json!({"protocol": "file"}), 400, "10301035"),
            (Method::POST, &put, medium("", "file"), 400, "10301035"),
            (Method::POST, &put, medium("a.iso", "file"), 400, "10301035"),
            (Method::POST, &put, medium("8@a.iso", "datastore"), 400, "10300343"),
            (Method::POST, &put, medium("//host/share/a.iso", "cifs"), 400, "10300015"),
            (Method::POST, &put, json!({"devicePath": "8@a.iso", "protocol": "file"}), 400, "10300015"),
            (Method::POST, &format!("/vms/{TEMPLATE}/action/attachCdrom"), medium("8@a.iso", "file"), 400, "10300170"),
            (Method::POST, &out, Value::Null, 400, "10300034"),
        ])
        .await;
    let absent = client.task(Method::POST, &put, medium("8@b.iso", "file")).await.1;
    assert_eq!((&absent["status"], &absent["reason"]), (&json!("failed"), &json!("10800110")));
    client.task(Method::POST, &put, medium("8@a.iso", "file")).await;
    client
        .refuses(&[
            (Method::POST, &put, medium("8@a.iso", "file"), 400, "10300033"),
            (Method::POST, &out, Value::Null, 400, "10300015"),
            (Method::DELETE, &delete, Value::Null, 400, "10410232"),
        ])
        .await;
    client.task(Method::POST, &format!("{vm}/action/start"), Value::Null).await;
    client.refuses(&[(Method::DELETE, &delete, Value::Null, 400, "10410232")]).await;
    client.task(Method::POST, &out, Value::Null).await;
    assert_eq!(client.send(Method::DELETE, &delete, json!({})).await, json!({}));
    client.end().await;
}
