//! Volumes that outlive VMs.

use dcs_controller::api::POOL_FINALIZER;
use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, PowerState, TaskState},
};

use super::{Answer, Site, State, Work, done};
use crate::{
    journal::Violation,
    kinds::DCS_POOL,
    store::{items, text},
};

impl Site {
    pub(super) fn create_volume(&self, request: v1::CreateVolumeRequest, fails: bool) -> v1::Task {
        let state = &mut *self.state.lock();
        if let Some(known) = state.volumes.values().find(|volume| volume.name == request.name) {
            return done(&known.urn);
        }
        self.check_held(DCS_POOL, "pool", POOL_FINALIZER, &format!("volume {}", request.name));
        let urn = format!("urn:volumes:{}", state.new_number());
        let volume = v1::Volume {
            urn: urn.clone(),
            name: request.name,
            size_gib: request.size_gib,
            datastore_urn: request.datastore_urn,
            datastore_name: "ds".to_owned(),
            independent: true,
            persistent: true,
            usable: false,
            owner: request.owner,
            ..v1::Volume::default()
        };
        state.volumes.insert(urn.clone(), volume);
        self.begin(state, &urn.clone(), Work::CreateVolume(urn), fails)
    }

    pub(super) fn find_volumes(&self, request: &v1::FindVolumesRequest) -> Vec<v1::Volume> {
        let state = self.state.lock();
        let fits = |volume: &&v1::Volume| {
            if !request.urn.is_empty() {
                volume.urn == request.urn
            } else if !request.name.is_empty() {
                volume.name == request.name
            } else {
                volume.name.starts_with(&request.name_prefix)
            }
        };
        state.volumes.values().filter(fits).cloned().collect()
    }

    pub(super) fn attach(&self, request: &v1::AttachVolumeRequest, fails: bool) -> Answer<v1::Task> {
        let state = &mut *self.state.lock();
        let vm = state.vms.get(&request.machine_urn).ok_or_else(|| super::no_vm(&request.machine_urn))?;
        let takes = matches!(vm.state(), PowerState::Stopped | PowerState::Running);
        let found = state.volumes.get(&request.volume_urn).ok_or_else(|| no_volume(&request.volume_urn))?;
        if found.bound && !found.machine_urns.contains(&request.machine_urn) {
            self.violate("I4", format!("{} is in a VM and is to be attached to {}", found.urn, request.machine_urn));
        }
        if found.bound || !takes || Self::is_busy(state, &request.machine_urn) {
            return Err(MachineError::new(Reason::Conflict, "the volume or the VM is in use"));
        }
        state.volumes.entry(request.volume_urn.clone()).and_modify(|volume| volume.bound = true);
        let work = Work::Attach {
            volume: request.volume_urn.clone(),
            vm: request.machine_urn.clone(),
            sequence: request.sequence,
            bus: request.bus.clone(),
        };
        Ok(self.begin(state, &request.machine_urn, work, fails))
    }

    pub(super) fn detach(&self, request: &v1::DetachVolumeRequest, fails: bool) -> Answer<v1::Task> {
        let state = &mut *self.state.lock();
        let Some(vm) = state.vms.get(&request.machine_urn) else { return Err(super::no_vm(&request.machine_urn)) };
        if !vm.disks.iter().any(|disk| disk.volume_urn == request.volume_urn) {
            return Ok(done(&request.machine_urn));
        }
        if vm.state() != PowerState::Stopped || Self::is_busy(state, &request.machine_urn) {
            return Err(MachineError::new(Reason::Conflict, format!("VM {} is {}", vm.urn, vm.state_text)));
        }
        let work = Work::Detach { volume: request.volume_urn.clone(), vm: request.machine_urn.clone() };
        Ok(self.begin(state, &request.machine_urn, work, fails))
    }

    pub(super) fn delete_volume(&self, request: &v1::DeleteVolumeRequest, fails: bool) -> Answer<v1::Task> {
        let state = &mut *self.state.lock();
        let Some(volume) = state.volumes.get(&request.urn) else { return Ok(done(&request.urn)) };
        if volume.bound {
            self.violate("I4", format!("{} is to be deleted while a VM holds it", volume.name));
            return Err(MachineError::new(Reason::Conflict, "a VM holds it"));
        }
        if self.is_claimed(&volume.urn) {
            self.violate("I4", format!("{} is to be deleted while its entry is claimed", volume.name));
        }
        if Self::is_busy(state, &request.urn) {
            return Err(MachineError::new(Reason::Conflict, "it is being worked on"));
        }
        Ok(self.begin(state, &request.urn, Work::DeleteVolume(request.urn.clone()), fails))
    }

    /// Whether a machine holds the pool entry whose disk this volume is.
    fn is_claimed(&self, urn: &str) -> bool {
        self.store.list(DCS_POOL).iter().any(|pool| {
            let shown = items(pool, "/status/persistentDiskStatus");
            let ips: Vec<_> =
                shown.filter(|disk| text(disk, "/volumeUrn") == urn).map(|disk| text(disk, "/ip")).collect();
            let claims = pool["metadata"]["annotations"][dcs_controller::claims::ANNOTATION].as_str().unwrap_or("{}");
            let claims: serde_json::Value = serde_json::from_str(claims).unwrap_or_default();
            ips.iter().any(|ip| claims.get(ip).is_some())
        })
    }

    pub(super) fn finish_volume(state: &mut State, work: &Work, well: bool) {
        match work {
            Work::CreateVolume(urn) if well => {
                state.volumes.entry(urn.clone()).and_modify(|volume| volume.usable = true);
            }
            Work::CreateVolume(urn) => drop(state.volumes.remove(urn)),
            Work::Attach { volume, vm, sequence, bus } => {
                let Some(found) = state.volumes.get_mut(volume) else { return };
                let Some(into) = state.vms.get_mut(vm).filter(|_| well) else {
                    found.bound = false;
                    return;
                };
                found.machine_urns = vec![vm.clone()];
                into.disks.push(v1::Disk {
                    volume_urn: volume.clone(),
                    name: found.name.clone(),
                    sequence: *sequence,
                    size_gib: found.size_gib,
                    datastore_urn: found.datastore_urn.clone(),
                    independent: true,
                    bus: bus.clone(),
                });
            }
            Work::Detach { volume, vm } if well => {
                if let Some(vm) = state.vms.get_mut(vm) {
                    vm.disks.retain(|disk| disk.volume_urn != *volume);
                }
                if let Some(volume) = state.volumes.get_mut(volume) {
                    (volume.bound, volume.machine_urns) = (false, Vec::new());
                }
            }
            Work::DeleteVolume(urn) if well => drop(state.volumes.remove(urn)),
            _ => {}
        }
    }

    /// I4: a disk is in one VM at the most.
    pub(super) fn check_volumes(state: &State) -> Result<(), Violation> {
        for urn in state.volumes.keys() {
            let holds = |vm: &&v1::Machine| vm.disks.iter().any(|disk| disk.volume_urn == *urn);
            let holders: Vec<_> = state.vms.values().filter(holds).map(|vm| vm.urn.as_str()).collect();
            if holders.len() > 1 {
                return Err(Violation::new("I4", format!("{urn} is in {}", holders.join(" and "))));
            }
        }
        // Also one that is on its way into a second.
        let comes = state.tasks.values().filter(|task| task.shown.state() == TaskState::Running);
        for task in comes {
            if let Work::Attach { volume, vm, .. } = &task.work
                && let Some(other) = state
                    .vms
                    .values()
                    .find(|other| other.urn != *vm && other.disks.iter().any(|disk| disk.volume_urn == *volume))
            {
                return Err(Violation::new("I4", format!("{volume} is in {} and on its way into {vm}", other.urn)));
            }
        }
        Ok(())
    }
}

fn no_volume(urn: &str) -> MachineError {
    MachineError::new(Reason::NotFound, format!("there is no volume {urn}"))
}
