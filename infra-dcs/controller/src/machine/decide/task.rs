//! The task at the site that a machine waits for.

use std::time::Duration;

use dcs_proto::{error::Reason, v1::TaskState};
use jiff::SignedDuration;

use super::{Facts, POLL, Read, Reading, Verdict, missing, refused, types, wait};
use crate::machine::record::Work;

/// Time after which a task without end is called stalled.
const STALLED: SignedDuration = SignedDuration::from_mins(5);
/// Time between two looks at a task whose end is told: only for when nobody tells it.
const WATCHED: Duration = Duration::from_secs(5);

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
    if age > STALLED && work == Work::Create {
        let message = format!("{doing}: task {task} shows {progress} % after {} min", age.as_mins());
        return wait(missing(type_, "PlacementStalled", message), Some(POLL * 4));
    }
    // Progress is left out of what is waited for normally: it would make a write of every poll.
    let again = if age.as_secs() < 60 { WATCHED } else { POLL };
    wait(missing(type_, reason, format!("{doing}, task {task}")), Some(again))
}
