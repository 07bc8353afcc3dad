//! The tasks of a site, by their ids and by what each waits for: whoever asks what comes next looks at nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use serde::{Deserialize, Serialize};

use super::tasks::{End, Task, TaskStatus, Trouble, Work};

/// See the [module](self). It reads as the tasks by their ids.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<u64, Task>", into = "BTreeMap<u64, Task>")]
pub struct Timetable {
    tasks: BTreeMap<u64, Task>,
    /// Those that wait for their turn.
    waiting: BTreeSet<u64>,
    /// Deployments that have begun.
    deploying: BTreeSet<u64>,
    /// Those that end by themselves, by when that is.
    due: BTreeSet<(u64, u64)>,
    /// Those that have ended, by when that was; first those that nobody may see any more.
    finished: BTreeSet<(Option<u64>, u64)>,
}

impl Timetable {
    /// Adds a task.
    pub fn insert(&mut self, task: Task) {
        self.file(&task, true);
        self.tasks.insert(task.id, task);
    }

    /// Changes a task, if it is there.
    pub fn change<T>(&mut self, id: u64, change: impl FnOnce(&mut Task) -> T) -> Option<T> {
        let mut task = self.remove(id)?;
        let result = change(&mut task);
        self.insert(task);
        Some(result)
    }

    fn remove(&mut self, id: u64) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.file(&task, false);
        Some(task)
    }

    /// Puts a task where it belongs, or takes it away from there.
    fn file(&mut self, task: &Task, belongs: bool) {
        match task.status {
            TaskStatus::Waiting => set(&mut self.waiting, task.id, belongs),
            TaskStatus::Running => {
                if matches!(task.work, Work::Deploy { .. }) {
                    set(&mut self.deploying, task.id, belongs);
                }
                if let Some(end) = task.end() {
                    set(&mut self.due, (end.at, task.id), belongs);
                }
            }
            TaskStatus::Success | TaskStatus::Failed => {
                let shown = task.finished.filter(|_| !task.trouble.contains(&Trouble::Purge(true)));
                set(&mut self.finished, (shown, task.id), belongs);
            }
        }
    }

    /// The task whose turn is next, where fewer than `slots` deployments are under way.
    pub fn next_in_line(&self, slots: usize) -> Option<u64> {
        self.waiting.first().copied().filter(|_| self.deploying.len() < slots)
    }

    /// Deployments that have not ended.
    pub fn deployments(&self) -> impl Iterator<Item = &Task> {
        self.waiting.iter().chain(&self.deploying).filter_map(|id| self.tasks.get(id))
    }

    /// The first task that has come to its end at `now`, and that end.
    pub(super) fn ended(&self, now: u64) -> Option<(u64, End)> {
        let (_, id) = self.due.first().filter(|(at, _)| *at <= now)?;
        Some((*id, self.tasks.get(id)?.end()?))
    }

    /// When the next task ends by itself.
    pub fn next_end(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Forgets tasks that ended too long ago.
    pub fn forget(&mut self, now: u64, retention: u64) {
        let is_over = |finished: Option<u64>| finished.is_none_or(|finished| finished + retention <= now);
        while let Some((_, id)) = self.finished.first().copied().filter(|(finished, _)| is_over(*finished)) {
            self.remove(id);
        }
    }
}

fn set<T: Ord>(entries: &mut BTreeSet<T>, entry: T, belongs: bool) {
    if belongs {
        entries.insert(entry);
    } else {
        entries.remove(&entry);
    }
}

impl Deref for Timetable {
    type Target = BTreeMap<u64, Task>;

    fn deref(&self) -> &Self::Target {
        &self.tasks
    }
}

impl From<BTreeMap<u64, Task>> for Timetable {
    fn from(tasks: BTreeMap<u64, Task>) -> Self {
        let mut all = Self::default();
        for task in tasks.into_values() {
            all.insert(task);
        }
        all
    }
}

impl From<Timetable> for BTreeMap<u64, Task> {
    fn from(all: Timetable) -> Self {
        all.tasks
    }
}
