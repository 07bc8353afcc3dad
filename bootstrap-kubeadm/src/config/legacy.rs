//! The conditions that readers of v1beta1 know, kept under `status.deprecated.v1beta1`. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use cluster_api::conditions::{Status, types};

/// How bad it is that a condition does not hold; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// A person has to act.
    Error,
    /// It may pass by itself.
    Warning,
    /// It is a stage on the way.
    Info,
}

/// A condition of v1beta1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// How bad it is; of a false condition only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Machine-readable cause; empty when it holds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Cause for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When anything of the above changed last.
    pub last_transition_time: Time,
}

impl Condition {
    /// It holds.
    pub fn holds(type_: &str) -> Self {
        Self {
            type_: type_.to_owned(),
            status: Status::True.as_str().to_owned(),
            severity: None,
            reason: String::new(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    /// It does not hold.
    pub fn fails(type_: &str, severity: Severity, reason: &str, message: &str) -> Self {
        Self {
            status: Status::False.as_str().to_owned(),
            severity: Some(severity),
            reason: reason.to_owned(),
            message: message.chars().take(kubeadm::api::v1beta1::MESSAGE_LIMIT).collect(),
            ..Self::holds(type_)
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.status, &self.severity, &self.reason, &self.message)
            == (&other.status, &other.severity, &other.reason, &other.message)
    }

    /// False before unknown before true, and the false ones by their severity.
    fn badness(&self) -> (u8, Option<Severity>) {
        match self.status.as_str() {
            "False" => (0, self.severity),
            "True" => (2, None),
            _ => (1, None),
        }
    }
}

/// The conditions after a pass: `claims`, and `Ready`, which says what the worst of them says. Times are kept where nothing
/// changed.
pub fn settle(before: &[Condition], claims: &[Condition], now: Timestamp) -> Vec<Condition> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let worst = claims.iter().min_by_key(|claim| claim.badness());
    let ready = worst.map(|worst| Condition { type_: types::READY.to_owned(), ..worst.clone() });
    let mut settled: Vec<_> = ready.into_iter().chain(claims.iter().cloned()).collect();
    for condition in &mut settled {
        let unchanged = before.iter().find(|old| old.type_ == condition.type_ && old.is_same(condition));
        condition.last_transition_time = unchanged.map_or(Time(now), |old| old.last_transition_time.clone());
    }
    // `Ready` first, as its readers are used to.
    settled.sort_by(|a, b| (a.type_ != types::READY, &a.type_).cmp(&(b.type_ != types::READY, &b.type_)));
    settled
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fails(severity: Severity) -> Condition {
        Condition::fails("A", severity, "Reason", "message")
    }

    #[rstest]
    #[case::all_hold(vec![Condition::holds("A"), Condition::holds("B")], "True", None)]
    #[case::one_fails(vec![fails(Severity::Info), Condition::holds("B")], "False", Some(Severity::Info))]
    #[case::the_worst_counts(vec![fails(Severity::Info), Condition::fails("B", Severity::Error, "Worse", "")], "False", Some(Severity::Error))]
    fn ready_when(#[case] claims: Vec<Condition>, #[case] status: &str, #[case] severity: Option<Severity>) {
        let settled = settle(&[], &claims, at(1));
        assert_eq!(
            (settled[0].type_.as_str(), settled[0].status.as_str(), settled[0].severity),
            ("Ready", status, severity)
        );
        assert_eq!(settled.len(), claims.len() + 1);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert!(settle(&[], &[], at(1)).is_empty());
    }

    #[test]
    fn a_time_moves_only_with_what_is_said() {
        let first = settle(&[], &[fails(Severity::Info)], at(1));
        assert_eq!(settle(&first, &[fails(Severity::Info)], at(2)), first);
        let other = settle(&first, &[Condition::fails("A", Severity::Info, "Other", "message")], at(2));
        assert_eq!(other[1].last_transition_time, Time(at(2)));
    }
}
