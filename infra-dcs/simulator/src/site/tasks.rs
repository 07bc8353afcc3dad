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
    /// Percent, once it has ended.
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

/// The end that a task comes to by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// When, in milliseconds since the epoch.
    pub at: u64,
    /// A failure's code, and whether a VM being created vanishes.
    pub failure: Option<(Code, bool)>,
}

impl Task {
    /// How far it is, in percent.
    pub fn percent(&self, now: u64) -> u8 {
        if self.status != TaskStatus::Running {
            return self.progress;
        }
        let elapsed = now.saturating_sub(self.begins);
        let passed = if elapsed < self.duration { elapsed * 100 / self.duration } else { 99 };
        let limit = self.obstacle().map_or(99, |(at, _)| at.min(99));
        u8::try_from(passed).unwrap_or(limit).min(limit)
    }

    /// The end that it comes to by itself; none while it waits for its guest or is stalled.
    pub(super) fn end(&self) -> Option<End> {
        if self.waits_for_guest {
            return None;
        }
        let at = |percent: u8| self.begins + (self.duration * u64::from(percent)).div_ceil(100);
        match self.obstacle() {
            None => Some(End { at: at(100), failure: None }),
            Some((percent, Trouble::Fail { code, vanish, .. })) => {
                Some(End { at: at(percent), failure: Some((Code(*code), *vanish)) })
            }
            Some(_) => None,
        }
    }

    /// The first trouble on its way that it does not get past, and at which progress.
    fn obstacle(&self) -> Option<(u8, &Trouble)> {
        let place = |trouble: &Trouble| match trouble {
            Trouble::StallAt(at) | Trouble::Fail { at, .. } => Some(*at).filter(|at| *at <= 100),
            Trouble::Slow(_) | Trouble::Purge(_) => None,
        };
        let obstacles = self.trouble.iter().filter_map(|trouble| Some((place(trouble)?, trouble)));
        obstacles.min_by_key(|(at, _)| *at)
    }
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
        if let Some(volume) = work.volume() {
            self.volumes.change(volume, |volume| volume.task = Some(id));
        }
        // Only deployments queue.
        let status = if matches!(work, Work::Deploy { .. }) { TaskStatus::Waiting } else { TaskStatus::Running };
        let task = Task {
            id,
            word: work.word().to_owned(),
            work,
            entity,
            entity_name: name,
            user: user.to_owned(),
            status,
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
        self.tasks.insert(task);
        self.changed();
        self.begin_deployments(now);
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
        self.now = now;
        self.begin_deployments(now);
        while let Some((id, end)) = self.tasks.ended(now) {
            match end.failure {
                None => self.complete(now, id),
                Some((code, vanish)) => self.fail_task(now, id, code, vanish),
            }
            self.begin_deployments(now);
        }
        self.tasks.forget(now, self.policy.task_retention_ms);
    }

    /// Begins deployments while there are slots.
    fn begin_deployments(&mut self, now: u64) {
        while let Some(id) = self.tasks.next_in_line(self.policy.deploy_slots.max(1)) {
            self.tasks.change(id, |task| {
                task.status = TaskStatus::Running;
                task.begins = now;
            });
        }
    }

    /// When the next task ends by itself, in milliseconds since the epoch.
    pub fn next_due(&self) -> Option<u64> {
        self.tasks.next_end()
    }

    /// Ends a task well.
    pub(super) fn succeed(&mut self, now: u64, id: u64, reason: Option<Code>) {
        self.finish(now, id, |task| {
            task.status = TaskStatus::Success;
            task.progress = 100;
            task.reason = reason;
        });
    }

    /// Ends a task badly, after its work was undone.
    pub(super) fn fail(&mut self, now: u64, id: u64, code: Code) {
        self.finish(now, id, |task| {
            task.progress = task.percent(now);
            task.status = TaskStatus::Failed;
            task.reason = Some(code);
        });
    }

    fn finish(&mut self, now: u64, id: u64, end: impl FnOnce(&mut Task)) {
        let held = self.tasks.change(id, |task| {
            end(task);
            task.finished = Some(now);
            task.waits_for_guest = false;
            (task.work.vm(), task.work.volume())
        });
        let Some((vm, volume)) = held else { return };
        if let Some(vm) = vm.and_then(|vm| self.vms.get_mut(&vm)).filter(|vm| vm.task == Some(id)) {
            vm.task = None;
        }
        if let Some(volume) = volume {
            self.volumes.change(volume, |volume| volume.task = volume.task.filter(|task| *task != id));
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
        self.tasks.change(id, |task| task.cancelled = true);
        Ok(())
    }

    /// Lets stalled tasks go on; with `id` that one only. Tells how many.
    pub fn resume_stalled(&mut self, now: u64, id: Option<u64>) -> usize {
        let is_meant = |task: &&Task| id.is_none_or(|id| task.id == id);
        let is_stalled = |task: &&Task| task.trouble.iter().any(|trouble| matches!(trouble, Trouble::StallAt(_)));
        let stalled: Vec<u64> = self.tasks.values().filter(is_meant).filter(is_stalled).map(|task| task.id).collect();
        for id in &stalled {
            self.tasks.change(*id, |task| {
                // The rest of the way takes its time again.
                task.begins = now.saturating_sub(task.duration * u64::from(task.percent(now)) / 100);
                task.trouble.retain(|trouble| !matches!(trouble, Trouble::StallAt(_)));
            });
        }
        stalled.len()
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
