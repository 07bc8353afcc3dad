//! `Available`: can the cluster's API be used now?

use cluster_api::conditions::{Claim, Status};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        facts::{Etcd, Facts, MachineFact},
        names::{condition, machine, reason},
    },
    Inputs, fails_since,
};

/// Trouble shorter than this is not reported: pods restart.
const DAMPING: SignedDuration = SignedDuration::from_secs(10);
/// How long after the first start etcd may be silent.
const WARM_UP: SignedDuration = SignedDuration::from_mins(2);

/// What is known of the cluster as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Whether `kubeadm init` is done.
    pub initialized: bool,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Whether etcd's members fit the machines.
    pub members_match: bool,
}

pub(super) fn claim(inputs: &Inputs<'_>) -> Claim {
    let (facts, reach) = (inputs.facts, inputs.reach);
    let not = |message: String| Claim::new(condition::AVAILABLE, Status::False, "NotAvailable", message);
    if !reach.initialized {
        return not("Control plane not yet initialized".to_owned());
    }
    if let Etcd::Unknown(error) = &facts.etcd {
        let young = reach.since.is_none_or(|since| facts.now.duration_since(since) < WARM_UP);
        if young {
            return not("Waiting for etcd to report the list of members".to_owned());
        }
        let message = format!("Failed to get etcd members: {error}");
        return Claim::new(condition::AVAILABLE, Status::Unknown, reason::INSPECTION_FAILED, message);
    }
    if facts.managed_etcd() && !reach.members_match {
        return not("The list of etcd members does not match the list of Machines and Nodes".to_owned());
    }
    let components = components(facts);
    let etcd = facts.managed_etcd().then(|| etcd(facts));
    let certificates = inputs.certificates.status == Status::True;
    let has_quorum = etcd.as_ref().is_none_or(|etcd| etcd.healthy >= etcd.quorum());
    let available = inputs.deletion.is_none() && has_quorum && components.healthy > 0 && certificates;
    let mut lines = Vec::new();
    if available {
        lines.extend(components.line());
        lines.extend(etcd.and_then(|etcd| etcd.line()));
        return Claim::new(condition::AVAILABLE, Status::True, "Available", lines.join("\n"));
    }
    if inputs.deletion.is_some() {
        lines.push("* Control plane metadata.deletionTimestamp is set".to_owned());
    }
    if !certificates {
        lines.push("* Control plane certificates are not available".to_owned());
    }
    if let Some(etcd) = etcd.filter(|_| !has_quorum) {
        lines.push(etcd.counts());
    }
    if components.healthy == 0 {
        lines.push("* There are no Machines with healthy control plane components, at least 1 required".to_owned());
    }
    not(lines.join("\n"))
}

#[derive(Default)]
struct Components {
    healthy: usize,
    failing: usize,
    machines: usize,
}

impl Components {
    fn line(&self) -> Option<String> {
        let (healthy, failing, all) = (self.healthy, self.failing, self.machines);
        (failing > 0).then(|| {
            format!("* {healthy} of {all} Machines have healthy control plane components, at least 1 required")
        })
    }
}

fn components(facts: &Facts) -> Components {
    let mut found = Components::default();
    let mut types = machine::COMPONENTS.to_vec();
    if facts.managed_etcd() {
        types.extend([machine::ETCD_POD, machine::ETCD_MEMBER]);
    }
    for machine in facts.machines.iter().filter(|machine| !machine.provider_id.is_empty()) {
        found.machines += 1;
        if types.iter().all(|type_| machine.is_true(type_)) {
            found.healthy += 1;
        } else if types.iter().any(|type_| fails_since(machine, type_, facts.now, DAMPING)) {
            found.failing += 1;
        }
    }
    found
}

#[derive(Default)]
struct Members {
    voters: usize,
    learners: usize,
    healthy: usize,
    failing: usize,
}

impl Members {
    fn quorum(&self) -> usize {
        self.voters / 2 + 1
    }

    fn line(&self) -> Option<String> {
        (self.failing > 0).then(|| self.counts())
    }

    fn counts(&self) -> String {
        let learners = if self.learners > 0 { format!(" ({} learners)", self.learners) } else { String::new() };
        let all = self.voters + self.learners;
        format!(
            "* {} of {all} etcd members{learners} are healthy, at least {} healthy members required for etcd quorum",
            self.healthy,
            self.quorum()
        )
    }
}

fn etcd(facts: &Facts) -> Members {
    let mut found = Members::default();
    let without_node = facts.machines.iter().filter(|machine| machine.node.is_none()).count();
    // A member whose machine's node core has not found yet; with exactly one such machine it must be that one.
    let mut credit = without_node == 1;
    for member in facts.etcd.view().map(|view| view.members.as_slice()).unwrap_or_default() {
        if member.name.is_empty() || member.learner {
            found.learners += 1;
        } else {
            found.voters += 1;
        }
        if member.name.is_empty() {
            found.healthy += 1;
            continue;
        }
        match facts.machine_on(&member.name) {
            Some(owner) if owner.is_true(machine::ETCD_MEMBER) => found.healthy += 1,
            Some(owner) => found.failing += usize::from(fails(owner, facts.now)),
            None if credit => {
                credit = false;
                found.healthy += 1;
            }
            None => found.failing += 1,
        }
    }
    found
}

fn fails(machine: &MachineFact, now: Timestamp) -> bool {
    fails_since(machine, machine::ETCD_MEMBER, now, DAMPING)
}
