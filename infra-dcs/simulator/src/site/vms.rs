//! VMs between their making and their power: changes, marks, deletion.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Effect, Result, Site, VmStatus,
    clone::{CpuRequest, MemoryRequest, sizes_fit, texts_fit},
    codes,
    policy::Release,
    tasks::{Accepted, Work},
    volumes::merge_properties,
};

/// Body of the call that changes a VM; absent is unchanged.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmChange {
    name: Option<String>,
    description: Option<String>,
    group: Option<String>,
    external_uuid: Option<String>,
    is_template: Option<bool>,
    cpu: Option<CpuRequest>,
    memory: Option<MemoryRequest>,
}

/// What the call that deletes a VM says beside its id.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteOptions {
    /// Its disks stay (`isReserveDisks`).
    pub keep_disks: bool,
    /// Its disks are wiped (`isFormat`).
    pub wipe: bool,
    /// Hours in the recycle bin (`holdTime`): 0 is none, −1 for ever.
    pub hold_hours: i64,
    /// It is in the recycle bin (`vmBin`).
    pub in_bin: bool,
}

impl Site {
    /// Changes a VM. In force when the call returns; the task is a formality.
    pub fn change_vm(&mut self, now: u64, user: &str, id: u64, change: VmChange) -> Result<Accepted> {
        let vm = self.idle(id, "ModifyVM")?;
        texts_fit(change.name.as_deref().unwrap_or_default(), change.description.as_deref(), change.group.as_deref())?;
        if let Some(uuid) = change.external_uuid.as_deref().filter(|uuid| !uuid.is_empty())
            && (uuid.len() != 36 || uuid.chars().any(char::is_uppercase))
        {
            return Err(codes::BAD_PARAMETER.because("externalUuid: 36 characters, lower case"));
        }
        if change.cpu.is_some() && change.memory.is_some() {
            return Err(codes::BAD_PARAMETER.because("cpu and memory are changed by separate calls"));
        }
        if (change.cpu.is_some() || change.memory.is_some() || change.is_template.is_some())
            && vm.status != VmStatus::Stopped
        {
            return codes::STOP_FIRST.refuse();
        }
        let cpus = change.cpu.map_or(vm.cpus, |cpu| cpu.quantity);
        let memory_mb = change.memory.map_or(vm.memory_mb, |memory| memory.quantity_mb);
        sizes_fit(cpus, memory_mb)?;
        let vm = self.vm_mut(id)?;
        (vm.cpus, vm.memory_mb) = (cpus, memory_mb);
        vm.name = change.name.unwrap_or_else(|| vm.name.clone());
        vm.description = change.description.unwrap_or_else(|| vm.description.clone());
        vm.group = change.group.or_else(|| vm.group.take());
        vm.external_uuid = change.external_uuid.or_else(|| vm.external_uuid.take()).filter(|uuid| !uuid.is_empty());
        vm.is_template = change.is_template.unwrap_or(vm.is_template);
        Ok(self.accept_vm(now, user, id, Work::ModifyVm { vm: id }))
    }

    /// Sets marks of a VM; an empty value removes the key.
    pub fn mark_vm(&mut self, id: u64, properties: BTreeMap<String, String>) -> Result<()> {
        let mut merged = self.vm(id)?.custom_properties.clone();
        merge_properties(&mut merged, properties)?;
        self.vm_mut(id)?.custom_properties = merged;
        self.changed();
        Ok(())
    }

    /// Deletes a VM. Unless told otherwise its disks go with it, whoever made them.
    pub fn delete_vm(&mut self, now: u64, user: &str, id: u64, options: DeleteOptions) -> Result<Accepted> {
        let DeleteOptions { keep_disks, wipe, hold_hours, in_bin } = options;
        let longest = if self.policy.release == Release::R6 { 168 } else { 1440 };
        if !(-1..=longest).contains(&hold_hours) {
            return Err(codes::BAD_PARAMETER.because(format!("holdTime: −1…{longest} hours")));
        }
        if keep_disks && wipe {
            return Err(codes::BAD_PARAMETER.because("isFormat needs isReserveDisks=0"));
        }
        let vm = self.idle(id, "DeleteVM")?;
        match vm.status {
            VmStatus::Recycling if in_bin => {}
            other if in_bin || other == VmStatus::Recycling => return Err(codes::VM_STATE.because(other.word())),
            VmStatus::Stopped => {}
            VmStatus::Running if !self.policy.delete_only_stopped => {}
            VmStatus::Creating => return Err(codes::VM_STATE.because("creating")),
            _ => return codes::DELETE_NEEDS_STOPPED.refuse(),
        }
        let recycle = hold_hours != 0 && !in_bin;
        Ok(self.accept_vm(now, user, id, Work::DeleteVm { vm: id, keep_disks, recycle }))
    }

    pub(super) fn deleted(&mut self, now: u64, task: u64, id: u64, keep_disks: bool, recycle: bool) {
        if recycle {
            if let Some(vm) = self.vms.get_mut(&id) {
                vm.status = VmStatus::Recycling;
            }
            return self.succeed(now, task, None);
        }
        self.remove_vm(id, keep_disks);
        self.succeed(now, task, None);
    }

    /// Takes a VM off the site, with or without its disks: the end of a deletion, or an accident that a test stages.
    pub fn remove_vm(&mut self, id: u64, keep_disks: bool) {
        if self.vms.remove(&id).is_none() {
            return;
        }
        self.effects.push(Effect::Destroy { vm: id });
        let disks: Vec<u64> = self.volumes.of_vm(id).map(|volume| volume.id).collect();
        for volume in disks {
            if keep_disks {
                self.volumes.change(volume, |volume| volume.attachment = None);
            } else {
                self.volumes.remove(volume);
                self.effects.push(Effect::RemoveDisk { volume });
            }
        }
        self.forget_in_rules(id);
        self.changed();
    }

    /// Takes a volume off the site behind everybody's back, attached or not: an accident that a test stages.
    pub fn lose_volume(&mut self, id: u64) -> Result<()> {
        self.volume(id)?;
        self.volumes.remove(id);
        self.effects.push(Effect::RemoveDisk { volume: id });
        self.changed();
        Ok(())
    }
}
