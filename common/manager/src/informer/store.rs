//! The objects of one kind and their indexes. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use kube::{Resource, ResourceExt};

use super::group;
use crate::ObjectKey;

/// What happened to an object.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// Its key.
    pub key: ObjectKey,
    /// As it was; `None` when it is new.
    pub old: Option<Arc<K>>,
    /// As it is; `None` when it is gone.
    pub new: Option<Arc<K>>,
    /// Whether it comes from the first list of this process: then it need not have changed at all.
    pub initial: bool,
}

struct Index<K> {
    name: &'static str,
    values: fn(&K) -> Vec<String>,
    keys: HashMap<String, BTreeSet<ObjectKey>>,
}

pub(super) struct Store<K> {
    objects: HashMap<ObjectKey, Arc<K>>,
    indexes: Vec<Index<K>>,
    /// Version up to which everything was seen.
    progress: u64,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), indexes: Vec::new(), progress: 0 }
    }
}

impl<K: Resource<DynamicType = ()>> Store<K> {
    pub(super) fn add_index(&mut self, name: &'static str, values: fn(&K) -> Vec<String>) {
        self.indexes.push(Index { name, values, keys: HashMap::new() });
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.get(key).cloned()
    }

    pub(super) fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        let index = self.indexes.iter().find(|known| known.name == index);
        debug_assert!(index.is_some(), "an index that was never added is asked for");
        let keys = index.and_then(|index| index.keys.get(value));
        keys.into_iter().flatten().filter_map(|key| self.get(key)).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<K>> {
        let mut all: Vec<_> = self.objects.iter().collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, object)| Arc::clone(object)).collect()
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    /// Everything up to this version was seen.
    pub(super) fn advance(&mut self, version: u64) {
        self.progress = self.progress.max(version);
    }

    /// Takes an object in; nothing is reported where it is unchanged.
    pub(super) fn apply(&mut self, new: Arc<K>, initial: bool) -> Option<Change<K>> {
        let key = ObjectKey::of(new.as_ref());
        let old = self.objects.insert(key.clone(), Arc::clone(&new));
        if old.as_deref().is_some_and(|old| same(old, new.as_ref())) {
            return None;
        }
        self.reindex(&key, old.as_deref(), Some(&new));
        Some(Change { key, old, new: Some(new), initial })
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        self.reindex(key, Some(&old), None);
        Some(Change { key: key.clone(), old: Some(old), new: None, initial: false })
    }

    /// Puts a whole list in place of everything; reports what changed and what vanished.
    pub(super) fn replace(
        &mut self,
        listed: HashMap<ObjectKey, Arc<K>>,
        version: u64,
        initial: bool,
    ) -> Vec<Change<K>> {
        // Not the greater of both: versions start anew where etcd was restored from a backup.
        self.progress = version;
        let vanished: Vec<_> = self.objects.keys().filter(|key| !listed.contains_key(key)).cloned().collect();
        let mut changes: Vec<_> = vanished.iter().filter_map(|key| self.remove(key)).collect();
        let mut listed: Vec<_> = listed.into_iter().collect();
        listed.sort_by(|(a, _), (b, _)| a.cmp(b));
        changes.extend(listed.into_iter().filter_map(|(_, object)| self.apply(object, initial)));
        changes
    }

    fn reindex(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        for index in &mut self.indexes {
            let before = group(old.map(index.values).unwrap_or_default());
            let after = group(new.map(index.values).unwrap_or_default());
            for value in before.difference(&after) {
                if let Some(keys) = index.keys.get_mut(value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.keys.remove(value);
                    }
                }
            }
            for value in after.difference(&before) {
                index.keys.entry(value.clone()).or_default().insert(key.clone());
            }
        }
    }
}

fn same<K: Resource>(old: &K, new: &K) -> bool {
    old.resource_version() == new.resource_version() && old.uid() == new.uid()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, version: &str, team: &str) -> Arc<ConfigMap> {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.namespace = Some("ns".to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object.metadata.labels = Some([("team".to_owned(), team.to_owned())].into());
        Arc::new(object)
    }

    fn by_team(object: &ConfigMap) -> Vec<String> {
        object.metadata.labels.iter().flatten().map(|(_, value)| value.clone()).collect()
    }

    fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
        objects.iter().map(|object| object.name_any()).collect()
    }

    #[test]
    fn an_index_follows_its_objects() {
        let mut store = Store::default();
        store.add_index("team", by_team);
        store.apply(object("a", "1", "red"), false);
        store.apply(object("b", "2", "red"), false);
        assert_eq!(names(&store.by_index("team", "red")), ["a", "b"]);
        store.apply(object("a", "3", "blue"), false);
        assert_eq!(names(&store.by_index("team", "red")), ["b"]);
        store.remove(&ObjectKey::new("ns", "b"));
        assert!(store.by_index("team", "red").is_empty());
        assert_eq!(store.indexes[0].keys.len(), 1, "values without objects are forgotten");
    }

    #[test]
    fn a_whole_list_reports_what_changed_and_what_vanished_and_nothing_else() {
        let mut store = Store::default();
        for (name, version) in [("gone", "1"), ("same", "2"), ("changed", "3")] {
            store.apply(object(name, version, "red"), false);
        }
        let listed = [object("same", "2", "red"), object("changed", "9", "red"), object("new", "8", "red")];
        let listed = listed.into_iter().map(|object| (ObjectKey::of(object.as_ref()), object)).collect();
        let changes = store.replace(listed, 9, false);
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.key.name.as_str(), change.old.is_some(), change.new.is_some()))
            .collect();
        assert_eq!(told, [("gone", true, false), ("changed", true, true), ("new", false, true)]);
    }
}
