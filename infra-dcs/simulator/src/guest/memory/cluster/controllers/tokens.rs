//! The signer of `cluster-info` and the cleaner of bootstrap tokens.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Context, earliest};
use crate::guest::memory::{
    cluster::api::{CONFIG_MAPS, SECRETS, name},
    kubeadm::tokens::{SECRET_TYPE, SIGNATURE_PREFIX, signature},
};

/// Deletes tokens whose time is over, and signs for the others. Answers when the next one ends.
pub fn pass(context: &Context<'_>) -> Option<Timestamp> {
    let mut due = None;
    let mut signatures = Vec::new();
    let map = context.api.get(CONFIG_MAPS, "kube-public", "cluster-info");
    let content = map.as_ref().and_then(|map| map["data"]["kubeconfig"].as_str()).unwrap_or_default().to_owned();
    let secrets = context.api.list(SECRETS, "kube-system");
    for secret in secrets.iter().filter(|secret| secret["type"] == SECRET_TYPE) {
        let field = |field: &str| {
            let bytes = BASE64_STANDARD.decode(secret["data"][field].as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let expires = field("expiration").map(|text| text.parse::<Timestamp>().unwrap_or(Timestamp::MIN));
        match expires {
            Some(expires) if expires <= context.now => {
                context.api.by("kube-controller-manager").delete(SECRETS, "kube-system", name(secret), None);
                continue;
            }
            other => due = earliest(due, other),
        }
        if let (Some(id), Some(token), Some("true")) =
            (field("token-id"), field("token-secret"), field("usage-bootstrap-signing").as_deref())
        {
            signatures.push((format!("{SIGNATURE_PREFIX}{id}"), signature(&content, &id, &token)));
        }
    }
    if let Some(map) = map.filter(|_| !content.is_empty()) {
        let present = map["data"].as_object().into_iter().flatten();
        let mut changes: Map<String, Value> = present
            .filter(|(key, _)| key.starts_with(SIGNATURE_PREFIX) && !signatures.iter().any(|(known, _)| known == *key))
            .map(|(key, _)| (key.clone(), Value::Null))
            .collect();
        let new = signatures.into_iter().filter(|(key, signature)| map["data"][key] != signature.as_str());
        changes.extend(new.map(|(key, signature)| (key, signature.into())));
        if !changes.is_empty() {
            let api = context.api.by("kube-controller-manager");
            let _ = api.merge(CONFIG_MAPS, "kube-public", "cluster-info", json!({"data": changes}));
        }
    }
    due
}
