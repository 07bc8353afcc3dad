//! The work queue of a controller: which object is looked at next.
//!
//! One entry a key; a key is never worked on twice at once; keys whose objects changed come before keys that are only
//! due for a resync. Pure: time is passed in, order is deterministic.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use crate::ObjectKey;

/// Shortest backoff after a failure.
const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// Longest backoff after many failures.
const BACKOFF_LIMIT: Duration = Duration::from_secs(300);

/// Why a key is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Its object, or something it depends on, changed.
    Changed,
    /// Nothing is known to have changed.
    Resync,
}

#[derive(Debug, Default)]
struct Entry {
    ready: Option<(Priority, u64)>,
    due: Option<(Duration, u64, Priority)>,
    running: bool,
    failures: u32,
}

/// Keys that wait, keys that are due later, keys that are worked on.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<ObjectKey, Entry>,
    ready: BTreeSet<(Priority, u64, ObjectKey)>,
    due: BTreeMap<(Duration, u64), ObjectKey>,
    sequence: u64,
}

impl Queue {
    /// Makes a key ready. A key that is worked on becomes ready again when that ends.
    pub fn add(&mut self, key: ObjectKey, priority: Priority) {
        let sequence = self.next_sequence();
        let entry = self.entries.entry(key.clone()).or_default();
        match entry.ready {
            Some((known, _)) if known <= priority => return,
            Some((known, number)) => {
                self.ready.remove(&(known, number, key.clone()));
                entry.ready = Some((priority, number));
            }
            None => entry.ready = Some((priority, sequence)),
        }
        if !entry.running
            && let Some((priority, number)) = entry.ready
        {
            self.ready.insert((priority, number, key));
        }
    }

    /// Makes a key ready at a time; an earlier time that is already set stays.
    pub fn add_at(&mut self, key: ObjectKey, at: Duration, priority: Priority) {
        let sequence = self.next_sequence();
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some((set, number, _)) = entry.due {
            if set <= at {
                return;
            }
            self.due.remove(&(set, number));
        }
        entry.due = Some((at, sequence, priority));
        self.due.insert((at, sequence), key);
    }

    /// The next key to work on, if one is ready, and why; it counts as worked on until [`Queue::done`]. What was planned
    /// for it before is superseded: how its work ends says when it is due again.
    pub fn take(&mut self, now: Duration) -> Option<(ObjectKey, Priority)> {
        while let Some((&(at, number), _)) = self.due.first_key_value().filter(|((at, _), _)| *at <= now) {
            let Some(key) = self.due.remove(&(at, number)) else { break };
            let due = self.entries.get_mut(&key).and_then(|entry| entry.due.take());
            self.add(key, due.map_or(Priority::Resync, |(_, _, priority)| priority));
        }
        let (priority, _, key) = self.ready.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.ready = None;
        entry.running = true;
        if let Some((at, number, _)) = entry.due.take() {
            self.due.remove(&(at, number));
        }
        Some((key, priority))
    }

    /// The work on a key ended. It is forgotten when nothing is known of it.
    pub fn done(&mut self, key: &ObjectKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.running = false;
        if let Some((priority, number)) = entry.ready {
            self.ready.insert((priority, number, key.clone()));
        } else if entry.due.is_none() && entry.failures == 0 {
            self.entries.remove(key);
        }
    }

    /// Counts a failure of a key; returns how long to wait before it is tried again.
    pub fn fail(&mut self, key: &ObjectKey) -> Duration {
        let entry = self.entries.entry(key.clone()).or_default();
        let backoff = BACKOFF_BASE.saturating_mul(1 << entry.failures.min(20)).min(BACKOFF_LIMIT);
        entry.failures = entry.failures.saturating_add(1);
        backoff
    }

    /// Forgets the failures of a key.
    pub fn succeed(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.failures = 0;
        }
    }

    /// When the next key becomes due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Number of keys that are ready.
    pub fn depth(&self) -> usize {
        self.ready.len()
    }

    /// Keys that are worked on, and keys whose last attempts failed with their number, for diagnostics.
    pub fn troubles(&self) -> (Vec<ObjectKey>, Vec<(ObjectKey, u32)>) {
        let mut running: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.running).map(|(key, _)| key.clone()).collect();
        let mut failing: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.failures > 0)
            .map(|(key, entry)| (key.clone(), entry.failures))
            .collect();
        running.sort();
        failing.sort();
        (running, failing)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn taken(queue: &mut Queue, now: Duration) -> Option<ObjectKey> {
        queue.take(now).map(|(key, _)| key)
    }

    #[test]
    fn changes_come_before_resyncs_and_first_comes_first() {
        let mut queue = Queue::default();
        queue.add(key("resync"), Priority::Resync);
        queue.add(key("a"), Priority::Changed);
        queue.add(key("b"), Priority::Changed);
        queue.add(key("resync"), Priority::Changed);
        let order: Vec<_> = std::iter::from_fn(|| queue.take(NOW)).map(|(key, _)| key.name).collect();
        assert_eq!(order, ["resync", "a", "b"], "a raised key keeps its place in line");
    }

    #[test]
    fn a_key_is_never_worked_on_twice_at_once_and_no_change_is_lost() {
        let mut queue = Queue::default();
        queue.add(key("a"), Priority::Changed);
        assert_eq!(taken(&mut queue, NOW), Some(key("a")));
        queue.add(key("a"), Priority::Changed);
        queue.add(key("a"), Priority::Changed);
        assert_eq!(queue.take(NOW), None);
        queue.done(&key("a"));
        assert_eq!(taken(&mut queue, NOW), Some(key("a")));
        queue.done(&key("a"));
        assert_eq!(queue.take(NOW), None);
        assert!(queue.entries.is_empty(), "a settled key costs nothing");
    }

    #[test]
    fn the_earlier_of_two_times_wins() {
        let mut queue = Queue::default();
        queue.add_at(key("a"), NOW + Duration::from_secs(10), Priority::Resync);
        queue.add_at(key("a"), NOW + Duration::from_secs(5), Priority::Resync);
        queue.add_at(key("a"), NOW + Duration::from_secs(20), Priority::Resync);
        assert_eq!(queue.next_due(), Some(NOW + Duration::from_secs(5)));
        assert_eq!(queue.take(NOW), None);
        assert_eq!(taken(&mut queue, NOW + Duration::from_secs(5)), Some(key("a")));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn work_on_a_key_supersedes_what_was_planned_for_it() {
        let mut queue = Queue::default();
        queue.add_at(key("a"), NOW + Duration::from_secs(5), Priority::Resync);
        queue.add(key("a"), Priority::Changed);
        assert_eq!(queue.take(NOW), Some((key("a"), Priority::Changed)));
        queue.add_at(key("a"), NOW + Duration::from_secs(60), Priority::Resync);
        queue.done(&key("a"));
        assert_eq!(
            queue.next_due(),
            Some(NOW + Duration::from_secs(60)),
            "who was told to wait a minute waits a minute"
        );
    }

    #[test]
    fn what_is_tried_again_keeps_its_priority() {
        let mut queue = Queue::default();
        queue.add(key("resync"), Priority::Resync);
        queue.add_at(key("retry"), NOW, Priority::Changed);
        assert_eq!(queue.take(NOW), Some((key("retry"), Priority::Changed)));
        assert_eq!(queue.take(NOW), Some((key("resync"), Priority::Resync)));
    }

    #[test]
    fn backoff_doubles_to_a_limit_and_is_forgotten() {
        let mut queue = Queue::default();
        let waits: Vec<_> = (0..20).map(|_| queue.fail(&key("a"))).collect();
        assert_eq!(waits[..3], [BACKOFF_BASE, BACKOFF_BASE * 2, BACKOFF_BASE * 4]);
        assert_eq!(waits[19], BACKOFF_LIMIT);
        queue.succeed(&key("a"));
        assert_eq!(queue.fail(&key("a")), BACKOFF_BASE);
    }

    proptest! {
        /// Whatever happens in whatever order, no key runs twice at once, and every key that was added runs after it.
        #[test]
        fn nothing_is_lost(steps in prop::collection::vec((0_u8..5, 0_u8..4), 1..200)) {
            let mut queue = Queue::default();
            let (mut running, mut owed) = (BTreeSet::new(), BTreeSet::new());
            let mut now = NOW;
            for (name, step) in steps {
                let name = key(&name.to_string());
                match step {
                    0 => { queue.add(name.clone(), Priority::Changed); owed.insert(name); }
                    1 => { queue.add_at(name.clone(), now + Duration::from_secs(1), Priority::Resync); owed.insert(name); }
                    2 => { if running.remove(&name) { queue.done(&name); } }
                    _ => {
                        now += Duration::from_millis(400);
                        if let Some(taken) = taken(&mut queue, now) { owed.remove(&taken); prop_assert!(running.insert(taken)); }
                    }
                }
            }
            for name in &running { queue.done(name); }
            while let Some(taken) = taken(&mut queue, now + Duration::from_secs(10)) { owed.remove(&taken); queue.done(&taken); }
            prop_assert!(owed.is_empty(), "lost: {owed:?}");
        }
    }
}
