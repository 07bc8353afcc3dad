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
    Decision, Handover, Step, handover, preflight,
    projection::{Change, control_plane_survives, etcd_survives},
};

/// Deletes the most broken machine that may go now; says on the others why they may not. `None` lets the rest of
/// the work go on.
pub fn next(facts: &Facts, decision: &mut Decision) -> Option<Step> {
    for recovered in facts.machines.iter().filter(|machine| has_recovered(machine)) {
        decision.remediated.insert(recovered.name.clone(), None);
    }
    decision.forget_remediation = facts.remediation.as_ref().is_some_and(|record| is_over(facts, record));
    let in_progress = facts.remediation.as_ref().filter(|_| !decision.forget_remediation);
    // The replacement of the last one comes first, unless it waits for the health of a machine that is broken too.
    if in_progress.is_some() && !health_blocks_replacement(facts) {
        return None;
    }
    // One that must stay for now may do so only because of one that is less broken.
    for broken in broken(facts) {
        match permitted(facts, broken) {
            Ok((mut record, handover)) => {
                // The replacement that is still to come counts for both.
                record.retry_count = record.retry_count.max(in_progress.map_or(0, |last| last.retry_count));
                let message = "Machine is being deleted because it is not healthy";
                decision.remediated.insert(broken.name.clone(), Some(claim(reason::MACHINE_DELETING, message)));
                return Some(Step::Remediate { record, handover });
            }
            Err(refusal) => {
                decision.remediated.insert(broken.name.clone(), Some(refusal));
            }
        }
    }
    None
}

fn health_blocks_replacement(facts: &Facts) -> bool {
    let blocked = preflight::scale_up(facts);
    blocked.components_unhealthy || blocked.etcd_unhealthy || blocked.machine_deleting
}

/// Whether a recorded deletion needs no replacement any more: it is made, or the deletion never happened, or there are
/// machines enough without it, as after one that a rollout had added.
fn is_over(facts: &Facts, record: &Remediation) -> bool {
    let replaced = facts.machines.iter().any(|machine| machine.created > record.timestamp);
    replaced
        || match facts.machine(&record.machine) {
            Some(machine) => machine.deleting.is_none(),
            None => facts.machines.len() >= facts.replicas,
        }
}

fn has_recovered(machine: &MachineFact) -> bool {
    machine.deleting.is_none() && machine.is_true(machine::HEALTH_CHECK) && machine.is_false(machine::OWNER_REMEDIATED)
}

/// The machines that are to be replaced, the most broken first.
fn broken(facts: &Facts) -> Vec<&MachineFact> {
    let managed = facts.managed_etcd();
    let is_due = |machine: &&MachineFact| machine.is_to_be_remediated() && machine.deleting.is_none();
    let mut broken: Vec<_> = facts.machines.iter().filter(is_due).collect();
    broken.sort_by_key(|machine| {
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
    });
    broken
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
