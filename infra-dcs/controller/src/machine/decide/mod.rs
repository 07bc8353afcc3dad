//! What a `DCSMachine` needs next. Pure and total: facts in, one step and the conditions out.

mod creation;
mod deletion;
mod disks;
mod running;
mod task;

use std::{collections::BTreeSet, time::Duration};

use cluster_api::{
    conditions::Claim,
    v1beta2::{Cluster, Machine},
};
use dcs_proto::{
    MachineError,
    error::{FOREIGN_MACHINE, Reason, UPLOAD_DATASTORE, UPLOAD_HOST},
    v1,
};
use jiff::Timestamp;

use super::record::{Attempt, Record, Wish};
use crate::api::{DCSCluster, DCSIpHostnamePool, DCSMachine, MACHINE_FINALIZER, condition, pool::PoolEntry};

/// Time between two looks at work that takes seconds.
const SOON: Duration = Duration::from_secs(2);
/// Time between two looks at work that takes longer.
const POLL: Duration = Duration::from_secs(10);
/// Time after which something that was missing is looked for again.
const MISSING: Duration = Duration::from_secs(20);
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
    /// The guest came up; false when its boot failed or takes too long.
    pub const BOOTED: &str = "GuestBooted";
    /// The disks that outlive the VM are in it.
    pub const DISKS: &str = crate::disks::standing::CONDITION;
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
    /// The site cannot be asked for anything: this is said instead.
    Barred(Claim),
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
    /// The end of the VM's console.
    pub console: Reading<String>,
    /// A digest of the boot data as it is now.
    pub boot: Reading<Option<String>>,
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
    /// The end of the console.
    Console,
    /// The boot data.
    BootData,
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
    /// Forget an entry that is another machine's, before anything was made with it.
    ForgetEntry,
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
    /// Record how far the task is that makes the VM.
    RecordProgress(u32),
    /// Put the VM into the folder of this URN.
    MoveToFolder(String),
    /// Grow a disk that the site made smaller than it shall be.
    GrowDisk(Growth),
    /// Ask the pool to put its disks into the VM, or to take them out.
    AskDisks(Wish),
    /// Put the boot medium into the VM.
    AttachMedia,
    /// Start the VM.
    PowerOn,
    /// Record the identity of a running VM: it is provisioned.
    Provision,
    /// Record that the site shows no such VM any more, or shows it again.
    RecordMissing(bool),
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

/// A disk that is too small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// URN of its volume.
    pub volume: String,
    /// The size that it shall have, in GiB.
    pub gib: u64,
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
        _ if error.is_about(FOREIGN_MACHINE) => ("VMNameConflict", MISSING),
        _ if error.is_about(UPLOAD_HOST) => ("HostUploadUnreachable", POLL),
        _ if error.is_about(UPLOAD_DATASTORE) => ("DatastoreNotUploadable", MISSING * 3),
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
        return deletion::delete(facts);
    }
    let Some(owner) = facts.owner else {
        return wait(missing(types::PROVISIONED, "WaitingForOwner", "no Machine owns this object yet"), None);
    };
    if !has_finalizer(facts.machine) {
        return gates(facts, owner).unwrap_or_else(|| plan(Step::AddFinalizer));
    }
    if facts.machine.spec.provider_id.is_some() {
        return running::watch(facts, owner);
    }
    if let Some(waiting) = gates(facts, owner) {
        return waiting;
    }
    creation::create(facts)
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

fn until(now: Timestamp, moment: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default().max(Duration::from_secs(1))
}

/// What a reading gives: its value, or the verdict that there is instead.
#[allow(clippy::result_large_err, reason = "a verdict is no error; made once a pass")]
fn known<'a, T>(reading: &'a Reading<T>, read: Read, doing: &str) -> Result<&'a T, Verdict> {
    match reading {
        Reading::Unread => Err(Verdict::Need(read)),
        Reading::Failed(error) => {
            let (condition, again) = refused(types::PROVISIONED, doing, error);
            Err(wait(condition, Some(again)))
        }
        Reading::Barred(condition) => Err(wait(condition.clone(), Some(MISSING))),
        Reading::Known(value) => Ok(value),
    }
}
