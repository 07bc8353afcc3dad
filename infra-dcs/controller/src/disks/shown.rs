//! What a pool shows of its disks: their statuses and one condition. Pure.

use std::time::Duration;

use cluster_api::conditions::Claim;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    decide::Plan,
    observe::Disk,
    record::{Disks, Key, Record},
    standing::CONDITION,
};
use crate::api::{
    DCSIpHostnamePool,
    pool::{DiskPhase, PersistentDiskStatus},
};

/// Disks that a message names before it only counts.
const NAMED: usize = 5;

/// What a pass over the disks of a pool found.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// State of each disk.
    pub statuses: Vec<PersistentDiskStatus>,
    /// Whether all are as they should be; none when there are no disks.
    pub condition: Option<Claim>,
    /// When to look again; none when an event will tell.
    pub again: Option<Duration>,
    /// Volumes that are still remembered.
    pub remembered: usize,
}

impl Shown {
    /// The records of a pool cannot be read: nothing is done.
    pub(super) fn unreadable(pool: &DCSIpHostnamePool, message: String) -> Self {
        Self {
            statuses: pool.status.clone().unwrap_or_default().persistent_disk_status,
            condition: Some(Claim::new(CONDITION, false, "RecordUnreadable", message)),
            again: None,
            remembered: 1,
        }
    }

    pub(super) fn of<'a>(
        pool: &DCSIpHostnamePool,
        plans: impl Iterator<Item = (&'a Disk, &'a Plan)>,
        records: Disks,
        now: Timestamp,
    ) -> Self {
        let before = pool.status.iter().flat_map(|status| &status.persistent_disk_status);
        let before: Vec<&PersistentDiskStatus> = before.collect();
        let mut shown = Self { remembered: records.len(), ..Self::default() };
        for (disk, plan) in plans {
            shown.again = [shown.again, plan.again].into_iter().flatten().min();
            let Some(phase) = plan.phase else { continue };
            let known = before.iter().find(|known| known.ip == disk.key.ip && known.slot == disk.key.slot);
            let record = records.get(&disk.key).or(plan.record.as_ref()).cloned().unwrap_or_default();
            let path = disk.declared.as_ref().and_then(|declared| declared.path.clone());
            shown.statuses.push(PersistentDiskStatus {
                last_error: plan.error.clone(),
                last_transition_time: known
                    .filter(|known| known.phase == Some(phase))
                    .and_then(|known| known.last_transition_time.clone())
                    .or_else(|| Timestamp::from_second(now.as_second()).ok().map(Time)),
                path: path.or_else(|| known.and_then(|known| known.path.clone())),
                ..status(&disk.key, &disk.name, phase, &record)
            });
        }
        shown.condition = condition(&shown.statuses);
        shown
    }
}

fn status(key: &Key, name: &str, phase: DiskPhase, record: &Record) -> PersistentDiskStatus {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    PersistentDiskStatus {
        // While it is on its way it belongs to nobody yet, or still.
        attached_vm_urn: record.vm.clone().filter(|_| phase != DiskPhase::Creating),
        datastore_urn: text(&record.datastore),
        ip: key.ip.clone(),
        last_error: None,
        last_transition_time: None,
        name: Some(name.to_owned()),
        owner_machine_name: text(&record.machine),
        owner_machine_uid: text(&record.machine_uid),
        path: None,
        phase: Some(phase),
        slot: key.slot,
        volume_urn: record.volume.clone(),
    }
}

/// Errors first; else what is under way.
fn condition(statuses: &[PersistentDiskStatus]) -> Option<Claim> {
    if statuses.is_empty() {
        return None;
    }
    let in_phase = |fits: &dyn Fn(DiskPhase) -> bool| -> Vec<&PersistentDiskStatus> {
        statuses.iter().filter(|shown| shown.phase.is_some_and(fits)).collect()
    };
    let failed = in_phase(&|phase| phase == DiskPhase::Error);
    if !failed.is_empty() {
        let describe = |shown: &&PersistentDiskStatus| {
            format!("{}/{}: {}", shown.ip, shown.slot, shown.last_error.as_deref().unwrap_or_default())
        };
        return Some(Claim::new(CONDITION, false, "DiskErrors", listed(&failed, describe)));
    }
    let moving = in_phase(&|phase| !matches!(phase, DiskPhase::Available | DiskPhase::Attached));
    if moving.is_empty() {
        return Some(Claim::holds(CONDITION, "Ready"));
    }
    let describe = |shown: &&PersistentDiskStatus| {
        format!("{}/{} is {:?}", shown.ip, shown.slot, shown.phase.unwrap_or(DiskPhase::Creating))
    };
    Some(Claim::new(CONDITION, false, "InProgress", listed(&moving, describe)))
}

fn listed<T>(all: &[T], describe: impl Fn(&T) -> String) -> String {
    let named: Vec<String> = all.iter().take(NAMED).map(describe).collect();
    let more = all.len().saturating_sub(NAMED);
    if more == 0 { named.join("; ") } else { format!("{}; and {more} more", named.join("; ")) }
}
