//! The conditions that readers of v1beta1 know: their own types, reasons and severities, derived from the current ones.

use cluster_api::conditions::{Status, get};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kubeadm::api::v1beta1;
use serde_json::{Value, json};

use super::super::{
    facts::Facts,
    names::{condition, reason},
};

/// What `Ready` sums up.
const SUMMED: [&str; 6] = [
    "MachinesCreated",
    "MachinesSpecUpToDate",
    "Resized",
    condition::MACHINES_READY,
    condition::AVAILABLE,
    condition::CERTIFICATES,
];

/// How bad it is that a condition does not hold; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Error,
    Warning,
    Info,
}

/// A condition in the old style: the severity is there exactly while it is false.
struct Old {
    type_: &'static str,
    status: Status,
    severity: Option<Severity>,
    reason: String,
    message: String,
}

impl Old {
    fn holds(type_: &'static str) -> Self {
        Self { type_, status: Status::True, severity: None, reason: String::new(), message: String::new() }
    }

    fn fails(type_: &'static str, severity: Severity, reason: &str, message: impl Into<String>) -> Self {
        let (reason, message) = (reason.to_owned(), message.into());
        Self { type_, status: Status::False, severity: Some(severity), reason, message }
    }

    /// As the current condition says it, under its own reason.
    fn of(type_: &'static str, current: &Condition, severity: Severity) -> Self {
        match current.status.as_str() {
            "True" => Self::holds(type_),
            "False" => Self::fails(type_, severity, &current.reason, current.message.clone()),
            _ => Self {
                status: Status::Unknown,
                severity: None,
                ..Self::fails(type_, severity, &current.reason, current.message.clone())
            },
        }
    }
}

/// The conditions, with `Ready` first. `before` are those shown until now: a time changes only with its status.
pub fn conditions(
    facts: &Facts,
    current: &[Condition],
    deleting: bool,
    failure: Option<&str>,
    before: &[Value],
) -> Vec<Value> {
    let was_shown = |type_: &str| before.iter().any(|shown| shown["type"] == type_);
    let mut all = Vec::new();
    all.extend(machines_created(facts, current, failure));
    all.extend(spec_up_to_date(facts, was_shown("MachinesSpecUpToDate")));
    all.extend(resized(facts, current, deleting));
    all.extend(
        get(current, condition::MACHINES_READY).map(|found| Old::of(condition::MACHINES_READY, found, Severity::Info)),
    );
    all.push(if facts.initialized {
        Old::holds(condition::AVAILABLE)
    } else {
        Old::fails(condition::AVAILABLE, Severity::Info, "WaitingForKubeadmInit", "")
    });
    all.extend(get(current, condition::CERTIFICATES).map(|found| {
        let severity = if facts.initialized { Severity::Error } else { Severity::Warning };
        let reason = "CertificatesGenerationFailed".to_owned();
        Old { reason, ..Old::of(condition::CERTIFICATES, found, severity) }
    }));
    let summary = summary(&all);
    all.extend(health(current, condition::COMPONENTS, "ControlPlaneComponents"));
    all.extend(if facts.managed_etcd() {
        health(current, condition::ETCD, "EtcdCluster")
    } else {
        Some(Old::holds(condition::ETCD))
    });
    std::iter::once(summary).chain(all).map(|old| rendered(&old, facts.now, before)).collect()
}

fn machines_created(facts: &Facts, current: &[Condition], failure: Option<&str>) -> Option<Old> {
    let growing = get(current, condition::SCALING_UP).is_some_and(|found| found.status == "True");
    match failure {
        Some(failure) if growing => {
            Some(Old::fails("MachinesCreated", Severity::Error, "MachineGenerationFailed", failure))
        }
        _ => (!growing || !facts.machines.is_empty()).then(|| Old::holds("MachinesCreated")),
    }
}

fn spec_up_to_date(facts: &Facts, was_shown: bool) -> Option<Old> {
    let outdated =
        facts.machines.iter().filter(|machine| !machine.is_up_to_date() && machine.deleting.is_none()).count();
    if outdated == 0 {
        return was_shown.then(|| Old::holds("MachinesSpecUpToDate"));
    }
    let current = facts.machines.len() - outdated;
    let message = format!("Rolling {outdated} replicas with outdated spec ({current} replicas up to date)");
    Some(Old::fails("MachinesSpecUpToDate", Severity::Warning, "RollingUpdateInProgress", message))
}

fn resized(facts: &Facts, current: &[Condition], deleting: bool) -> Option<Old> {
    let scaling = |type_: &str| get(current, type_).filter(|found| found.status == "True");
    if deleting {
        return Some(Old::fails("Resized", Severity::Info, reason::DELETING, ""));
    }
    if let Some(up) = scaling(condition::SCALING_UP) {
        return Some(Old::fails("Resized", Severity::Warning, condition::SCALING_UP, up.message.clone()));
    }
    if let Some(down) = scaling(condition::SCALING_DOWN) {
        return Some(Old::fails("Resized", Severity::Warning, condition::SCALING_DOWN, down.message.clone()));
    }
    facts.machines.iter().all(|machine| machine.is_true("Ready")).then(|| Old::holds("Resized"))
}

fn health(current: &[Condition], type_: &'static str, prefix: &str) -> Option<Old> {
    let found = get(current, type_)?;
    let old = Old::of(type_, found, Severity::Warning);
    let said = match found.status.as_str() {
        "False" => "Unhealthy",
        "Unknown" if found.reason == reason::HEALTH_UNKNOWN => "Unknown",
        _ => reason::INSPECTION_FAILED,
    };
    Some(Old { reason: format!("{prefix}{said}"), ..old })
}

/// `Ready`: the worst of what does not hold, as it says itself.
fn summary(all: &[Old]) -> Old {
    let summed = || SUMMED.iter().filter_map(|type_| all.iter().find(|old| old.type_ == *type_));
    let worst = summed().filter(|old| old.severity.is_some()).min_by_key(|old| old.severity);
    if let Some(Old { severity: Some(severity), reason, message, .. }) = worst {
        return Old::fails("Ready", *severity, reason, message.clone());
    }
    match summed().find(|old| old.status == Status::Unknown) {
        Some(unknown) => Old {
            status: Status::Unknown,
            severity: None,
            ..Old::fails("Ready", Severity::Info, &unknown.reason, unknown.message.clone())
        },
        None => Old::holds("Ready"),
    }
}

fn rendered(old: &Old, now: Timestamp, before: &[Value]) -> Value {
    let status = old.status.as_str();
    let unchanged = before.iter().find(|shown| shown["type"] == old.type_ && shown["status"] == status);
    let time = unchanged.map_or_else(
        || json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        |shown| shown["lastTransitionTime"].clone(),
    );
    let mut shown = json!({"type": old.type_, "status": status, "lastTransitionTime": time});
    let severity = old.severity.map(|severity| format!("{severity:?}"));
    let told = old.status != Status::True;
    for (field, text) in [
        ("severity", severity.as_deref()),
        ("reason", Some(old.reason.as_str())),
        ("message", Some(old.message.as_str())),
    ] {
        if let Some(text) = text.filter(|text| told && !text.is_empty()) {
            // The schema's limit of messages; reasons are far below it.
            shown[field] = json!(text.chars().take(v1beta1::MESSAGE_LIMIT).collect::<String>());
        }
    }
    shown
}
