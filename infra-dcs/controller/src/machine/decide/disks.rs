//! What the persistent disks of a machine's entry keep from being done; the pool moves them, a machine only asks.

use dcs_proto::v1;

use super::{Facts, POLL, Step, Verdict, missing, plan, types, wait};
use crate::{disks::standing, machine::record::Wish};

/// No VM is made before the disks of its entry are there, and free of the VM that had them before.
pub(super) fn before_creation(facts: &Facts<'_>) -> Option<Verdict> {
    let (pool, ip) = (facts.pool.filter(|_| facts.machine.spec.vm_urn.is_none())?, facts.record.ip()?);
    Some(waits(standing::before_creation(pool, ip)?))
}

/// No VM is started for the first time before its disks are in it: the guest would go without its data.
pub(super) fn before_start(facts: &Facts<'_>, vm: &v1::Machine) -> Option<Verdict> {
    let (pool, ip) = (facts.pool?, facts.record.ip()?);
    if !standing::any(pool, ip) {
        return None;
    }
    if facts.record.disks != Some(Wish::Attach) {
        return Some(plan(Step::AskDisks(Wish::Attach)));
    }
    Some(waits(standing::before_start(pool, ip, vm)?))
}

/// No VM is deleted while disks are in it that must survive it: the site deletes what is attached.
pub(super) fn before_deletion(facts: &Facts<'_>, vm: &v1::Machine) -> Option<Verdict> {
    let waiting = standing::before_deletion(facts.pool?, facts.record.ip(), vm)?;
    if facts.record.disks != Some(Wish::Detach) {
        return Some(plan(Step::AskDisks(Wish::Detach)));
    }
    Some(waits(waiting))
}

/// The pool's next word wakes the machine; the delay is for what the site alone shows.
fn waits((reason, message): standing::Waiting) -> Verdict {
    wait(missing(types::DISKS, reason, message), Some(POLL))
}
