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

type Rank = (bool, bool, Option<Timestamp>, String, String);

/// The place in the order; none for those that neither are made nor wait for it.
fn rank(machine: &DCSMachine, now: Timestamp) -> Option<Rank> {
    if machine.metadata.deletion_timestamp.is_some() || machine.spec.provider_id.is_some() {
        return None;
    }
    let record = Record::of(machine).ok()?;
    record.placement.as_ref()?;
    let under_way = match &record.attempt {
        None => false,
        Some(attempt) if attempt.not_before.is_some_and(|moment| moment > now) => return None,
        Some(attempt) if now.duration_since(attempt.at) > PATIENCE => return None,
        Some(_) => {
            let cloned =
                machine.spec.vm_urn.is_some() && record.task.as_ref().is_none_or(|task| task.work != Work::Create);
            if cloned {
                return None;
            }
            true
        }
    };
    let meta = &machine.metadata;
    let control_plane =
        meta.labels.as_ref().is_some_and(|labels| labels.contains_key(cluster_api::labels::CONTROL_PLANE));
    let created = meta.creation_timestamp.as_ref().map(|time| time.0);
    // False sorts first.
    Some((
        !under_way,
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
        machine::record::{ANNOTATION, Attempt, Placement},
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
        let later = now.checked_add(PATIENCE + SignedDuration::from_secs(1)).unwrap();
        assert!(granted(&all[3], &all, later), "those that never end do not block for ever");
    }
}
