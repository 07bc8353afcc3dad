//! What is known of a session's tasks: which run, and how those ended that do not.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use dcs_proto::v1::{Task, TaskState};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Ends that are remembered; the oldest go first.
const ENDS: usize = 512;

/// The tasks that a session follows.
#[derive(Default)]
pub struct Followed {
    tasks: Mutex<Tasks>,
    more: Notify,
}

#[derive(Default)]
struct Tasks {
    running: HashMap<String, Running>,
    /// Done or failed: what the site says of these never changes.
    ended: VecDeque<Task>,
}

/// A task that ran when last seen.
struct Running {
    since: Instant,
    seen: Instant,
    task: Task,
}

impl Followed {
    /// Takes what the site said of a task: one that runs is followed from now on, an end is remembered. An end is
    /// still to be told by [`Followed::ends`] to whoever watches.
    pub fn saw(&self, task: &Task) {
        let now = Instant::now();
        let mut tasks = self.tasks.lock();
        match task.state() {
            TaskState::Running => {
                let known = tasks.running.get(&task.id).map(|known| known.since);
                let since = known.unwrap_or(now);
                tasks.running.insert(task.id.clone(), Running { since, seen: now, task: task.clone() });
                if known.is_none() {
                    self.more.notify_one();
                }
            }
            TaskState::Done | TaskState::Failed => {
                if tasks.ended.iter().all(|known| known.id != task.id) {
                    if tasks.ended.len() >= ENDS {
                        tasks.ended.pop_front();
                    }
                    tasks.ended.push_back(task.clone());
                }
            }
            TaskState::Unknown | TaskState::Unspecified => {}
        }
    }

    /// What is known of a task without asking: how it ended, or how it ran when that was seen `within` this time.
    pub fn recall(&self, id: &str, within: Duration) -> Option<Task> {
        let tasks = self.tasks.lock();
        let ended = tasks.ended.iter().find(|task| task.id == id);
        let running = || tasks.running.get(id).filter(|known| known.seen.elapsed() < within).map(|known| &known.task);
        ended.or_else(running).cloned()
    }

    /// Follows a task no more.
    pub fn forget(&self, id: &str) {
        self.tasks.lock().running.remove(id);
    }

    /// Tasks that are followed and known to have ended; they are followed no more.
    pub fn ends(&self) -> Vec<Task> {
        let mut tasks = self.tasks.lock();
        let Tasks { running, ended } = &mut *tasks;
        ended.iter().filter(|task| running.remove(&task.id).is_some()).cloned().collect()
    }

    /// Ids of the tasks that run.
    pub fn running(&self) -> Vec<String> {
        self.tasks.lock().running.keys().cloned().collect()
    }

    /// Since when the youngest of the tasks that run is followed.
    pub fn youngest(&self) -> Option<Instant> {
        self.tasks.lock().running.values().map(|known| known.since).max()
    }

    /// Waits until one more task is followed.
    pub async fn more(&self) {
        self.more.notified().await;
    }
}
