//! Volumes: their life, and where they are attached.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Attachment, Bus, Effect, Entity, Result, Site, VmStatus, Volume, VolumeStatus, codes, space_gb,
    tasks::{Accepted, Work},
};

/// Body of the call that makes a volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeRequest {
    name: Option<String>,
    #[serde(rename = "quantityGB", alias = "quantityGb")]
    quantity_gb: u64,
    datastore_urn: String,
    is_thin: Option<bool>,
    indep_disk: Option<bool>,
    persistent_disk: Option<bool>,
    #[serde(rename = "type")]
    kind: Option<String>,
    custom_properties: BTreeMap<String, String>,
}

/// Body of the call that changes a volume; absent is unchanged.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeChange {
    name: Option<String>,
    indep_disk: Option<bool>,
    persistent_disk: Option<bool>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Body of the call that attaches a volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachRequest {
    vol_urn: String,
    pci_type: Option<String>,
    sequence_num: Option<u32>,
}

impl Site {
    /// The volume of an id.
    pub fn volume(&self, id: u64) -> Result<&Volume> {
        self.volumes.get(&id).ok_or_else(|| codes::VOLUME_NOT_FOUND.because(id.to_string()))
    }

    fn volume_of(&self, urn: &str) -> Result<u64> {
        match self.parse(urn) {
            Some(Entity::Volume(id)) => self.volume(id).map(|volume| volume.id),
            _ => Err(codes::BAD_URN.because(format!("volUrn {urn:?}"))),
        }
    }

    /// A volume that can be attached.
    pub(super) fn free_volume(&self, id: u64) -> Result<&Volume> {
        let volume = self.volume(id)?;
        match (volume.status, volume.attachment) {
            (VolumeStatus::Use, None) => Ok(volume),
            (VolumeStatus::Use, Some(_)) => codes::ATTACHED_ELSEWHERE.refuse(),
            (status, _) => Err(codes::VOLUME_STATE.because(status.word())),
        }
    }

    /// Size and kind of a volume are such as its datastore has them.
    pub(super) fn volume_fits(&self, datastore: u64, size_gb: u64, thin: bool) -> Result<()> {
        let store = &self.datastores[&datastore];
        let most = largest_gb(&store.storage_type);
        if !(1..=most).contains(&size_gb) {
            return Err(codes::BAD_PARAMETER.because(format!("quantityGB: 1…{most} on {}", store.storage_type)));
        }
        if thin && !store.thin {
            return codes::THIN_UNSUPPORTED.refuse();
        }
        if !thin && store.storage_type.eq_ignore_ascii_case("eVol") {
            return codes::THIN_REQUIRED.refuse();
        }
        Ok(())
    }

    fn accept_volume(&mut self, now: u64, user: &str, id: u64, work: Work) -> Accepted {
        let name = self.volumes.get(&id).map(|volume| volume.name.clone()).unwrap_or_default();
        self.accept(now, user, work, Entity::Volume(id), name)
    }

    /// Makes a volume; names may repeat.
    pub fn create_volume(&mut self, now: u64, user: &str, request: VolumeRequest) -> Result<Accepted> {
        let name = request.name.filter(|name| !name.is_empty());
        if name.as_ref().is_some_and(|name| name.chars().count() > 256) {
            return Err(codes::BAD_PARAMETER.because("name: at most 256 characters"));
        }
        if request.kind.as_deref().is_some_and(|kind| kind != "normal") {
            return Err(codes::VOLUME_TYPE.because("type: this site offers normal volumes only"));
        }
        properties_fit(&request.custom_properties)?;
        let datastore = self.usable_datastore(&request.datastore_urn)?;
        let thin = request.is_thin.unwrap_or(false);
        self.volume_fits(datastore, request.quantity_gb, thin)?;
        if space_gb(request.quantity_gb, thin) > self.free_gb(datastore) {
            return codes::VOLUME_NO_SPACE.refuse();
        }
        let id = self.id_after(900);
        let uuid = self.new_uuid();
        let name = name.unwrap_or_else(|| format!("volume-{id}"));
        let mut volume = Volume::new(id, uuid, name, request.quantity_gb, datastore);
        volume.thin = thin;
        volume.independent = request.indep_disk.unwrap_or(false);
        volume.persistent = request.persistent_disk.unwrap_or(true);
        volume.custom_properties = request.custom_properties;
        volume.status = VolumeStatus::Creating;
        self.volumes.insert(volume);
        Ok(self.accept_volume(now, user, id, Work::CreateVolume { volume: id }))
    }

    /// Changes a volume at once.
    pub fn change_volume(&mut self, id: u64, change: VolumeChange) -> Result<()> {
        self.volume(id)?;
        if change.kind.as_deref().is_some_and(|kind| kind != "normal") {
            return codes::VOLUME_TYPE.refuse();
        }
        if change.name.as_ref().is_some_and(|name| name.chars().count() > 256) {
            return Err(codes::BAD_PARAMETER.because("name: at most 256 characters"));
        }
        self.volumes.change(id, |volume| {
            volume.name = change.name.unwrap_or_else(|| volume.name.clone());
            volume.independent = change.indep_disk.unwrap_or(volume.independent);
            volume.persistent = change.persistent_disk.unwrap_or(volume.persistent);
        });
        self.changed();
        Ok(())
    }

    /// Sets marks of a volume; an empty value removes the key.
    pub fn mark_volume(&mut self, urn: &str, properties: BTreeMap<String, String>) -> Result<()> {
        let id = self.volume_of(urn)?;
        let mut merged = self.volume(id)?.custom_properties.clone();
        merge_properties(&mut merged, properties)?;
        self.volumes.change(id, |volume| volume.custom_properties = merged);
        self.changed();
        Ok(())
    }

    /// Deletes a free volume.
    pub fn delete_volume(&mut self, now: u64, user: &str, id: u64) -> Result<Accepted> {
        let volume = self.volume(id)?;
        if volume.attachment.is_some() {
            return codes::VOLUME_BOUND.refuse();
        }
        match volume.status {
            VolumeStatus::Use => {}
            VolumeStatus::Creating => return codes::VOLUME_CREATING.refuse(),
            other => return Err(codes::VOLUME_STATE.because(other.word())),
        }
        self.volumes.change(id, |volume| volume.status = VolumeStatus::Deleting);
        Ok(self.accept_volume(now, user, id, Work::DeleteVolume { volume: id }))
    }

    /// Attaches a volume to a running or stopped VM.
    pub fn attach_volume(&mut self, now: u64, user: &str, vm: u64, request: &AttachRequest) -> Result<Accepted> {
        let release = self.policy.release;
        let machine = self.vm(vm)?;
        if machine.is_template {
            return codes::TEMPLATE_CLONING_ATTACH.refuse();
        }
        let id = self.volume_of(&request.vol_urn)?;
        let volume = self.volume(id)?;
        match volume.attachment {
            Some(at) if at.vm == vm => return codes::ATTACHED_HERE.refuse(),
            Some(_) => return codes::ATTACHED_ELSEWHERE.refuse(),
            None => {}
        }
        self.free_volume(id)?;
        let machine = self.idle(vm, "AttachVolume")?;
        match machine.status {
            VmStatus::Stopped => {}
            VmStatus::Running if self.policy.disk_hot_plug => {}
            VmStatus::Running => return codes::STOP_FIRST.refuse(),
            _ => return codes::RUNNING_OR_STOPPED.refuse(),
        }
        if self.hosts_with(machine.cluster, &[volume.datastore]).is_empty() {
            return codes::DATASTORE_NOT_CONNECTED.refuse();
        }
        let bus = Bus::read(request.pci_type.as_deref(), release)?;
        let taken: Vec<u32> = self.disks_of(vm).iter().map(|(_, at)| at.sequence).collect();
        let free = |slot: &u32| bus.has_slot(*slot, release) && !taken.contains(slot);
        let sequence = match request.sequence_num {
            Some(wanted) => Some(wanted).filter(free),
            None => (1..=bus.slots(release)).find(free),
        };
        let Some(sequence) = sequence else {
            return Err(codes::SLOT_TAKEN.because(format!("sequenceNum {:?}, {}", request.sequence_num, bus.word())));
        };
        self.volumes.change(id, |volume| volume.attachment = Some(Attachment { vm, sequence, bus, done: false }));
        Ok(self.accept_vm(now, user, vm, Work::Attach { vm, volume: id }))
    }

    /// Detaches a volume; `blank` wipes it.
    pub fn detach_volume(&mut self, now: u64, user: &str, vm: u64, urn: &str, blank: bool) -> Result<Accepted> {
        self.vm(vm)?;
        let id = self.volume_of(urn)?;
        match self.volume(id)?.attachment {
            None => return codes::DETACHED_ALREADY.refuse(),
            Some(at) if at.vm != vm => return codes::NOT_ATTACHED.refuse(),
            Some(at) if at.sequence == 1 => return codes::SYSTEM_DISK.refuse(),
            Some(_) => {}
        }
        let machine = self.idle(vm, "DetachVolume")?;
        match machine.status {
            VmStatus::Stopped => {}
            VmStatus::Running if self.policy.disk_hot_unplug => {}
            VmStatus::Running => return codes::NO_HOT_UNPLUG.refuse(),
            _ => return codes::RUNNING_OR_STOPPED.refuse(),
        }
        Ok(self.accept_vm(now, user, vm, Work::Detach { vm, volume: id, blank }))
    }

    /// Grows a volume to `size_mb` in total: a free one, or the one that `vm` holds.
    pub fn expand_volume(&mut self, now: u64, user: &str, vm: Option<u64>, id: u64, size_mb: u64) -> Result<Accepted> {
        let volume = self.volume(id)?;
        match (vm, volume.attachment) {
            (None, Some(_)) => return codes::VOLUME_BOUND_EXPAND.refuse(),
            (Some(_), None) => return codes::VOLUME_IS_FREE.refuse(),
            (Some(vm), Some(at)) if at.vm != vm => return codes::VOLUME_ELSEWHERE.refuse(),
            _ => {}
        }
        if volume.status != VolumeStatus::Use {
            return Err(codes::VOLUME_STATE.because(volume.status.word()));
        }
        if !size_mb.is_multiple_of(1024) {
            return Err(codes::BAD_PARAMETER.because("size: MB, a multiple of 1024"));
        }
        let wanted_gb = size_mb / 1024;
        if wanted_gb <= volume.size_gb {
            return codes::NOT_LARGER.refuse();
        }
        self.volume_fits(volume.datastore, wanted_gb, volume.thin)?;
        let more = space_gb(wanted_gb, volume.thin) - space_gb(volume.size_gb, volume.thin);
        if more > self.free_gb(volume.datastore) {
            return codes::VOLUME_NO_SPACE.refuse();
        }
        if let Some(vm) = vm
            && !matches!(self.idle(vm, "ExpandVolume")?.status, VmStatus::Running | VmStatus::Stopped)
        {
            return codes::RUNNING_OR_STOPPED.refuse();
        }
        self.volumes.change(id, |volume| volume.status = VolumeStatus::Resizing);
        Ok(self.accept_volume(now, user, id, Work::Expand { volume: id, vm, size_gb: wanted_gb }))
    }

    /// The volume of a URN in the body of a call.
    pub fn volume_by_urn(&self, urn: &str) -> Result<u64> {
        self.volume_of(urn)
    }

    pub(super) fn complete_volume(&mut self, now: u64, task: u64, work: &Work) {
        let id = work.volume().unwrap_or_default();
        let effect = self.volumes.change(id, |volume| {
            match work {
                Work::CreateVolume { .. } => volume.status = VolumeStatus::Use,
                Work::Expand { size_gb, .. } => (volume.size_gb, volume.status) = (*size_gb, VolumeStatus::Use),
                Work::Attach { .. } => volume.attachment = volume.attachment.map(|at| Attachment { done: true, ..at }),
                Work::Detach { .. } => volume.attachment = None,
                _ => {}
            }
            let bytes = volume.bytes();
            match work {
                Work::CreateVolume { .. } | Work::Detach { blank: true, .. } => {
                    Some(Effect::BlankDisk { volume: id, bytes })
                }
                Work::Expand { .. } => Some(Effect::SizeDisk { volume: id, bytes }),
                Work::DeleteVolume { .. } => Some(Effect::RemoveDisk { volume: id }),
                _ => None,
            }
        });
        self.effects.extend(effect.flatten());
        if matches!(work, Work::DeleteVolume { .. }) {
            self.volumes.remove(id);
        }
        self.succeed(now, task, None);
    }
}

/// Largest volume on a datastore of a type, in GB.
fn largest_gb(storage_type: &str) -> u64 {
    match storage_type.to_ascii_lowercase().as_str() {
        "local" | "advancesan" => 2_048,
        "localpome" => 16_383,
        "lun" | "san" => 30 << 10,
        "dsware" | "fusionstorage" => 32_768,
        _ => 64 << 10,
    }
}

/// At most ten marks, names up to 128, values up to 256 characters.
pub(super) fn properties_fit(properties: &BTreeMap<String, String>) -> Result<()> {
    let fits = |(key, value): (&String, &String)| key.chars().count() <= 128 && value.chars().count() <= 256;
    if properties.len() > 10 {
        codes::TOO_MANY_PROPERTIES.refuse()
    } else if !properties.iter().all(fits) {
        Err(codes::BAD_PARAMETER.because("customProperties: names ≤128, values ≤256 characters"))
    } else {
        Ok(())
    }
}

/// Adds and changes marks; an empty value removes one.
pub(super) fn merge_properties(into: &mut BTreeMap<String, String>, changes: BTreeMap<String, String>) -> Result<()> {
    for (key, value) in changes {
        if value.is_empty() {
            into.remove(&key);
        } else {
            into.insert(key, value);
        }
    }
    properties_fit(into)
}
