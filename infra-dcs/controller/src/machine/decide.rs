//! What a `DCSMachine` needs next. Pure and total: facts in, one step and the conditions out.

use std::{collections::BTreeSet, time::Duration};

use cluster_api::{
    conditions::{Claim, Status},
    v1beta2::{Cluster, Machine},
};
use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, PowerState, TaskState},
};
use jiff::{SignedDuration, Timestamp};

use super::record::{Attempt, Record, Work};
use crate::{
    api::{DCSCluster, DCSIpHostnamePool, DCSMachine, MACHINE_FINALIZER, RETAIN_VM, condition, pool::PoolEntry},
    claims::{self, Choice},
};

/// Time between two looks at work that takes seconds.
const SOON: Duration = Duration::from_secs(2);
/// Time between two looks at work that takes longer.
const POLL: Duration = Duration::from_secs(10);
/// Time after which something that was missing is looked for again.
const MISSING: Duration = Duration::from_secs(20);
/// Time after which a task without end is called stalled.
const STALLED: SignedDuration = SignedDuration::from_mins(5);
/// Time in which a started machine should have joined.
const JOIN: SignedDuration = SignedDuration::from_mins(10);
/// Time in which a VM that a lost call may have made shows itself.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(30);
/// VMs made at a site at once.
pub const DEPLOYS: usize = 4;

/// Condition types beside those of Cluster API.
pub mod types {
    /// A pool entry is held.
    pub const CLAIMED: &str = "IPSlotClaimed";
    /// The boot medium lies at the site.
    pub const MEDIA: &str = "BootstrapISOReady";
    /// The VM is made and runs.
    pub const PROVISIONED: &str = "VMProvisioned";
    /// The boot medium is out of the VM again.
    pub const DETACHED: &str = "CDROMDetached";
    /// The VM is being stopped.
    pub const STOP_PENDING: &str = "VMStopPending";
    /// The site accepts the login.
    pub const CREDENTIALS: &str = "CredentialsValid";
}

/// Something that was read at the site.
#[derive(Clone, Debug, Default)]
pub enum Reading<T> {
    /// Not read in this pass.
    #[default]
    Unread,
    /// Read.
    Known(T),
    /// It could not be read.
    Failed(MachineError),
}

/// What a decision may know.
pub struct Facts<'a> {
    /// The object.
    pub machine: &'a DCSMachine,
    /// Its record.
    pub record: &'a Record,
    /// The Machine that owns it.
    pub owner: Option<&'a Machine>,
    /// Its cluster.
    pub cluster: Option<&'a Cluster>,
    /// The infrastructure of its cluster.
    pub infra: Option<&'a DCSCluster>,
    /// Its pool.
    pub pool: Option<&'a DCSIpHostnamePool>,
    /// Addresses that other machines record.
    pub recorded: BTreeSet<String>,
    /// Whether a VM may be made now.
    pub permit: bool,
    /// The moment.
    pub now: Timestamp,
    /// The VM; `None` when the site has none of that URN.
    pub vm: Reading<Option<v1::Machine>>,
    /// The VMs of the attempt.
    pub found: Reading<Vec<v1::Machine>>,
    /// The task that is recorded.
    pub task: Reading<v1::Task>,
}

/// What must be read before a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The VM of the recorded URN.
    Machine,
    /// VMs of the recorded attempt.
    Found,
    /// The recorded task.
    Task,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Protect the object before anything is made.
    AddFinalizer,
    /// Take an entry in the pool's record.
    ClaimEntry(PoolEntry),
    /// Record the entry that the pool says is held.
    RecordEntry(PoolEntry),
    /// Resolve names, and record what they stand for.
    Resolve,
    /// Record an attempt, before anything is made.
    BeginAttempt,
    /// Render boot data and upload it.
    PutMedia,
    /// Make the VM.
    Create,
    /// Record a VM that an earlier call made.
    Adopt(String),
    /// Put the boot medium into the VM.
    AttachMedia,
    /// Start the VM.
    PowerOn,
    /// Record the identity of a running VM: it is provisioned.
    Provision,
    /// Take the boot medium out of the VM.
    DetachMedia,
    /// Remove the boot medium.
    DeleteMedia,
    /// Ask the guest to stop.
    PowerOff,
    /// Delete the VM.
    Delete,
    /// Forget an attempt whose VM is gone, and when the next may begin.
    NextAttempt(Attempt),
    /// Give the entry back.
    Release,
    /// Mark the entry as held by a VM that is left running.
    Retain,
    /// Let the object go.
    RemoveFinalizer,
}

/// The outcome of a decision.
#[allow(clippy::large_enum_variant, reason = "made once a pass, never stored")]
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Something must be read first.
    Need(Read),
    /// A step, conditions, and when to look again.
    Plan(Plan),
}

/// A step with what is said about it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The step.
    pub step: Step,
    /// Conditions beside `Ready` and `Paused`, which the status derives.
    pub conditions: Vec<Claim>,
    /// When to look again; none when an event will tell.
    pub again: Option<Duration>,
}

fn plan(step: Step) -> Verdict {
    Verdict::Plan(Plan { step, conditions: Vec::new(), again: Some(Duration::ZERO) })
}

fn said(step: Step, condition: Claim, again: Duration) -> Verdict {
    Verdict::Plan(Plan { step, conditions: vec![condition], again: Some(again) })
}

fn wait(condition: Claim, again: Option<Duration>) -> Verdict {
    Verdict::Plan(Plan { step: Step::Wait, conditions: vec![condition], again })
}

fn missing(type_: &str, reason: &str, message: impl Into<String>) -> Claim {
    Claim::new(type_, false, reason, message)
}

/// A condition and a delay for what the site refused.
pub fn refused(type_: &str, doing: &str, error: &MachineError) -> (Claim, Duration) {
    let (reason, again) = match error.reason {
        Reason::NotFound => ("NotFound", MISSING),
        Reason::Ambiguous => ("Ambiguous", MISSING),
        Reason::Conflict => ("Conflict", POLL),
        Reason::Busy => ("SiteBusy", POLL),
        Reason::Throttled => ("SiteThrottled", MISSING),
        Reason::Capacity => ("InsufficientCapacity", MISSING * 6),
        Reason::Placement => ("PlacementFailed", MISSING * 3),
        Reason::Credentials => ("CredentialsInvalid", MISSING),
        Reason::LockedOut => ("LockedOut", MISSING * 3),
        Reason::Unreachable | Reason::SessionUnknown => ("SiteUnreachable", POLL),
        Reason::Invalid => ("Invalid", MISSING * 3),
        Reason::Unsupported => ("Unsupported", MISSING * 3),
        Reason::OutcomeUnknown | Reason::Unspecified => ("OutcomeUnknown", POLL),
    };
    let again = error.retry_after.map_or(again, |after| after.max(again));
    (Claim::new(type_, false, reason, format!("{doing}: {error}")), again)
}

/// Decides.
pub fn decide(facts: &Facts<'_>) -> Verdict {
    if facts.machine.metadata.deletion_timestamp.is_some() {
        return delete(facts);
    }
    let Some(owner) = facts.owner else {
        return wait(missing(types::PROVISIONED, "WaitingForOwner", "no Machine owns this object yet"), None);
    };
    if !has_finalizer(facts.machine) {
        return gates(facts, owner).unwrap_or_else(|| plan(Step::AddFinalizer));
    }
    if facts.machine.spec.provider_id.is_some() {
        return running(facts, owner);
    }
    if let Some(waiting) = gates(facts, owner) {
        return waiting;
    }
    create(facts)
}

fn has_finalizer(machine: &DCSMachine) -> bool {
    machine.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == MACHINE_FINALIZER)
}

/// What must be there before anything is made.
fn gates(facts: &Facts<'_>, owner: &Machine) -> Option<Verdict> {
    let waiting =
        |reason: &str, message: String| Some(wait(missing(types::PROVISIONED, reason, message), Some(MISSING)));
    let Some(cluster) = facts.cluster else {
        return waiting("ClusterNotFound", format!("Cluster {} does not exist", owner.spec.cluster_name));
    };
    let Some(infra) = facts.infra else {
        let name = cluster.spec.infrastructure_ref.as_ref().map(|found| found.name.clone()).unwrap_or_default();
        return waiting("DCSClusterNotFound", format!("DCSCluster {name} does not exist"));
    };
    if infra.status.as_ref().and_then(|status| status.ready) != Some(true) {
        return waiting(
            "WaitingForClusterInfrastructure",
            "the infrastructure of the cluster is not ready yet".to_owned(),
        );
    }
    if owner.spec.bootstrap.data_secret_name.is_none() {
        return waiting("WaitingForBootstrapData", "the boot data is not made yet".to_owned());
    }
    login_refused(infra).map(|condition| wait(condition, Some(MISSING)))
}

/// The site refuses the login: the cluster's own controller tries it again, machines do not.
fn login_refused(infra: &DCSCluster) -> Option<Claim> {
    let conditions = infra.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let refused = condition(conditions, types::CREDENTIALS).filter(|condition| condition.status == "False")?;
    let reason = refused.reason.clone().unwrap_or_default();
    Some(Claim::new(types::PROVISIONED, false, reason, refused.message.clone().unwrap_or_default()))
}

fn create(facts: &Facts<'_>) -> Verdict {
    let record = facts.record;
    if record.network.is_none() {
        return claim(facts);
    }
    if let Some(name) = unsupported_disks(facts) {
        return wait(missing(types::PROVISIONED, "PersistentDisksUnsupported", name), Some(MISSING));
    }
    if record.placement.is_none() {
        return plan(Step::Resolve);
    }
    let Some(attempt) = &record.attempt else { return begin(facts) };
    if let Some(not_before) = attempt.not_before.filter(|moment| *moment > facts.now) {
        let failure = attempt.last_failure.clone().unwrap_or_default();
        let message = format!("attempt {} begins at {not_before}; the last one failed: {failure}", attempt.number);
        return wait(missing(types::PROVISIONED, "CreateFailed", message), Some(until(facts.now, not_before)));
    }
    if record.media.is_none() {
        return plan(Step::PutMedia);
    }
    if facts.machine.spec.vm_urn.is_none() {
        return find_or_create(facts);
    }
    provision(facts, attempt)
}

fn until(now: Timestamp, moment: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default().max(Duration::from_secs(1))
}

fn begin(facts: &Facts<'_>) -> Verdict {
    if facts.permit {
        return plan(Step::BeginAttempt);
    }
    let message = format!("{DEPLOYS} machines are being made at this site; this one is in the queue");
    wait(missing(types::PROVISIONED, "WaitingForDeployPermit", message), Some(POLL / 2))
}

/// Persistent disks are not made yet by this provider; a machine without them would start with empty data.
fn unsupported_disks(facts: &Facts<'_>) -> Option<String> {
    let ip = facts.record.ip()?;
    let entry = facts.pool?.spec.pool.iter().find(|entry| entry.ip() == ip)?;
    let count = entry.persistent_disk.len();
    (count > 0).then(|| {
        format!("pool entry {ip} declares {count} persistent disks, which this release does not make; remove them")
    })
}

fn claim(facts: &Facts<'_>) -> Verdict {
    let name = facts.machine.metadata.name.as_deref().unwrap_or_default();
    let pool_name = &facts.machine.spec.ip_host_pool_ref.name;
    let Some(pool) = facts.pool else {
        let message = format!("DCSIpHostnamePool {pool_name} does not exist");
        return wait(missing(types::CLAIMED, "PoolNotFound", message), Some(MISSING));
    };
    if pool.metadata.deletion_timestamp.is_some() {
        let message = format!("DCSIpHostnamePool {pool_name} is being deleted");
        return wait(missing(types::CLAIMED, "PoolDeleting", message), Some(MISSING));
    }
    match claims::choose(pool, name, &facts.recorded) {
        Choice::Held(entry) => plan(Step::RecordEntry(entry)),
        Choice::Free(entry) => plan(Step::ClaimEntry(entry)),
        Choice::Exhausted => {
            let total = pool.spec.pool.len();
            let message =
                format!("all {total} entries of DCSIpHostnamePool {pool_name} are held; add entries or free some");
            wait(missing(types::CLAIMED, "IPPoolExhausted", message), Some(MISSING))
        }
    }
}

fn find_or_create(facts: &Facts<'_>) -> Verdict {
    match &facts.found {
        Reading::Unread => Verdict::Need(Read::Found),
        Reading::Failed(error) => {
            let (condition, again) = refused(types::PROVISIONED, "looking for the VM", error);
            wait(condition, Some(again))
        }
        Reading::Known(found) => match found.as_slice() {
            [] => plan(Step::Create),
            [one] => plan(Step::Adopt(one.urn.clone())),
            several => {
                let urns: Vec<_> = several.iter().map(|vm| vm.urn.as_str()).collect();
                let message =
                    format!("several VMs bear the mark of this machine: {}; delete all but one", urns.join(", "));
                wait(missing(types::PROVISIONED, "DuplicateVM", message), Some(MISSING * 3))
            }
        },
    }
}

/// What the recorded task says, when there is one.
#[allow(clippy::large_enum_variant, reason = "made once a pass, never stored")]
enum Progress {
    /// No task, or one that is over: look at the VM.
    Over,
    /// It runs: this is what to say.
    Running(Verdict),
    /// It failed.
    Failed(Work, String),
}

fn progress(facts: &Facts<'_>) -> Result<Progress, Read> {
    let Some(task) = &facts.record.task else { return Ok(Progress::Over) };
    let shown = match &facts.task {
        Reading::Unread => return Err(Read::Task),
        // A task that is forgotten is neither success nor failure.
        Reading::Failed(error) if error.reason == Reason::NotFound => return Ok(Progress::Over),
        Reading::Failed(error) => {
            let (condition, again) = refused(types::PROVISIONED, "following a task of the site", error);
            return Ok(Progress::Running(wait(condition, Some(again))));
        }
        Reading::Known(shown) => shown,
    };
    Ok(match shown.state() {
        TaskState::Running => {
            Progress::Running(busy(task.work, &task.id, shown.progress, facts.now.duration_since(task.since)))
        }
        TaskState::Failed => {
            let failure = shown.failure.clone().unwrap_or_default();
            let code = if failure.code.is_empty() { String::new() } else { format!(" (code {})", failure.code) };
            Progress::Failed(task.work, format!("{}{code}", failure.message))
        }
        TaskState::Done | TaskState::Unknown | TaskState::Unspecified => Progress::Over,
    })
}

fn busy(work: Work, task: &str, progress: u32, age: SignedDuration) -> Verdict {
    let (reason, doing) = match work {
        Work::Create => ("Creating", "the site makes the VM"),
        Work::AttachMedia => ("AttachingMedia", "the boot medium is being attached"),
        Work::PowerOn => ("Starting", "the VM is being started"),
        Work::DetachMedia => ("DetachingMedia", "the boot medium is being detached"),
        Work::PowerOff => ("WaitingForStop", "the VM is being stopped"),
        Work::Delete => ("Deleting", "the site deletes the VM"),
    };
    let type_ = match work {
        Work::PowerOff => types::STOP_PENDING,
        Work::DetachMedia => types::DETACHED,
        _ => types::PROVISIONED,
    };
    if age > STALLED && work == Work::Create {
        let message = format!("{doing}: task {task} shows {progress} % after {} min", age.as_mins());
        return wait(missing(type_, "PlacementStalled", message), Some(POLL * 4));
    }
    // Progress is left out of what is waited for normally: it would make a write of every poll.
    let again = if age.as_secs() < 60 { SOON } else { POLL };
    wait(missing(type_, reason, format!("{doing}, task {task}")), Some(again))
}

/// From a made VM to a running one.
fn provision(facts: &Facts<'_>, attempt: &Attempt) -> Verdict {
    let progress = match progress(facts) {
        Ok(progress) => progress,
        Err(read) => return Verdict::Need(read),
    };
    let failure = match progress {
        Progress::Running(verdict) => return verdict,
        Progress::Failed(Work::Create | Work::Delete, failure) => return abandon(facts, attempt, failure),
        Progress::Over if facts.record.task.as_ref().is_some_and(|task| task.work == Work::Delete) => {
            return abandon(facts, attempt, "what the failed attempt left was deleted".to_owned());
        }
        Progress::Failed(_, failure) => Some(failure),
        Progress::Over => None,
    };
    let vm = match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine),
        Reading::Failed(error) => {
            let (condition, again) = refused(types::PROVISIONED, "reading the VM", error);
            return wait(condition, Some(again));
        }
        Reading::Known(None) => return abandon(facts, attempt, "the VM is gone".to_owned()),
        Reading::Known(Some(vm)) => vm,
    };
    let after = |step: Step| match &failure {
        None => plan(step),
        Some(failure) => said(step, missing(types::PROVISIONED, "TaskFailed", failure.clone()), POLL),
    };
    match vm.state() {
        PowerState::Running => plan(Step::Provision),
        PowerState::Stopped if vm.boot_media.is_empty() && facts.record.started_at.is_none() => {
            after(Step::AttachMedia)
        }
        PowerState::Stopped if facts.record.started_at.is_none() || failure.is_some() => after(Step::PowerOn),
        PowerState::Stopped => {
            let message = "the VM stopped before it was seen running; start it at the site, or delete the Machine";
            wait(missing(types::PROVISIONED, "VMStopped", message), Some(POLL))
        }
        PowerState::Creating | PowerState::Transition | PowerState::Unspecified => {
            let message = format!("the VM is {}", vm.state_text);
            wait(missing(types::PROVISIONED, "VMMidTransition", message), Some(SOON))
        }
    }
}

/// An attempt failed: clear away what is left of it, then begin the next one after a pause.
fn abandon(facts: &Facts<'_>, attempt: &Attempt, failure: String) -> Verdict {
    match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine),
        Reading::Failed(error) => {
            let (condition, again) = refused(types::PROVISIONED, "reading the VM", error);
            return wait(condition, Some(again));
        }
        Reading::Known(None) => {}
        Reading::Known(Some(vm)) => {
            let ours = vm.attempt == attempt.id || vm.uuid == attempt.id;
            return match vm.state() {
                PowerState::Stopped if ours => {
                    said(Step::Delete, missing(types::PROVISIONED, "CreateFailed", failure), SOON)
                }
                _ => {
                    let message = format!("{failure}; what is left is {}, and is not touched", vm.state_text);
                    wait(missing(types::PROVISIONED, "CreateFailed", message), Some(POLL))
                }
            };
        }
    }
    if facts.record.media.as_ref().is_some_and(|media| !media.deleted) {
        return said(Step::DeleteMedia, missing(types::PROVISIONED, "CreateFailed", failure), Duration::ZERO);
    }
    let pause = SignedDuration::from_secs((30_i64 << attempt.number.min(5).saturating_sub(1)).min(600));
    let next = Attempt {
        number: attempt.number.saturating_add(1),
        // Filled in by the effect, which has randomness.
        id: String::new(),
        at: facts.now,
        not_before: facts.now.checked_add(pause).ok(),
        last_failure: Some(failure.clone()),
    };
    said(Step::NextAttempt(next), missing(types::PROVISIONED, "CreateFailed", failure), POLL)
}

/// A provisioned machine: take the medium out once it has joined, and watch.
fn running(facts: &Facts<'_>, owner: &Machine) -> Verdict {
    let joined = owner.node_name().is_some();
    let media = facts.record.media.as_ref().filter(|media| !media.deleted);
    let mut conditions = vec![Claim::holds(types::PROVISIONED, "Provisioned")];
    if facts.infra.is_some_and(|infra| login_refused(infra).is_some()) {
        return Verdict::Plan(Plan { step: Step::Wait, conditions, again: Some(MISSING) });
    }
    let progress = match progress(facts) {
        Ok(progress) => progress,
        Err(read) => return Verdict::Need(read),
    };
    if let Progress::Running(verdict) = progress {
        let Verdict::Plan(Plan { conditions: waiting, again, .. }) = verdict else { return verdict };
        conditions.extend(waiting.into_iter().filter(|claim| claim.type_ != types::PROVISIONED));
        return Verdict::Plan(Plan { step: Step::Wait, conditions, again });
    }
    let vm = match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine),
        // Readiness is not withdrawn because the site cannot be asked.
        Reading::Failed(_) => return Verdict::Plan(Plan { step: Step::Wait, conditions, again: Some(MISSING * 3) }),
        Reading::Known(None) => {
            let urn = facts.machine.spec.vm_urn.clone().unwrap_or_default();
            let message = format!("VM {urn} is gone; delete the Machine to have it replaced");
            return wait(missing(types::PROVISIONED, "VMNotFound", message), Some(MISSING * 3));
        }
        Reading::Known(Some(vm)) => vm,
    };
    if vm.state() != PowerState::Running {
        let message = format!("the VM is {}", vm.state_text);
        return wait(missing(types::PROVISIONED, "VMNotRunning", message), Some(MISSING));
    }
    let Some(media) = media else {
        conditions.push(Claim::holds(types::DETACHED, "Detached"));
        return Verdict::Plan(Plan { step: Step::Wait, conditions, again: None });
    };
    if !joined {
        let late = facts.record.started_at.is_some_and(|started| facts.now.duration_since(started) > JOIN);
        let (reason, message) = if late {
            ("NodeNotJoined", "the machine was started more than 10 min ago and has not joined; look at its console")
        } else {
            ("WaitingForNode", "the boot medium stays until the machine has joined")
        };
        conditions.push(missing(types::DETACHED, reason, message));
        return Verdict::Plan(Plan { step: Step::Wait, conditions, again: Some(MISSING * 3) });
    }
    let step = if !media.detached && !vm.boot_media.is_empty() { Step::DetachMedia } else { Step::DeleteMedia };
    conditions.push(missing(types::DETACHED, "Detaching", "the machine has joined; its boot medium is being removed"));
    Verdict::Plan(Plan { step, conditions, again: Some(Duration::ZERO) })
}

/// Whether the VM is to be left running.
pub fn retained(facts: &Facts<'_>) -> bool {
    let asked = |annotations: Option<&std::collections::BTreeMap<String, String>>| {
        annotations.and_then(|annotations| annotations.get(RETAIN_VM)).is_some_and(|value| value == "true")
    };
    asked(facts.machine.metadata.annotations.as_ref())
        || asked(facts.owner.and_then(|owner| owner.metadata.annotations.as_ref()))
}

fn delete(facts: &Facts<'_>) -> Verdict {
    if !has_finalizer(facts.machine) {
        return Verdict::Plan(Plan { step: Step::Wait, conditions: Vec::new(), again: None });
    }
    if retained(facts) {
        return retain(facts);
    }
    let Some(attempt) = &facts.record.attempt else { return release(facts) };
    if let Some(infra) = facts.infra
        && let Some(condition) = login_refused(infra)
    {
        return wait(condition, Some(MISSING));
    }
    if facts.machine.spec.vm_urn.is_none() {
        return match &facts.found {
            Reading::Unread => Verdict::Need(Read::Found),
            Reading::Failed(error) => {
                let (condition, again) = refused(types::PROVISIONED, "looking for the VM", error);
                wait(condition, Some(again))
            }
            Reading::Known(found) => match found.first() {
                Some(vm) => plan(Step::Adopt(vm.urn.clone())),
                // A call whose answer was lost may still make it; without a medium none was made.
                None if facts.record.media.is_some() && facts.now.duration_since(attempt.at) < QUARANTINE => {
                    let message = "waiting until no VM can appear any more";
                    wait(missing(types::PROVISIONED, "Deleting", message), Some(POLL))
                }
                None => cleared(facts),
            },
        };
    }
    stop_and_delete(facts)
}

fn stop_and_delete(facts: &Facts<'_>) -> Verdict {
    let failure = match progress(facts) {
        Err(read) => return Verdict::Need(read),
        Ok(Progress::Running(verdict)) => return verdict,
        Ok(Progress::Failed(_, failure)) => Some(failure),
        Ok(Progress::Over) => None,
    };
    let vm = match &facts.vm {
        Reading::Unread => return Verdict::Need(Read::Machine),
        Reading::Failed(error) => {
            let (condition, again) = refused(types::PROVISIONED, "reading the VM", error);
            return wait(condition, Some(again));
        }
        Reading::Known(None) => return cleared(facts),
        Reading::Known(Some(vm)) => vm,
    };
    let refused_before = failure.map(|failure| format!("; the last try failed: {failure}")).unwrap_or_default();
    match vm.state() {
        PowerState::Running => {
            let message = format!("a safe stop was sent; the guest's tools must carry it out{refused_before}");
            let stop = missing(types::STOP_PENDING, "WaitingForStop", message);
            // A task that ended without stopping it is not repeated in a loop.
            let recent = facts.record.task.as_ref().is_some_and(|task| {
                task.work == Work::PowerOff && facts.now.duration_since(task.since) < SignedDuration::from_secs(10)
            });
            if recent { wait(stop, Some(SOON)) } else { said(Step::PowerOff, stop, SOON) }
        }
        PowerState::Stopped => {
            let stopped = Claim::new(types::STOP_PENDING, Status::True, "Stopped", refused_before);
            said(Step::Delete, stopped, SOON)
        }
        PowerState::Creating | PowerState::Transition | PowerState::Unspecified => {
            let message = format!("VM stuck in {}; awaiting transition to stopped", vm.state_text);
            wait(missing(types::STOP_PENDING, "VMMidTransition", message), Some(POLL))
        }
    }
}

/// The VM is gone: its medium follows, then its entry.
fn cleared(facts: &Facts<'_>) -> Verdict {
    if facts.record.media.as_ref().is_some_and(|media| !media.deleted) {
        return plan(Step::DeleteMedia);
    }
    release(facts)
}

fn release(facts: &Facts<'_>) -> Verdict {
    let name = facts.machine.metadata.name.as_deref().unwrap_or_default();
    let held =
        |pool: &DCSIpHostnamePool| claims::of_pool(pool).values().any(|claim| claim.machine == name && !claim.retained);
    match facts.pool {
        Some(pool) if held(pool) => plan(Step::Release),
        _ => plan(Step::RemoveFinalizer),
    }
}

fn retain(facts: &Facts<'_>) -> Verdict {
    let name = facts.machine.metadata.name.as_deref().unwrap_or_default();
    let marked =
        |pool: &DCSIpHostnamePool| claims::of_pool(pool).values().any(|claim| claim.machine == name && !claim.retained);
    match facts.pool {
        Some(pool) if marked(pool) => plan(Step::Retain),
        _ => plan(Step::RemoveFinalizer),
    }
}
