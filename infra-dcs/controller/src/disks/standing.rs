//! What a machine may do, as far as its disks go: asked by the machine controller before it makes, starts, deletes. Pure.

use cluster_api::conditions::Claim;
use dcs_proto::v1;

use super::{
    observe::declared,
    record::{self, Key},
};
use crate::api::{
    DCSIpHostnamePool,
    pool::{DiskPhase, PersistentDisk, PersistentDiskStatus},
};

/// Condition of machines and pools.
pub const CONDITION: &str = "PersistentDisksReady";

/// What is waited for: reason and message.
pub type Waiting = (&'static str, String);

/// Whether an entry has disks.
pub fn any(pool: &DCSIpHostnamePool, ip: &str) -> bool {
    !declared(pool, ip).is_empty()
}

/// What the making of a VM waits for: every disk of its entry must be there, and free.
pub fn before_creation(pool: &DCSIpHostnamePool, ip: &str) -> Option<Waiting> {
    unless_each(pool, ip, |shown| shown.phase == Some(DiskPhase::Available))
}

/// What the first start of a VM waits for: every disk of its entry must be in it. The VM is looked at live.
pub fn before_start(pool: &DCSIpHostnamePool, ip: &str, vm: &v1::Machine) -> Option<Waiting> {
    unless_each(pool, ip, |shown| {
        let has = |urn: &String| vm.disks.iter().any(|disk| disk.volume_urn == *urn);
        shown.phase == Some(DiskPhase::Attached) && shown.volume_urn.as_ref().is_some_and(has)
    })
}

/// What the deletion of a VM waits for: no disk of its pool may be in it, and none in it may still be to be taken over.
/// The VM is looked at live.
pub fn before_deletion(pool: &DCSIpHostnamePool, ip: Option<&str>, vm: &v1::Machine) -> Option<Waiting> {
    let records = match record::of_pool(pool) {
        Ok(records) => records,
        Err(message) => return Some(("RecordUnreadable", message)),
    };
    let disks = ip.map(|ip| declared(pool, ip)).unwrap_or_default();
    for disk in disks {
        let key = Key::new(ip.unwrap_or_default(), disk.slot);
        match records.get(&key) {
            None => return Some(("WaitingForPool", describe(pool, ip.unwrap_or_default(), disk))),
            Some(record) if record.volume.is_none() && record.vm.as_deref() == Some(vm.urn.as_str()) => {
                return Some(("ClaimPending", describe(pool, &key.ip, disk)));
            }
            Some(_) => {}
        }
    }
    let here = |(key, _): &(&Key, &record::Record)| Some(key.ip.as_str()) == ip;
    let may_come =
        |record: &record::Record| record.left.as_ref() != Some(&vm.urn) || record.vm.as_ref() == Some(&vm.urn);
    let coming = records.iter().filter(here).find(|(_, record)| may_come(record));
    let held = surviving(pool, vm);
    if held.is_empty() {
        // What the VM shows is not all: a disk may be on its way into it until its pool says that none is.
        return coming.map(|(key, _)| ("Detaching", format!("disk {key} may still be on its way into the VM")));
    }
    let message = match disks.iter().find(|disk| shown(pool, ip.unwrap_or_default(), disk).is_some()) {
        Some(disk) => {
            format!("{} must be taken out first; {}", held.join(", "), describe(pool, ip.unwrap_or_default(), disk))
        }
        None => format!("{} must be taken out first", held.join(", ")),
    };
    Some(("Detaching", message))
}

/// The disks of a VM that must survive it, by name.
pub fn surviving(pool: &DCSIpHostnamePool, vm: &v1::Machine) -> Vec<String> {
    let (urns, names) = surviving_volumes(Some(pool));
    let survives = |disk: &&v1::Disk| urns.contains(&disk.volume_urn) || names.contains(&disk.name);
    vm.disks.iter().filter(survives).map(|disk| disk.name.clone()).collect()
}

/// URNs and names of the volumes of a pool: none of them may be deleted with a VM. A record that cannot be read keeps
/// machines from being deleted before this is asked.
pub fn surviving_volumes(pool: Option<&DCSIpHostnamePool>) -> (Vec<String>, Vec<String>) {
    let Some(pool) = pool else { return (Vec::new(), Vec::new()) };
    let pool_name = pool.metadata.name.as_deref().unwrap_or_default();
    let records = record::of_pool(pool).unwrap_or_default();
    let statuses = pool.status.iter().flat_map(|status| &status.persistent_disk_status);
    let mut urns: Vec<String> = statuses.filter_map(|status| status.volume_urn.clone()).collect();
    urns.extend(records.values().filter_map(|record| record.volume.clone()));
    let entries = pool.spec.pool.iter();
    let keys = entries.flat_map(|entry| entry.persistent_disk.iter().map(|disk| Key::new(entry.ip(), disk.slot)));
    let names = keys.chain(records.keys().cloned()).map(|key| key.volume_name(pool_name));
    (urns, names.collect())
}

/// The condition of a machine; none when its entry has no disks.
pub fn condition(pool: Option<&DCSIpHostnamePool>, ip: &str, vm: Option<&str>) -> Option<Claim> {
    let pool = pool.filter(|pool| !declared(pool, ip).is_empty())?;
    let attached = |shown: &PersistentDiskStatus| {
        shown.phase == Some(DiskPhase::Attached) && vm.is_some() && shown.attached_vm_urn.as_deref() == vm
    };
    Some(match unless_each(pool, ip, attached) {
        None => Claim::holds(CONDITION, "Attached"),
        Some((reason, message)) => Claim::new(CONDITION, false, reason, message),
    })
}

/// Whether a disk was in use before: no file system on it means that data is lost.
pub fn holds_data(pool: &DCSIpHostnamePool, ip: &str, slot: i64) -> bool {
    // What cannot be read is treated as the more valuable.
    record::of_pool(pool).map_or(true, |records| records.get(&Key::new(ip, slot)).is_some_and(|record| record.used))
}

fn shown<'a>(pool: &'a DCSIpHostnamePool, ip: &str, disk: &PersistentDisk) -> Option<&'a PersistentDiskStatus> {
    let mut all = pool.status.iter().flat_map(|status| &status.persistent_disk_status);
    all.find(|shown| shown.ip == ip && shown.slot == disk.slot)
}

fn unless_each(pool: &DCSIpHostnamePool, ip: &str, fits: impl Fn(&PersistentDiskStatus) -> bool) -> Option<Waiting> {
    let disk = declared(pool, ip).iter().find(|disk| !shown(pool, ip, disk).is_some_and(&fits))?;
    let phase = shown(pool, ip, disk).and_then(|shown| shown.phase);
    let reason = match phase {
        Some(DiskPhase::Error) => "DiskError",
        Some(DiskPhase::Attaching | DiskPhase::Available) => "Attaching",
        Some(DiskPhase::Detaching) => "Detaching",
        Some(DiskPhase::Attached) => "AttachedElsewhere",
        Some(DiskPhase::Deleting) => "Deleting",
        Some(DiskPhase::Creating) | None => "Creating",
    };
    Some((reason, describe(pool, ip, disk)))
}

fn describe(pool: &DCSIpHostnamePool, ip: &str, disk: &PersistentDisk) -> String {
    let Some(shown) = shown(pool, ip, disk) else {
        return format!("disk {ip}/{} is not looked at by its pool yet", disk.slot);
    };
    let phase = shown.phase.map(|phase| format!("{phase:?}")).unwrap_or_default();
    let holder = shown.attached_vm_urn.as_ref().map(|vm| format!(" to {vm}")).unwrap_or_default();
    let error = shown.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("disk {ip}/{} is {phase}{holder}{error}", disk.slot)
}
