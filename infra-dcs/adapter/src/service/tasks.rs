//! Tasks: followed by one loop a stream, never by blocking a call.

use std::{pin::Pin, sync::Arc, time::Duration};

use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{Failure, GetTaskRequest, Task, TaskState},
};
use tokio::time::Instant;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use crate::{
    session::Session,
    vrm::{codes, wire},
};

/// Shortest and longest time between two looks at the running tasks. Between them it is a quarter of the age of the
/// youngest: a start takes a second, a clone minutes, and neither is asked about more often than helps.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// How long a look at a running task answers whoever asks for it; somewhat longer than the pause between two looks.
const RECENT: Duration = Duration::from_secs(4);
/// Tasks of one question; more are refused.
const AT_ONCE: usize = 100;
/// Changes that a slow reader may be behind; the loop waits for it then.
const BACKLOG: usize = 64;

/// A task that ended before it began.
pub(super) fn done(entity_urn: impl Into<String>) -> Task {
    Task { entity_urn: entity_urn.into(), progress: 100, state: TaskState::Done.into(), ..Task::default() }
}

/// The task that a call started; it is followed from now on.
pub(super) fn started(session: &Session, answer: &wire::Started, entity_urn: &str) -> Task {
    let path = answer.task_uri.clone().or_else(|| crate::vrm::path_of(answer.task_urn.as_deref()?).ok());
    let entity_urn = answer.urn.clone().unwrap_or_else(|| entity_urn.to_owned());
    match path {
        Some(path) => {
            let task = Task { id: path, entity_urn, state: TaskState::Running.into(), ..Task::default() };
            session.tasks.saw(&task);
            task
        }
        // An answer without a task means that it is done.
        None => done(entity_urn),
    }
}

pub(super) async fn get(session: &Session, request: GetTaskRequest) -> Result<Task, MachineError> {
    let prefix = format!("{}/tasks/", session.site_path);
    let number = request.id.strip_prefix(&prefix).filter(|number| number.bytes().all(|c| c.is_ascii_alphanumeric()));
    if number.is_none_or(str::is_empty) {
        return Err(MachineError::new(Reason::Invalid, format!("id: {:?} is no task of this site", request.id)));
    }
    if let Some(known) = session.tasks.recall(&request.id, RECENT) {
        return Ok(known);
    }
    let task = read(session, &request.id).await?;
    session.tasks.saw(&task);
    Ok(task)
}

async fn read(session: &Session, path: &str) -> Result<Task, MachineError> {
    match session.vrm.get::<wire::Task>(path, &[]).await {
        Ok(task) => Ok(translate(path, &task)),
        // Forgotten: that is neither success nor failure.
        Err(error) if error.reason == Reason::NotFound || codes::is(&error, &["10000008"]) => {
            Ok(Task { id: path.to_owned(), state: TaskState::Unknown.into(), ..Task::default() })
        }
        Err(error) => Err(error),
    }
}

fn translate(path: &str, task: &wire::Task) -> Task {
    let state = match task.status.as_str() {
        "waiting" | "running" => TaskState::Running,
        "success" => TaskState::Done,
        "failed" | "cancelling" => TaskState::Failed,
        _ => TaskState::Unknown,
    };
    let failure = (state == TaskState::Failed).then(|| {
        let code = task.reason.as_ref().map(wire::number).unwrap_or_default();
        let says = task.reason_des.clone().unwrap_or_else(|| "the site gives no reason".to_owned());
        let error = codes::error(&code, 400, &says);
        Failure { reason: error.reason.into(), message: says, code }
    });
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped to 0..=100 just before.
    let progress = task.progress.unwrap_or(0.0).clamp(0.0, 100.0) as u32;
    Task {
        id: path.to_owned(),
        entity_urn: task.entity_urn.clone().unwrap_or_default(),
        progress,
        state: state.into(),
        failure,
    }
}

/// Tasks of a session as they end, until the reader goes. Nothing is asked of the site while none runs.
pub(super) fn watch(session: Arc<Session>) -> Pin<Box<dyn Stream<Item = Result<Task, Status>> + Send>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut looked = Instant::now();
        loop {
            let pause = session.tasks.youngest().map(|since| (since.elapsed() / 4).clamp(PAUSES.0, PAUSES.1));
            tokio::select! {
                () = tokio::time::sleep_until(looked + pause.unwrap_or_default()), if pause.is_some() => {}
                () = session.tasks.more() => continue,
                () = sender.closed() => return,
            }
            for task in ended(&session).await {
                if sender.send(Ok(task)).await.is_err() {
                    return;
                }
            }
            looked = Instant::now();
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Those of a session's tasks that run no more; they are followed no more. A site that does not answer is asked again
/// with the next look.
async fn ended(session: &Session) -> Vec<Task> {
    let mut ended = session.tasks.ends();
    for paths in session.tasks.running().chunks(AT_ONCE) {
        let known = if paths.len() > 1 { together(session, paths).await } else { Vec::new() };
        for path in paths {
            let task = match known.iter().find(|task| task.uri == *path) {
                Some(task) => Ok(translate(path, task)),
                // The list leaves out what the site has forgotten: only its own call says so.
                None => read(session, path).await,
            };
            let Ok(task) = task else { continue };
            session.tasks.saw(&task);
            if task.state() != TaskState::Running {
                session.tasks.forget(path);
                ended.push(task);
            }
        }
    }
    ended
}

/// Tasks by one question; those that it does not answer are asked for one by one.
async fn together(session: &Session, paths: &[String]) -> Vec<wire::Task> {
    let urns: Vec<String> = paths.iter().map(|path| urn_of(path)).collect();
    let path = format!("{}/tasks", session.site_path);
    session.vrm.list(&path, &[("taskUrns", &urns.join(","))], "tasks").await.unwrap_or_default()
}

/// The URN of a task's path.
fn urn_of(path: &str) -> String {
    format!("urn:{}", path.trim_start_matches("/service/").replace('/', ":"))
}

/// The running task that works on an entity, if the site knows one.
pub(super) async fn running_on(session: &Session, entity_urn: &str) -> Result<Option<Task>, MachineError> {
    let path = format!("{}/tasks", session.site_path);
    for status in ["running", "waiting"] {
        let tasks: Vec<wire::Task> = session.vrm.list(&path, &[("status", status)], "tasks").await?;
        if let Some(task) = tasks.iter().find(|task| task.entity_urn.as_deref() == Some(entity_urn)) {
            let task = translate(&task.uri, task);
            session.tasks.saw(&task);
            return Ok(Some(task));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn state_of(task: Value) -> Task {
        translate("/t", &serde_json::from_value(task).unwrap())
    }

    #[test]
    fn a_failure_keeps_the_sites_words() {
        let task = state_of(json!({"status": "failed", "progress": 40, "reason": "10410003", "reasonDes": "no space"}));
        let failure = task.failure.clone().unwrap();
        assert_eq!(
            (task.state(), failure.reason(), failure.code.as_str()),
            (TaskState::Failed, Reason::Capacity, "10410003")
        );
    }

    #[test]
    fn a_state_that_is_not_known_is_no_failure() {
        assert_eq!(state_of(json!({"status": "pondering"})).state(), TaskState::Unknown);
        assert_eq!(state_of(json!({"status": "running", "progress": 300})).progress, 100);
    }
}
