//! How soon a control plane is looked at again.

use std::time::Duration;

use cluster_api::{conditions::Status, v1beta2::Machine};
use jiff::{SignedDuration, Timestamp};
use manager::{ObjectKey, Outcome};

use super::{
    ControlPlanes,
    facts::Facts,
    observe::Observed,
    pass::{SOON, Seen, may_initialize},
    report::Report,
};

/// While a machine is young, its progress is looked at this often: etcd's part of it wakes nobody.
const POLL_YOUNG: Duration = Duration::from_secs(3);
/// As above, in the moments in which most happens: once `kubeadm init` may have begun until it is done, and right after a
/// node has registered.
const POLL_STARTING: Duration = Duration::from_millis(500);
/// As above, for machines that take long.
const POLL: Duration = Duration::from_secs(20);
/// Until this age a machine is young.
const YOUNG: SignedDuration = SignedDuration::from_mins(10);
/// Until this age a node has just registered.
const FRESH: SignedDuration = SignedDuration::from_secs(10);
/// When a missing template is looked for again.
pub(super) const TEMPLATE: Duration = Duration::from_secs(10);

impl ControlPlanes {
    /// How soon to look again. Pods and nodes wake us; etcd, a cluster that only starts, and one that is silent do not.
    pub(super) fn paced(
        &self,
        key: &ObjectKey,
        observed: &Observed,
        seen: &Seen,
        report: &Report,
        outcome: Outcome,
    ) -> Outcome {
        let healthy = report.health.iter().all(|claim| claim.status == Status::True);
        let pace = if seen.workload.is_err() && seen.initialized {
            Some(self.patience(key, observed.now))
        } else if report.initialized && healthy && !report.facts.machines.is_empty() {
            None
        } else if !observed.machines.iter().any(|machine| is_young(machine, observed.now)) {
            Some(POLL)
        } else if !seen.initialized && !may_initialize(&observed.machines) {
            // What comes next is a machine that runs, and machines wake us.
            Some(POLL)
        } else if !seen.initialized || has_fresh_node(&report.facts) {
            Some(POLL_STARTING)
        } else {
            Some(POLL_YOUNG)
        };
        let missing = observed.template.is_err().then_some(TEMPLATE);
        outcome.no_later(pace).no_later(missing)
    }

    /// When a silent cluster is asked again: soon after it fell silent, for most likely only one of its API servers went
    /// away and another connection answers; later and later as time goes by.
    fn patience(&self, key: &ObjectKey, now: Timestamp) -> Duration {
        let memory = self.memory.lock();
        let since = memory.get(key).and_then(|memory| memory.answered.max(memory.asked));
        let silent = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()).unwrap_or(POLL);
        silent.clamp(SOON, POLL)
    }
}

/// Whether a machine may still be starting.
pub(super) fn is_young(machine: &Machine, now: Timestamp) -> bool {
    machine.metadata.creation_timestamp.as_ref().is_some_and(|time| now.duration_since(time.0) < YOUNG)
}

fn has_fresh_node(facts: &Facts) -> bool {
    let nodes = facts.nodes.as_deref().unwrap_or_default();
    nodes.iter().any(|node| facts.now.duration_since(node.created) < FRESH)
}
