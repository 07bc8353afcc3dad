//! From a running VM to nothing: stop, delete, clear away, give back.

use std::collections::BTreeMap;

use cluster_api::conditions::{Claim, Status};
use dcs_proto::v1::PowerState;
use jiff::{SignedDuration, Timestamp};

use super::{
    Facts, MISSING, POLL, Plan, Read, SOON, Step, Verdict, disks, has_finalizer, known, login_refused, missing, plan,
    said,
    task::{Progress, progress},
    types, until, wait,
};
use crate::{
    api::{DCSIpHostnamePool, RETAIN_VM},
    claims,
    machine::{
        media::{self, Rest},
        record::Work,
    },
};

/// Time in which what a lost call may have made shows itself: no call lasts longer.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(30);

/// What is waited for when a call was lost.
const NOTHING_COMES: &str = "waiting until nothing can appear at the site any more";

/// Whether the VM is to be left running.
fn retained(facts: &Facts<'_>) -> bool {
    let asked = |annotations: Option<&BTreeMap<String, String>>| {
        annotations.and_then(|annotations| annotations.get(RETAIN_VM)).is_some_and(|value| value == "true")
    };
    asked(facts.machine.metadata.annotations.as_ref())
        || asked(facts.owner.and_then(|owner| owner.metadata.annotations.as_ref()))
}

pub(super) fn delete(facts: &Facts<'_>) -> Verdict {
    if !has_finalizer(facts.machine) {
        return Verdict::Plan(Plan { step: Step::Wait, conditions: Vec::new(), again: None });
    }
    if retained(facts) {
        return retain(facts);
    }
    let Some(attempt) = &facts.record.attempt else { return release(facts) };
    if let Some(infra) = facts.infra
        && let Some(condition) = login_refused(infra)
    {
        return wait(condition, Some(MISSING));
    }
    if facts.machine.spec.vm_urn.is_none() {
        let found = match known(&facts.found, Read::Found, "looking for the VM") {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        return match found.first() {
            Some(vm) => plan(Step::Adopt(vm.urn.clone())),
            // A call whose answer was lost may still make it, or its medium; none is begun once the deletion is seen.
            None if facts.now.duration_since(attempt.at.max(deleted_at(facts))) < QUARANTINE => {
                wait(missing(types::PROVISIONED, "Deleting", NOTHING_COMES), Some(POLL))
            }
            None => cleared(facts),
        };
    }
    stop_and_delete(facts)
}

fn stop_and_delete(facts: &Facts<'_>) -> Verdict {
    let failure = match progress(facts) {
        Err(read) => return Verdict::Need(read),
        Ok(Progress::Running(verdict)) => return verdict,
        Ok(Progress::Failed(_, failure)) => Some(failure),
        Ok(Progress::Over) => None,
    };
    let vm = match known(&facts.vm, Read::Machine, "reading the VM") {
        Ok(Some(vm)) => vm,
        Ok(None) => return cleared(facts),
        Err(verdict) => return verdict,
    };
    let refused_before = failure.map(|failure| format!("; the last try failed: {failure}")).unwrap_or_default();
    match vm.state() {
        PowerState::Running => {
            let message = format!("a safe stop was sent; the guest's tools must carry it out{refused_before}");
            let stop = missing(types::STOP_PENDING, "WaitingForStop", message);
            // A task that ended without stopping it is not repeated in a loop.
            let recent = facts.record.task.as_ref().is_some_and(|task| {
                task.work == Work::PowerOff && facts.now.duration_since(task.since) < SignedDuration::from_secs(10)
            });
            if recent { wait(stop, Some(SOON)) } else { said(Step::PowerOff, stop, SOON) }
        }
        PowerState::Stopped => disks::before_deletion(facts, vm).unwrap_or_else(|| {
            let stopped = Claim::new(types::STOP_PENDING, Status::True, "Stopped", refused_before);
            said(Step::Delete, stopped, SOON)
        }),
        PowerState::Creating | PowerState::Transition | PowerState::Unspecified => {
            let message = format!("VM stuck in {}; awaiting transition to stopped", vm.state_text);
            wait(missing(types::STOP_PENDING, "VMMidTransition", message), Some(POLL))
        }
    }
}

/// The VM is gone: its medium follows, then its entry.
fn cleared(facts: &Facts<'_>) -> Verdict {
    let rest = match &facts.record.media {
        Some(recorded) => media::rest(recorded, facts.now),
        // An attempt without a record of its medium may have ended between the upload and the record.
        None if facts.record.attempt.is_some() && facts.record.placement.is_some() => Rest::Remove,
        None => Rest::Nothing,
    };
    match rest {
        Rest::Nothing => release(facts),
        Rest::Remove => plan(Step::DeleteMedia),
        Rest::MayReturn(moment) => {
            wait(missing(types::PROVISIONED, "Deleting", NOTHING_COMES), Some(until(facts.now, moment)))
        }
    }
}

fn deleted_at(facts: &Facts<'_>) -> Timestamp {
    facts.machine.metadata.deletion_timestamp.as_ref().map_or(facts.now, |time| time.0)
}

fn release(facts: &Facts<'_>) -> Verdict {
    let name = facts.machine.metadata.name.as_deref().unwrap_or_default();
    let held =
        |pool: &DCSIpHostnamePool| claims::of_pool(pool).values().any(|claim| claim.machine == name && !claim.retained);
    match facts.pool {
        Some(pool) if held(pool) => plan(Step::Release),
        _ => plan(Step::RemoveFinalizer),
    }
}

fn retain(facts: &Facts<'_>) -> Verdict {
    let name = facts.machine.metadata.name.as_deref().unwrap_or_default();
    let marked =
        |pool: &DCSIpHostnamePool| claims::of_pool(pool).values().any(|claim| claim.machine == name && !claim.retained);
    match facts.pool {
        Some(pool) if marked(pool) => plan(Step::Retain),
        _ => plan(Step::RemoveFinalizer),
    }
}
