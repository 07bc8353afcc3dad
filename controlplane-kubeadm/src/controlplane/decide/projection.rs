//! What if: the health of the control plane and of etcd after a change that is only considered.

use super::super::{
    facts::{Facts, MachineFact},
    names::machine,
};

/// A change that is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// One more machine or member.
    Add,
    /// Without the machine of this name, or the member of this node.
    Remove(&'a str),
}

/// Whether at least one machine would run a healthy control plane.
pub fn control_plane_survives(facts: &Facts, change: Change<'_>) -> bool {
    let healthy = |machine: &&MachineFact| {
        change != Change::Remove(&machine.name) && machine.has_healthy_pods(facts.managed_etcd())
    };
    let first_machine = change == Change::Add && facts.machines.is_empty();
    first_machine || facts.machines.iter().any(|machine| healthy(&machine))
}

/// Whether etcd would keep a quorum of healthy voters, with nobody still joining.
pub fn etcd_survives(facts: &Facts, change: Change<'_>) -> bool {
    let Some(view) = facts.etcd.view() else { return false };
    let (mut voters, mut unhealthy, mut learners) = (0_usize, 0_usize, 0_usize);
    if change == Change::Add {
        voters += 1;
        // The second member is needed for quorum before it can be healthy, so it is given credit; later ones are not.
        unhealthy += usize::from(view.members.len() > 1);
    }
    for member in &view.members {
        if member.name.is_empty() {
            learners += 1;
            unhealthy += 1;
            continue;
        }
        if change == Change::Remove(&member.name) {
            continue;
        }
        if member.learner {
            learners += 1;
        } else {
            voters += 1;
        }
        let is_healthy = match facts.machine_on(&member.name) {
            // A machine that is being deleted votes until it is let go: of two that go, the first must not wait for ever.
            Some(owner) if owner.deleting.is_some() => owner.serves_etcd && !member.learner && member.alarms.is_empty(),
            Some(owner) => owner.is_true(machine::ETCD_MEMBER),
            // Nobody vouches for it: its machine is gone, or its node is not found yet, and may be so for ever.
            None => false,
        };
        unhealthy += usize::from(!is_healthy);
    }
    let quorum = voters / 2 + 1;
    learners == 0 && voters.saturating_sub(unhealthy) >= quorum
}
