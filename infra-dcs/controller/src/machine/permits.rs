//! How many VMs are made at a site at once, and whose turn it is. Pure.
//!
//! The order is total and everyone computes it from the same cache: those under way first, then control plane machines,
//! then by age. Within it, the first [`DEPLOYS`] may go ahead; no lock is needed.

use jiff::{SignedDuration, Timestamp};

use super::{
    decide::DEPLOYS,
    record::{Record, Work},
};
use crate::api::DCSMachine;

/// A machine that never ends its deployment holds up the others this long.
const PATIENCE: SignedDuration = SignedDuration::from_mins(30);

/// Whether `machine` may begin to be made, among `others` of the same site.
pub fn granted<'a>(machine: &DCSMachine, others: impl IntoIterator<Item = &'a DCSMachine>, now: Timestamp) -> bool {
    let own = rank(machine, now);
    let Some(own) = own else { return true };
    others.into_iter().filter_map(|other| rank(other, now)).filter(|other| *other < own).count() < DEPLOYS
}

/// Whether `old`, by becoming `new`, has made way for another machine of its site.
pub fn frees(old: &DCSMachine, new: Option<&DCSMachine>, now: Timestamp) -> bool {
    let is_under_way = |machine| rank(machine, now).is_some_and(|(waits, ..)| !waits);
    is_under_way(old) && !new.is_some_and(is_under_way)
}

/// Those of `queue` whose turn comes next.
pub fn next<'a>(queue: impl IntoIterator<Item = &'a DCSMachine>, now: Timestamp) -> Vec<&'a DCSMachine> {
    let mut waiting: Vec<_> = queue
        .into_iter()
        .filter_map(|machine| Some((rank(machine, now).filter(|(waits, ..)| *waits)?, machine)))
        .collect();
    waiting.sort_by(|(one, _), (other, _)| one.cmp(other));
    waiting.into_iter().take(DEPLOYS).map(|(_, machine)| machine).collect()
}

/// Whether a machine is being made or waits for that, whenever that is.
pub fn queues(machine: &DCSMachine) -> bool {
    queued(machine).is_some()
}

/// The record of a machine that is being made or waits for that. One whose VM waits for its disks has been made.
fn queued(machine: &DCSMachine) -> Option<Record> {
    if machine.metadata.deletion_timestamp.is_some() || machine.spec.provider_id.is_some() {
        return None;
    }
    let record = Record::of(machine).ok().filter(|record| record.placement.is_some() && record.disks.is_none())?;
    let is_cloned = machine.spec.vm_urn.is_some() && record.task.as_ref().is_none_or(|task| task.work != Work::Create);
    (record.attempt.is_none() || !is_cloned).then_some(record)
}

type Rank = (bool, bool, Option<Timestamp>, String, String);

/// The place in the order; none for those that neither are made nor wait for it.
fn rank(machine: &DCSMachine, now: Timestamp) -> Option<Rank> {
    let record = queued(machine)?;
    let waits = match &record.attempt {
        None => true,
        Some(attempt) if attempt.not_before.is_some_and(|moment| moment > now) => return None,
        Some(attempt) if now.duration_since(attempt.at) > PATIENCE => return None,
        Some(_) => false,
    };
    let meta = &machine.metadata;
    let control_plane =
        meta.labels.as_ref().is_some_and(|labels| labels.contains_key(cluster_api::labels::CONTROL_PLANE));
    let created = meta.creation_timestamp.as_ref().map(|time| time.0);
    // False sorts first.
    Some((
        waits,
        !control_plane,
        created,
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::DCSMachineSpec,
        machine::record::{ANNOTATION, Attempt, Placement, Task, Wish},
    };

    fn machine(name: &str, control_plane: bool, under_way: bool) -> DCSMachine {
        let mut machine = DCSMachine::new(name, DCSMachineSpec::default());
        let attempt =
            Attempt { number: 1, id: "x".into(), at: Timestamp::UNIX_EPOCH, not_before: None, last_failure: None };
        let record = Record {
            placement: Some(Placement::default()),
            attempt: under_way.then_some(attempt),
            ..Record::default()
        };
        machine.metadata.annotations = Some([(ANNOTATION.to_owned(), record.to_json())].into());
        if control_plane {
            machine.metadata.labels = Some([(cluster_api::labels::CONTROL_PLANE.to_owned(), String::new())].into());
        }
        machine
    }

    #[test]
    fn four_at_a_time_and_control_planes_first() {
        let now = Timestamp::UNIX_EPOCH;
        let mut all: Vec<_> = (0..3).map(|index| machine(&format!("busy-{index}"), false, true)).collect();
        all.extend([machine("a-worker", false, false), machine("z-control", true, false)]);
        let may = |name: &str| {
            let own = all.iter().find(|machine| machine.metadata.name.as_deref() == Some(name)).unwrap();
            granted(own, &all, now)
        };
        assert!(may("z-control"));
        assert!(!may("a-worker"));
        let turn: Vec<_> = next(&all, now).into_iter().filter_map(|machine| machine.metadata.name.as_deref()).collect();
        assert_eq!(turn, ["z-control", "a-worker"]);
        let later = now.checked_add(PATIENCE + SignedDuration::from_secs(1)).unwrap();
        assert!(granted(&all[3], &all, later), "those that never end do not block for ever");
    }

    #[test]
    fn a_machine_makes_way_once_its_vm_is_made_and_only_waits_for_its_disks() {
        let now = Timestamp::UNIX_EPOCH;
        let mut made = machine("busy", false, true);
        let step = |machine: &mut DCSMachine, change: &dyn Fn(&mut Record)| {
            let before = machine.clone();
            let mut record = Record::of(machine).unwrap();
            change(&mut record);
            machine.metadata.annotations = Some([(ANNOTATION.to_owned(), record.to_json())].into());
            frees(&before, Some(machine), now)
        };
        made.spec.vm_urn = Some("urn:vm".into());
        let cloning = Task { id: "task-1".into(), work: Work::Create, since: now, seen: None };
        assert!(!step(&mut made, &|record| record.task = Some(cloning.clone())));
        assert!(step(&mut made, &|record| record.disks = Some(Wish::Attach)));
        assert!(!step(&mut made, &|record| record.started_at = Some(now)), "it has made way already");

        let waits = machine("waits", false, false);
        assert!(!frees(&waits, None, now), "it was in nobody's way");
        assert!(frees(&machine("busy", false, true), None, now), "it is gone");
    }
}
