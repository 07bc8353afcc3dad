//! What of a report may wait: details that change by the second while machines start, and that nobody acts on. They are
//! written with the next change that matters, or a little later by themselves.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::names::condition;
use crate::api::v1beta2::KubeadmControlPlaneStatus;

/// How long a detail waits for something that matters.
const PATIENCE: Duration = Duration::from_secs(20);
/// Conditions of a control plane that repeat what its machines and Secrets tell.
const REPEATED: [&str; 3] = [condition::CERTIFICATES, condition::MACHINES_READY, condition::MACHINES_UP_TO_DATE];

/// Decides, for one report, what is written now.
pub struct Details {
    /// Since when something waits, by the monotonic clock.
    since: Option<Duration>,
    now: Duration,
    waits: bool,
}

impl Details {
    /// `since` is what the last report left behind: [`Details::waiting_since`].
    pub fn new(since: Option<Duration>, now: Duration) -> Self {
        Self { since, now, waits: false }
    }

    /// Whether this change is left for later, where it `matters` to nobody.
    pub fn leave(&mut self, matters: bool) -> bool {
        let left = !matters && self.since.is_none_or(|since| self.now.saturating_sub(since) < PATIENCE);
        self.waits |= left;
        left
    }

    /// Since when something has waited, if anything still does.
    pub fn waiting_since(&self) -> Option<Duration> {
        self.waits.then(|| self.since.unwrap_or(self.now))
    }

    /// How long until what waits is written.
    pub fn rest(&self) -> Option<Duration> {
        self.waiting_since().map(|since| (since + PATIENCE).saturating_sub(self.now))
    }
}

/// Whether two statuses of a control plane differ in what others act on: counts, versions, and whether it is available,
/// healthy, or changing.
pub fn matter_in_status(shown: &KubeadmControlPlaneStatus, wanted: &KubeadmControlPlaneStatus) -> bool {
    let essence = |status: &KubeadmControlPlaneStatus| KubeadmControlPlaneStatus {
        conditions: Vec::new(),
        deprecated: None,
        ..status.clone()
    };
    let states = |status: &KubeadmControlPlaneStatus| states(&status.conditions, &REPEATED);
    states(shown) != states(wanted) || essence(shown) != essence(wanted)
}

/// Whether two lists of a machine's conditions differ in more than words and the generation that they were seen at.
pub fn matter_in_conditions(shown: &[Condition], wanted: &[Condition]) -> bool {
    states(shown, &[]) != states(wanted, &[])
}

fn states(conditions: &[Condition], without: &[&str]) -> Vec<(String, String)> {
    let told = conditions.iter().filter(|condition| !without.contains(&condition.type_.as_str()));
    told.map(|condition| (condition.type_.clone(), condition.status.clone())).collect()
}

#[cfg(test)]
mod tests {
    use cluster_api::conditions::{Claim, settle};
    use jiff::Timestamp;

    use super::*;

    fn conditions(claims: &[(&str, bool, &str)]) -> Vec<Condition> {
        let claims =
            claims.iter().map(|(type_, holds, message)| Claim::new(*type_, *holds, "Reason", *message)).collect();
        settle(&[], claims, Some(1), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn words_and_what_machines_tell_themselves_may_wait() {
        let status = |available: bool, ready: bool, message: &str| KubeadmControlPlaneStatus {
            replicas: Some(1),
            conditions: conditions(&[("Available", available, message), ("MachinesReady", ready, message)]),
            ..KubeadmControlPlaneStatus::default()
        };
        let shown = status(false, false, "* m1: starting");
        assert!(!matter_in_status(&shown, &status(false, true, "* m1: started")));
        assert!(matter_in_status(&shown, &status(true, false, "* m1: starting")));
        assert!(matter_in_status(&shown, &KubeadmControlPlaneStatus { replicas: Some(2), ..shown.clone() }));
        let machine = |holds: bool, message: &str| conditions(&[("APIServerPodHealthy", holds, message)]);
        assert!(!matter_in_conditions(&machine(false, "a"), &machine(false, "b")));
        assert!(matter_in_conditions(&machine(false, "a"), &machine(true, "a")));
        assert!(matter_in_conditions(&[], &machine(true, "a")));
    }

    #[test]
    fn a_detail_waits_from_when_it_was_first_seen_and_not_for_ever() {
        let seconds = Duration::from_secs;
        let mut first = Details::new(None, seconds(100));
        assert!(!first.leave(true));
        assert_eq!((first.waiting_since(), first.rest()), (None, None), "all is written");
        assert!(first.leave(false));
        assert_eq!(first.rest(), Some(PATIENCE));
        let mut second = Details::new(first.waiting_since(), seconds(104));
        assert!(second.leave(false));
        assert_eq!((second.waiting_since(), second.rest()), (Some(seconds(100)), Some(seconds(16))));
        let mut third = Details::new(second.waiting_since(), seconds(100) + PATIENCE);
        assert!(!third.leave(false), "long enough");
        assert_eq!(third.waiting_since(), None);
    }
}
