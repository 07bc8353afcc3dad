//! VMs as they were read moments ago. Passes come in bursts while a machine is made, because others write its object
//! too: those that only wait share one look at the site.

use std::collections::HashMap;

use dcs_proto::v1::{self, TaskState};
use jiff::{SignedDuration, Timestamp};
use manager::ObjectKey;
use parking_lot::Mutex;

use super::{Record, Scene, decide::Reading};

/// How long a look serves others: less than the time between two looks at work that takes seconds.
const RECENT: SignedDuration = SignedDuration::from_millis(1500);

/// The looks that are recent.
#[derive(Default)]
pub(super) struct Looks {
    known: Mutex<HashMap<ObjectKey, Look>>,
}

struct Look {
    at: Timestamp,
    moment: Moment,
    vm: Option<v1::Machine>,
}

/// Where a machine stands: whatever we do to its VM, and the end of every task, makes it another moment.
#[derive(PartialEq)]
struct Moment {
    urn: String,
    record: Record,
    task: Option<TaskState>,
}

impl Moment {
    fn of(scene: &Scene, task: Option<TaskState>) -> Self {
        Self { urn: scene.vm_urn(), record: scene.record.clone(), task }
    }
}

impl Looks {
    /// The VM as it was read at most [`RECENT`] ago, if nothing of ours has happened to it since. `task` is the state
    /// in which this pass found the recorded task.
    pub(super) fn recent(
        &self,
        scene: &Scene,
        task: Option<TaskState>,
        now: Timestamp,
    ) -> Reading<Option<v1::Machine>> {
        let known = self.known.lock();
        let look = known.get(&scene.key).filter(|look| is_recent(look, now));
        let look = look.filter(|look| look.moment == Moment::of(scene, task));
        look.map_or(Reading::Unread, |look| Reading::Known(look.vm.clone()))
    }

    /// Keeps a look, and forgets those that are not recent any more.
    pub(super) fn keep(&self, scene: &Scene, task: Option<TaskState>, vm: Option<v1::Machine>, now: Timestamp) {
        let mut known = self.known.lock();
        known.retain(|_, look| is_recent(look, now));
        known.insert(scene.key.clone(), Look { at: now, moment: Moment::of(scene, task), vm });
    }
}

fn is_recent(look: &Look, now: Timestamp) -> bool {
    let age = now.duration_since(look.at);
    !age.is_negative() && age < RECENT
}
