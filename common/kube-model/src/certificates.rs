//! `CertificateSigningRequest`: what may be written when (`pkg/registry/certificates/certificates/strategy.go`). Who asks
//! is written into the object by whoever knows, in front of this server.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    apply::schema::Schema,
    builtin::{conditions, kind, named, selectable},
    errors::FieldError,
    object,
    registry::{Behaviour, Resource},
};

/// Subresource of those who approve and deny.
pub const APPROVAL: &str = "approval";
/// Conditions that nothing but [`APPROVAL`] writes.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

pub fn resource() -> Resource {
    let spec = Schema::record([("extra", Schema::map())]);
    let csr = kind(
        "certificates.k8s.io",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        false,
        [("spec", spec), ("status", Schema::record([conditions()]))],
    );
    let mut csr = selectable(named(csr, &["csr"], &[]), &["spec.signerName"]);
    csr.behaviour = Behaviour {
        has_status: true,
        has_approval: true,
        has_path_names: true,
        updates_unconditionally: true,
        ..Behaviour::default()
    };
    csr.prepare = Some(Arc::new(|csr, old| match old {
        None => csr["status"] = json!({}),
        // What was asked for stays.
        Some(old) => object::copy_field(csr, old, "spec"),
    }));
    csr.validate = Some(Arc::new(|csr, _| {
        let spec = &csr["spec"];
        let is_missing = |field: &str| match &spec[field] {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => true,
        };
        let missing = ["request", "signerName", "usages"].into_iter().filter(|field| is_missing(field));
        missing.map(|field| FieldError::required(format!("spec.{field}"), "")).collect()
    }));
    csr
}

/// A write of the status: decisions stay as they are.
pub fn keep_approval(new: &mut Value, live: &Value, now: &str) {
    let is_decision = |condition: &Value| DECISIONS.iter().any(|decision| condition["type"] == *decision);
    let mut kept: Vec<Value> = of(live).iter().filter(|condition| is_decision(condition)).cloned().collect();
    kept.extend(of(new).iter().filter(|condition| !is_decision(condition)).cloned());
    set_conditions(new, live, kept, now);
}

/// A write of the approval: the conditions and nothing else.
pub fn keep_all_but_approval(new: &mut Value, live: &Value, now: &str) {
    let written = of(new).to_vec();
    object::copy_field(new, live, "spec");
    object::copy_field(new, live, "status");
    set_conditions(new, live, written, now);
}

fn of(csr: &Value) -> &[Value] {
    csr.pointer("/status/conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Sets the conditions; those that name no times get them.
fn set_conditions(new: &mut Value, live: &Value, mut conditions: Vec<Value>, now: &str) {
    for condition in &mut conditions {
        let is_same = |old: &&Value| old["type"] == condition["type"] && old["status"] == condition["status"];
        let since = of(live).iter().find(is_same).map(|old| old["lastTransitionTime"].clone());
        let since = since.filter(Value::is_string).unwrap_or_else(|| json!(now));
        let Some(fields) = condition.as_object_mut() else { continue };
        fields.entry("lastUpdateTime").or_insert_with(|| json!(now));
        fields.entry("lastTransitionTime").or_insert(since);
    }
    if !new["status"].is_object() {
        new["status"] = json!({});
    }
    if conditions.is_empty() {
        if let Some(status) = new["status"].as_object_mut() {
            status.remove("conditions");
        }
    } else {
        new["status"]["conditions"] = conditions.into();
    }
}
