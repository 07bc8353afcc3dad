//! From nothing to a volume: made, found again, or taken over.

use std::time::Duration;

use dcs_proto::v1;

use super::{
    Call, Draft, Facts, POLL, Progress, QUARANTINE, Read, Reading, SLOW, SOON, User, Verdict, detail, elsewhere, error,
    failed, keep::have, not_due, progress, show, size_of,
};
use crate::{
    api::pool::{DiskPhase, PersistentDisk},
    disks::{
        record::{Attempt, Record, Work},
        sequence::bus_of,
    },
};

pub(super) fn make(facts: &Facts<'_>, record: &Record) -> Verdict {
    if record.attempt.is_none() {
        if let Some((vm, sequence)) = facts.claim {
            return claim(facts, record, vm, sequence);
        }
        if record.vm.is_some() {
            // The disk that was to be taken over is not: it went with its VM, or is not meant any more.
            return make(facts, &Record { vm: None, failure: None, ..record.clone() });
        }
        if facts.declared.is_none() || matches!(facts.user, User::Nobody) {
            return Draft::new(None, None).done();
        }
    }
    let listed = match facts.listed {
        Reading::Unread => return Verdict::Need(Read::Volumes),
        Reading::Failed(ref refused) => {
            return show(record, phase_of_unmade(record)).because(refused.to_string()).again(POLL).done();
        }
        Reading::Known(listed) => listed,
    };
    let mut found = listed.iter().filter(|volume| volume.name == facts.name);
    match (found.next(), found.next()) {
        (None, _) => create(facts, record),
        (Some(volume), None) => take(facts, record, volume),
        (Some(one), Some(other)) => {
            let message = format!(
                "{} and {} are both called {}; delete or rename the one that does not belong to the pool",
                one.urn, other.urn, facts.name
            );
            error(record, "DuplicateVolume", message).done()
        }
    }
}

fn phase_of_unmade(record: &Record) -> DiskPhase {
    let grave = record.failure.as_ref().is_some_and(|failure| failure.grave);
    if grave { DiskPhase::Error } else { DiskPhase::Creating }
}

/// No volume of the name exists.
fn create(facts: &Facts<'_>, record: &Record) -> Verdict {
    let Some(attempt) = &record.attempt else {
        if !matches!(facts.user, User::Waits | User::Attach { .. }) {
            // Who lets go needs no new volume; a record tells it that nothing is left to wait for.
            return show(record, phase_of_unmade(record)).done();
        }
        if let Some(waiting) = not_due(facts, record, DiskPhase::Creating) {
            return waiting;
        }
        let attempt = Some(Attempt { at: facts.now });
        let record = Record { attempt, task: None, ..record.clone() };
        return show(&record, DiskPhase::Creating).call(Call::Create).done();
    };
    match progress(facts, record, Work::Create) {
        Err(read) => Verdict::Need(read),
        Ok(Progress::Running) => show(record, DiskPhase::Creating).again(SOON).done(),
        Ok(Progress::Failed(failure)) => {
            let failed = failed(record, "the volume was not made", &failure, facts.now);
            give_up(&Record { attempt: None, ..failed })
        }
        Ok(Progress::Unreadable(message)) => show(record, DiskPhase::Creating).because(message).again(POLL).done(),
        // Made or not: what a lost call makes may show itself late, and two of one name must never be.
        Ok(Progress::Over) if facts.now.duration_since(attempt.at) < QUARANTINE => {
            show(record, DiskPhase::Creating).again(SOON).done()
        }
        Ok(Progress::Over) => make(facts, &Record { attempt: None, task: None, ..record.clone() }),
    }
}

pub(super) fn give_up(record: &Record) -> Verdict {
    let message = record.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
    show(record, DiskPhase::Error).because(message).again(SLOW).done()
}

/// One volume of the name exists: it is taken when it is ours.
fn take(facts: &Facts<'_>, record: &Record, listed: &v1::Volume) -> Verdict {
    if let Err((reason, message)) = is_ours(facts, listed) {
        return error(record, reason, message).done();
    }
    if !listed.usable {
        return show(record, DiskPhase::Creating).again(SOON).done();
    }
    let mut vm = None;
    if listed.bound {
        let volume = match detail(facts, &listed.urn) {
            Err(verdict) => return verdict,
            Ok(Some(volume)) => volume,
            Ok(None) => return show(record, DiskPhase::Creating).again(SOON).done(),
        };
        match volume.machine_urns.as_slice() {
            [] => return show(record, DiskPhase::Creating).again(SOON).done(),
            [holder] if facts.user.vm() == Some(holder) => vm = Some(holder.clone()),
            others => return elsewhere(record, &listed.urn, others),
        }
    }
    let record = Record {
        volume: Some(listed.urn.clone()),
        size: listed.size_gib,
        datastore: listed.datastore_urn.clone(),
        foreign: !(listed.independent && listed.persistent),
        attempt: None,
        task: None,
        failure: None,
        vm,
        ..record.clone()
    };
    have(facts, &record, &listed.urn)
}

/// A volume is ours when it says so; one of a site that keeps no marks, when it is as it was to be made.
fn is_ours(facts: &Facts<'_>, volume: &v1::Volume) -> Result<(), (&'static str, String)> {
    if let Some(owner) = &volume.owner {
        let same = owner.resource == facts.mark.resource && owner.management_cluster == facts.mark.management_cluster;
        return if same {
            Ok(())
        } else {
            let message = format!(
                "{} is called {} and belongs to {} of management cluster {}; use another name for the pool",
                volume.urn, volume.name, owner.resource, owner.management_cluster
            );
            Err(("VolumeOfAnother", message))
        };
    }
    match facts.declared {
        Some(declared) if size_of(declared) == volume.size_gib => Ok(()),
        _ => {
            let message = format!(
                "{} is called {}, bears no mark and has {} GiB; delete or rename it when it is not this pool's",
                volume.urn, volume.name, volume.size_gib
            );
            Err(("VolumeOfAnother", message))
        }
    }
}

/// Takes over a disk of a VM that was made when the disk was still the template's (a documented migration). Strict:
/// what differs from the declaration is an error until the declaration is right.
fn claim(facts: &Facts<'_>, record: &Record, vm: &str, sequence: u32) -> Verdict {
    // Written at once: whoever deletes the VM waits until the disk is taken.
    let pending = Record { vm: Some(vm.to_owned()), ..record.clone() };
    let machine = match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine(vm.to_owned())),
        Reading::Failed(refused) => {
            return show(&pending, DiskPhase::Creating).because(refused.to_string()).again(POLL).done();
        }
        Reading::Known(None) => {
            let record = Record { vm: None, ..record.clone() };
            return error(&record, "ClaimFailed", format!("VM {vm} is gone, and its disk {sequence} with it")).done();
        }
        Reading::Known(Some(machine)) => machine,
    };
    let Some(disk) = machine.disks.iter().find(|disk| disk.sequence == sequence) else {
        let message = format!("VM {} has no disk with sequence number {sequence} to take over", machine.name);
        return error(&pending, "ClaimMismatch", message).done();
    };
    let volume = match detail(facts, &disk.volume_urn) {
        Err(verdict) => return verdict,
        Ok(Some(volume)) => volume,
        Ok(None) => return show(&pending, DiskPhase::Creating).again(SOON).done(),
    };
    let differences = facts.declared.map(|declared| differences(declared, &volume, &disk.bus)).unwrap_or_default();
    if !differences.is_empty() {
        let message = format!(
            "disk {sequence} of VM {} is to become {}, but {}",
            machine.name,
            facts.key,
            differences.join(", ")
        );
        return error(&pending, "ClaimMismatch", message).done();
    }
    let record = Record {
        volume: Some(volume.urn.clone()),
        size: volume.size_gib,
        datastore: volume.datastore_urn.clone(),
        foreign: true,
        used: true,
        failure: None,
        ..pending
    };
    show(&record, DiskPhase::Attached).again(Duration::ZERO).done()
}

fn differences(declared: &PersistentDisk, volume: &v1::Volume, bus: &str) -> Vec<String> {
    let mut found = Vec::new();
    if size_of(declared) != volume.size_gib {
        found.push(format!("it has {} GiB, quantityGB says {}", volume.size_gib, declared.quantity_gb));
    }
    if let Some(name) = declared.datastore_name.as_ref().filter(|name| **name != volume.datastore_name) {
        found.push(format!("it lies on {}, datastoreName says {name}", volume.datastore_name));
    }
    if let Some(name) = declared.datastore_cluster_name.as_ref().filter(|name| **name != volume.datastore_cluster_name)
    {
        let lies = if volume.datastore_cluster_name.is_empty() {
            format!("{} of no datastore cluster", volume.datastore_name)
        } else {
            volume.datastore_cluster_name.clone()
        };
        found.push(format!("it lies on {lies}, datastoreClusterName says {name}"));
    }
    if !bus.is_empty() && bus_of(declared) != bus {
        found.push(format!("it is on bus {bus}, pciType says {}", bus_of(declared)));
    }
    found
}
