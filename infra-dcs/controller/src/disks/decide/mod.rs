//! What a disk needs next. Pure and total: facts in, one call at the most, its record and its phase out.
//!
//! Truth is what the site says; the record only leads there. A call is planned together with the record that must be
//! written before it, so that after a crash the same facts lead to the same call again.

mod keep;
mod make;

use std::time::Duration;

use dcs_proto::{
    MachineError,
    v1::{self, TaskState},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    observe::HandsOff,
    record::{Failure, Key, Record, Work},
};
use crate::api::pool::{DiskPhase, PersistentDisk, PersistentDiskStatus};
use keep::have;
use make::make;

/// Time between two looks at work that takes seconds.
const SOON: Duration = Duration::from_secs(3);
/// Time between two looks at what others must change first.
const POLL: Duration = Duration::from_secs(15);
/// Time between two looks at what only people can change.
const SLOW: Duration = Duration::from_secs(120);
/// Time in which a volume that a lost call may have made shows itself.
pub(super) const QUARANTINE: SignedDuration = SignedDuration::from_mins(2);

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

/// Who is to have a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// Nobody holds its entry.
    Nobody,
    /// Someone holds it and wants nothing changed: a VM that is retained, a machine that is not ready to let go.
    Still,
    /// A machine that has no VM to attach it to yet.
    Waits,
    /// A machine's VM shall have it.
    Attach {
        /// URN of the VM.
        vm: String,
        /// Its guest has set this disk up and joined.
        used: bool,
    },
    /// A machine's stopped VM shall give it back.
    Detach {
        /// URN of the VM.
        vm: String,
    },
}

impl User {
    /// The VM that it is about.
    pub fn vm(&self) -> Option<&String> {
        match self {
            Self::Attach { vm, .. } | Self::Detach { vm } => Some(vm),
            Self::Nobody | Self::Still | Self::Waits => None,
        }
    }
}

/// What a decision may know.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The disk's identity.
    pub key: &'a Key,
    /// Name of its volume.
    pub name: &'a str,
    /// Who its volume must be marked for: resource and management cluster.
    pub mark: &'a v1::Owner,
    /// The disk as it is declared; none when its slot or its entry is gone.
    pub declared: Option<&'a PersistentDisk>,
    /// What is recorded.
    pub record: Option<&'a Record>,
    /// What was shown of it last.
    pub shown: Option<&'a PersistentDiskStatus>,
    /// Who is to have it.
    pub user: &'a User,
    /// `DCSCluster` whose site its holder runs at.
    pub cluster: Option<&'a str>,
    /// Name and UID of the Machine that holds its entry.
    pub holder: Option<(&'a str, &'a str)>,
    /// Number of the holder's own data disks.
    pub data_disks: u32,
    /// VM of the holder, and sequence number there of a disk of its own that is to become this one.
    pub claim: Option<(&'a str, u32)>,
    /// Nobody holds its entry, and the entry, the pool or the cluster is going.
    pub ending: bool,
    /// An operator wants its lost volume made anew.
    pub recreate: bool,
    /// Another disk of that VM is being attached or detached.
    pub busy: bool,
    /// The pool's volumes, by the names it gives them.
    pub listed: Reading<&'a [v1::Volume]>,
    /// The volume asked for by [`Read::Volume`].
    pub volume: Reading<Option<v1::Volume>>,
    /// The VM asked for by [`Read::Machine`].
    pub vm: Reading<Option<v1::Machine>>,
    /// The recorded task.
    pub task: Reading<v1::Task>,
    /// The moment.
    pub now: Timestamp,
}

/// What must be read before a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The pool's volumes, from one list.
    Volumes,
    /// One volume with the VMs that hold it and the names of its datastore.
    Volume(String),
    /// A VM.
    Machine(String),
    /// The recorded task.
    Task,
}

/// A call at the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Make the volume.
    Create,
    /// Give a free volume its name and properties.
    Adopt(String),
    /// Attach the volume.
    Attach {
        /// Volume.
        volume: String,
        /// VM.
        vm: String,
        /// Sequence number.
        sequence: u32,
        /// Bus.
        bus: String,
    },
    /// Detach the volume.
    Detach {
        /// Volume.
        volume: String,
        /// VM.
        vm: String,
    },
    /// Delete the volume.
    Delete(String),
}

/// The outcome of a decision.
#[allow(clippy::large_enum_variant, reason = "made once a pass, never stored")]
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Something must be read first.
    Need(Read),
    /// What to do and to say.
    Plan(Plan),
}

/// What is done, and what is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The record, written before the call; none when nothing is left to remember.
    pub record: Option<Record>,
    /// The call.
    pub call: Option<Call>,
    /// The phase to show; none when there is nothing to show.
    pub phase: Option<DiskPhase>,
    /// What is wrong, or waited for longer than usual.
    pub error: Option<String>,
    /// When to look again; none when an event will tell.
    pub again: Option<Duration>,
}

impl Plan {
    /// Nothing may be done at the site: what is known stays.
    pub(super) fn hands_off(
        why: Option<&HandsOff>,
        record: Option<&Record>,
        shown: Option<&PersistentDiskStatus>,
    ) -> Self {
        let phase = record.map(|record| {
            let known = shown.and_then(|shown| shown.phase);
            known.unwrap_or_else(|| expected_phase(record))
        });
        let (error, again) = match why {
            // Whoever ends the pause wakes the pool.
            Some(HandsOff::Paused) | None => (shown.and_then(|shown| shown.last_error.clone()), None),
            Some(HandsOff::Because(reason)) => (Some(reason.clone()), Some(SLOW)),
        };
        Self { record: record.cloned(), call: None, phase, error, again }
    }
}

/// The phase that a record alone leads to expect.
fn expected_phase(record: &Record) -> DiskPhase {
    match (&record.volume, &record.vm) {
        _ if record.ending => DiskPhase::Deleting,
        (None, _) => DiskPhase::Creating,
        (Some(_), Some(_)) => DiskPhase::Attaching,
        (Some(_), None) => DiskPhase::Available,
    }
}

/// A plan under construction.
struct Draft(Plan);

impl Draft {
    fn new(record: Option<Record>, phase: Option<DiskPhase>) -> Self {
        Self(Plan { record, call: None, phase, error: None, again: None })
    }

    fn call(mut self, call: Call) -> Self {
        self.0.call = Some(call);
        self.again(SOON)
    }

    fn because(mut self, error: impl Into<String>) -> Self {
        self.0.error = Some(error.into());
        self
    }

    fn again(mut self, after: Duration) -> Self {
        self.0.again = Some(after);
        self
    }

    fn done(self) -> Verdict {
        Verdict::Plan(self.0)
    }
}

fn show(record: &Record, phase: DiskPhase) -> Draft {
    Draft::new(Some(record.clone()), Some(phase))
}

fn error(record: &Record, reason: &str, message: impl std::fmt::Display) -> Draft {
    show(record, DiskPhase::Error).because(format!("{reason}: {message}")).again(SLOW)
}

/// Decides.
pub fn decide(facts: &Facts<'_>) -> Verdict {
    let recorded = match (facts.record, facts.user, facts.declared, facts.cluster) {
        (Some(record), ..) => Some(record.clone()),
        // Volumes are made when an entry is first claimed: what nobody uses costs no storage.
        (None, User::Nobody | User::Still, ..) | (None, _, None, _) | (None, _, _, None) => None,
        (None, _, Some(_), Some(cluster)) => Some(Record { cluster: cluster.to_owned(), ..Record::default() }),
    };
    let Some(record) = recorded else { return Draft::new(None, None).done() };
    let record = served(facts, record);
    match record.volume.clone() {
        Some(urn) => have(facts, &record, &urn),
        None => make(facts, &record),
    }
}

/// The record handed on to the Machine that holds the entry now.
fn served(facts: &Facts<'_>, mut record: Record) -> Record {
    if let Some((machine, uid)) = facts.holder {
        machine.clone_into(&mut record.machine);
        uid.clone_into(&mut record.machine_uid);
    }
    if let Some(cluster) = facts.cluster {
        cluster.clone_into(&mut record.cluster);
    }
    if let User::Detach { vm } = facts.user {
        record.left = Some(vm.clone());
    }
    record
}

/// The site cannot be asked: nothing is known to have changed.
fn unreadable(facts: &Facts<'_>, record: &Record, refused: &MachineError) -> Verdict {
    let phase = facts.shown.and_then(|shown| shown.phase).unwrap_or_else(|| expected_phase(record));
    show(record, phase).because(refused.to_string()).again(POLL).done()
}

/// Never detached by force: whoever attached it there may need it.
fn elsewhere(record: &Record, urn: &str, holders: &[String]) -> Verdict {
    let message = format!("volume {urn} is attached to {}, not to its machine; detach it there", holders.join(", "));
    error(record, "AttachedElsewhere", message).done()
}

enum Progress {
    /// No task of this kind, or one that is over: look at the volume.
    Over,
    Running,
    Failed(String),
    Unreadable(String),
}

fn progress(facts: &Facts<'_>, record: &Record, work: Work) -> Result<Progress, Read> {
    if record.task.as_ref().is_none_or(|task| task.work != work) {
        return Ok(Progress::Over);
    }
    let task = match &facts.task {
        Reading::Unread => return Err(Read::Task),
        // A task that is forgotten is neither success nor failure.
        Reading::Failed(refused) if refused.reason == v1::Reason::NotFound => return Ok(Progress::Over),
        Reading::Failed(refused) => return Ok(Progress::Unreadable(refused.to_string())),
        Reading::Known(task) => task,
    };
    Ok(match task.state() {
        TaskState::Running => Progress::Running,
        TaskState::Failed => {
            let failure = task.failure.clone().unwrap_or_default();
            let code = if failure.code.is_empty() { String::new() } else { format!(" (code {})", failure.code) };
            Progress::Failed(format!("{}{code}", failure.message))
        }
        TaskState::Done | TaskState::Unknown | TaskState::Unspecified => Progress::Over,
    })
}

/// The record of a task that failed: tried again after a while.
fn failed(record: &Record, what: &str, why: &str, now: Timestamp) -> Record {
    let failure = Failure { message: format!("TaskFailed: {what}: {why}"), until: after(now, SLOW), grave: true };
    Record { task: None, failure: Some(failure), ..record.clone() }
}

/// The moment after a pause.
pub(super) fn after(now: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok()).unwrap_or(now)
}

/// What failed before is not repeated yet.
fn not_due(facts: &Facts<'_>, record: &Record, phase: DiskPhase) -> Option<Verdict> {
    let failure = record.failure.as_ref().filter(|failure| failure.until > facts.now)?;
    let left = Duration::try_from(failure.until.duration_since(facts.now)).unwrap_or(SLOW);
    let phase = if failure.grave { DiskPhase::Error } else { phase };
    let waiting = show(record, phase).because(failure.message.clone());
    Some(waiting.again(left.max(Duration::from_secs(1))).done())
}

/// One volume in detail; a verdict when it must be read, or cannot be.
#[allow(clippy::result_large_err, reason = "a verdict is made once a pass, never stored")]
fn detail(facts: &Facts<'_>, urn: &str) -> Result<Option<v1::Volume>, Verdict> {
    match &facts.volume {
        Reading::Unread => Err(Verdict::Need(Read::Volume(urn.to_owned()))),
        Reading::Failed(refused) => {
            let record = facts.record.cloned().unwrap_or_default();
            Err(unreadable(facts, &record, refused))
        }
        Reading::Known(volume) => Ok(volume.clone()),
    }
}

fn size_of(declared: &PersistentDisk) -> u64 {
    u64::try_from(declared.quantity_gb).unwrap_or_default()
}
