//! Tasks: accepted work that ends later, and the faults that it can meet.

use serde::{Deserialize, Serialize};

use super::{Code, Entity, Result, Site, codes};

/// State of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Not begun.
    Waiting,
    /// At work.
    Running,
    /// Done.
    Success,
    /// Failed; `reason` says why.
    Failed,
}

impl TaskStatus {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed)
    }
}

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Work {
    /// Makes `vm` from `source`, and starts it where `boot` says so.
    Deploy {
        /// New VM.
        vm: u64,
        /// VM template, or VM.
        source: u64,
        /// Whether it is started at the end.
        boot: bool,
        /// Whether the source is a VM template, and whether this becomes one.
        templates: (bool, bool),
    },
    /// Starts a VM; `deployed` where this is the end of a deployment.
    Start {
        /// VM.
        vm: u64,
        /// Whether a failure still counts as success.
        deployed: bool,
    },
    /// Stops a VM.
    Stop {
        /// VM.
        vm: u64,
        /// Whether the guest is asked.
        safe: bool,
    },
    /// Stops and starts a VM.
    Reboot {
        /// VM.
        vm: u64,
        /// Whether the guest is asked.
        safe: bool,
    },
    /// Pauses, resumes, hibernates a VM.
    Rest {
        /// VM.
        vm: u64,
        /// State at the end.
        into: super::VmStatus,
    },
    /// Deletes a VM.
    DeleteVm {
        /// VM.
        vm: u64,
        /// Whether its disks stay.
        keep_disks: bool,
        /// Whether it only goes to the recycle bin.
        recycle: bool,
    },
    /// Changes a VM; the change is in force already.
    ModifyVm {
        /// VM.
        vm: u64,
    },
    /// Puts the medium into the drive.
    AttachCd {
        /// VM.
        vm: u64,
    },
    /// Takes the medium out of the drive.
    DetachCd {
        /// VM.
        vm: u64,
    },
    /// Moves a running VM to another host.
    Migrate {
        /// VM.
        vm: u64,
        /// Target host.
        host: u64,
    },
    /// Makes a volume.
    CreateVolume {
        /// Volume.
        volume: u64,
    },
    /// Deletes a volume.
    DeleteVolume {
        /// Volume.
        volume: u64,
    },
    /// Grows a volume.
    Expand {
        /// Volume.
        volume: u64,
        /// VM that holds it.
        vm: Option<u64>,
        /// New size in GB.
        size_gb: u64,
    },
    /// Attaches a volume.
    Attach {
        /// VM.
        vm: u64,
        /// Volume.
        volume: u64,
    },
    /// Detaches a volume.
    Detach {
        /// VM.
        vm: u64,
        /// Volume.
        volume: u64,
        /// Whether its content is wiped.
        blank: bool,
    },
    /// Reads the datastores' free space anew.
    RefreshDatastores,
}

impl Work {
    /// VRM's word for the type of the task.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deploy { templates: (true, false), .. } => "DeployVM",
            Self::Deploy { templates: (false, false), .. } => "CloneVM",
            Self::Deploy { templates: (true, true), .. } => "CloneTemplate",
            Self::Deploy { templates: (false, true), .. } => "CreateTemplateFromVM",
            Self::Start { .. } => "StartVM",
            Self::Stop { .. } => "StopVM",
            Self::Reboot { .. } => "RebootVM",
            Self::Rest { .. } => "SuspendVM",
            Self::DeleteVm { .. } => "DeleteVM",
            Self::ModifyVm { .. } => "ModifyVM",
            Self::AttachCd { .. } => "AttachCdrom",
            Self::DetachCd { .. } => "DetachCdrom",
            Self::Migrate { .. } => "MigrateVM",
            Self::CreateVolume { .. } => "CreateVolume",
            Self::DeleteVolume { .. } => "DeleteVolume",
            Self::Expand { .. } => "ExpandVolume",
            Self::Attach { .. } => "AttachVolume",
            Self::Detach { .. } => "DetachVolume",
            Self::RefreshDatastores => "RefreshDatastore",
        }
    }

    /// VM that the task works on, if any.
    pub fn vm(&self) -> Option<u64> {
        match self {
            Self::Deploy { vm, .. }
            | Self::Start { vm, .. }
            | Self::Stop { vm, .. }
            | Self::Reboot { vm, .. }
            | Self::Rest { vm, .. }
            | Self::DeleteVm { vm, .. }
            | Self::ModifyVm { vm }
            | Self::AttachCd { vm }
            | Self::DetachCd { vm }
            | Self::Migrate { vm, .. }
            | Self::Attach { vm, .. }
            | Self::Detach { vm, .. } => Some(*vm),
            Self::Expand { vm, .. } => *vm,
            Self::CreateVolume { .. } | Self::DeleteVolume { .. } | Self::RefreshDatastores => None,
        }
    }

    /// Volume that the task works on, if any.
    pub fn volume(&self) -> Option<u64> {
        match self {
            Self::CreateVolume { volume }
            | Self::DeleteVolume { volume }
            | Self::Expand { volume, .. }
            | Self::Attach { volume, .. }
            | Self::Detach { volume, .. } => Some(*volume),
            _ => None,
        }
    }
}

/// A fault that the next tasks of a type meet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskFault {
    /// Type of the tasks (`DeployVM`); absent: any.
    #[serde(default)]
    pub task: Option<String>,
    /// Entity name of the tasks; absent: any.
    #[serde(default)]
    pub entity: Option<String>,
    /// How many tasks meet it; absent: every one until removed.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    #[serde(flatten)]
    pub trouble: Trouble,
}

/// What a task can meet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trouble {
    /// Stays at this progress until resumed.
    StallAt(u8),
    /// Fails.
    Fail {
        /// Progress at which it fails.
        at: u8,
        /// Reason.
        code: u32,
        /// Whether a VM being created vanishes instead of staying behind without disks.
        #[serde(default)]
        vanish: bool,
    },
    /// Takes this many times as long.
    Slow(f64),
    /// Cannot be queried once it is finished.
    Purge(bool),
}

/// A task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Id.
    pub id: u64,
    /// What it does.
    pub work: Work,
    /// VRM's word for what it does; stays while the work goes from deploying to starting.
    pub word: String,
    /// What it works on.
    pub entity: Entity,
    /// That object's name when the task was accepted.
    pub entity_name: String,
    /// Who asked.
    pub user: String,
    /// State.
    pub status: TaskStatus,
    /// Percent.
    pub progress: u8,
    /// Code of the failure.
    pub reason: Option<Code>,
    /// Accepted, milliseconds since the epoch.
    pub created: u64,
    /// When the present work began.
    pub begins: u64,
    /// How long it takes, milliseconds.
    pub duration: u64,
    /// When it ended.
    pub finished: Option<u64>,
    /// Whether it was called off.
    #[serde(default)]
    pub cancelled: bool,
    /// Whether it waits for the guest.
    pub waits_for_guest: bool,
    /// What goes wrong.
    pub trouble: Vec<Trouble>,
}

/// What a caller gets for work that ends later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The object.
    pub entity: Entity,
    /// The task.
    pub task: u64,
}

impl Site {
    /// Accepts work: makes its task and marks VM and volume as busy.
    pub(super) fn accept(&mut self, now: u64, user: &str, work: Work, entity: Entity, name: String) -> Accepted {
        let id = self.id_after(7_700);
        let base = self.base_duration(&work);
        #[allow(clippy::cast_precision_loss)]
        let jitter = 0.75 + (self.random() % 1_000) as f64 / 2_000.0;
        let trouble = self.take_troubles(work.word(), &name);
        let slow: f64 = trouble.iter().map(|trouble| if let Trouble::Slow(by) = trouble { *by } else { 1.0 }).product();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let duration = (base as f64 * self.latency.scale.max(0.0) * jitter * slow.max(0.0)) as u64;
        if let Some(vm) = work.vm().and_then(|vm| self.vms.get_mut(&vm)) {
            vm.task = Some(id);
        }
        if let Some(volume) = work.volume().and_then(|volume| self.volumes.get_mut(&volume)) {
            volume.task = Some(id);
        }
        let task = Task {
            id,
            word: work.word().to_owned(),
            work,
            entity,
            entity_name: name,
            user: user.to_owned(),
            status: TaskStatus::Waiting,
            progress: 0,
            reason: None,
            created: now,
            begins: now,
            duration,
            finished: None,
            cancelled: false,
            waits_for_guest: false,
            trouble,
        };
        self.tasks.insert(id, task);
        self.changed();
        self.begin_waiting(now);
        Accepted { entity, task: id }
    }

    /// Accepts work on the site as a whole.
    pub fn begin_plain(&mut self, now: u64, user: &str, work: Work) -> Accepted {
        let name = self.name.clone();
        self.accept(now, user, work, Entity::Site, name)
    }

    fn base_duration(&self, work: &Work) -> u64 {
        match work {
            Work::Deploy { .. } => self.latency.deploy_ms,
            Work::Start { .. } | Work::Stop { .. } | Work::Reboot { .. } | Work::Rest { .. } | Work::Migrate { .. } => {
                self.latency.power_ms
            }
            Work::DeleteVm { .. } => self.latency.delete_ms,
            Work::ModifyVm { .. } => 0,
            Work::AttachCd { .. } | Work::DetachCd { .. } | Work::Attach { .. } | Work::Detach { .. } => {
                self.latency.attach_ms
            }
            Work::CreateVolume { .. } | Work::DeleteVolume { .. } | Work::Expand { .. } | Work::RefreshDatastores => {
                self.latency.volume_ms
            }
        }
    }

    fn take_troubles(&mut self, word: &str, name: &str) -> Vec<Trouble> {
        let mut taken = vec![];
        for fault in &mut self.task_faults {
            let meant = fault.task.as_deref().is_none_or(|task| task == word)
                && fault.entity.as_deref().is_none_or(|entity| entity == name)
                && fault.times != Some(0);
            if meant {
                fault.times = fault.times.map(|times| times - 1);
                taken.push(fault.trouble.clone());
            }
        }
        self.task_faults.retain(|fault| fault.times != Some(0));
        taken
    }

    /// Brings all tasks to where they stand at `now`.
    pub fn advance(&mut self, now: u64) {
        loop {
            self.begin_waiting(now);
            let ready = self.tasks.values_mut().find_map(|task| step(task, now).map(|end| (task.id, end)));
            match ready {
                Some((id, None)) => self.complete(now, id),
                Some((id, Some((code, vanish)))) => self.fail_task(now, id, code, vanish),
                None => break,
            }
        }
        let retention = self.policy.task_retention_ms;
        self.tasks.retain(|_, task| {
            let purge = task.trouble.contains(&Trouble::Purge(true));
            task.finished.is_none_or(|finished| !purge && finished + retention > now)
        });
    }

    /// Begins deployments while there are slots; everything else begins at once.
    fn begin_waiting(&mut self, now: u64) {
        let deploying = self
            .tasks
            .values()
            .filter(|task| task.status == TaskStatus::Running && matches!(task.work, Work::Deploy { .. }));
        let mut free = self.policy.deploy_slots.max(1).saturating_sub(deploying.count());
        for task in self.tasks.values_mut().filter(|task| task.status == TaskStatus::Waiting) {
            if matches!(task.work, Work::Deploy { .. }) {
                if free == 0 {
                    continue;
                }
                free -= 1;
            }
            task.status = TaskStatus::Running;
            task.begins = now;
        }
    }

    /// When the next task ends by itself, in milliseconds since the epoch.
    pub fn next_due(&self) -> Option<u64> {
        let running = self.tasks.values().filter(|task| task.status == TaskStatus::Running && !task.waits_for_guest);
        let moving = running.filter(|task| !task.trouble.iter().any(|trouble| matches!(trouble, Trouble::StallAt(_))));
        moving.map(|task| task.begins + task.duration).min()
    }

    /// Ends a task well.
    pub(super) fn succeed(&mut self, now: u64, id: u64, reason: Option<Code>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.status = TaskStatus::Success;
            task.progress = 100;
            task.reason = reason;
        }
        self.release(now, id);
    }

    /// Ends a task badly, after its work was undone.
    pub(super) fn fail(&mut self, now: u64, id: u64, code: Code) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.status = TaskStatus::Failed;
            task.reason = Some(code);
        }
        self.release(now, id);
    }

    fn release(&mut self, now: u64, id: u64) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.finished = Some(now);
            task.waits_for_guest = false;
        }
        for vm in self.vms.values_mut().filter(|vm| vm.task == Some(id)) {
            vm.task = None;
        }
        for volume in self.volumes.values_mut().filter(|volume| volume.task == Some(id)) {
            volume.task = None;
        }
        self.changed();
    }

    /// The task of a name used in a path.
    pub fn task(&self, id: u64) -> Result<&Task> {
        self.tasks.get(&id).ok_or_else(|| codes::GONE.because(format!("task {id}")))
    }

    /// Cancels a task. Only work that waits for its turn can be cancelled.
    pub fn cancel_task(&mut self, now: u64, id: u64) -> Result<()> {
        let task = self.tasks.get(&id).filter(|task| !task.status.is_final()).ok_or(codes::TASK_FINISHED)?;
        if task.status != TaskStatus::Waiting {
            return codes::TASK_NOT_CANCELABLE.refuse();
        }
        self.fail_task(now, id, codes::TASK_FINISHED, true);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.cancelled = true;
        }
        Ok(())
    }

    /// Lets stalled tasks go on; with `id` that one only. Tells how many.
    pub fn resume_stalled(&mut self, now: u64, id: Option<u64>) -> usize {
        let mut count = 0;
        for task in self.tasks.values_mut().filter(|task| id.is_none_or(|id| task.id == id)) {
            let before = task.trouble.len();
            task.trouble.retain(|trouble| !matches!(trouble, Trouble::StallAt(_)));
            if task.trouble.len() != before {
                // The rest of the way takes its time again.
                task.begins = now.saturating_sub(task.duration * u64::from(task.progress) / 100);
                count += 1;
            }
        }
        count
    }

    /// What a restart of the VRM does: tokens and the tickets of uploads die, unfinished tasks fail.
    pub fn restart(&mut self, now: u64) {
        self.sessions.clear();
        self.uploads.clear();
        let unfinished: Vec<u64> =
            self.tasks.values().filter(|task| !task.status.is_final()).map(|task| task.id).collect();
        for id in unfinished {
            self.fail_task(now, id, codes::RECOVERING, false);
        }
    }
}

/// Moves one task on; tells when it ends: well, or with a failure (code, vanish).
#[allow(clippy::option_option)]
fn step(task: &mut Task, now: u64) -> Option<Option<(Code, bool)>> {
    if task.status != TaskStatus::Running || task.waits_for_guest {
        return None;
    }
    let elapsed = now.saturating_sub(task.begins);
    let done = elapsed >= task.duration;
    let percent = if done { 100 } else { u8::try_from(elapsed * 100 / task.duration.max(1)).unwrap_or(99) };
    for trouble in &task.trouble {
        match trouble {
            Trouble::StallAt(at) if percent >= *at => {
                task.progress = *at;
                return None;
            }
            Trouble::Fail { at, code, vanish } if percent >= *at => {
                task.progress = (*at).min(99);
                return Some(Some((Code(*code), *vanish)));
            }
            _ => {}
        }
    }
    task.progress = percent.min(99);
    done.then_some(None)
}
