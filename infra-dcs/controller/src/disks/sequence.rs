//! Where disks are attached: buses and sequence numbers. Pure.

use crate::api::pool::PersistentDisk;

/// Where a disk is attached: after the system disk, the machine's own data disks, and one number that stays empty.
pub fn sequence(data_disks: u32, declared: &PersistentDisk) -> Result<u32, String> {
    let bus = bus_of(declared);
    let last = match bus {
        "VIRTIO" => 25,
        "SCSI" => 60,
        "IDE" => 3,
        other => return Err(format!("pciType {other:?} is unknown; use VIRTIO, SCSI or IDE")),
    };
    let sequence = i64::from(data_disks).saturating_add(2).saturating_add(declared.slot);
    match u32::try_from(sequence) {
        Ok(sequence) if sequence <= last => Ok(sequence),
        _ => Err(format!(
            "slot {} after {data_disks} data disks needs sequence number {sequence}; the last of {bus} is {last}",
            declared.slot
        )),
    }
}

/// The slot that the disk at a sequence number of a VM gets, when its template keeps only `data_disks` of its own.
pub fn slot_of(sequence: u32, data_disks: u32) -> Option<i64> {
    let slot = i64::from(sequence) - 1 - i64::from(data_disks) - 1;
    (slot >= 0).then_some(slot)
}

/// Bus of a disk.
pub fn bus_of(declared: &PersistentDisk) -> &str {
    declared.pci_type.as_deref().filter(|bus| !bus.is_empty()).unwrap_or("VIRTIO")
}
