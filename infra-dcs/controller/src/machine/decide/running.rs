//! A provisioned machine: take its medium out once it has joined, and watch.

use std::time::Duration;

use cluster_api::{conditions::Claim, v1beta2::Machine};
use dcs_proto::v1::{self, PowerState};
use jiff::{SignedDuration, Timestamp};

use super::{
    Facts, MISSING, Plan, Read, Reading, Step, Verdict, login_refused, missing,
    task::{Progress, progress},
    types, until,
};
use crate::machine::{
    console,
    media::{self, Rest},
    record::Work,
};

/// Time between two looks at what is expected to stay as it is.
const WATCH: Duration = Duration::from_secs(60);
/// A VM that the site does not show for this long is gone: one look may have met a site that was starting.
const GONE: SignedDuration = SignedDuration::from_secs(30);
/// Time between two tries to take a medium out that stays in.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// Time after which the console of a guest that has not joined is looked at.
const BOOT: SignedDuration = SignedDuration::from_secs(60);
/// Time in which a started machine should have joined; the first where not even its tools answer.
const JOIN: (SignedDuration, SignedDuration) = (SignedDuration::from_mins(4), SignedDuration::from_mins(10));

/// A step with conditions, for a machine that is provisioned all the same.
struct Watching {
    conditions: Vec<Claim>,
}

impl Watching {
    fn and(mut self, claim: Claim) -> Self {
        self.conditions.push(claim);
        self
    }

    fn then(self, step: Step, again: Option<Duration>) -> Verdict {
        Verdict::Plan(Plan { step, conditions: self.conditions, again })
    }

    fn wait(self, again: Option<Duration>) -> Verdict {
        self.then(Step::Wait, again)
    }
}

pub(super) fn watch(facts: &Facts<'_>, owner: &Machine) -> Verdict {
    let mut watching = Watching { conditions: vec![Claim::holds(types::PROVISIONED, "Provisioned")] };
    if facts.infra.is_some_and(|infra| login_refused(infra).is_some()) {
        return watching.wait(Some(MISSING));
    }
    match progress(facts) {
        Err(read) => return Verdict::Need(read),
        Ok(Progress::Running(Verdict::Plan(Plan { conditions, again, .. }))) => {
            watching.conditions.extend(conditions.into_iter().filter(|claim| claim.type_ != types::PROVISIONED));
            return watching.wait(again);
        }
        Ok(_) => {}
    }
    let vm = match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine),
        // Readiness is not withdrawn because the site cannot be asked.
        Reading::Failed(_) | Reading::Barred(_) => return watching.wait(Some(WATCH)),
        Reading::Known(None) => return gone(facts, watching),
        Reading::Known(Some(_)) if facts.record.missing_since.is_some() => {
            return watching.then(Step::RecordMissing(false), Some(Duration::ZERO));
        }
        Reading::Known(Some(vm)) => vm,
    };
    if vm.state() != PowerState::Running {
        let stopped = missing(types::PROVISIONED, "VMNotRunning", format!("the VM is {}", vm.state_text));
        watching.conditions.retain(|claim| claim.type_ != types::PROVISIONED);
        return watching.and(stopped).wait(Some(MISSING));
    }
    if owner.node_name().is_none() {
        return not_joined(facts, vm, watching);
    }
    watching = watching.and(Claim::holds(types::BOOTED, "Joined"));
    let recorded = facts.record.media.as_ref();
    let rest = recorded.map_or(Rest::Nothing, |recorded| media::rest(recorded, facts.now));
    if recorded.is_none_or(|recorded| recorded.deleted) {
        let watching = watching.and(Claim::holds(types::DETACHED, "Detached"));
        return match rest {
            Rest::Nothing => watching.wait(None),
            Rest::MayReturn(moment) => watching.wait(Some(until(facts.now, moment))),
            Rest::Remove => watching.then(Step::DeleteMedia, Some(Duration::ZERO)),
        };
    }
    let message = "the machine has joined; its boot medium is being removed";
    let watching = watching.and(missing(types::DETACHED, "Detaching", message));
    if vm.boot_media.is_empty() {
        return watching.then(Step::DeleteMedia, Some(Duration::ZERO));
    }
    // A task that ended and left it in the drive is not repeated in a loop.
    let again = facts.record.task.as_ref().filter(|task| task.work == Work::DetachMedia);
    match again.and_then(|task| task.since.checked_add(AGAIN).ok()).filter(|again| facts.now < *again) {
        Some(again) => watching.wait(Some(until(facts.now, again))),
        None => watching.then(Step::DetachMedia, Some(Duration::ZERO)),
    }
}

/// The site shows no such VM. It is never made again under the same Machine: what runs on it has an identity.
fn gone(facts: &Facts<'_>, mut watching: Watching) -> Verdict {
    let Some(since) = facts.record.missing_since else {
        return watching.then(Step::RecordMissing(true), Some(Duration::ZERO));
    };
    let certain = since.checked_add(GONE).unwrap_or(Timestamp::MAX);
    if facts.now < certain {
        return watching.wait(Some(until(facts.now, certain)));
    }
    let urn = facts.machine.spec.vm_urn.as_deref().unwrap_or_default();
    let message = format!("VM {urn} is gone; delete the Machine to have it replaced");
    watching.conditions.retain(|claim| claim.type_ != types::PROVISIONED);
    watching.and(missing(types::PROVISIONED, "VMNotFound", message)).wait(Some(WATCH))
}

/// The guest boots, or fails to: its console tells, where the site gives it.
fn not_joined(facts: &Facts<'_>, vm: &v1::Machine, watching: Watching) -> Verdict {
    let message = "the boot medium stays until the machine has joined";
    let watching = watching.and(missing(types::DETACHED, "WaitingForNode", message));
    let started = facts.record.started_at.unwrap_or(facts.now);
    let age = facts.now.duration_since(started);
    if age < BOOT {
        return watching.wait(Some(until(facts.now, started.checked_add(BOOT).unwrap_or(Timestamp::MAX))));
    }
    let late = if vm.tools_running { JOIN.1 } else { JOIN.0 };
    let shown = match &facts.console {
        Reading::Unread => return Verdict::Need(Read::Console),
        Reading::Barred(why) => Err(format!("its console cannot be asked for: {}", why.message)),
        Reading::Failed(error) => {
            Err(format!("the site does not give its console ({error}); open the console of VM {} there", vm.name))
        }
        Reading::Known(text) => Ok(text),
    };
    let said = match shown {
        Ok(text) if console::shows_failure(text) => {
            Some(("BootFailed", format!("the boot failed; the end of its console:\n{}", console::end(text))))
        }
        _ if age < late => None,
        Ok(text) => Some((
            "NodeNotJoined",
            format!("the machine has not joined; the end of its console:\n{}", console::end(text)),
        )),
        Err(why) => Some(("NodeNotJoined", format!("the machine has not joined, and {why}"))),
    };
    match said {
        None => watching.wait(Some(WATCH)),
        Some((reason, message)) => watching.and(missing(types::BOOTED, reason, message)).wait(Some(WATCH)),
    }
}
