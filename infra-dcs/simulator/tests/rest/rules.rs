//! Exclusion rules: names, members, numbers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;

fn rules(rules: Value) -> Value {
    json!({"drsSetting": {"drsRules": rules}})
}

fn create(name: &str, kind: u8, members: &[&str]) -> Value {
    let vms: Vec<Value> = members.iter().map(|id| json!({"urn": format!("urn:sites:5A1C0D3E:vms:{id}")})).collect();
    json!({"operationType": 2, "ruleName": name, "ruleType": kind, "vms": vms})
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_have_names_members_and_limits() {
    let client = Client::new().await;
    client.control(Method::PATCH, "/policy", json!({"ruleMaxVms": 2})).await;
    let vms = [client.machine("a").await, client.machine("b").await, client.machine("c").await];
    let [a, b, c] = vms.each_ref().map(String::as_str);
    assert_eq!(client.send(Method::PUT, "/clusters/17", rules(json!([create("first", 2, &[a, b])]))).await, json!({}));
    let listed = client.control(Method::GET, "/rules", Value::Null).await;
    assert_eq!(
        (&listed[0]["name"], &listed[0]["index"], &listed[0]["vms"]),
        (&json!("first"), &json!(1), &json!([a, b]))
    );
    let put = |rule: Value, code: &'static str| (Method::PUT, "/clusters/17", rules(json!([rule])), 400, code);
    client
        .refuses(&[
            put(create("first", 2, &[]), "10300128"),
            put(create("", 2, &[]), "10300126"),
            put(create("a:b", 2, &[]), "10300126"),
            put(create(&"n".repeat(256), 2, &[]), "10300126"),
            put(create("second", 3, &[]), "10300125"),
            put(create("second", 2, &[a, b, c]), "10300136"),
            put(create("second", 2, &["i-00000001"]), "10300129"),
            put(create("second", 1, &[a, b]), "10300246"),
            put(json!({"operationType": 1, "ruleName": "first", "ruleType": 2}), "10300135"),
            put(json!({"operationType": 1, "ruleIndex": 1, "ruleType": 1}), "10300125"),
            put(json!({"operationType": 1, "ruleIndex": 9, "ruleType": 2}), "10300130"),
            put(json!({"operationType": 0}), "10300135"),
            put(json!({"operationType": 0, "ruleIndex": 9}), "10300130"),
            put(json!({"operationType": 3}), "10300127"),
            put(json!({}), "10300127"),
            put(json!({"operationType": "2"}), "10000001"),
            (Method::PUT, "/clusters/99", rules(json!([create("x", 2, &[])])), 400, "10300028"),
        ])
        .await;
    // All or none: the second of two is refused, so the first is not made either.
    let both = rules(json!([create("made", 2, &[]), create("first", 2, &[])]));
    assert_eq!(client.refusal(Method::PUT, "/clusters/17", &both).await.1, "10300128");
    let many: Vec<Value> = (2..=20).map(|number| create(&format!("rule-{number}"), 2, &[])).collect();
    assert_eq!(client.send(Method::PUT, "/clusters/17", rules(many.into())).await, json!({}));
    client.refuses(&[put(create("one-too-many", 2, &[]), "10300137")]).await;
    client.end().await;
}
