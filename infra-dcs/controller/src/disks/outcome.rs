//! What the answer of a call leaves in the record of its disk. Pure.

use std::time::Duration;

use dcs_proto::{MachineError, error::Reason, v1};
use jiff::Timestamp;

use super::{
    decide::{Call, after},
    record::{Failure, Record, Task, Work},
};

/// The answer of a call.
pub type Answer = Result<v1::Task, MachineError>;

/// The record after a call.
pub fn after_call(record: &Record, call: &Call, answer: &Answer, now: Timestamp) -> Record {
    let record = record.clone();
    match (call, answer) {
        // Repeated only where the site took the change without making it: that must not be a loop.
        (Call::Adopt(_), Ok(_)) => {
            let message =
                "PropertiesNotTaken: the site changed the volume, and it is still not independent and persistent";
            let failure = Failure { message: message.to_owned(), until: after(now, GRAVE), grave: true };
            Record { foreign: false, failure: Some(failure), ..record }
        }
        (_, Ok(task)) => Record { task: task_of(task, work_of(call), now), failure: None, ..record },
        // What may have been made is waited for; see the attempt.
        (Call::Create, Err(error)) if is_uncertain(error.reason) => record,
        (Call::Create, Err(error)) => Record { attempt: None, failure: Some(refused(error, now)), ..record },
        (_, Err(error)) => Record { failure: Some(refused(error, now)), ..record },
    }
}

/// Kind of what an error is about: the Secret with the login, which does not exist.
pub const CREDENTIALS: &str = "credentials";

/// Pause after what does not pass by itself.
const GRAVE: Duration = Duration::from_secs(120);
/// Pause after what does.
const PASSING: Duration = Duration::from_secs(10);

fn is_uncertain(reason: Reason) -> bool {
    matches!(reason, Reason::OutcomeUnknown | Reason::Unspecified | Reason::Unreachable)
}

fn refused(error: &MachineError, now: Timestamp) -> Failure {
    let (name, grave) = match error.reason {
        Reason::NotFound => ("NotFound", true),
        Reason::Ambiguous => ("DuplicateVolume", true),
        Reason::Capacity => ("InsufficientCapacity", true),
        Reason::Placement => ("PlacementFailed", true),
        Reason::Invalid => ("Invalid", true),
        Reason::Unsupported => ("Unsupported", true),
        Reason::Conflict => ("Conflict", true),
        Reason::Credentials if error.is_about(CREDENTIALS) => ("CredentialsMissing", false),
        Reason::Credentials => ("CredentialsInvalid", false),
        Reason::LockedOut => ("LockedOut", false),
        Reason::Busy => ("SiteBusy", false),
        Reason::Throttled => ("SiteThrottled", false),
        Reason::Unreachable | Reason::SessionUnknown => ("SiteUnreachable", false),
        Reason::OutcomeUnknown | Reason::Unspecified => ("OutcomeUnknown", false),
    };
    let pause = if grave { GRAVE } else { PASSING };
    let pause = error.retry_after.map_or(pause, |asked| asked.max(pause));
    Failure { message: format!("{name}: {error}"), until: after(now, pause), grave }
}

fn work_of(call: &Call) -> Work {
    match call {
        Call::Create | Call::Adopt(_) => Work::Create,
        Call::Attach { .. } => Work::Attach,
        Call::Detach { .. } => Work::Detach,
        Call::Delete(_) => Work::Delete,
    }
}

fn task_of(task: &v1::Task, work: Work, since: Timestamp) -> Option<Task> {
    (!task.id.is_empty()).then(|| Task { id: task.id.clone(), work, since })
}
