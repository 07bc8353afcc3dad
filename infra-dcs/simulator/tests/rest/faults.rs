//! Faults on purpose, and the audit that tells of them.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, TEMPLATE};

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
