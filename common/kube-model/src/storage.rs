//! Objects under one growing resource version, with a bounded history of their changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{apply::managed::Managers, object, registry::ResourceId, stored::Stored};

/// An object of a store: its resource, and `namespace/name` or the name alone. Keys order as etcd's do.
pub type ObjectId = (ResourceId, String);

/// One committed change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resource version that it got.
    pub version: u64,
    /// Key of the object.
    pub key: String,
    /// What was there before.
    pub old: Option<Arc<Stored>>,
    /// What is there now. Of a deletion: nothing.
    pub new: Option<Arc<Stored>>,
}

#[derive(Default)]
struct Table {
    objects: BTreeMap<String, Arc<Stored>>,
    history: VecDeque<Arc<Change>>,
    /// Changes up to this version are forgotten.
    compacted: u64,
}

/// The objects of a server.
pub struct Store {
    version: u64,
    capacity: usize,
    keeps_text: bool,
    tables: HashMap<ResourceId, Table>,
    by_uid: HashMap<String, ObjectId>,
    dependents: HashMap<String, BTreeSet<ObjectId>>,
}

/// The history does not reach back that far: the oldest version that it still explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted(pub u64);

/// Key of an object.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}") }
}

impl Store {
    /// An empty store that remembers so many changes of each resource, and perhaps the text of objects.
    pub fn new(capacity: usize, keeps_text: bool) -> Self {
        Self {
            // A fresh etcd is at revision 1.
            version: 1,
            capacity,
            keeps_text,
            tables: HashMap::new(),
            by_uid: HashMap::new(),
            dependents: HashMap::new(),
        }
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An object.
    pub fn get(&self, (resource, key): &ObjectId) -> Option<&Arc<Stored>> {
        self.tables.get(resource)?.objects.get(key)
    }

    /// Where the object of a UID is.
    pub fn find_uid(&self, uid: &str) -> Option<&ObjectId> {
        self.by_uid.get(uid)
    }

    /// The objects that name a UID as their owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &ObjectId> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// The present objects of a resource whose keys have a prefix and come after another key, in order.
    pub fn range<'a>(
        &'a self,
        resource: ResourceId,
        prefix: &'a str,
        start: &str,
    ) -> impl Iterator<Item = (&'a String, &'a Arc<Stored>)> {
        let start = if start > prefix { start } else { prefix };
        let bounds = (Bound::Included(start), Bound::Unbounded);
        let range = self.tables.get(&resource).map(|table| table.objects.range::<str, _>(bounds));
        range.into_iter().flatten().take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// The objects as they were at a version.
    pub fn range_at(
        &self,
        resource: ResourceId,
        prefix: &str,
        start: &str,
        version: u64,
    ) -> Result<Vec<(String, Arc<Stored>)>, Compacted> {
        let mut objects: BTreeMap<String, Arc<Stored>> =
            self.range(resource, prefix, start).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        for change in self.changes_after(resource, version)?.rev() {
            if change.key.starts_with(prefix) && change.key.as_str() >= start {
                match &change.old {
                    Some(old) => objects.insert(change.key.clone(), Arc::clone(old)),
                    None => objects.remove(&change.key),
                };
            }
        }
        Ok(objects.into_iter().collect())
    }

    /// The changes of a resource after a version, oldest first.
    pub fn changes_after(
        &self,
        resource: ResourceId,
        version: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Arc<Change>>, Compacted> {
        let table = self.tables.get(&resource);
        if let Some(table) = table
            && version < table.compacted
        {
            return Err(Compacted(table.compacted));
        }
        let history = table.map(|table| &table.history);
        let skipped = history.map_or(0, |history| history.partition_point(|change| change.version <= version));
        Ok(history.into_iter().flat_map(move |history| history.iter().skip(skipped)))
    }

    /// Goes on from a later version; versions never go back.
    pub fn advance(&mut self, version: u64) {
        self.version = self.version.max(version);
    }

    /// Forgets every change up to a version.
    pub fn compact(&mut self, version: u64) {
        for table in self.tables.values_mut() {
            table.compacted = table.compacted.max(version);
            table.history.retain(|change| change.version > version);
        }
    }

    /// Stores an object under the next version, which is written into it; or deletes it.
    pub fn commit(&mut self, id: &ObjectId, object: Option<(Value, Arc<Managers>)>) -> Arc<Change> {
        self.version += 1;
        let new = object.map(|(mut fields, managers)| {
            object::set_meta(&mut fields, "resourceVersion", json!(self.version.to_string()));
            let stored = Stored::new(Arc::new(fields), managers);
            Arc::new(if self.keeps_text { stored.keeping_text() } else { stored })
        });
        let compacted = self.version - 1;
        let table = self.tables.entry(id.0).or_insert_with(|| Table { compacted, ..Table::default() });
        let old = match &new {
            Some(object) => table.objects.insert(id.1.clone(), Arc::clone(object)),
            None => table.objects.remove(&id.1),
        };
        let change = Arc::new(Change { version: self.version, key: id.1.clone(), old, new });
        table.history.push_back(Arc::clone(&change));
        if table.history.len() > self.capacity
            && let Some(forgotten) = table.history.pop_front()
        {
            table.compacted = forgotten.version;
        }
        self.reindex(id, &change);
        change
    }

    fn reindex(&mut self, id: &ObjectId, change: &Change) {
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        if let (Some(old), Some(new)) = (old, new)
            && object::uid(old) == object::uid(new)
            && owner_uids(old).eq(owner_uids(new))
        {
            return;
        }
        for owner in old.into_iter().flat_map(|old| owner_uids(old)) {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(id);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        if let Some(uid) = old.and_then(|old| object::uid(old)) {
            self.by_uid.remove(uid);
        }
        if let Some(new) = new {
            for owner in owner_uids(new) {
                self.dependents.entry(owner.to_owned()).or_default().insert(id.clone());
            }
            if let Some(uid) = object::uid(new) {
                self.by_uid.insert(uid.to_owned(), id.clone());
            }
        }
    }
}

/// The UIDs that an object names as its owners.
pub fn owner_uids(object: &Value) -> impl Iterator<Item = &str> {
    object::owners(object).filter_map(|owner| owner.get("uid").and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCE: ResourceId = ResourceId(0);

    fn put(store: &mut Store, key: &str, value: i64) -> u64 {
        store
            .commit(&(RESOURCE, key.into()), Some((json!({"metadata": {"name": key}, "value": value}), Arc::default())))
            .version
    }

    fn values(objects: Vec<(String, Arc<Stored>)>) -> Vec<(String, i64)> {
        objects.into_iter().filter_map(|(key, object)| Some((key, object["value"].as_i64()?))).collect()
    }

    #[test]
    fn a_past_state_is_rebuilt_until_it_is_compacted() {
        let mut store = Store::new(10, true);
        put(&mut store, "n/a", 1);
        let then = put(&mut store, "n/b", 1);
        put(&mut store, "n/a", 2);
        store.commit(&(RESOURCE, "n/b".into()), None);
        let now = put(&mut store, "n/c", 3);
        let past = store.range_at(RESOURCE, "n/", "", then).unwrap();
        assert_eq!(values(past), [("n/a".into(), 1), ("n/b".into(), 1)]);
        store.compact(now);
        assert_eq!(store.range_at(RESOURCE, "n/", "", then).err(), Some(Compacted(now)));
        assert_eq!(store.range_at(RESOURCE, "n/", "", now).unwrap().len(), 2);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut store = Store::new(2, false);
        let first = put(&mut store, "a", 1);
        (2..5).for_each(|value| {
            put(&mut store, "a", value);
        });
        assert_eq!(store.changes_after(RESOURCE, first).err(), Some(Compacted(first + 1)));
        assert_eq!(store.changes_after(RESOURCE, first + 1).unwrap().count(), 2);
    }

    #[test]
    fn keys_order_as_in_etcd() {
        let mut store = Store::new(2, false);
        for key in ["a/x", "a-b/x", "a.c/x"] {
            put(&mut store, key, 0);
        }
        let keys: Vec<_> = store.range(RESOURCE, "", "").map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a-b/x", "a.c/x", "a/x"]);
        assert_eq!(store.range(RESOURCE, "a/", "").count(), 1);
    }
}
