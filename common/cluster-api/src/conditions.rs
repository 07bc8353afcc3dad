//! Conditions in the v1beta2 style (`metav1.Condition`, contract rules CO-1 to CO-8).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message that the API accepts, in bytes.
const MESSAGE_LIMIT: usize = 32768;

/// Types that core reads and providers write.
pub mod types {
    /// The object does what it is for.
    pub const READY: &str = "Ready";
    /// A higher-level object does what it is for, dips tolerated.
    pub const AVAILABLE: &str = "Available";
    /// Nothing is done to the object.
    pub const PAUSED: &str = "Paused";
    /// The object is being deleted; its reason says what is waited for.
    pub const DELETING: &str = "Deleting";
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known whether it holds.
    Unknown,
}

impl Status {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What is claimed about an object, before it is known when that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Type of the condition.
    pub type_: String,
    /// Its status.
    pub status: Status,
    /// Machine-readable cause, in CamelCase; never empty.
    pub reason: String,
    /// Cause for people: stable, bounded, without secrets; may be empty.
    pub message: String,
}

impl Claim {
    /// A claim with a message.
    pub fn new(
        type_: impl Into<String>,
        status: impl Into<Status>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { type_: type_.into(), status: status.into(), reason: reason.into(), message: message.into() }
    }

    /// A claim that holds, with a reason that says it all.
    pub fn holds(type_: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(type_, Status::True, reason, "")
    }
}

/// The condition of a type.
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition is present and true.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// Whether a condition is present and false.
pub fn is_false(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|condition| condition.status == "False")
}

/// The conditions that follow from these claims, sorted by type. The time of the last transition is kept where the
/// status is unchanged; times are whole seconds, as the API stores them.
pub fn settle(before: &[Condition], claims: Vec<Claim>, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut settled: Vec<Condition> = claims
        .into_iter()
        .map(|claim| {
            let unchanged = get(before, &claim.type_).filter(|old| old.status == claim.status.as_str());
            Condition {
                last_transition_time: unchanged.map_or(Time(now), |old| old.last_transition_time.clone()),
                message: bounded(claim.message),
                observed_generation: generation,
                reason: claim.reason,
                status: claim.status.as_str().to_owned(),
                type_: claim.type_,
            }
        })
        .collect();
    settled.sort_by(|a, b| a.type_.cmp(&b.type_));
    settled
}

fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT - 4).rev().find(|index| message.is_char_boundary(*index)).unwrap_or(0);
        message.truncate(end);
        message.push_str(" ...");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let first = settle(&[], vec![Claim::new("Ready", false, "Waiting", "for a")], Some(1), at(10));
        let same = settle(&first, vec![Claim::new("Ready", false, "StillWaiting", "for b")], Some(2), at(20));
        assert_eq!(same[0].last_transition_time, Time(at(10)));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("StillWaiting", Some(2)));
        let other = settle(&same, vec![Claim::holds("Ready", "Ready")], Some(2), at(30));
        assert_eq!(other[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn claims_that_are_not_made_any_more_disappear_and_order_is_stable() {
        let before = settle(&[], vec![Claim::holds("Zeta", "Yes"), Claim::holds("Alpha", "Yes")], None, at(1));
        assert_eq!(before.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), ["Alpha", "Zeta"]);
        assert_eq!(settle(&before, vec![Claim::holds("Zeta", "Yes")], None, at(1)).len(), 1);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let condition =
            settle(&[], vec![Claim::new("Ready", false, "Long", "é".repeat(40_000))], None, at(1)).remove(0);
        assert!(condition.message.len() <= MESSAGE_LIMIT && condition.message.ends_with(" ..."));
    }
}
