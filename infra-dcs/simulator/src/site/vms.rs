//! VMs between their making and their power: changes, marks, deletion.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Effect, Result, Site, VmStatus,
    clone::{sizes_fit, texts_fit},
    codes,
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
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
}

#[derive(Clone, Debug, Deserialize)]
struct Quantity {
    #[serde(alias = "quantityMB")]
    quantity: u64,
}

/// Query of the call that deletes a VM.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    is_reserve_disks: u8,
    is_format: u8,
    hold_time: i64,
    vm_bin: u8,
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
        if (change.cpu.is_some() || change.memory.is_some() || change.is_template.is_some())
            && vm.status != VmStatus::Stopped
        {
            return codes::STOP_FIRST.refuse();
        }
        let cpus = change.cpu.map_or(Ok(vm.cpus), |cpu| u32::try_from(cpu.quantity));
        let cpus = cpus.map_err(|_| codes::BAD_PARAMETER.because("cpu.quantity"))?;
        let memory_mb = change.memory.map_or(vm.memory_mb, |memory| memory.quantity);
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
        if self.is_source_of_clone(id) {
            return codes::TEMPLATE_CLONING.refuse();
        }
        let vm = self.idle(id, "DeleteVM")?;
        let keep_disks = options.is_reserve_disks == 1;
        if keep_disks && options.is_format == 1 {
            return Err(codes::BAD_PARAMETER.because("isFormat needs isReserveDisks=0"));
        }
        match vm.status {
            VmStatus::Stopped => {}
            VmStatus::Recycling if options.vm_bin == 1 => {}
            VmStatus::Running if !self.policy.delete_only_stopped => {}
            VmStatus::Creating => return Err(codes::VM_STATE.because("creating")),
            _ => return codes::DELETE_NEEDS_STOPPED.refuse(),
        }
        let recycle = options.hold_time != 0 && options.vm_bin != 1;
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
        let mut gone = vec![];
        for volume in self.volumes.values_mut().filter(|volume| volume.attachment.is_some_and(|at| at.vm == id)) {
            volume.attachment = None;
            if !keep_disks {
                gone.push(volume.id);
            }
        }
        self.effects.push(Effect::Destroy { vm: id });
        for volume in gone {
            self.volumes.remove(&volume);
            self.effects.push(Effect::RemoveDisk { volume });
        }
        self.forget_in_rules(id);
        self.changed();
    }

    /// Takes a volume off the site behind everybody's back, attached or not: an accident that a test stages.
    pub fn lose_volume(&mut self, id: u64) -> Result<()> {
        self.volume(id)?;
        self.volumes.remove(&id);
        self.effects.push(Effect::RemoveDisk { volume: id });
        self.changed();
        Ok(())
    }
}
