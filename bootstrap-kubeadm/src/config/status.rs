//! The status of a `KubeadmConfig`: what is claimed during a pass, and what follows from it.

use cluster_api::{
    conditions::{self, Claim, Status, types},
    paused,
};
use jiff::Timestamp;
use kube::Resource;
use kubeadm::api::v1beta2::{Initialization, KubeadmConfigStatus};

use super::observe::Facts;

/// Condition: the boot data exists.
pub const DATA_SECRET_AVAILABLE: &str = "DataSecretAvailable";
/// Condition: the cluster's certificates are there.
pub const CERTIFICATES_AVAILABLE: &str = "CertificatesAvailable";

/// What a pass claims. What it says nothing of stays as it was.
#[derive(Clone, Debug)]
pub struct Report {
    claims: Vec<Claim>,
    secret: Option<String>,
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
        Self { claims: known.collect(), secret }
    }

    /// Claims something, in place of what was claimed of it before.
    pub fn claim(&mut self, claim: Claim) {
        self.claims.retain(|known| known.type_ != claim.type_);
        self.claims.push(claim);
    }

    /// The boot data is not there, and why.
    pub fn waits(&mut self, message: impl Into<String>) {
        self.claim(Claim::new(DATA_SECRET_AVAILABLE, false, "NotAvailable", message));
    }

    /// The certificates are there.
    pub fn certificates_available(&mut self) {
        self.claim(Claim::holds(CERTIFICATES_AVAILABLE, "Available"));
    }

    /// The certificates are not there, and why.
    pub fn certificates_missing(&mut self, message: impl Into<String>) {
        self.claim(Claim::new(CERTIFICATES_AVAILABLE, Status::Unknown, "InternalError", message));
    }

    /// The boot data is in this Secret.
    pub fn data_secret(&mut self, name: impl Into<String>) {
        self.secret = Some(name.into());
        self.claim(Claim::holds(DATA_SECRET_AVAILABLE, "Available"));
    }

    /// The whole status that follows. `complete` says whether the pass ended without error.
    pub fn settle(&self, facts: &Facts, complete: bool, now: Timestamp) -> KubeadmConfigStatus {
        let generation = facts.config.metadata.generation;
        let mut claims = self.claims.clone();
        claims.push(self.ready());
        claims.push(paused::claim(Some(&facts.cluster), facts.config.meta()));
        let before = facts.config.status.clone().unwrap_or_default();
        KubeadmConfigStatus {
            conditions: conditions::settle(&before.conditions, claims, generation, now),
            initialization: self.secret.as_ref().map(|_| Initialization { data_secret_created: Some(true) }),
            data_secret_name: self.secret.clone().unwrap_or_default(),
            observed_generation: if complete { generation } else { before.observed_generation },
            deprecated: before.deprecated,
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::decide::tests::facts, *};

    fn condition<'a>(status: &'a KubeadmConfigStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
        let found = conditions::get(&status.conditions, type_).unwrap();
        (found.status.as_str(), found.reason.as_str(), found.message.as_str())
    }

    #[test]
    fn ready_sums_up_and_says_what_is_waited_for() {
        let facts = facts(json!({}));
        let now = Timestamp::UNIX_EPOCH;
        let mut report = Report::of(&facts);
        report.waits("Secret files is missing");
        let status = report.settle(&facts, false, now);
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
        let status = report.settle(&facts, true, now);
        assert_eq!(condition(&status, "Ready"), ("True", "Ready", ""));
        assert_eq!((status.data_secret_name.as_str(), status.observed_generation), ("m", Some(2)));
    }
}
