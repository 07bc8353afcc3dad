//! What to do next: facts in, one step out. Nothing here asks or changes anything.
//!
//! One operation at a time, in this order: etcd members that belong to nobody leave; machines that are being deleted
//! finish; broken machines are replaced; outdated machines are replaced; the number of machines is corrected. Whoever
//! cannot go on waits, and everything after it waits too.

pub mod delete;
pub mod members;
pub mod pick;
pub mod preflight;
pub mod projection;
pub mod remediate;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use cluster_api::conditions::Claim;

use super::{
    facts::{Facts, Remediation},
    names::condition,
};
pub use members::Exit;
pub use preflight::Blocked;

/// The node whose member leads etcd, and who may lead instead, best first: identity and node.
pub type Handover = (String, Vec<(u64, String)>);

/// One change of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything is as wanted: only the add-ons are looked after.
    Settle,
    /// Removes an etcd member that belongs to no machine.
    RemoveStray {
        /// Its identity.
        id: u64,
        /// Its name; empty where it never started.
        name: String,
    },
    /// Lets a machine that is being deleted go, after its etcd member has left.
    LetGo {
        /// The machine.
        machine: String,
        /// How its member leaves; absent when there is none.
        exit: Option<Exit>,
    },
    /// Creates a machine.
    Create {
        /// Whether it runs `kubeadm init`.
        init: bool,
        /// Where it is placed; empty for anywhere.
        failure_domain: String,
        /// Whether it is part of a rollout, before which the workload cluster's kubeadm configuration is renewed.
        rollout: bool,
    },
    /// Deletes a machine.
    Delete {
        /// The machine.
        machine: String,
        /// Its node and who may lead etcd instead of its member; absent where it does not lead.
        handover: Option<Handover>,
        /// Whether it is part of a rollout.
        rollout: bool,
    },
    /// Deletes a machine for its bad health.
    Remediate {
        /// What is recorded of it.
        record: Remediation,
        /// As in [`Step::Delete`].
        handover: Option<Handover>,
    },
}

/// Why nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Preflight checks.
    Preflight(Blocked),
    /// A machine's deletion is under way.
    Terminating,
    /// A machine's node is being drained.
    Draining(String),
    /// Somebody else's hook holds a machine.
    OtherHook(String),
    /// A machine runs the only healthy control plane.
    LastHealthy(String),
    /// etcd would lose its quorum without a machine's member.
    Quorum(String),
    /// etcd would lose its quorum without a member that belongs to no machine.
    StrayMember(String),
    /// A machine's etcd member joins, and it cannot be told from that of a machine that leaves.
    Join(String),
    /// Something of the workload cluster could not be read.
    Unreachable(String),
}

impl Wait {
    /// The condition of the control plane that says why, and how, where no other object shows it.
    pub fn explained(&self) -> Option<(&'static str, String)> {
        Some(match self {
            Self::LastHealthy(machine) => (
                condition::COMPONENTS,
                format!("Machine {machine} is not let go: no other Machine has healthy control plane components"),
            ),
            Self::Quorum(machine) => (
                condition::ETCD,
                format!("Machine {machine} is not let go: etcd would lose its quorum without its member"),
            ),
            Self::StrayMember(member) => {
                (condition::ETCD, format!("Etcd member {member} is not removed: etcd would lose its quorum without it"))
            }
            Self::Join(machine) => {
                (condition::ETCD, format!("No Machine is let go until the etcd member of Machine {machine} has joined"))
            }
            Self::Preflight(_) | Self::Terminating | Self::Draining(_) | Self::OtherHook(_) | Self::Unreachable(_) => {
                return None;
            }
        })
    }

    /// When to look again.
    pub fn after(&self) -> Duration {
        match self {
            Self::Preflight(blocked) if !blocked.machine_deleting => Duration::from_secs(15),
            Self::Unreachable(_) | Self::StrayMember(_) | Self::Join(_) => Duration::from_secs(10),
            _ => Duration::from_secs(30),
        }
    }
}

/// A decision, and what conditions must say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub next: Result<Step, Wait>,
    /// `OwnerRemediated` of machines, where it changes; `None` where it is taken away.
    pub remediated: BTreeMap<String, Option<Claim>>,
    /// Whether the record of a remediation is out of date.
    pub forget_remediation: bool,
}

impl Decision {
    /// What holds up a change of scale.
    pub fn blocked(&self) -> Blocked {
        match &self.next {
            Err(Wait::Preflight(blocked)) => blocked.clone(),
            _ => Blocked::default(),
        }
    }
}

/// The next step while the workload cluster does not answer: nothing, but that the only machine may go. Nothing is left
/// that its etcd member could be missed by, and a cluster that is gone must not keep it.
pub fn next_unseen(facts: &Facts, reason: &str) -> Decision {
    let leaves = facts.machines.len() == 1 && facts.machines[0].deleting.is_some();
    let next = if leaves { members::terminate(facts) } else { Err(Wait::Unreachable(reason.to_owned())) };
    Decision { next, remediated: BTreeMap::new(), forget_remediation: false }
}

/// The next step of a control plane that shall exist.
pub fn next(facts: &Facts) -> Decision {
    let mut decision = Decision { next: Ok(Step::Settle), remediated: BTreeMap::new(), forget_remediation: false };
    decision.next = decide(facts, &mut decision);
    decision
}

fn decide(facts: &Facts, decision: &mut Decision) -> Result<Step, Wait> {
    if let Some(stray) = members::stray(facts) {
        return stray;
    }
    if facts.machines.iter().any(|machine| machine.deleting.is_some()) {
        return match members::terminate(facts) {
            // A machine that is needed may go as soon as one that is broken is gone.
            Err(wait @ (Wait::Quorum(_) | Wait::LastHealthy(_))) => remediate::next(facts, decision).ok_or(wait),
            next => next,
        };
    }
    if let Some(step) = remediate::next(facts, decision) {
        return Ok(step);
    }
    // A record that was just found out of date relaxes no check any more.
    let current;
    let facts = if decision.forget_remediation {
        current = Facts { remediation: None, ..facts.clone() };
        &current
    } else {
        facts
    };
    if let Some(step) = start_over(facts) {
        return Ok(step);
    }
    if facts.machines.iter().any(|machine| !machine.is_up_to_date()) {
        return roll_out(facts);
    }
    match facts.machines.len() {
        0 if facts.replicas > 0 => Ok(initialize(facts)),
        present if present < facts.replicas => grow(facts, false),
        present if present > facts.replicas => shrink(facts, false),
        _ => Ok(Step::Settle),
    }
}

fn initialize(facts: &Facts) -> Step {
    Step::Create { init: true, failure_domain: pick::failure_domain_for_new(facts), rollout: false }
}

/// Takes away a first machine that was never seen to get through `kubeadm init` and is not as the spec wants it any more:
/// nothing can join it, and there is no state to lose. So a wrong version or setting of a new control plane can be corrected
/// in its spec. (Upstream would try to add a machine first, and wait for ever.)
fn start_over(facts: &Facts) -> Option<Step> {
    let [first] = facts.machines.as_slice() else { return None };
    // Initialization is noted in statuses, which a move to another management cluster drops: without another trace of it, a
    // cluster that does not answer for the moment would look like one that never was.
    let never_served = !facts.initialized && first.node.is_none() && !first.has_served;
    let is_wrong = !first.is_up_to_date() && facts.pending_version.is_none();
    let delete = || Step::Delete { machine: first.name.clone(), handover: None, rollout: false };
    (never_served && is_wrong).then(delete)
}

fn roll_out(facts: &Facts) -> Result<Step, Wait> {
    if facts.machines.len() < facts.replicas + facts.max_surge { grow(facts, true) } else { shrink(facts, true) }
}

fn grow(facts: &Facts, rollout: bool) -> Result<Step, Wait> {
    // Before the first `kubeadm init` is done there is nothing to join; the machine that does it has no node yet, which
    // the preflight checks see.
    let blocked = preflight::scale_up(facts);
    if blocked.is_blocked() {
        return Err(Wait::Preflight(blocked));
    }
    Ok(Step::Create { init: false, failure_domain: pick::failure_domain_for_new(facts), rollout })
}

fn shrink(facts: &Facts, rollout: bool) -> Result<Step, Wait> {
    let Some(leaving) = pick::leaving(facts) else { return Ok(Step::Settle) };
    // Who goes while it joins may be promoted after it was looked for, and leave a voter behind that never answers.
    if members::is_joining(facts, leaving) {
        return Err(Wait::Join(leaving.name.clone()));
    }
    let blocked = preflight::scale_down(facts, &leaving.name);
    if blocked.is_blocked() {
        return Err(Wait::Preflight(blocked));
    }
    let handover = handover(facts, leaving)?;
    Ok(Step::Delete { machine: leaving.name.clone(), handover, rollout })
}

/// Who leads etcd instead of a machine's member; `None` where it does not lead.
fn handover(facts: &Facts, leaving: &super::facts::MachineFact) -> Result<Option<Handover>, Wait> {
    let Some(node) = leaving.node.as_deref().filter(|_| facts.managed_etcd()) else { return Ok(None) };
    if let super::facts::Etcd::Unknown(reason) = &facts.etcd {
        return Err(Wait::Unreachable(reason.clone()));
    }
    let heirs = members::heir(facts, leaving, node)?;
    Ok(if heirs.is_empty() { None } else { Some((node.to_owned(), heirs)) })
}
