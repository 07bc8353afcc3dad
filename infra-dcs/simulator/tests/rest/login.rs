//! Versions, logins, tokens, locks.

use dcs_simulator::site::{
    inventory::SiteFile,
    sessions::{UserFile, UserType},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, refused};

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
async fn logins_say_who_how_and_as_what() {
    let mut site = SiteFile::default();
    let mut domain = UserFile::interconnect("dora", "Domain@1");
    domain.kind = UserType::Domain;
    let mut idle = UserFile::interconnect("rolf", "Roleless@1");
    idle.role = String::new();
    site.users.extend([domain, idle]);
    let client = Client::on(site).await;
    let login = |headers: &[(&str, &str)]| {
        let mut request = client.raw(Method::POST, "/service/session");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async move { refused(request.send().await.unwrap()).await }
    };
    let who = [("X-Auth-User", "basalt"), ("X-Auth-Key", "Basalt@12345")];
    let plain = ("X-ENCRYPT-ALGORITHM", "1");
    let refusals: [(&[(&str, &str)], &str); 10] = [
        (&[who[0], plain], "10000001"),
        (&[who[1], plain], "10000001"),
        (&[who[0], who[1], ("X-ENCRYPT-ALGORITHM", "2")], "10000001"),
        (&[who[0], who[1], plain, ("X-Auth-UserType", "3")], "10000001"),
        (&[who[0], who[1], plain, ("X-Auth-AuthType", "2")], "10000001"),
        (&[who[0], who[1], plain, ("X-Auth-AuthType", "1")], "10100112"),
        (&[who[0], who[1], plain, ("X-Auth-UserType", "1")], "10100342"),
        (&[("X-Auth-User", "dora"), who[1], plain, ("X-Auth-UserType", "1")], "10100343"),
        (&[("X-Auth-User", "rolf"), ("X-Auth-Key", "Roleless@1"), plain], "10100354"),
        // This release takes the key for a digest where the header is spelled as an older one wants it.
        (&[who[0], who[1], ("X-ENCRIPT-ALGORITHM", "1")], "10100103"),
    ];
    for (headers, code) in refusals {
        assert_eq!(login(headers).await, (400, code.to_owned()), "{headers:?}");
    }
    let counters = client.control(Method::GET, "/counters", json!({})).await;
    assert_eq!((&counters["logins"], &counters["failedLogins"]), (&json!(11), &json!(10)));
    for (account, status, code) in
        [("locked", 400, "10100117"), ("notActivated", 400, "10100353"), ("expired", 200, "10100109")]
    {
        client.control(Method::PUT, "/users/basalt", json!({"account": account})).await;
        assert_eq!(login(&[who[0], who[1], plain]).await, (status, code.to_owned()), "{account}");
    }
    client.control(Method::PUT, "/users/basalt", json!({"account": "expiresSoon"})).await;
    let warned = client.login("basalt", "Basalt@12345").await;
    assert!(warned.headers().contains_key("X-Auth-Token"), "a warning is no refusal");
    assert_eq!(refused(warned).await, (200, "10100110".to_owned()));
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted_and_end() {
    let mut site = SiteFile::default();
    site.users[0].connect_num = 2;
    let client = Client::on(site).await;
    let second = client.login("basalt", "Basalt@12345").await.headers()["X-Auth-Token"].to_str().unwrap().to_owned();
    assert_eq!(refused(client.login("basalt", "Basalt@12345").await).await, (400, "10100112".to_owned()));
    let logout = || client.raw(Method::DELETE, "/service/session").header("X-Auth-Token", &second).send();
    assert_eq!(logout().await.unwrap().status(), StatusCode::OK);
    assert_eq!(refused(logout().await.unwrap()).await, (401, "10000002".to_owned()));
    assert!(client.login("basalt", "Basalt@12345").await.headers().contains_key("X-Auth-Token"));
    client.control(Method::POST, "/clock/advance", json!({"ms": 600_001})).await;
    let ended = client.raw(Method::DELETE, "/service/session").header("X-Auth-Token", &client.token).send();
    assert_eq!(refused(ended.await.unwrap()).await, (401, "10000002".to_owned()), "what has ended cannot be ended");
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_the_interface_is_asked_for() {
    let client = Client::new().await;
    let url = format!("https://{}/service/sites", client.simulator().address);
    let ask = |name: &str, value: &str| {
        client.http.get(&url).header("X-Auth-Token", &client.token).header(name, value).send()
    };
    for accept in ["application/json", "application/json;version=9.9;charset=UTF-8", "application/json;version="] {
        assert_eq!(refused(ask("Accept", accept).await.unwrap()).await, (400, "10000022".to_owned()), "{accept}");
    }
    for (name, value) in [("Accept", "application/json;version=v8.0"), ("version", "8.1")] {
        assert_eq!(ask(name, value).await.unwrap().status(), StatusCode::OK, "{name}: {value}");
    }
    client.end().await;
}
