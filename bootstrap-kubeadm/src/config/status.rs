//! The status of a `KubeadmConfig`: what is claimed during a pass, and what follows from it.

use cluster_api::{
    conditions::{self, Claim, Status, types},
    paused,
};
use jiff::Timestamp;
use kube::Resource;
use kubeadm::api::v1beta2::{Initialization, KubeadmConfigStatus};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    legacy::{self, Condition, Severity},
    observe::Facts,
};

/// Condition: the boot data exists.
pub const DATA_SECRET_AVAILABLE: &str = "DataSecretAvailable";
/// Condition: the cluster's certificates are there.
pub const CERTIFICATES_AVAILABLE: &str = "CertificatesAvailable";

/// What a pass claims. What it says nothing of stays as it was.
#[derive(Clone, Debug)]
pub struct Report {
    claims: Vec<Claim>,
    /// The same for readers of v1beta1, and what they see now.
    legacy: Vec<Condition>,
    legacy_before: Vec<Condition>,
    secret: Option<String>,
    /// Generation that the pass made, if it changed the spec.
    generation: Option<i64>,
    goes_on: bool,
}

impl Report {
    /// Starts from what the object says already.
    pub fn of(facts: &Facts) -> Self {
        let known = [DATA_SECRET_AVAILABLE, CERTIFICATES_AVAILABLE].iter().filter_map(|type_| {
            let old = conditions::get(facts.config.conditions(), type_)?;
            let status = match old.status.as_str() {
                "True" => Status::True,
                "False" => Status::False,
                _ => Status::Unknown,
            };
            Some(Claim::new(*type_, status, &old.reason, &old.message))
        });
        let status = facts.config.status.as_ref().filter(|_| facts.config.is_data_secret_created());
        let secret = status.map(|status| status.data_secret_name.clone()).filter(|name| !name.is_empty());
        let legacy_before = legacy_of(facts);
        let mut legacy = legacy_before.clone();
        legacy.retain(|condition| condition.type_ != types::READY);
        Self { claims: known.collect(), legacy, legacy_before, secret, generation: None, goes_on: false }
    }

    fn claim(&mut self, claim: Claim, legacy: Condition) {
        self.claims.retain(|known| known.type_ != claim.type_);
        self.claims.push(claim);
        self.legacy.retain(|known| known.type_ != legacy.type_);
        self.legacy.push(legacy);
    }

    fn data_secret_is_missing(&mut self, message: String, severity: Severity, legacy_reason: &str) {
        let legacy = Condition::fails(DATA_SECRET_AVAILABLE, severity, legacy_reason, &message);
        self.claim(Claim::new(DATA_SECRET_AVAILABLE, false, "NotAvailable", message), legacy);
    }

    /// The boot data is not there: the infrastructure of the cluster comes first.
    pub fn waits_for_infrastructure(&mut self) {
        let message = "Waiting for Cluster status.initialization.infrastructureProvisioned to be true";
        self.data_secret_is_missing(message.to_owned(), Severity::Info, "WaitingForClusterInfrastructure");
    }

    /// The boot data is not there: another machine makes the cluster.
    pub fn waits_for_control_plane(&mut self, message: impl Into<String>) {
        self.data_secret_is_missing(message.into(), Severity::Info, "WaitingForControlPlaneAvailable");
    }

    /// The boot data is not there, and why.
    pub fn waits(&mut self, message: impl Into<String>) {
        self.data_secret_is_missing(message.into(), Severity::Warning, "DataSecretGenerationFailed");
    }

    /// The boot data is there and does not help its machine any more.
    pub fn data_is_useless(&mut self, message: impl Into<String>) {
        let message = message.into();
        let legacy = Condition::fails(DATA_SECRET_AVAILABLE, Severity::Error, "BootstrapTokenNotUsable", &message);
        self.claim(Claim::new(DATA_SECRET_AVAILABLE, false, "BootstrapTokenNotUsable", message), legacy);
    }

    /// The certificates are there.
    pub fn certificates_available(&mut self) {
        let legacy = Condition::holds(CERTIFICATES_AVAILABLE);
        self.claim(Claim::holds(CERTIFICATES_AVAILABLE, "Available"), legacy);
    }

    /// The certificates are not there, and why. `made_here` says whether this provider makes them.
    pub fn certificates_missing(&mut self, message: impl Into<String>, made_here: bool) {
        let message = message.into();
        let (severity, reason) = if made_here {
            (Severity::Warning, "CertificatesGenerationFailed")
        } else {
            (Severity::Error, "CertificatesCorrupted")
        };
        let legacy = Condition::fails(CERTIFICATES_AVAILABLE, severity, reason, &message);
        self.claim(Claim::new(CERTIFICATES_AVAILABLE, Status::Unknown, "InternalError", message), legacy);
    }

    /// The boot data is in this Secret.
    pub fn data_secret(&mut self, name: impl Into<String>) {
        self.secret = Some(name.into());
        self.data_secret_available();
    }

    /// The boot data is where it was.
    pub fn data_secret_available(&mut self) {
        let legacy = Condition::holds(DATA_SECRET_AVAILABLE);
        self.claim(Claim::holds(DATA_SECRET_AVAILABLE, "Available"), legacy);
    }

    /// The pass changed the spec itself: its report is on this generation.
    pub fn reports_on(&mut self, generation: Option<i64>) {
        self.generation = generation;
    }

    /// The pass ends only to see what it wrote, and goes on at once.
    pub fn goes_on(&mut self) {
        self.goes_on = true;
    }

    /// Whether the next pass comes at once.
    pub fn is_to_go_on(&self) -> bool {
        self.goes_on
    }

    /// The whole status that follows. `complete` says whether the pass ended without error.
    pub fn settle(&self, facts: &Facts, complete: bool, now: Timestamp) -> KubeadmConfigStatus {
        let generation = self.generation.or(facts.config.metadata.generation);
        let mut claims = self.claims.clone();
        claims.push(self.ready());
        claims.push(paused::claim(Some(&facts.cluster), facts.config.meta()));
        let before = facts.config.status.clone().unwrap_or_default();
        KubeadmConfigStatus {
            conditions: conditions::settle(&before.conditions, claims, generation, now),
            initialization: self.secret.as_ref().map(|_| Initialization { data_secret_created: Some(true) }),
            data_secret_name: self.secret.clone().unwrap_or_default(),
            observed_generation: if complete { generation } else { before.observed_generation },
            deprecated: self.deprecated(before.deprecated, now),
        }
    }

    /// What readers of v1beta1 see; what else is there stays.
    fn deprecated(&self, before: Option<Value>, now: Timestamp) -> Option<Value> {
        let settled = legacy::settle(&self.legacy_before, &self.legacy, now);
        if settled.is_empty() {
            return before;
        }
        let mut all = before.unwrap_or_default();
        all["v1beta1"]["conditions"] = json!(settled);
        Some(all)
    }

    fn ready(&self) -> Claim {
        let mut worst = Status::True;
        let mut lines = Vec::new();
        for type_ in [DATA_SECRET_AVAILABLE, CERTIFICATES_AVAILABLE] {
            let found = self.claims.iter().find(|claim| claim.type_ == type_);
            let (status, said) = match found {
                Some(claim) if claim.message.is_empty() => (claim.status, claim.reason.clone()),
                Some(claim) => (claim.status, claim.message.clone()),
                None => (Status::Unknown, format!("Condition {type_} not yet reported")),
            };
            if status != Status::True {
                lines.push(format!("* {type_}: {said}"));
            }
            worst = match (worst, status) {
                (Status::False, _) | (_, Status::False) => Status::False,
                (Status::Unknown, _) | (_, Status::Unknown) => Status::Unknown,
                _ => Status::True,
            };
        }
        let reason = match worst {
            Status::True => "Ready",
            Status::False => "NotReady",
            Status::Unknown => "ReadyUnknown",
        };
        Claim::new(types::READY, worst, reason, lines.join("\n"))
    }
}

fn legacy_of(facts: &Facts) -> Vec<Condition> {
    let deprecated = facts.config.status.as_ref().and_then(|status| status.deprecated.as_ref());
    let conditions = deprecated.and_then(|deprecated| deprecated.pointer("/v1beta1/conditions"));
    conditions.and_then(|conditions| Vec::deserialize(conditions).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::decide::tests::facts, *};

    fn condition<'a>(status: &'a KubeadmConfigStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
        let found = conditions::get(&status.conditions, type_).unwrap();
        (found.status.as_str(), found.reason.as_str(), found.message.as_str())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The same facts with this status on the config.
    fn showing(facts: &Facts, status: &KubeadmConfigStatus) -> Facts {
        let mut config = facts.config.as_ref().clone();
        // As it comes back from the server.
        config.status = serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap();
        Facts { config: config.into(), ..facts.clone() }
    }

    #[test]
    fn ready_sums_up_and_says_what_is_waited_for() {
        let facts = facts(json!({}));
        let mut report = Report::of(&facts);
        report.waits("Secret files is missing");
        let status = report.settle(&facts, false, at(0));
        assert_eq!(
            condition(&status, "Ready"),
            (
                "False",
                "NotReady",
                "* DataSecretAvailable: Secret files is missing\n* CertificatesAvailable: Condition CertificatesAvailable not yet reported"
            )
        );
        assert_eq!((status.observed_generation, status.initialization), (None, None));
        report.certificates_available();
        report.data_secret("m");
        let status = report.settle(&facts, true, at(0));
        assert_eq!(condition(&status, "Ready"), ("True", "Ready", ""));
        assert_eq!((status.data_secret_name.as_str(), status.observed_generation), ("m", Some(2)));
    }

    #[test]
    fn readers_of_v1beta1_see_reasons_and_severities() {
        let facts = facts(json!({}));
        let mut report = Report::of(&facts);
        let shown = |report: &Report| -> Vec<_> {
            let status = serde_json::to_value(report.settle(&facts, true, at(0))).unwrap();
            let conditions = status["deprecated"]["v1beta1"]["conditions"].as_array().unwrap().clone();
            let brief =
                |c: &Value| format!("{} {} {} {}", c["type"], c["status"], c["severity"], c["reason"]).replace('"', "");
            conditions.iter().map(brief).collect()
        };
        report.waits_for_infrastructure();
        let waits = "DataSecretAvailable False Info WaitingForClusterInfrastructure";
        assert_eq!(shown(&report), [&waits.replace("DataSecretAvailable", "Ready"), waits]);
        report.certificates_missing("gone", false);
        assert_eq!(
            shown(&report)[..2],
            ["Ready False Error CertificatesCorrupted", "CertificatesAvailable False Error CertificatesCorrupted"]
        );
        report.certificates_available();
        report.waits("no");
        assert_eq!(shown(&report)[0], "Ready False Warning DataSecretGenerationFailed");
        report.data_secret("m");
        assert_eq!(
            shown(&report),
            ["Ready True null null", "CertificatesAvailable True null null", "DataSecretAvailable True null null"]
        );
    }

    #[test]
    fn what_was_said_is_said_again_without_a_write() {
        let facts = facts(json!({}));
        let mut report = Report::of(&facts);
        report.certificates_available();
        report.waits("Secret files is missing");
        let first = report.settle(&facts, true, at(1));
        let seen = showing(&facts, &first);
        let again = Report::of(&seen).settle(&seen, true, at(2));
        assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&seen.config.status).unwrap());
    }

    #[test]
    fn what_others_keep_for_v1beta1_stays() {
        let facts = facts(json!({"config": {"status": {"deprecated": {"v1beta1": {"failureReason": "Old"}}}}}));
        let mut report = Report::of(&facts);
        report.data_secret("m");
        let status = serde_json::to_value(report.settle(&facts, true, at(1))).unwrap();
        assert_eq!(status["deprecated"]["v1beta1"]["failureReason"], "Old");
        assert_eq!(status["deprecated"]["v1beta1"]["conditions"][0]["type"], "Ready");
    }

    #[test]
    fn that_the_data_exists_is_never_taken_back() {
        let made =
            json!({"config": {"status": {"dataSecretName": "m", "initialization": {"dataSecretCreated": true}}}});
        let facts = facts(made);
        let mut report = Report::of(&facts);
        report.data_is_useless("the bootstrap token is gone");
        let status = report.settle(&facts, true, at(1));
        assert_eq!(status.initialization, Some(Initialization { data_secret_created: Some(true) }));
        assert_eq!(
            condition(&status, DATA_SECRET_AVAILABLE),
            ("False", "BootstrapTokenNotUsable", "the bootstrap token is gone")
        );
    }
}
