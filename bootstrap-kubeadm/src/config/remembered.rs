//! What a process found out and need not ask again.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Objects remembered, at most.
const CROWDED: usize = 10_000;

/// UIDs of objects of which something is known for good; bounded.
#[derive(Default)]
pub struct Remembered(Mutex<HashSet<String>>);

impl Remembered {
    /// Whether it is known of this object.
    pub fn contains(&self, uid: &str) -> bool {
        self.0.lock().contains(uid)
    }

    /// It is known of this object from now on.
    pub fn insert(&self, uid: String) {
        let mut known = self.0.lock();
        // Forgetting costs a request for each.
        if known.len() >= CROWDED {
            known.clear();
        }
        known.insert(uid);
    }

    /// It is not known any more.
    pub fn remove(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}
