//! Read-your-writes: a pass over an object waits until the caches show what earlier passes over it wrote.
//!
//! A cache lags behind its own process's writes. Without this, a second pass over an object creates a second machine.
//! Each write made during a pass is remembered for the object of that pass, with the resource version it got; the
//! next pass starts when the cache of the written kind shows that version or a newer one.

use std::{any::TypeId, collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{ObjectKey, informer::View};

/// How long a cache may lag before the pass goes ahead: a version that never comes was written to an API server whose
/// storage has since been restored from a backup.
const PATIENCE: Duration = Duration::from_secs(120);

tokio::task_local! {
    /// Controller and object of the pass that runs in this task.
    static PASS: (&'static str, ObjectKey);
}

/// Runs a pass so that its writes are remembered for its object.
pub(crate) async fn in_pass<F: Future>(controller: &'static str, key: ObjectKey, pass: F) -> F::Output {
    PASS.scope((controller, key), pass).await
}

/// What the cache of a kind must show of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// This resource version or a newer one; or the object is gone again.
    AtLeast(u64),
    /// Not there, or newer than this version: it is being deleted.
    GoneOrAfter(u64),
}

struct Pending {
    kind: TypeId,
    key: ObjectKey,
    expected: Expected,
    since: Duration,
}

/// Writes that the caches do not show yet.
#[derive(Default)]
pub struct Floor {
    views: Mutex<HashMap<TypeId, Arc<dyn View>>>,
    pending: Mutex<HashMap<(&'static str, ObjectKey), Vec<Pending>>>,
}

impl Floor {
    /// Makes the cache of a kind known; writes of kinds without one are not waited for.
    pub(crate) fn watch<K: 'static>(&self, view: Arc<dyn View>) {
        self.views.lock().insert(TypeId::of::<K>(), view);
    }

    /// Remembers a write of the running pass; outside of a pass there is nothing to wait.
    pub(crate) fn wrote<K: 'static>(&self, key: ObjectKey, expected: Expected, now: Duration) {
        if !self.views.lock().contains_key(&TypeId::of::<K>()) {
            return;
        }
        let _ = PASS.try_with(|pass| {
            let write = Pending { kind: TypeId::of::<K>(), key, expected, since: now };
            let mut pending = self.pending.lock();
            let writes = pending.entry(pass.clone()).or_default();
            writes.retain(|old| !(old.kind == write.kind && old.key == write.key));
            writes.push(write);
        });
    }

    /// Whether the caches show every write of earlier passes over this object.
    pub(crate) fn is_reached(&self, controller: &'static str, key: &ObjectKey, now: Duration) -> bool {
        let mut pending = self.pending.lock();
        let pass = (controller, key.clone());
        let Some(writes) = pending.get_mut(&pass) else { return true };
        let views = self.views.lock();
        writes.retain(|write| {
            let Some(view) = views.get(&write.kind) else { return false };
            let reached = is_shown(write.expected, view.resource_version(&write.key), view.progress());
            let given_up = now.saturating_sub(write.since) >= PATIENCE;
            if given_up && !reached {
                tracing::warn!(object = %write.key, "The cache never showed a write of ours; going on without.");
            }
            !reached && !given_up
        });
        if writes.is_empty() {
            pending.remove(&pass);
            return true;
        }
        false
    }
}

/// Whether a cache that shows this version of an object, and has seen everything up to `progress`, knows of a write.
fn is_shown(expected: Expected, shown: Option<u64>, progress: u64) -> bool {
    match (expected, shown) {
        // Also where the object is gone again, or cannot be decoded: that is the newest state.
        (Expected::AtLeast(version), shown) => progress >= version || shown.is_some_and(|shown| shown >= version),
        (Expected::GoneOrAfter(version), Some(shown)) => shown > version,
        // Gone, and not merely unseen yet.
        (Expected::GoneOrAfter(version), None) => progress >= version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows this version of every object, and has seen everything up to the other.
    struct Shows(Mutex<(Option<u64>, u64)>);

    impl View for Shows {
        fn resource_version(&self, _: &ObjectKey) -> Option<u64> {
            self.0.lock().0
        }

        fn progress(&self) -> u64 {
            self.0.lock().1
        }
    }

    const CONTROLLER: &str = "test";
    const NOW: Duration = Duration::from_secs(50);

    async fn floor_after(expected: Expected, shown: Option<u64>) -> (Floor, Arc<Shows>, ObjectKey) {
        let view = Arc::new(Shows(Mutex::new((shown, shown.unwrap_or(0)))));
        let (floor, key) = (Floor::default(), ObjectKey::new("ns", "a"));
        floor.watch::<u8>(view.clone());
        in_pass(CONTROLLER, key.clone(), async { floor.wrote::<u8>(ObjectKey::new("ns", "child"), expected, NOW) })
            .await;
        (floor, view, key)
    }

    #[tokio::test]
    async fn a_pass_waits_for_its_own_writes() {
        let (floor, view, key) = floor_after(Expected::AtLeast(7), Some(6)).await;
        assert!(!floor.is_reached(CONTROLLER, &key, NOW));
        assert!(floor.is_reached(CONTROLLER, &ObjectKey::new("ns", "b"), NOW), "others do not wait");
        *view.0.lock() = (Some(7), 7);
        assert!(floor.is_reached(CONTROLLER, &key, NOW));
    }

    #[tokio::test]
    async fn a_creation_that_is_not_seen_yet_is_waited_for_but_not_for_ever() {
        let (floor, _, key) = floor_after(Expected::AtLeast(7), None).await;
        assert!(!floor.is_reached(CONTROLLER, &key, NOW));
        assert!(floor.is_reached(CONTROLLER, &key, NOW + PATIENCE));
    }

    #[tokio::test]
    async fn a_deletion_is_reached_when_the_object_is_gone_or_marked() {
        let (floor, view, key) = floor_after(Expected::GoneOrAfter(7), Some(7)).await;
        assert!(!floor.is_reached(CONTROLLER, &key, NOW));
        *view.0.lock() = (None, 8);
        assert!(floor.is_reached(CONTROLLER, &key, NOW));
    }

    #[tokio::test]
    async fn what_is_gone_again_is_not_waited_for() {
        let (floor, view, key) = floor_after(Expected::AtLeast(7), None).await;
        *view.0.lock() = (None, 9);
        assert!(
            floor.is_reached(CONTROLLER, &key, NOW),
            "the cache has seen more than the write, and the object is not there"
        );
    }

    #[tokio::test]
    async fn a_deletion_of_what_was_not_seen_yet_is_not_reached_by_its_absence() {
        let (floor, view, key) = floor_after(Expected::GoneOrAfter(7), None).await;
        assert!(!floor.is_reached(CONTROLLER, &key, NOW), "its creation is still on the way");
        *view.0.lock() = (None, 8);
        assert!(floor.is_reached(CONTROLLER, &key, NOW));
    }
}
