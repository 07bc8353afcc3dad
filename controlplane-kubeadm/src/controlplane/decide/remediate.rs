//! Replacing machines that a health check found broken: which, and whether now.

use std::cmp::Reverse;

use cluster_api::{
    conditions::{Claim, Status},
    labels::REMEDIATE_MACHINE,
};

use super::{
    super::{
        facts::{Facts, MachineFact, Remediation},
        names::{machine, reason},
    },
    Decision, Handover, Step, handover,
    projection::{Change, control_plane_survives, etcd_survives},
};

/// Deletes the most broken machine where that is safe now; says on the machine why it is not. `None` lets the rest of
/// the work go on.
pub fn next(facts: &Facts, decision: &mut Decision) -> Option<Step> {
    for recovered in facts.machines.iter().filter(|machine| has_recovered(machine)) {
        decision.remediated.insert(recovered.name.clone(), None);
    }
    decision.forget_remediation = facts.remediation.as_ref().is_some_and(|record| is_over(facts, record));
    let broken = most_broken(facts)?;
    let in_progress = facts.remediation.is_some() && !decision.forget_remediation;
    if broken.deleting.is_some() || in_progress {
        return None;
    }
    match permitted(facts, broken) {
        Ok((record, handover)) => {
            let message = "Machine is being deleted because it is not healthy";
            decision.remediated.insert(broken.name.clone(), Some(claim(reason::MACHINE_DELETING, message)));
            Some(Step::Remediate { record, handover })
        }
        Err(refusal) => {
            decision.remediated.insert(broken.name.clone(), Some(refusal));
            None
        }
    }
}

/// Whether a recorded deletion needs no replacement any more: it is made, or the deletion never happened.
fn is_over(facts: &Facts, record: &Remediation) -> bool {
    let replaced = facts.machines.iter().any(|machine| machine.created > record.timestamp);
    replaced || facts.machine(&record.machine).is_some_and(|machine| machine.deleting.is_none())
}

fn has_recovered(machine: &MachineFact) -> bool {
    machine.deleting.is_none() && machine.is_true(machine::HEALTH_CHECK) && machine.is_false(machine::OWNER_REMEDIATED)
}

fn most_broken(facts: &Facts) -> Option<&MachineFact> {
    let managed = facts.managed_etcd();
    facts.machines.iter().filter(|machine| machine.is_to_be_remediated()).min_by_key(|machine| {
        let etcd = |type_: &str| managed && machine.is_true(type_);
        (
            Reverse(machine.has(REMEDIATE_MACHINE)),
            machine.node.is_some(),
            etcd(machine::ETCD_MEMBER),
            etcd(machine::ETCD_POD),
            [machine::API_SERVER, machine::CONTROLLER_MANAGER, machine::SCHEDULER, machine::NODE]
                .map(|type_| machine.is_true(type_)),
            machine.created,
            machine.name.clone(),
        )
    })
}

type Permitted = (Remediation, Option<Handover>);

fn permitted(facts: &Facts, broken: &MachineFact) -> Result<Permitted, Claim> {
    let deferred = |message: &str| Err(claim(reason::REMEDIATION_DEFERRED, message));
    let refused = |message: &str| Err(claim(reason::CANNOT_BE_REMEDIATED, message));
    if let Some(version) = &facts.pending_version {
        return deferred(&format!("waiting for a version upgrade to {version} to be propagated"));
    }
    let retry_count = retries(facts, broken)?;
    let record = Remediation { machine: broken.name.clone(), timestamp: facts.now, retry_count };
    if !facts.initialized {
        // There is no state to lose yet. Who has more machines has been initialized, and is not seen for the moment.
        if facts.machines.len() > 1 {
            return deferred("waiting for the workload cluster to answer");
        }
        return Ok((record, None));
    }
    if facts.machines.len() <= 1 {
        return refused("the control plane has a single Machine: deleting it would lose the cluster");
    }
    let provisioning = |machine: &&MachineFact| {
        machine.node.is_none() && machine.name != broken.name && !machine.is_to_be_remediated()
    };
    if let Some(other) = facts.machines.iter().find(provisioning) {
        return deferred(&format!("waiting for Machine {} to become a node", other.name));
    }
    if let Some(other) = facts.machines.iter().find(|machine| machine.deleting.is_some()) {
        return deferred(&format!("waiting for Machine {} to be deleted", other.name));
    }
    if !control_plane_survives(facts, Change::Remove(&broken.name)) {
        return refused("no other Machine runs a healthy control plane");
    }
    if !facts.managed_etcd() {
        return Ok((record, None));
    }
    // Unlike upstream this is asked only where etcd is ours: a control plane with external etcd can be remediated.
    let has_members = facts.etcd.view().is_some_and(|view| !view.members.is_empty());
    if !has_members || facts.nodes.is_err() {
        return deferred("waiting for the etcd member list");
    }
    if let Some(node) = &broken.node
        && !etcd_survives(facts, Change::Remove(node))
    {
        return refused("etcd would lose its quorum");
    }
    match handover(facts, broken) {
        Ok(handover) => Ok((record, handover)),
        Err(_) => refused("etcd's leadership cannot be moved away from this Machine"),
    }
}

/// How often in a row this was tried before.
fn retries(facts: &Facts, broken: &MachineFact) -> Result<i32, Claim> {
    let Some(last) = broken.remediation_for() else { return Ok(0) };
    let limits = facts.retries;
    let since = facts.now.duration_since(last.timestamp);
    if since >= limits.min_healthy {
        return Ok(0);
    }
    if since < limits.period {
        return Err(claim(reason::REMEDIATION_DEFERRED, "the last remediation is less than retryPeriodSeconds ago"));
    }
    if limits.limit.is_some_and(|limit| last.retry_count >= limit) {
        let message = format!("remediation was tried {} times in a row, which is maxRetry", last.retry_count);
        return Err(claim(reason::CANNOT_BE_REMEDIATED, &message));
    }
    Ok(last.retry_count + 1)
}

fn claim(reason: &str, message: &str) -> Claim {
    Claim::new(machine::OWNER_REMEDIATED, Status::False, reason, message)
}
