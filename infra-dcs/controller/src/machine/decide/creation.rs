//! From nothing to a running VM.

use std::time::Duration;

use dcs_proto::v1::{self, PowerState};
use jiff::SignedDuration;

use super::{
    DEPLOYS, Facts, Growth, MISSING, POLL, Read, SOON, Step, Verdict, disks, known, missing, plan, said,
    task::{Progress, progress},
    types, until, wait,
};
use crate::{
    claims::{self, Choice},
    machine::{
        media::{self, Rest},
        record::{Attempt, Work},
        request,
    },
};

/// Time between two looks at whose turn it is: whoever makes way tells, unless only time passes.
const QUEUE: Duration = Duration::from_secs(60);
/// Time in which a VM that is made shows all its disks.
const SETTLE: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn create(facts: &Facts<'_>) -> Verdict {
    let record = facts.record;
    if record.network.is_none() {
        return claim(facts);
    }
    if let Some(verdict) = unclaimed(facts) {
        return verdict;
    }
    if let Some(waiting) = disks::before_creation(facts) {
        return waiting;
    }
    if record.placement.is_none() {
        return plan(Step::Resolve);
    }
    let Some(attempt) = &record.attempt else { return begin(facts) };
    if let Some(not_before) = attempt.not_before.filter(|moment| *moment > facts.now) {
        let failure = attempt.last_failure.clone().unwrap_or_default();
        let message = format!("attempt {} begins at {not_before}; the last one failed: {failure}", attempt.number);
        return wait(missing(types::PROVISIONED, "CreateFailed", message), Some(until(facts.now, not_before)));
    }
    if record.media.is_none() {
        return plan(Step::PutMedia);
    }
    if facts.machine.spec.vm_urn.is_none() {
        return find_or_create(facts);
    }
    provision(facts, attempt)
}

fn begin(facts: &Facts<'_>) -> Verdict {
    if facts.permit {
        return plan(Step::BeginAttempt);
    }
    let message = format!("{DEPLOYS} machines are being made at this site; this one is in the queue");
    wait(missing(types::PROVISIONED, "WaitingForDeployPermit", message), Some(QUEUE))
}

fn claim(facts: &Facts<'_>) -> Verdict {
    let name = facts.machine.metadata.name.as_deref().unwrap_or_default();
    let pool_name = &facts.machine.spec.ip_host_pool_ref.name;
    let Some(pool) = facts.pool else {
        let message = format!("DCSIpHostnamePool {pool_name} does not exist");
        return wait(missing(types::CLAIMED, "PoolNotFound", message), Some(MISSING));
    };
    if pool.metadata.deletion_timestamp.is_some() {
        let message = format!("DCSIpHostnamePool {pool_name} is being deleted");
        return wait(missing(types::CLAIMED, "PoolDeleting", message), Some(MISSING));
    }
    match claims::choose(pool, name, &facts.recorded) {
        Choice::Held(entry) => plan(Step::RecordEntry(entry)),
        Choice::Free(entry) => plan(Step::ClaimEntry(entry)),
        Choice::Exhausted => {
            let total = pool.spec.pool.len();
            let message =
                format!("all {total} entries of DCSIpHostnamePool {pool_name} are held; add entries or free some");
            wait(missing(types::CLAIMED, "IPPoolExhausted", message), Some(MISSING))
        }
    }
}

/// A recorded entry that the pool's record does not give to this machine. Where that record was lost, the entry is claimed
/// again, and the first to do so has it.
fn unclaimed(facts: &Facts<'_>) -> Option<Verdict> {
    let (pool, ip) = (facts.pool?, facts.record.ip()?);
    let name = facts.machine.metadata.name.as_deref().unwrap_or_default();
    let Some(claim) = claims::of_pool(pool).remove(ip) else {
        let entry = pool.spec.pool.iter().find(|entry| entry.ip() == ip)?;
        return Some(plan(Step::ClaimEntry(entry.clone())));
    };
    if claim.machine == name {
        return None;
    }
    if facts.record.attempt.is_none() {
        return Some(plan(Step::ForgetEntry));
    }
    let message = format!("{ip} is held by {} too; delete one of the two Machines", claim.machine);
    Some(wait(missing(types::CLAIMED, "DuplicateIP", message), Some(MISSING)))
}

fn find_or_create(facts: &Facts<'_>) -> Verdict {
    let found = match known(&facts.found, Read::Found, "looking for the VM") {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match found.as_slice() {
        [] => plan(Step::Create),
        [one] => plan(Step::Adopt(one.urn.clone())),
        several => {
            let urns: Vec<_> = several.iter().map(|vm| vm.urn.as_str()).collect();
            let message = format!("several VMs bear the mark of this machine: {}; delete all but one", urns.join(", "));
            wait(missing(types::PROVISIONED, "DuplicateVM", message), Some(MISSING * 3))
        }
    }
}

/// From a made VM to a running one.
fn provision(facts: &Facts<'_>, attempt: &Attempt) -> Verdict {
    let progress = match progress(facts) {
        Ok(progress) => progress,
        Err(read) => return Verdict::Need(read),
    };
    let failure = match progress {
        Progress::Running(verdict) => return verdict,
        Progress::Failed(Work::Create | Work::Delete, failure) => return abandon(facts, attempt, failure),
        Progress::Over if facts.record.task.as_ref().is_some_and(|task| task.work == Work::Delete) => {
            return abandon(facts, attempt, "what the failed attempt left was deleted".to_owned());
        }
        Progress::Failed(_, failure) => Some(failure),
        Progress::Over => None,
    };
    let vm = match known(&facts.vm, Read::Machine, "reading the VM") {
        Ok(Some(vm)) => vm,
        Ok(None) => return abandon(facts, attempt, "the VM is gone".to_owned()),
        Err(verdict) => return verdict,
    };
    let after = |step: Step| match &failure {
        None => plan(step),
        Some(failure) => said(step, missing(types::PROVISIONED, "TaskFailed", failure.clone()), POLL),
    };
    match vm.state() {
        // Where a drive takes a medium of a running VM only, the guest waits for it.
        PowerState::Running if media_goes_in_late(facts) && vm.boot_media.is_empty() => after(Step::AttachMedia),
        PowerState::Running => plan(Step::Provision),
        PowerState::Stopped if facts.record.started_at.is_none() => match own_disks(facts, vm, failure.is_some()) {
            // Debris of a clone that failed while nobody looked; a moment is given to a list that lags.
            Disks::Missing(failure) if facts.now.duration_since(attempt.at) > SETTLE => {
                abandon(facts, attempt, failure)
            }
            Disks::Missing(message) => wait(missing(types::PROVISIONED, "DiskMissing", message), Some(POLL)),
            Disks::Stays(message) => wait(missing(types::PROVISIONED, "DiskTooSmall", message), Some(POLL)),
            Disks::Small(growth) => {
                let message = format!("a disk is being grown to {} GiB", growth.gib);
                let message = failure.clone().unwrap_or(message);
                said(Step::GrowDisk(growth), missing(types::PROVISIONED, "GrowingDisk", message), POLL)
            }
            Disks::AsWanted => match folder(facts, vm) {
                Some(folder) => after(Step::MoveToFolder(folder)),
                None => disks::before_start(facts, vm).unwrap_or_else(|| {
                    if vm.boot_media.is_empty() && !media_goes_in_late(facts) {
                        return after(Step::AttachMedia);
                    }
                    outdated(facts, attempt).unwrap_or_else(|| after(Step::PowerOn))
                }),
            },
        },
        PowerState::Stopped if failure.is_some() => after(Step::PowerOn),
        PowerState::Stopped => {
            let message = "the VM stopped before it was seen running; start it at the site, or delete the Machine";
            wait(missing(types::PROVISIONED, "VMStopped", message), Some(POLL))
        }
        PowerState::Creating | PowerState::Transition | PowerState::Unspecified => {
            let message = format!("the VM is {}", vm.state_text);
            wait(missing(types::PROVISIONED, "VMMidTransition", message), Some(SOON))
        }
    }
}

fn media_goes_in_late(facts: &Facts<'_>) -> bool {
    facts.record.media.as_ref().is_some_and(|media| media.on_power)
}

/// Boot data that changed before the first start: what the medium holds may not let a node join any more. A drive does not
/// give its medium back while its VM is stopped, so the VM is made anew. Once started it never is.
fn outdated(facts: &Facts<'_>, attempt: &Attempt) -> Option<Verdict> {
    let made_from = facts.record.media.as_ref().map(|media| &media.data).filter(|digest| !digest.is_empty())?;
    match known(&facts.boot, Read::BootData, "reading the boot data") {
        Ok(Some(now)) if now != made_from => {
            Some(abandon(facts, attempt, "the boot data changed before the first start".to_owned()))
        }
        Ok(_) => None,
        Err(verdict) => Some(verdict),
    }
}

/// The folder that a made VM is to be moved into: some sites make it elsewhere, whatever is asked. One move is enough.
fn folder(facts: &Facts<'_>, vm: &v1::Machine) -> Option<String> {
    let wanted = &facts.record.placement.as_ref()?.folder;
    let lies_elsewhere = vm.folder_urn.as_ref().is_some_and(|folder| folder != wanted);
    (lies_elsewhere && !wanted.is_empty() && !facts.record.moved).then(|| wanted.clone())
}

/// How the disks of a made VM compare with what was asked for.
enum Disks {
    AsWanted,
    /// One is smaller: sites copy a template's system disk as large as it is, whatever is asked.
    Small(Growth),
    /// One stays smaller.
    Stays(String),
    /// One is not there.
    Missing(String),
}

/// `failed` says that the last task did: growing that failed is tried again.
fn own_disks(facts: &Facts<'_>, vm: &v1::Machine, failed: bool) -> Disks {
    for wanted in request::disks(&facts.machine.spec) {
        let Some(disk) = vm.disks.iter().find(|disk| disk.sequence == wanted.sequence) else {
            return Disks::Missing(format!("the site made VM {} without disk {}", vm.name, wanted.sequence));
        };
        if disk.size_gib >= wanted.size_gib {
            continue;
        }
        if !failed && facts.record.task.as_ref().is_some_and(|task| task.work == Work::GrowDisk) {
            return Disks::Stays(format!(
                "disk {} has {} GiB and does not grow to the {} GiB that are asked for",
                wanted.sequence, disk.size_gib, wanted.size_gib
            ));
        }
        return Disks::Small(Growth { volume: disk.volume_urn.clone(), gib: wanted.size_gib });
    }
    Disks::AsWanted
}

/// An attempt failed: clear away what is left of it, then begin the next one after a pause.
fn abandon(facts: &Facts<'_>, attempt: &Attempt, failure: String) -> Verdict {
    let left = match known(&facts.vm, Read::Machine, "reading the VM") {
        Ok(left) => left,
        Err(verdict) => return verdict,
    };
    if let Some(vm) = left {
        let ours = vm.attempt == attempt.id || vm.uuid == attempt.id;
        return match vm.state() {
            PowerState::Stopped if ours => disks::before_deletion(facts, vm)
                .unwrap_or_else(|| said(Step::Delete, missing(types::PROVISIONED, "CreateFailed", failure), SOON)),
            _ => {
                let message = format!("{failure}; what is left is {}, and is not touched", vm.state_text);
                wait(missing(types::PROVISIONED, "CreateFailed", message), Some(POLL))
            }
        };
    }
    match facts.record.media.as_ref().map_or(Rest::Nothing, |recorded| media::rest(recorded, facts.now)) {
        Rest::Nothing => {}
        Rest::Remove => {
            return said(Step::DeleteMedia, missing(types::PROVISIONED, "CreateFailed", failure), Duration::ZERO);
        }
        Rest::MayReturn(moment) => {
            return wait(missing(types::PROVISIONED, "CreateFailed", failure), Some(until(facts.now, moment)));
        }
    }
    let pause = SignedDuration::from_secs((30_i64 << attempt.number.min(5).saturating_sub(1)).min(600));
    let next = Attempt {
        number: attempt.number.saturating_add(1),
        // Filled in by the effect, which has randomness.
        id: String::new(),
        at: facts.now,
        not_before: facts.now.checked_add(pause).ok(),
        last_failure: Some(failure.clone()),
    };
    said(Step::NextAttempt(next), missing(types::PROVISIONED, "CreateFailed", failure), POLL)
}
