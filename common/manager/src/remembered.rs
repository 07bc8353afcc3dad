//! What a process found out and need not ask again.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use parking_lot::Mutex;

/// Entries of a memory that grows with the objects of a management cluster: more than one process can manage.
pub const OBJECTS: usize = 1 << 16;

/// A bounded memory. When it is full everything is forgotten, which costs a request for each entry and nothing else: what
/// is remembered must be safe to forget at any time, as at a restart.
pub struct Remembered<K, V = ()> {
    most: usize,
    known: Mutex<HashMap<K, V>>,
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    /// A memory of at most `most` entries.
    pub fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// What is known of this.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.known.lock().get(key).cloned()
    }

    /// This is known from now on.
    pub fn insert(&self, key: K, value: V) {
        let mut known = self.known.lock();
        if known.len() >= self.most && !known.contains_key(&key) {
            known.clear();
            tracing::debug!(most = self.most, "A memory is full: what was known is asked for once more.");
        }
        known.insert(key, value);
    }

    /// Nothing is known of this any more.
    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.known.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_memory_forgets_all_but_what_is_new() {
        let memory = Remembered::new(2);
        memory.insert("a", 1);
        memory.insert("b", 2);
        memory.insert("b", 3);
        assert_eq!((memory.get("a"), memory.get("b")), (Some(1), Some(3)), "what is known already takes no more room");
        memory.insert("c", 4);
        assert_eq!((memory.get("a"), memory.get("b"), memory.get("c")), (None, None, Some(4)));
        memory.remove("c");
        assert_eq!(memory.get("c"), None);
    }
}
