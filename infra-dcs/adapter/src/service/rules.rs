//! Exclusion rules: machines of one rule run on different hosts.

use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{
        DeleteExclusionRuleRequest, DeleteExclusionRuleResponse, ExclusionRule, GetExclusionRuleRequest,
        PutExclusionRuleRequest,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fault,
    session::Session,
    vrm::{codes, codes::done, path_of},
};

const EXCLUSION: i64 = 2;
const DELETE: i64 = 0;
const MODIFY: i64 = 1;
const CREATE: i64 = 2;

pub(super) async fn get(session: &Session, request: GetExclusionRuleRequest) -> Result<ExclusionRule, MachineError> {
    let found = find(session, &request.compute_cluster_urn, &request.name).await?;
    found.ok_or_else(|| MachineError::new(Reason::NotFound, format!("there is no rule {}", request.name)))
}

pub(super) async fn put(session: &Session, request: PutExclusionRuleRequest) -> Result<ExclusionRule, MachineError> {
    let present = find(session, &request.compute_cluster_urn, &request.name).await?;
    let members: Vec<Value> = request.machine_urns.iter().map(|urn| json!({"urn": urn})).collect();
    let mut rule = json!({"ruleName": request.name, "ruleType": EXCLUSION, "vms": members});
    match &present {
        Some(rule_now) if same(&rule_now.machine_urns, &request.machine_urns) => return Ok(rule_now.clone()),
        Some(rule_now) => {
            rule["operationType"] = json!(MODIFY);
            rule["ruleIndex"] = json!(rule_now.index);
        }
        None => rule["operationType"] = json!(CREATE),
    }
    change(session, &request.compute_cluster_urn, rule).await?;
    get(
        session,
        GetExclusionRuleRequest {
            session: String::new(),
            compute_cluster_urn: request.compute_cluster_urn,
            name: request.name,
        },
    )
    .await
}

pub(super) async fn delete(
    session: &Session,
    request: DeleteExclusionRuleRequest,
) -> Result<DeleteExclusionRuleResponse, MachineError> {
    if let Some(rule) = find(session, &request.compute_cluster_urn, &request.name).await? {
        let body = json!({"operationType": DELETE, "ruleIndex": rule.index});
        match change(session, &request.compute_cluster_urn, body).await {
            Err(error) if !codes::is(&error, done::RULE_GONE) => return Err(error),
            _ => {}
        }
    }
    Ok(DeleteExclusionRuleResponse {})
}

/// Sends our rule alone: whatever else is in a cluster's settings stays out of it.
async fn change(session: &Session, cluster_urn: &str, rule: Value) -> Result<(), MachineError> {
    let path = path_of(cluster_urn)?;
    let body = json!({"drsSetting": {"drsRules": [rule]}});
    let sent = session.vrm.send::<Value>(Method::PUT, &path, &[], Some(&body));
    fault::around("vrm-change-rule", sent).await.map(drop)
}

/// A rule is found by its name: indexes move when others edit theirs.
async fn find(session: &Session, cluster_urn: &str, name: &str) -> Result<Option<ExclusionRule>, MachineError> {
    let cluster: Value = session.vrm.get(&path_of(cluster_urn)?, &[]).await?;
    let rules = cluster["drsSetting"]["drsRules"].as_array().cloned().unwrap_or_default();
    let Some(rule) = rules.iter().find(|rule| rule["ruleName"] == name) else { return Ok(None) };
    if rule["ruleType"] != EXCLUSION {
        return Err(MachineError::new(Reason::Conflict, format!("rule {name} exists and is no exclusion rule")));
    }
    let members = rule["vms"].as_array().into_iter().flatten();
    Ok(Some(ExclusionRule {
        name: name.to_owned(),
        index: rule["ruleIndex"].as_i64().unwrap_or_default(),
        machine_urns: members.filter_map(|vm| Some(vm["urn"].as_str()?.to_owned())).collect(),
    }))
}

fn same(a: &[String], b: &[String]) -> bool {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(a) == sorted(b)
}
