//! The task at the site that a machine waits for.

use std::time::Duration;

use dcs_proto::{error::Reason, v1::TaskState};
use jiff::{SignedDuration, Timestamp};

use super::{Facts, MISSING, POLL, Read, Reading, Step, Verdict, missing, refused, said, types, wait};
use crate::machine::record::{Task, Work};

/// Time after which a task that does not get further is called stalled.
const STALLED: SignedDuration = SignedDuration::from_mins(5);
/// Time after which a task counts as long: how far it is, is recorded then.
const LONG: SignedDuration = SignedDuration::from_mins(1);
/// Time between two looks at a task whose end is told: only for when nobody tells it.
const WATCHED: Duration = Duration::from_secs(5);

/// What is wrong when no host can take a VM.
const VISIBLE: &str = "; every datastore and port group of the VM must be visible to the hosts of its compute cluster: local ones are not";

/// What the recorded task says, when there is one.
#[allow(clippy::large_enum_variant, reason = "made once a pass, never stored")]
pub(super) enum Progress {
    /// No task, or one that is over: look at the VM.
    Over,
    /// It runs: this is what to say.
    Running(Verdict),
    /// It failed.
    Failed(Work, String),
}

pub(super) fn progress(facts: &Facts<'_>) -> Result<Progress, Read> {
    let Some(task) = &facts.record.task else { return Ok(Progress::Over) };
    let shown = match &facts.task {
        Reading::Unread => return Err(Read::Task),
        // A task that is forgotten is neither success nor failure.
        Reading::Failed(error) if error.reason == Reason::NotFound => return Ok(Progress::Over),
        Reading::Failed(error) => {
            let (condition, again) = refused(types::PROVISIONED, "following a task of the site", error);
            return Ok(Progress::Running(wait(condition, Some(again))));
        }
        Reading::Barred(condition) => return Ok(Progress::Running(wait(condition.clone(), Some(MISSING)))),
        Reading::Known(shown) => shown,
    };
    Ok(match shown.state() {
        TaskState::Running => Progress::Running(busy(task, shown.progress, facts.now)),
        TaskState::Failed => {
            let failure = shown.failure.clone().unwrap_or_default();
            let code = if failure.code.is_empty() { String::new() } else { format!(" (code {})", failure.code) };
            let hint = if failure.reason() == Reason::Placement { VISIBLE } else { "" };
            Progress::Failed(task.work, format!("{}{code}{hint}", failure.message))
        }
        TaskState::Done | TaskState::Unknown | TaskState::Unspecified => Progress::Over,
    })
}

fn busy(task: &Task, progress: u32, now: Timestamp) -> Verdict {
    let (work, age) = (task.work, now.duration_since(task.since));
    let (reason, doing) = match work {
        Work::Create => ("Creating", "the site makes the VM"),
        Work::Move => ("Moving", "the VM is being moved into its folder"),
        Work::GrowDisk => ("GrowingDisk", "a disk is being grown"),
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
    // Progress is left out of what is waited for normally: it would make a write of every poll.
    let waiting = missing(type_, reason, format!("{doing}, task {}", task.id));
    if age < LONG {
        return wait(waiting, Some(WATCHED));
    }
    match task.seen {
        _ if work != Work::Create => wait(waiting, Some(POLL)),
        Some(seen) if seen.progress == progress => {
            let still = now.duration_since(seen.at);
            if still < STALLED {
                return wait(waiting, Some(POLL));
            }
            // In steps: not every look is worth a write.
            let minutes = still.as_mins() / STALLED.as_mins() * STALLED.as_mins();
            let message = format!("{doing}: task {} has shown {progress} % for {minutes} min", task.id);
            wait(missing(type_, "PlacementStalled", message), Some(POLL * 4))
        }
        _ => said(Step::RecordProgress(progress), waiting, POLL),
    }
}
