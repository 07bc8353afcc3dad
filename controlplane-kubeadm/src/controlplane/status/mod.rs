//! What users and core read of a control plane: its conditions and counters, computed anew in every pass.

mod available;
mod summary;
#[cfg(test)]
mod tests;
pub mod v1beta1;

use std::collections::BTreeMap;

use cluster_api::{
    conditions::{Claim, Status},
    version::Version,
};
use jiff::{SignedDuration, Timestamp};

use super::{
    decide::Blocked,
    facts::{Facts, MachineFact},
    names::{condition, machine, reason},
};
pub use available::Reach;

/// A deletion that takes longer than this is called stale.
const STALE: SignedDuration = SignedDuration::from_mins(15);
/// Machines that young may lack conditions.
const NEWBORN: SignedDuration = SignedDuration::from_secs(10);

/// What conditions are computed from, besides the facts that decisions use.
pub struct Inputs<'a> {
    /// The facts, with conditions of machines as of this pass.
    pub facts: &'a Facts,
    /// Machines wanted; absent until defaulted.
    pub replicas: Option<i32>,
    /// Whether the control plane is being deleted, and how far that is: reason and message.
    pub deletion: Option<(&'static str, String)>,
    /// Health conditions of the control plane.
    pub health: &'a [Claim],
    /// `CertificatesAvailable`.
    pub certificates: Claim,
    /// What holds up a change of scale.
    pub blocked: Blocked,
    /// Why the pass ended early.
    pub failure: Option<String>,
    /// Why the infrastructure template cannot be read.
    pub missing_template: Option<String>,
    /// What is known of the cluster as a whole.
    pub reach: Reach,
    /// `Paused`.
    pub paused: Claim,
}

/// All conditions of a control plane.
pub fn conditions(inputs: &Inputs<'_>) -> Vec<Claim> {
    let facts = inputs.facts;
    let mut claims = vec![
        inputs.paused.clone(),
        available::claim(inputs),
        initialized(inputs.reach.initialized),
        inputs.certificates.clone(),
        rolling_out(&facts.machines),
        scaling_up(inputs),
        scaling_down(inputs),
        machines_ready(facts),
        machines_up_to_date(facts),
        remediating(facts),
        deleting(inputs),
    ];
    claims.extend(inputs.health.iter().cloned());
    if let Some(failure) = &inputs.failure {
        say_failure(&mut claims, failure);
    }
    claims
}

/// Puts what went wrong where people look for it: to the operation that is under way, else to `Available`.
fn say_failure(claims: &mut [Claim], failure: &str) {
    let under_way = [condition::DELETING, condition::SCALING_UP, condition::SCALING_DOWN, condition::ROLLING_OUT];
    let holds = |type_: &str| claims.iter().any(|claim| claim.type_ == type_ && claim.status == Status::True);
    let type_ = under_way.into_iter().find(|type_| holds(type_)).unwrap_or(condition::AVAILABLE);
    if let Some(claim) = claims.iter_mut().find(|claim| claim.type_ == type_)
        && !claim.message.contains(failure)
    {
        add_line(claim, failure);
    }
}

/// Adds a line to what a condition says.
pub fn add_line(claim: &mut Claim, line: &str) {
    let separator = if claim.message.is_empty() { "" } else { "\n" };
    claim.message = format!("{}{separator}* {line}", claim.message);
}

fn initialized(holds: bool) -> Claim {
    Claim::new(condition::INITIALIZED, holds, if holds { "Initialized" } else { "NotInitialized" }, "")
}

fn rolling_out(machines: &[MachineFact]) -> Claim {
    let outdated: Vec<_> = machines.iter().filter(|machine| machine.is_false(machine::UP_TO_DATE)).collect();
    if outdated.is_empty() {
        return Claim::new(condition::ROLLING_OUT, false, "NotRollingOut", "");
    }
    let mut lines: Vec<String> = Vec::new();
    for machine in &outdated {
        let said = machine.conditions.iter().find(|condition| condition.type_ == machine::UP_TO_DATE);
        for line in said.map(|condition| condition.message.lines()).into_iter().flatten() {
            if !lines.iter().any(|present| present == line) {
                lines.push(line.to_owned());
            }
        }
    }
    lines.sort_by_key(|line| (!line.starts_with("* Version"), line.clone()));
    lines.insert(0, format!("Rolling out {} not up-to-date replica{}", outdated.len(), plural(outdated.len())));
    Claim::new(condition::ROLLING_OUT, true, "RollingOut", lines.join("\n"))
}

fn scaling_up(inputs: &Inputs<'_>) -> Claim {
    let Some(replicas) = inputs.replicas else {
        let message = "Waiting for spec.replicas set";
        return Claim::new(condition::SCALING_UP, Status::Unknown, "WaitingForReplicasSet", message);
    };
    let (present, wanted) = (inputs.facts.machines.len(), desired(inputs, replicas));
    let missing = inputs.missing_template.as_ref().map(|missing| format!("* {missing}"));
    if present >= wanted {
        let message = match (&missing, inputs.deletion.is_some()) {
            (Some(missing), false) => format!("Scaling up would be blocked because:\n{missing}"),
            _ => String::new(),
        };
        return Claim::new(condition::SCALING_UP, false, "NotScalingUp", message);
    }
    let mut causes = inputs.blocked.lines();
    causes.extend(missing);
    causes.extend(failure_line(inputs).filter(|line| !causes.contains(line)));
    let message = scaling_message("up", present, wanted, &causes);
    Claim::new(condition::SCALING_UP, true, "ScalingUp", message)
}

fn scaling_down(inputs: &Inputs<'_>) -> Claim {
    let Some(replicas) = inputs.replicas else {
        let message = "Waiting for spec.replicas set";
        return Claim::new(condition::SCALING_DOWN, Status::Unknown, "WaitingForReplicasSet", message);
    };
    let (present, wanted) = (inputs.facts.machines.len(), desired(inputs, replicas));
    if present <= wanted {
        return Claim::new(condition::SCALING_DOWN, false, "NotScalingDown", "");
    }
    let mut causes = inputs.blocked.lines();
    causes.extend(stale_deletions(inputs.facts).map(|stale| format!("* {stale}")));
    causes.extend(failure_line(inputs));
    let message = scaling_message("down", present, wanted, &causes);
    Claim::new(condition::SCALING_DOWN, true, "ScalingDown", message)
}

/// What went wrong, while the control plane stays: of one that goes the deletion tells it.
fn failure_line(inputs: &Inputs<'_>) -> Option<String> {
    inputs.failure.as_ref().filter(|_| inputs.deletion.is_none()).map(|failure| format!("* {failure}"))
}

fn desired(inputs: &Inputs<'_>, replicas: i32) -> usize {
    if inputs.deletion.is_some() { 0 } else { usize::try_from(replicas).unwrap_or(0) }
}

fn scaling_message(direction: &str, from: usize, to: usize, causes: &[String]) -> String {
    let head = format!("Scaling {direction} from {from} to {to} replica{}", plural(to));
    if causes.is_empty() { head } else { format!("{head} is blocked because:\n{}", causes.join("\n")) }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Machines whose deletion takes long, and why where core says so.
pub fn stale_deletions(facts: &Facts) -> Option<String> {
    let is_stale =
        |machine: &&MachineFact| machine.deleting.is_some_and(|since| facts.now.duration_since(since) > STALE);
    let stale: Vec<_> = facts.machines.iter().filter(is_stale).collect();
    if stale.is_empty() {
        return None;
    }
    let names: Vec<_> = stale.iter().map(|machine| machine.name.as_str()).collect();
    let listed = super::health::listed("Machine", &names);
    let verb = if stale.len() == 1 { "is" } else { "are" };
    let mut message = format!("{listed} {verb} in deletion since more than 15m");
    let draining = stale.iter().filter_map(|machine| {
        machine.conditions.iter().find(|found| found.type_ == "Deleting" && found.reason == "DrainingNode")
    });
    let texts: Vec<_> = draining.map(|condition| condition.message.as_str()).collect();
    // What core's drain writes, and what it comes down to.
    let delays = [
        ("cannot evict pod as it would violate the pod's disruption budget", "PodDisruptionBudgets"),
        ("deletionTimestamp set, but still not removed from the Node", "Pods not terminating"),
        ("failed to evict Pod", "Pod eviction errors"),
        ("waiting for completion", "Pods not completed yet"),
    ];
    let known = delays.iter().filter(|(text, _)| texts.iter().any(|message| message.contains(text)));
    let causes: Vec<_> = known.map(|(_, cause)| *cause).collect();
    if !causes.is_empty() {
        message.push_str(", delay likely due to ");
        message.push_str(&causes.join(", "));
    }
    Some(message)
}

fn machines_ready(facts: &Facts) -> Claim {
    let reasons = summary::Reasons { holds: "Ready", fails: "NotReady", unknown: "ReadyUnknown" };
    summary::claim(condition::MACHINES_READY, "Ready", facts.machines.iter(), &reasons)
}

fn machines_up_to_date(facts: &Facts) -> Claim {
    let reasons = summary::Reasons { holds: "UpToDate", fails: "NotUpToDate", unknown: "UpToDateUnknown" };
    let is_due = |machine: &&MachineFact| {
        let has = machine.conditions.iter().any(|condition| condition.type_ == machine::UP_TO_DATE);
        has || facts.now.duration_since(machine.created) >= NEWBORN
    };
    summary::claim(condition::MACHINES_UP_TO_DATE, machine::UP_TO_DATE, facts.machines.iter().filter(is_due), &reasons)
}

fn remediating(facts: &Facts) -> Claim {
    let candidates: Vec<_> = facts.machines.iter().filter(|machine| machine.is_to_be_remediated()).collect();
    if candidates.is_empty() {
        let sick = facts.machines.iter().filter(|machine| machine.is_false(machine::HEALTH_CHECK));
        let names: Vec<_> = sick.map(|machine| machine.name.as_str()).collect();
        let message = if names.is_empty() {
            String::new()
        } else {
            let verb = if names.len() == 1 { "is" } else { "are" };
            format!(
                "{} {verb} not healthy (not to be remediated by KubeadmControlPlane)",
                super::health::listed("Machine", &names)
            )
        };
        return Claim::new(condition::REMEDIATING, false, "NotRemediating", message);
    }
    let reasons = summary::Reasons { holds: "Remediating", fails: "Remediating", unknown: reason::INTERNAL_ERROR };
    let merged = summary::claim(condition::REMEDIATING, machine::OWNER_REMEDIATED, candidates.into_iter(), &reasons);
    Claim::new(condition::REMEDIATING, true, "Remediating", merged.message)
}

fn deleting(inputs: &Inputs<'_>) -> Claim {
    match &inputs.deletion {
        None => Claim::new(condition::DELETING, false, "NotDeleting", ""),
        Some((reason, message)) => Claim::new(condition::DELETING, true, *reason, message.clone()),
    }
}

/// `UpToDate` of a machine; `kubelet` is the version its node reports.
pub fn up_to_date(outdated: &[String], version: &str, kubelet: Option<&str>) -> Claim {
    if !outdated.is_empty() {
        let lines: Vec<_> = outdated.iter().map(|reason| format!("* {reason}")).collect();
        return Claim::new(machine::UP_TO_DATE, false, "NotUpToDate", lines.join("\n"));
    }
    match kubelet {
        Some(kubelet) if !kubelet.is_empty() && kubelet != version => {
            let message = format!("* Node has kubelet {kubelet}, {version} required");
            Claim::new(machine::UP_TO_DATE, false, "Updating", message)
        }
        _ => Claim::holds(machine::UP_TO_DATE, "UpToDate"),
    }
}

/// Versions on machines with how many have each, oldest version first.
pub fn versions<'a>(machines: impl Iterator<Item = &'a str>) -> Vec<(String, i32)> {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for version in machines.filter(|version| !version.is_empty()) {
        *counts.entry(version).or_default() += 1;
    }
    let mut versions: Vec<_> = counts.into_iter().map(|(version, count)| (version.to_owned(), count)).collect();
    versions.sort_by_cached_key(|(version, _)| version.parse::<Version>().ok());
    versions
}

/// Names in a message, at most a few.
pub fn named(names: &[String], limit: usize) -> String {
    let shown = names.iter().take(limit).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(limit) {
        0 => shown,
        more => format!("{shown}, ... ({more} more)"),
    }
}

/// Whether a condition did not hold for longer than `damping`.
fn fails_since(machine: &MachineFact, type_: &str, now: Timestamp, damping: SignedDuration) -> bool {
    let found = machine.conditions.iter().find(|condition| condition.type_ == type_);
    found.is_some_and(|found| found.status != "True" && now.duration_since(found.last_transition_time.0) > damping)
}
