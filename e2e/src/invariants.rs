//! What must hold at the end of every scenario, whatever happened on the way.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use regex::bytes::Regex;
use serde_json::Value;

use crate::{cluster::Shape, environment::Environment, scenarios::steps, tree};

/// Logs of programs that are not ours.
const FOREIGN_LOGS: &[&str] =
    &["audit.log", "etcd.log", "kube-apiserver.log", "kube-controller-manager.log", "core.log"];

/// Checks everything; fails with the first thing that does not hold.
pub async fn hold(environment: &mut Environment, shape: &Shape) -> Result<()> {
    site_is_sound(environment).await?;
    one_vm_per_machine(environment, shape).await?;
    let objects = tree::objects(&environment.management.client, &shape.namespace).await?;
    every_condition_has_a_reason(&objects)?;
    let metrics = environment.metrics().await?;
    no_secret_is_told(environment, shape, &objects, &metrics).await
}

/// No disk at two VMs, no task that holds what it should not, no capacity exceeded.
async fn site_is_sound(environment: &Environment) -> Result<()> {
    let violations = environment.site.control("violations").await?;
    match violations.as_array() {
        Some(none) if none.is_empty() => Ok(()),
        _ => bail!("the site is not sound: {violations}"),
    }
}

/// As many VMs as machines, and no name, and so no address, twice.
async fn one_vm_per_machine(environment: &Environment, shape: &Shape) -> Result<()> {
    let vms = steps::vms(environment, shape).await?;
    let machines = steps::machines(environment, shape).await?;
    let names: BTreeSet<&str> = vms.iter().filter_map(|vm| vm["name"].as_str()).collect();
    if vms.len() != machines.len() || names.len() != vms.len() {
        let machines: Vec<_> = machines.iter().filter_map(|machine| machine.metadata.name.as_deref()).collect();
        let vms: Vec<_> = vms.iter().map(|vm| format!("{} {} {}", vm["id"], vm["name"], vm["status"])).collect();
        bail!("the machines {machines:?} have the VMs {vms:?}");
    }
    Ok(())
}

/// Each condition has a reason, and what sums an object up says why it is not true.
fn every_condition_has_a_reason(objects: &[DynamicObject]) -> Result<()> {
    for object in objects {
        let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        for condition in object.data.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            let sums_up = ["Ready", "Available"].contains(&text("type"));
            let is_silent = sums_up && text("status") != "True" && text("message").is_empty();
            if text("reason").is_empty() || is_silent {
                bail!("{kind} {name} does not say why {condition}");
            }
        }
    }
    Ok(())
}

/// Neither our logs, nor metrics, events and objects hold what the Secrets of the namespace keep.
async fn no_secret_is_told(
    environment: &Environment,
    shape: &Shape,
    objects: &[DynamicObject],
    metrics: &[(&str, String)],
) -> Result<()> {
    let client = &environment.management.client;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &shape.namespace);
    let mut canaries = BTreeSet::new();
    for secret in secrets.list(&ListParams::default()).await?.items {
        for (key, value) in secret.data.unwrap_or_default() {
            canaries.extend(canaries_of(&key, &String::from_utf8_lossy(&value.0)));
        }
    }
    if canaries.is_empty() {
        bail!("namespace {} keeps no secret: nothing could be told, and nothing is proven", shape.namespace);
    }
    let any: Vec<String> = canaries.iter().map(|canary| regex::escape(canary)).collect();
    let any = Regex::new(&any.join("|"))?;
    let told = |place: &str, text: &[u8]| match any.find(text) {
        // The secret itself must not be told here either.
        Some(found) => {
            let line = text[..found.start()].split(|byte| *byte == b'\n').count();
            bail!("{place} tells a secret, in line {line}")
        }
        None => Ok(()),
    };
    for entry in fs::read_dir(environment.logs())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !FOREIGN_LOGS.contains(&name.as_str()) {
            told(&name, &fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?)?;
        }
    }
    for (manager, metrics) in metrics {
        told(&format!("the metrics of {manager}"), metrics.as_bytes())?;
    }
    for object in objects {
        let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
        let place = format!("{kind} {}", object.metadata.name.as_deref().unwrap_or_default());
        // What a user wrote into a spec is the user's; what we write is status and metadata.
        told(&place, object.data["status"].to_string().as_bytes())?;
        told(&place, serde_json::to_string(&object.metadata.annotations)?.as_bytes())?;
    }
    let events: Api<Event> = Api::namespaced(client.clone(), &shape.namespace);
    for event in events.list(&ListParams::default()).await?.items {
        told("an event", event.message.unwrap_or_default().as_bytes())?;
    }
    Ok(())
}

/// What must not be seen of a Secret's value: passwords, private keys, bootstrap tokens.
fn canaries_of(key: &str, value: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if key == "authKey" {
        found.insert(value.to_owned());
    }
    let mut lines = value.lines();
    while let Some(line) = lines.next() {
        if line.contains("PRIVATE KEY-----") && line.contains("BEGIN") {
            found.extend(lines.next().map(str::to_owned));
        }
        if let Some(data) = line.trim().strip_prefix("client-key-data: ") {
            // The first characters are the same in every key.
            found.insert(data.chars().skip(64).take(64).collect());
        }
    }
    for (at, _) in value.match_indices('.') {
        let token = at.checked_sub(6).and_then(|from| value.get(from..at + 17)).filter(|token| is_token(token));
        found.extend(token.map(str::to_owned));
    }
    found.retain(|canary| canary.len() >= 8);
    found
}

/// A bootstrap token: six characters, a dot, sixteen characters.
fn is_token(text: &str) -> bool {
    let part = |text: &str, length: usize| {
        text.len() == length && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    text.split_once('.').is_some_and(|(id, secret)| part(id, 6) && part(secret, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_seen_is_found_in_secrets() {
        assert_eq!(canaries_of("authKey", "Sup3r-Secret"), ["Sup3r-Secret".to_owned()].into());
        let pem = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n\
                   -----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(canaries_of("tls.key", pem), ["MIIEowIBAAKCAQEAx".to_owned()].into());
        assert_eq!(
            canaries_of("value", "token: abcdef.0123456789abcdef\n"),
            ["abcdef.0123456789abcdef".to_owned()].into()
        );
        assert!(canaries_of("value", "server: https://api.example.com:6443").is_empty());
    }

    #[test]
    fn an_unexplained_condition_is_found() {
        let object = |condition: Value| {
            let resource = kube::api::ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk("g", "v1", "K"));
            DynamicObject::new("x", &resource).data(serde_json::json!({"status": {"conditions": [condition]}}))
        };
        let fine = object(serde_json::json!({"type": "Ready", "status": "False", "reason": "R", "message": "m"}));
        let mute = object(serde_json::json!({"type": "Ready", "status": "False", "reason": "R"}));
        assert!(every_condition_has_a_reason(&[fine]).is_ok());
        assert!(every_condition_has_a_reason(&[mute]).is_err());
    }
}
