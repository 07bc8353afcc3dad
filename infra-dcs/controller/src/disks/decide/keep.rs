//! With a volume: attached, detached, deleted, or lost.

use dcs_proto::v1::{self, PowerState};

use super::{
    Call, Draft, Facts, POLL, Progress, Read, Reading, SOON, User, Verdict, detail, elsewhere, error, failed,
    make::{give_up, make},
    not_due, progress, show, size_of, unreadable,
};
use crate::{
    api::pool::DiskPhase,
    disks::{
        record::{RECREATE, Record, Work},
        sequence::{bus_of, sequence},
    },
};

pub(super) fn have(facts: &Facts<'_>, record: &Record, urn: &str) -> Verdict {
    let listed = match facts.listed {
        Reading::Unread => return Verdict::Need(Read::Volumes),
        Reading::Failed(ref refused) => return unreadable(facts, record, refused),
        Reading::Known(listed) => listed.iter().find(|volume| volume.urn == urn),
    };
    let volume = match listed {
        Some(volume) => volume.clone(),
        // Renamed, not ours by name yet, or gone: only its own call says so.
        None => match detail(facts, urn) {
            Err(verdict) => return verdict,
            Ok(Some(volume)) => volume,
            Ok(None) => return lost(facts, record, urn),
        },
    };
    match (&record.vm, volume.bound) {
        (_, false) => free(facts, record, &volume),
        (Some(vm), true) => held(facts, record, &volume, vm),
        (None, true) => found_held(facts, record, &volume),
    }
}

fn lost(facts: &Facts<'_>, record: &Record, urn: &str) -> Verdict {
    if record.ending || facts.ending {
        return Draft::new(None, None).done();
    }
    if facts.recreate {
        let record = Record { cluster: record.cluster.clone(), ..Record::default() };
        return make(facts, &super::served(facts, record));
    }
    let message = format!(
        "volume {urn} is gone and its data with it; restore it, or set annotation {} of the pool to {} to get an empty one",
        RECREATE, facts.key
    );
    error(record, "VolumeLost", message).done()
}

fn free(facts: &Facts<'_>, record: &Record, volume: &v1::Volume) -> Verdict {
    if let Some(vm) = &record.vm {
        let goes_there = matches!(facts.user, User::Attach { vm: wanted, .. } if wanted == vm) && !record.ending;
        // What is on its way is not free, whatever the list says.
        match progress(facts, record, Work::Attach) {
            Err(read) => return Verdict::Need(read),
            Ok(Progress::Running) => return show(record, DiskPhase::Attaching).again(SOON).done(),
            Ok(Progress::Unreadable(message)) => {
                return show(record, DiskPhase::Attaching).because(message).again(POLL).done();
            }
            Ok(Progress::Failed(failure)) if goes_there => {
                let record = failed(record, "it was not attached", &failure, facts.now);
                return give_up(&record);
            }
            Ok(Progress::Failed(_) | Progress::Over) if goes_there => {}
            Ok(_) => {
                let freed = Some(facts.now);
                let record = Record { vm: None, freed, task: None, failure: None, ..record.clone() };
                return free(facts, &record, volume);
            }
        }
    }
    if record.ending {
        return delete(facts, record, volume);
    }
    if record.foreign || !volume.independent || !volume.persistent || volume.name != facts.name {
        return adopt(facts, record, volume);
    }
    if facts.ending {
        let record = Record { ending: true, task: None, failure: None, ..record.clone() };
        return delete(facts, &record, volume);
    }
    let record = &Record { size: volume.size_gib, datastore: volume.datastore_urn.clone(), ..record.clone() };
    if let Some(declared) = facts.declared.filter(|declared| size_of(declared) != volume.size_gib) {
        let message = format!(
            "volume {} has {} GiB and quantityGB says {}; declare the size it has, or expand it at the site",
            volume.name, volume.size_gib, declared.quantity_gb
        );
        return error(record, "SizeMismatch", message).done();
    }
    let Some(declared) = facts.declared.filter(|_| matches!(facts.user, User::Waits | User::Attach { .. })) else {
        return available(record);
    };
    // Said before the VM is made, too.
    let sequence = match sequence(facts.data_disks, declared) {
        Ok(sequence) => sequence,
        Err(message) => return error(record, "SequenceOutOfRange", message).done(),
    };
    match facts.user {
        User::Attach { vm, .. } if record.left.as_ref() != Some(vm) => {
            attach(facts, record, volume, (vm, sequence, bus_of(declared)))
        }
        _ => available(record),
    }
}

fn available(record: &Record) -> Verdict {
    show(&Record { task: None, failure: None, ..record.clone() }, DiskPhase::Available).done()
}

fn adopt(facts: &Facts<'_>, record: &Record, volume: &v1::Volume) -> Verdict {
    let record = Record { foreign: true, ..record.clone() };
    if let Some(waiting) = not_due(facts, &record, DiskPhase::Detaching) {
        return waiting;
    }
    show(&record, DiskPhase::Detaching).call(Call::Adopt(volume.urn.clone())).done()
}

fn attach(facts: &Facts<'_>, record: &Record, volume: &v1::Volume, to: (&str, u32, &str)) -> Verdict {
    let (vm, sequence, bus) = to;
    let machine = match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine(vm.to_owned())),
        Reading::Failed(refused) => {
            return show(record, DiskPhase::Available).because(refused.to_string()).again(POLL).done();
        }
        Reading::Known(None) => {
            let record = Record { vm: None, task: None, ..record.clone() };
            return show(&record, DiskPhase::Available).because(format!("VM {vm} does not exist")).again(POLL).done();
        }
        Reading::Known(Some(machine)) => machine,
    };
    if !volume.usable || !matches!(machine.state(), PowerState::Stopped | PowerState::Running) {
        let message = format!("the volume is {}, the VM is {}", volume.status_text, machine.state_text);
        return show(record, DiskPhase::Available).because(message).again(SOON).done();
    }
    if let Some(other) = machine.disks.iter().find(|disk| disk.sequence == sequence && disk.volume_urn != volume.urn) {
        let message = format!("VM {} has disk {} with sequence number {sequence}", machine.name, other.name);
        return error(record, "SequenceTaken", message).done();
    }
    let record = if record.vm.as_deref() == Some(vm) {
        record.clone()
    } else {
        Record { vm: Some(vm.to_owned()), left: None, task: None, failure: None, ..record.clone() }
    };
    if let Some(waiting) = not_due(facts, &record, DiskPhase::Attaching) {
        return waiting;
    }
    if facts.busy {
        return show(&record, DiskPhase::Attaching).again(SOON).done();
    }
    let call = Call::Attach { volume: volume.urn.clone(), vm: vm.to_owned(), sequence, bus: bus.to_owned() };
    show(&record, DiskPhase::Attaching).call(call).done()
}

/// A VM holds the volume, or is about to; `vm` is the one that may.
fn held(facts: &Facts<'_>, record: &Record, volume: &v1::Volume, vm: &str) -> Verdict {
    let settled = facts
        .shown
        .is_some_and(|shown| shown.phase == Some(DiskPhase::Attached) && shown.attached_vm_urn.as_deref() == Some(vm));
    let left_there = match facts.user {
        User::Attach { vm: wanted, used, .. } => wanted == vm && (*used <= record.used),
        User::Still => true,
        _ => false,
    };
    // One list of the pool's volumes says that nothing has changed.
    if settled && left_there {
        return attached(record).done();
    }
    let machine = match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine(vm.to_owned())),
        Reading::Failed(refused) => return unreadable(facts, record, refused),
        Reading::Known(machine) => machine,
    };
    let shows = |machine: &v1::Machine| machine.disks.iter().any(|disk| disk.volume_urn == volume.urn);
    let Some(machine) = machine.as_ref().filter(|machine| machine.urn == vm && shows(machine)) else {
        return found_held(facts, record, volume);
    };
    match facts.user {
        User::Detach { vm: from } if from == vm => detach(facts, record, volume, machine),
        User::Attach { vm: wanted, used, .. } if wanted == vm => {
            attached(&Record { used: record.used || *used, ..record.clone() }).done()
        }
        User::Still => attached(record).done(),
        _ => attached(record).because(format!("VM {} still holds it", machine.name)).again(POLL).done(),
    }
}

fn attached(record: &Record) -> Draft {
    show(&Record { task: None, failure: None, ..record.clone() }, DiskPhase::Attached)
}

/// The site says that a VM holds the volume, but not the one that should: which?
fn found_held(facts: &Facts<'_>, record: &Record, volume: &v1::Volume) -> Verdict {
    let volume = match detail(facts, &volume.urn) {
        Err(verdict) => return verdict,
        Ok(Some(volume)) => volume,
        Ok(None) => return lost(facts, record, &volume.urn),
    };
    match volume.machine_urns.as_slice() {
        // Between two states: being attached, or detached.
        [] => {
            let detaching = matches!(facts.user, User::Detach { .. } | User::Nobody);
            let phase = if detaching { DiskPhase::Detaching } else { DiskPhase::Attaching };
            match progress(facts, record, if detaching { Work::Detach } else { Work::Attach }) {
                Err(read) => Verdict::Need(read),
                Ok(Progress::Running) => show(record, phase).again(SOON).done(),
                Ok(_) => show(record, phase).because("the site works on it").again(POLL).done(),
            }
        }
        [holder] if record.vm.as_ref() == Some(holder) || facts.user.vm() == Some(holder) => {
            let record = Record { vm: Some(holder.clone()), ..record.clone() };
            attached(&record).again(SOON).done()
        }
        others => elsewhere(record, &volume.urn, others),
    }
}

fn detach(facts: &Facts<'_>, record: &Record, volume: &v1::Volume, machine: &v1::Machine) -> Verdict {
    if machine.state() != PowerState::Stopped {
        let message = format!("VM {} is {}; disks are taken out of stopped VMs", machine.name, machine.state_text);
        return attached(record).because(message).again(SOON).done();
    }
    let record = match progress(facts, record, Work::Detach) {
        Err(read) => return Verdict::Need(read),
        Ok(Progress::Running) => return show(record, DiskPhase::Detaching).again(SOON).done(),
        Ok(Progress::Unreadable(message)) => {
            return show(record, DiskPhase::Detaching).because(message).again(POLL).done();
        }
        Ok(Progress::Failed(failure)) => return give_up(&failed(record, "it was not detached", &failure, facts.now)),
        Ok(Progress::Over) => record,
    };
    if let Some(waiting) = not_due(facts, record, DiskPhase::Detaching) {
        return waiting;
    }
    if facts.busy {
        return show(record, DiskPhase::Detaching).again(SOON).done();
    }
    let call = Call::Detach { volume: volume.urn.clone(), vm: machine.urn.clone() };
    show(record, DiskPhase::Detaching).call(call).done()
}

fn delete(facts: &Facts<'_>, record: &Record, volume: &v1::Volume) -> Verdict {
    match progress(facts, record, Work::Delete) {
        Err(read) => return Verdict::Need(read),
        Ok(Progress::Running) => return show(record, DiskPhase::Deleting).again(SOON).done(),
        Ok(Progress::Failed(failure)) => return give_up(&failed(record, "it was not deleted", &failure, facts.now)),
        Ok(Progress::Unreadable(message)) => {
            return show(record, DiskPhase::Deleting).because(message).again(POLL).done();
        }
        Ok(Progress::Over) => {}
    }
    if let Some(waiting) = not_due(facts, record, DiskPhase::Deleting) {
        return waiting;
    }
    show(record, DiskPhase::Deleting).call(Call::Delete(volume.urn.clone())).done()
}
