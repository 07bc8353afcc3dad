//! Sets of field paths, as `metadata.managedFields[].fieldsV1` holds them.
//!
//! The shape is that of structured-merge-diff: a path element is a string such as `f:spec`, `k:{"type":"Ready"}` or
//! `v:"a"`; a path that is itself a member and has members below it is marked by `.`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::schema::Schema;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    entries: BTreeMap<String, Entry>,
}

/// One path element of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Whether the path that ends here is in the set.
    pub member: bool,
    /// What is in the set below it.
    pub below: FieldSet,
}

/// The element of a field's name.
pub fn field(name: &str) -> String {
    format!("f:{name}")
}

impl FieldSet {
    /// Reads `fieldsV1`.
    pub fn from_fields_v1(fields: &Value) -> Self {
        let mut set = Self::default();
        for (element, below) in fields.as_object().into_iter().flatten().filter(|(element, _)| *element != ".") {
            let children = Self::from_fields_v1(below);
            let member = below.get(".").is_some() || children.is_empty();
            set.entries.insert(element.clone(), Entry { member, below: children });
        }
        set
    }

    /// Writes `fieldsV1`.
    pub fn to_fields_v1(&self) -> Value {
        let mut fields = Map::new();
        for (element, entry) in &self.entries {
            let mut below = entry.below.to_fields_v1();
            if entry.member
                && !entry.below.is_empty()
                && let Some(below) = below.as_object_mut()
            {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            fields.insert(element.clone(), below);
        }
        Value::Object(fields)
    }

    /// The entry of an element, made when it is missing.
    pub fn entry(&mut self, element: String) -> &mut Entry {
        self.entries.entry(element).or_default()
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[String]) {
        if let Some((first, rest)) = path.split_first() {
            let entry = self.entry(first.clone());
            if rest.is_empty() { entry.member = true } else { entry.below.insert(rest) }
        }
    }

    /// Whether the path of one element is in the set.
    pub fn has(&self, element: &str) -> bool {
        self.entries.get(element).is_some_and(|entry| entry.member)
    }

    /// What is in the set below an element.
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.entries.get(element).map(|entry| &entry.below).filter(|below| !below.is_empty())
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.entries.values().all(|entry| !entry.member && entry.below.is_empty())
    }

    /// Every path of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        for (element, entry) in &other.entries {
            let mine = union.entry(element.clone());
            mine.member |= entry.member;
            mine.below = mine.below.union(&entry.below);
        }
        union
    }

    /// Every path of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(|element, mine| {
            let theirs = other.entries.get(element)?;
            Some(Entry { member: mine.member && theirs.member, below: mine.below.intersection(&theirs.below) })
        })
    }

    /// The paths that the other set does not have; what lies below a path is judged by itself.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(|element, mine| {
            Some(match other.entries.get(element) {
                Some(theirs) => {
                    Entry { member: mine.member && !theirs.member, below: mine.below.difference(&theirs.below) }
                }
                None => mine.clone(),
            })
        })
    }

    /// The paths that are neither in the other set nor below one of its paths.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.combine(|element, mine| match other.entries.get(element) {
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Entry { member: mine.member, below: mine.below.without(&theirs.below) }),
            None => Some(mine.clone()),
        })
    }

    fn combine(&self, combine: impl Fn(&String, &Entry) -> Option<Entry>) -> Self {
        let kept = self.entries.iter().filter_map(|(element, mine)| {
            combine(element, mine)
                .filter(|entry| entry.member || !entry.below.is_empty())
                .map(|entry| (element.clone(), entry))
        });
        Self { entries: kept.collect() }
    }

    /// The same set, in which each field that a schema names and that has paths below it is a member too.
    #[must_use]
    pub fn with_named_fields(&self, schema: &Schema) -> Self {
        let entries = self.entries.iter().map(|(element, entry)| {
            let (child, is_named) = match element.strip_prefix("f:") {
                Some(name) => schema.field(name),
                None => (schema.element(), false),
            };
            let member = entry.member || (is_named && !entry.below.is_empty());
            (element.clone(), Entry { member, below: entry.below.with_named_fields(child) })
        });
        Self { entries: entries.collect() }
    }

    /// Every path, written as conflicts name it: `.spec.ports[name="http"].port`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        // Members come before what lies below them, as structured-merge-diff iterates.
        for (element, _) in self.entries.iter().filter(|(_, entry)| entry.member) {
            paths.push(format!("{prefix}{}", shown(element)));
        }
        for (element, entry) in &self.entries {
            entry.below.collect_paths(&format!("{prefix}{}", shown(element)), paths);
        }
    }
}

/// A path element as conflicts show it.
fn shown(element: &str) -> String {
    let (kind, content) = element.split_at(element.len().min(2));
    match kind {
        "f:" => format!(".{content}"),
        "v:" => format!("[={content}]"),
        "k:" => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(content).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{content}]"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sets() -> impl Strategy<Value = FieldSet> {
        let element = prop::sample::select(vec!["f:a", "f:b", r#"k:{"name":"x"}"#, r#"v:"y""#]);
        let path = prop::collection::vec(element.prop_map(str::to_owned), 1..4);
        prop::collection::vec(path, 0..8).prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in &paths {
                set.insert(path);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn fields_v1_reads_back(set in sets()) {
            prop_assert_eq!(FieldSet::from_fields_v1(&set.to_fields_v1()), set);
        }

        #[test]
        fn set_laws(a in sets(), b in sets()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert!(a.difference(&a).is_empty());
        }
    }

    #[test]
    fn paths_read_as_conflicts_name_them() {
        let set = FieldSet::from_fields_v1(&json!({
            "f:spec": {"f:ports": {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:name": {}}}},
            "f:metadata": {"f:finalizers": {r#"v:"a""#: {}}},
        }));
        assert_eq!(
            set.paths(),
            [
                r#".metadata.finalizers[="a"]"#,
                r#".spec.ports[containerPort=80,protocol="TCP"]"#,
                r#".spec.ports[containerPort=80,protocol="TCP"].name"#,
            ]
        );
    }
}
