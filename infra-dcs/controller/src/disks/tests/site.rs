//! A site: volumes, VMs, and the tasks on them.

use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, PowerState, TaskState},
};

use super::{NAME, mark};
use crate::disks::{decide::Call, outcome::Answer};

/// A site with volumes, VMs and the tasks on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) volumes: Vec<v1::Volume>,
    pub(super) vms: Vec<v1::Machine>,
    pub(super) tasks: Vec<(v1::Task, Call)>,
    pub(super) made: u32,
    /// What must never happen, and did.
    pub(super) wrongs: Vec<String>,
    /// URNs of volumes that a call deleted.
    pub(super) deleted: Vec<String>,
}

impl Model {
    pub(super) fn volume(&mut self, urn: &str) -> Option<&mut v1::Volume> {
        self.volumes.iter_mut().find(|volume| volume.urn == urn)
    }

    pub(super) fn vm(&mut self, urn: &str) -> Option<&mut v1::Machine> {
        self.vms.iter_mut().find(|vm| vm.urn == urn)
    }

    pub(super) fn add_vm(&mut self, urn: &str, state: PowerState) {
        self.vms.push(v1::Machine { urn: urn.into(), name: urn.into(), state: state.into(), ..v1::Machine::default() });
    }

    pub(super) fn add_volume(&mut self, urn: &str, name: &str) -> &mut v1::Volume {
        self.volumes.push(v1::Volume {
            urn: urn.into(),
            name: name.into(),
            size_gib: 40,
            datastore_urn: "urn:ds".into(),
            datastore_name: "ds-1".into(),
            datastore_cluster_name: "dsc".into(),
            independent: true,
            persistent: true,
            usable: true,
            owner: Some(mark()),
            ..v1::Volume::default()
        });
        self.volumes.last_mut().unwrap()
    }

    /// Puts a volume into a VM at once.
    pub(super) fn plug(&mut self, volume: &str, vm: &str, sequence: u32) {
        let found = self.volume(volume).unwrap();
        (found.bound, found.machine_urns) = (true, vec![vm.to_owned()]);
        let (name, size_gib) = (found.name.clone(), found.size_gib);
        let disk = v1::Disk {
            volume_urn: volume.into(),
            name,
            sequence,
            size_gib,
            bus: "VIRTIO".into(),
            ..v1::Disk::default()
        };
        self.vm(vm).unwrap().disks.push(disk);
    }

    /// Accepts a call; what it does is done when its task ends.
    pub(super) fn accept(&mut self, call: &Call, claimed: bool) -> Answer {
        let refuse = |reason: Reason, what: &str| Err(MachineError::new(reason, what));
        self.made += 1;
        let entity = match call {
            Call::Create => {
                if self.volumes.iter().any(|volume| volume.name == NAME) {
                    self.wrongs.push("a second volume of the name was asked for".to_owned());
                }
                let urn = format!("urn:volume-{}", self.made);
                self.add_volume(&urn, NAME).usable = false;
                urn
            }
            Call::Adopt(urn) => {
                let Some(volume) = self.volume(urn) else { return refuse(Reason::NotFound, "no volume") };
                if volume.bound {
                    self.wrongs.push("a volume in use was changed".to_owned());
                    return refuse(Reason::Conflict, "bound");
                }
                (volume.name, volume.independent, volume.persistent) = (NAME.into(), true, true);
                volume.owner = Some(mark());
                return Ok(v1::Task::default());
            }
            Call::Attach { volume, vm, .. } => {
                let (exists, ready) = match self.vm(vm) {
                    None => (false, false),
                    Some(vm) => (true, vm.state() == PowerState::Stopped || vm.state() == PowerState::Running),
                };
                let Some(found) = self.volume(volume) else { return refuse(Reason::NotFound, "no volume") };
                if found.bound {
                    self.wrongs.push(format!("{volume} is in a VM and was to be attached to {vm}"));
                    return refuse(Reason::Conflict, "bound");
                }
                if !exists || !ready {
                    return refuse(Reason::Conflict, "no VM that takes it");
                }
                found.bound = true;
                vm.clone()
            }
            Call::Detach { volume, vm } => {
                if self.vm(vm).is_none_or(|vm| vm.state() != PowerState::Stopped) {
                    self.wrongs.push(format!("{volume} was pulled out of a VM that is not stopped"));
                    return refuse(Reason::Conflict, "not stopped");
                }
                vm.clone()
            }
            Call::Delete(urn) => {
                if claimed {
                    self.wrongs.push(format!("{urn} was deleted while its entry was held"));
                }
                let Some(volume) = self.volume(urn) else { return Ok(v1::Task::default()) };
                if volume.bound {
                    self.wrongs.push(format!("{urn} was deleted while it was in a VM"));
                    return refuse(Reason::Conflict, "bound");
                }
                volume.usable = false;
                urn.clone()
            }
        };
        let task = v1::Task {
            id: format!("task-{}", self.made),
            entity_urn: entity,
            state: TaskState::Running.into(),
            ..v1::Task::default()
        };
        self.tasks.push((task.clone(), call.clone()));
        Ok(task)
    }

    /// Ends all running tasks, well or badly.
    pub(super) fn finish(&mut self, well: bool) {
        for index in 0..self.tasks.len() {
            let (task, call) = self.tasks[index].clone();
            if task.state() != TaskState::Running {
                continue;
            }
            let state = if well { TaskState::Done } else { TaskState::Failed };
            self.tasks[index].0.state = state.into();
            match (call, well) {
                (Call::Create, true) => self.volume(&task.entity_urn).unwrap().usable = true,
                (Call::Create, false) => self.volumes.retain(|volume| volume.urn != task.entity_urn),
                (Call::Attach { volume, vm, sequence, .. }, true) if self.vm(&vm).is_some() => {
                    self.plug(&volume, &vm, sequence);
                }
                (Call::Attach { volume, .. }, _) => self.volume(&volume).unwrap().bound = false,
                (Call::Detach { volume, vm }, true) => {
                    if let Some(vm) = self.vm(&vm) {
                        vm.disks.retain(|disk| disk.volume_urn != volume);
                    }
                    if let Some(volume) = self.volume(&volume) {
                        (volume.bound, volume.machine_urns) = (false, Vec::new());
                    }
                }
                (Call::Delete(urn), true) => {
                    self.volumes.retain(|volume| volume.urn != urn);
                    self.deleted.push(urn);
                }
                (Call::Delete(urn), false) => self.volume(&urn).unwrap().usable = true,
                (Call::Detach { .. } | Call::Adopt(_), _) => {}
            }
        }
    }

    /// Deletes a VM, and what is attached to it, as a site does.
    pub(super) fn delete_vm(&mut self, urn: &str) {
        let Some(vm) = self.vm(urn).cloned() else { return };
        for disk in &vm.disks {
            self.volumes.retain(|volume| volume.urn != disk.volume_urn);
            self.wrongs.push(format!("{} went with its VM", disk.volume_urn));
        }
        let comes = |call: &Call| matches!(call, Call::Attach { vm, .. } if vm == urn);
        if self.tasks.iter().any(|(task, call)| task.state() == TaskState::Running && comes(call)) {
            self.wrongs.push(format!("{urn} was deleted while a disk was on its way into it"));
        }
        self.vms.retain(|vm| vm.urn != urn);
    }
}
