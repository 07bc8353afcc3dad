//! What must hold at every moment. Tests ask after every step; the control API tells.

use std::collections::{BTreeMap, BTreeSet};

use super::{Site, VmId, VmStatus};

impl Site {
    /// Everything that does not hold, one sentence each; empty on a sound site.
    pub fn violations(&self) -> Vec<String> {
        let mut found = vec![];
        let mut slots: BTreeSet<(u64, u32)> = BTreeSet::new();
        for volume in self.volumes.values() {
            if let Some(at) = volume.attachment {
                if !self.vms.contains_key(&at.vm) {
                    found.push(format!("volume {} is attached to {}, which is gone", volume.id, VmId(at.vm)));
                }
                if !slots.insert((at.vm, at.sequence)) {
                    found.push(format!("{} has two disks at sequence {}", VmId(at.vm), at.sequence));
                }
            }
            if let Some(task) = volume.task
                && self.tasks.get(&task).is_none_or(|task| task.status.is_final())
            {
                found.push(format!("volume {} is held by task {task}, which is over", volume.id));
            }
        }
        let mut uuids = BTreeMap::new();
        let mut macs = BTreeSet::new();
        for vm in self.vms.values() {
            if let Some(other) = uuids.insert(&vm.uuid, vm.id) {
                found.push(format!("{} and {} share a UUID", VmId(vm.id), VmId(other)));
            }
            for nic in &vm.nics {
                if !macs.insert(&nic.mac) {
                    found.push(format!("two NICs have the address {}", nic.mac));
                }
            }
            let task = vm.task.and_then(|task| self.tasks.get(&task));
            if vm.task.is_some() && task.is_none_or(|task| task.status.is_final()) {
                found.push(format!("{} is held by a task that is over", VmId(vm.id)));
            }
            let transitional = matches!(
                vm.status,
                VmStatus::Creating
                    | VmStatus::Starting
                    | VmStatus::Stopping
                    | VmStatus::Migrating
                    | VmStatus::Hibernating
            );
            if transitional && task.is_none() {
                found.push(format!("{} is {} without a task", VmId(vm.id), vm.status.word()));
            }
            if vm.is_template && vm.status != VmStatus::Stopped && vm.status != VmStatus::Creating {
                found.push(format!("VM template {} is {}", VmId(vm.id), vm.status.word()));
            }
            if vm.status == VmStatus::Running && vm.host.is_none() {
                found.push(format!("{} runs on no host", VmId(vm.id)));
            }
        }
        for datastore in self.datastores.values() {
            if self.used_gb(datastore.id) > datastore.capacity_gb {
                found.push(format!("datastore {} is over its capacity", datastore.name));
            }
        }
        found
    }
}
