//! Power: start, stop, reboot, rest, what the guest tells, and the end of every VM task.

use std::net::IpAddr;

use super::{
    Code, Effect, Entity, Result, Site, Tools, Vm, VmId, VmStatus, VolumeStatus, codes,
    policy::Release,
    tasks::{Accepted, Work},
};

/// How the guest platform ended a power-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffOutcome {
    /// The guest is off.
    Off,
    /// The guest was asked and did not go.
    Refused,
}

impl Site {
    /// The VM of an id, VM templates included.
    pub fn vm(&self, id: u64) -> Result<&Vm> {
        self.vms.get(&id).ok_or_else(|| codes::VM_NOT_FOUND.because(VmId(id).to_string()))
    }

    pub(super) fn vm_mut(&mut self, id: u64) -> Result<&mut Vm> {
        self.vms.get_mut(&id).ok_or_else(|| codes::VM_NOT_FOUND.because(VmId(id).to_string()))
    }

    /// Refuses work on a VM whose task is unfinished: VRM serialises by refusal, not by queueing. What others are being
    /// cloned from is not touched either.
    pub(super) fn idle(&self, id: u64, wanted: &str) -> Result<&Vm> {
        let vm = self.vm(id)?;
        if self.is_source_of_clone(id) {
            return codes::TEMPLATE_CLONING.refuse();
        }
        self.without_task(vm, wanted)
    }

    /// Refuses work on a VM whose task is unfinished.
    pub(super) fn without_task<'a>(&self, vm: &'a Vm, wanted: &str) -> Result<&'a Vm> {
        match vm.task.and_then(|task| self.tasks.get(&task)) {
            Some(task) if task.word == wanted => codes::SAME_OPERATION.refuse(),
            Some(task) => Err(codes::UNFINISHED_TASK.because(format!("{} {}", task.word, task.id))),
            None => Ok(vm),
        }
    }

    /// Whether clones of a VM are being made.
    pub fn is_source_of_clone(&self, id: u64) -> bool {
        self.tasks.deployments().any(|task| matches!(task.work, Work::Deploy { source, .. } if source == id))
    }

    pub(super) fn accept_vm(&mut self, now: u64, user: &str, vm: u64, work: Work) -> Accepted {
        let name = self.vms.get(&vm).map(|vm| vm.name.clone()).unwrap_or_default();
        self.accept(now, user, work, Entity::Vm(vm), name)
    }

    /// Starts a stopped VM.
    pub fn start(&mut self, now: u64, user: &str, id: u64) -> Result<Accepted> {
        let vm = self.vm(id)?;
        if vm.is_template {
            let code = if self.is_source_of_clone(id) { codes::TEMPLATE_CLONING_START } else { codes::IS_TEMPLATE };
            return code.refuse();
        }
        let vm = self.idle(id, "StartVM")?;
        match vm.status {
            VmStatus::Running => codes::IS_RUNNING.refuse(),
            VmStatus::Stopped | VmStatus::Hibernated => {
                self.vm_mut(id)?.status = VmStatus::Starting;
                Ok(self.accept_vm(now, user, id, Work::Start { vm: id, deployed: false }))
            }
            other => Err(codes::VM_STATE.because(other.word())),
        }
    }

    /// Stops a running VM: `safe` asks the guest, which needs tools.
    pub fn stop(&mut self, now: u64, user: &str, id: u64, safe: bool) -> Result<Accepted> {
        let vm = self.idle(id, "StopVM")?;
        match vm.status {
            VmStatus::Stopped | VmStatus::Hibernated => return codes::IS_STOPPED.refuse(),
            VmStatus::Hibernating => return codes::HIBERNATING.refuse(),
            VmStatus::Running => {}
            VmStatus::Pause | VmStatus::Unknown if !safe => {}
            other => return Err(codes::VM_STATE.because(other.word())),
        }
        if safe && vm.tools != Tools::Running {
            return codes::NO_TOOLS.refuse();
        }
        self.vm_mut(id)?.status = VmStatus::Stopping;
        Ok(self.accept_vm(now, user, id, Work::Stop { vm: id, safe }))
    }

    /// Stops and starts a running VM.
    pub fn reboot(&mut self, now: u64, user: &str, id: u64, safe: bool) -> Result<Accepted> {
        let vm = self.idle(id, "RebootVM")?;
        if vm.status != VmStatus::Running {
            return Err(codes::VM_STATE.because(vm.status.word()));
        }
        if safe && vm.tools != Tools::Running {
            return codes::NO_TOOLS.refuse();
        }
        Ok(self.accept_vm(now, user, id, Work::Reboot { vm: id, safe }))
    }

    /// `pause`, `resume`, `hibernate`. States only: a guest goes on behind them.
    pub fn rest(&mut self, now: u64, user: &str, id: u64, verb: &str) -> Result<Accepted> {
        let vm = self.idle(id, "SuspendVM")?;
        let (during, into) = match (verb, vm.status) {
            ("pause", VmStatus::Running) => (VmStatus::Running, VmStatus::Pause),
            ("hibernate", VmStatus::Running) => (VmStatus::Hibernating, VmStatus::Hibernated),
            ("resume", VmStatus::Pause) => (VmStatus::Pause, VmStatus::Running),
            ("resume", VmStatus::Hibernated) => (VmStatus::Starting, VmStatus::Running),
            (_, other) => return Err(codes::VM_STATE.because(other.word())),
        };
        self.vm_mut(id)?.status = during;
        Ok(self.accept_vm(now, user, id, Work::Rest { vm: id, into }))
    }

    /// Does what a task was accepted for.
    pub(super) fn complete(&mut self, now: u64, id: u64) {
        let Some(work) = self.tasks.get(&id).map(|task| task.work.clone()) else { return };
        match work {
            Work::Deploy { vm, boot, .. } => self.deployed(now, id, vm, boot),
            Work::Start { vm, deployed } => self.place_and_start(now, id, vm, deployed),
            Work::Stop { vm, safe } | Work::Reboot { vm, safe } => {
                self.wait_for_guest(id, Effect::PowerOff { task: id, vm, safe });
            }
            Work::Rest { vm, into } => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.status = into;
                }
                self.succeed(now, id, None);
            }
            Work::DeleteVm { vm, keep_disks, recycle } => self.deleted(now, id, vm, keep_disks, recycle),
            Work::AttachCd { vm } => self.medium_attached(now, id, vm),
            Work::DetachCd { vm } => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.medium = None;
                }
                self.succeed(now, id, None);
            }
            Work::Migrate { vm, host } => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.status = VmStatus::Running;
                    vm.host = Some(host);
                }
                self.succeed(now, id, None);
            }
            Work::CreateVolume { .. }
            | Work::DeleteVolume { .. }
            | Work::Expand { .. }
            | Work::Attach { .. }
            | Work::Detach { .. } => {
                self.complete_volume(now, id, &work);
            }
            Work::ModifyVm { .. } | Work::RefreshDatastores => self.succeed(now, id, None),
        }
    }

    /// Undoes what a task had begun, and ends it with a reason.
    pub(super) fn fail_task(&mut self, now: u64, id: u64, code: Code, vanish: bool) {
        let Some(work) = self.tasks.get(&id).map(|task| task.work.clone()) else { return };
        match work {
            Work::Deploy { vm, .. } => self.deploy_failed(vm, vanish),
            Work::Start { vm, deployed } => {
                self.set_off(vm);
                if deployed {
                    return self.succeed(now, id, Some(code));
                }
            }
            Work::Stop { vm, .. } | Work::Migrate { vm, .. } => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.status = VmStatus::Running;
                }
            }
            Work::Rest { vm, into } => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.status = match into {
                        VmStatus::Running => VmStatus::Pause,
                        _ => VmStatus::Running,
                    };
                }
            }
            Work::AttachCd { vm } => {
                if let Some(vm) = self.vms.get_mut(&vm) {
                    vm.medium = None;
                }
            }
            Work::CreateVolume { volume } => drop(self.volumes.remove(volume)),
            Work::DeleteVolume { volume } | Work::Expand { volume, .. } => {
                self.volumes.change(volume, |volume| volume.status = VolumeStatus::Use);
            }
            Work::Attach { volume, .. } => {
                self.volumes.change(volume, |volume| volume.attachment = None);
            }
            Work::Reboot { .. }
            | Work::DeleteVm { .. }
            | Work::ModifyVm { .. }
            | Work::DetachCd { .. }
            | Work::Detach { .. }
            | Work::RefreshDatastores => {}
        }
        self.fail(now, id, code);
    }

    pub(super) fn wait_for_guest(&mut self, task: u64, effect: Effect) {
        self.tasks.change(task, |task| task.waits_for_guest = true);
        self.effects.push(effect);
    }

    pub(super) fn place_and_start(&mut self, now: u64, task: u64, id: u64, deployed: bool) {
        self.tasks.change(task, |task| task.work = Work::Start { vm: id, deployed });
        match self.place(id).and_then(|host| self.medium_readable(id).map(|()| host)) {
            Ok(host) => {
                if let Some(vm) = self.vms.get_mut(&id) {
                    vm.host = Some(host);
                    vm.status = VmStatus::Starting;
                    vm.boot_failure = None;
                }
                self.wait_for_guest(task, Effect::PowerOn { task, vm: id });
            }
            Err(error) => self.fail_task(now, task, error.code, false),
        }
    }

    /// The engine's answer to [`Effect::PowerOn`].
    pub fn powered_on(&mut self, now: u64, task: u64, vm: u64, powered: bool) {
        // The task may have been lost in a restart of the VRM meanwhile; the guest's power is a fact all the same.
        let expected = self.tasks.get(&task).is_some_and(|task| !task.status.is_final());
        if !powered {
            if expected {
                self.fail_task(now, task, codes::HOST_START_FAILED, false);
            }
            return;
        }
        if let Some(vm) = self.vms.get_mut(&vm) {
            vm.status = VmStatus::Running;
            vm.tools = Tools::Starting;
            vm.boots += 1;
        }
        if expected {
            self.succeed(now, task, None);
        }
    }

    /// The engine's answer to [`Effect::PowerOff`].
    pub fn powered_off(&mut self, now: u64, task: u64, vm: u64, outcome: OffOutcome) {
        let work = self.tasks.get(&task).filter(|task| !task.status.is_final()).map(|task| task.work.clone());
        if outcome == OffOutcome::Refused {
            if work.is_some() {
                self.fail_task(now, task, codes::GUEST_REFUSED_STOP, false);
            }
            return;
        }
        self.set_off(vm);
        match work {
            Some(Work::Reboot { .. }) => self.place_and_start(now, task, vm, false),
            Some(_) => self.succeed(now, task, None),
            None => {}
        }
    }

    /// A VM lost its power: tools fall silent, media of a kind that does not stay are ejected.
    fn set_off(&mut self, id: u64) {
        let release = self.policy.release;
        if let Some(vm) = self.vms.get_mut(&id) {
            vm.status = VmStatus::Stopped;
            vm.tools = Tools::NotRunning;
            vm.guest_hostname = None;
            for nic in &mut vm.nics {
                nic.addresses.clear();
            }
            if release == Release::R6 || vm.medium.as_ref().is_some_and(|medium| medium.protocol != "file") {
                vm.medium = None;
            }
        }
        self.changed();
    }

    /// The guest's tools answer.
    pub fn tools_running(&mut self, id: u64, addresses: &[(String, IpAddr)], hostname: &str) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        if !matches!(vm.status, VmStatus::Running | VmStatus::Starting) {
            return;
        }
        vm.tools = Tools::Running;
        vm.guest_hostname = (!hostname.is_empty()).then(|| hostname.to_owned());
        for nic in &mut vm.nics {
            nic.addresses =
                addresses.iter().filter(|(mac, _)| mac.eq_ignore_ascii_case(&nic.mac)).map(|(_, ip)| *ip).collect();
        }
        self.changed();
    }

    /// The guest is off without having been told to by a task.
    pub fn guest_off(&mut self, id: u64) {
        if self
            .vms
            .get(&id)
            .is_some_and(|vm| matches!(vm.status, VmStatus::Running | VmStatus::Pause) && vm.task.is_none())
        {
            self.set_off(id);
        }
    }

    /// The guest never came to life. The VM has power all the same; its console tells why.
    pub fn boot_failed(&mut self, id: u64, why: &str) {
        if let Some(vm) = self.vms.get_mut(&id) {
            vm.boot_failure = Some(why.to_owned());
            vm.tools = Tools::NotRunning;
        }
        self.changed();
    }

    /// After the simulator itself was started with a saved state: what had power gets it again, as an HA restart would.
    pub fn power_restored(&mut self, now: u64) {
        self.restart(now);
        let alive: Vec<u64> = self
            .vms
            .values()
            .filter(|vm| {
                !matches!(
                    vm.status,
                    VmStatus::Stopped | VmStatus::Hibernated | VmStatus::Recycling | VmStatus::Creating
                )
            })
            .map(|vm| vm.id)
            .collect();
        for id in alive {
            self.set_off(id);
            if let Some(vm) = self.vms.get_mut(&id) {
                vm.status = VmStatus::Starting;
            }
            self.accept_vm(now, "system", id, Work::Start { vm: id, deployed: false });
        }
    }
}
