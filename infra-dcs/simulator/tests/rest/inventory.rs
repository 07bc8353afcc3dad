//! What a site consists of, as lists tell it.

use crate::client::Client;

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
