//! What is asked of a past that the server has forgotten. These checks make it forget, and so run after all others.

use serde_json::{Value, json};

use crate::{
    checks,
    cluster::{Cluster, version, widget},
};

checks!(
    a_watch_from_a_forgotten_version_is_ended,
    a_list_continued_too_late_can_go_on,
    a_list_at_a_forgotten_version_is_refused,
);

/// Checks a refusal, in which `N` stands for a number.
#[track_caller]
fn expired(status: &Value, message: &str) {
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    let said = status["message"].as_str().unwrap();
    let (before, after) = message.split_once('N').unwrap_or((message, ""));
    let number = said.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let is_number = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    assert!(is_number, "{said:?} is not {message:?}");
}

async fn a_watch_from_a_forgotten_version_is_ended(c: &Cluster) {
    c.post(&c.widgets(""), &widget("a", &json!({}))).await.ok();
    let events = c.watch(&c.widgets("?watch=1&resourceVersion=1"), 2).await;
    let [(kind, status)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(kind, "ERROR");
    let oldest = status["message"].as_str().unwrap().split_once('(').unwrap().1.trim_end_matches(')');
    assert!(oldest.parse::<u64>().unwrap() > 1, "{status}");
    expired(status, &format!("too old resource version: 1 ({oldest})"));
}

async fn a_list_continued_too_late_can_go_on(c: &Cluster) {
    for name in ["a", "b", "c"] {
        c.post(&c.widgets(""), &widget(name, &json!({}))).await.ok();
    }
    let first = c.get(&c.widgets("?limit=1")).await.ok();
    c.delete(&c.widgets("/b"), &json!({})).await.ok();
    c.forget_history().await;
    let token = |from: &Value| from["metadata"]["continue"].as_str().unwrap().to_owned();
    let path = c.widgets(&format!("?limit=1&continue={}", token(&first)));
    c.eventually(|| async { c.get(&path).await.code != 200 }).await;
    let refused = c.get(&path).await;
    expired(
        &refused.body,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let rest = c.get(&c.widgets(&format!("?limit=5&continue={}", token(&refused.body)))).await.ok();
    assert_eq!((&rest["items"][0]["metadata"]["name"], &rest["items"][1]), (&json!("c"), &Value::Null));
}

async fn a_list_at_a_forgotten_version_is_refused(c: &Cluster) {
    let first = c.post(&c.widgets(""), &widget("a", &json!({}))).await.ok();
    c.patch(&c.widgets("/a"), "merge", &json!({"spec": {"size": 2}})).await.ok();
    c.forget_history().await;
    for query in ["resourceVersionMatch=Exact", "limit=1"] {
        let path = c.widgets(&format!("?{query}&resourceVersion={}", version(&first)));
        c.eventually(|| async { c.get(&path).await.code != 200 }).await;
        expired(&c.get(&path).await.body, "The resourceVersion for the provided list is too old.");
    }
}
