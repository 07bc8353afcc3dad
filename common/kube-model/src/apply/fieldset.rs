//! Sets of field paths, as `metadata.managedFields[].fieldsV1` holds them.
//!
//! The shape is that of structured-merge-diff: a path element is a string such as `f:spec`, `k:{"type":"Ready"}` or
//! `v:"a"`; a path that is itself a member and has members below it is marked by `.`.

use std::{
    cell::RefCell,
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::schema::Schema;

/// An element of a path. Sets share them: one set is made from others all the time.
pub type Element = Arc<str>;

/// A set of paths. Sets are many and small, and live as long as the object that they describe: lists in order take a
/// fraction of what a tree's nodes do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    entries: Vec<(Element, Entry)>,
}

/// One path element of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Whether the path that ends here is in the set.
    pub member: bool,
    /// What is in the set below it.
    pub below: FieldSet,
}

impl Entry {
    fn is_hollow(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// What stands before a field's name in its path element.
const FIELD: &[u8] = b"f:";

/// Most elements that a thread keeps for all sets that it makes; what users name comes on top, and is kept with its sets.
const SHARED: usize = 4096;

thread_local! {
    static KNOWN: RefCell<HashSet<Element>> = RefCell::default();
}

/// An element of this text. All objects of all servers of a process have the same few hundred fields.
pub fn element(text: &str) -> Element {
    KNOWN.with_borrow_mut(|known| {
        if let Some(element) = known.get(text) {
            return Arc::clone(element);
        }
        let new = Element::from(text);
        if known.len() < SHARED {
            known.insert(Arc::clone(&new));
        }
        new
    })
}

/// The element of a field's name.
pub fn field(name: &str) -> Element {
    element(&format!("f:{name}"))
}

/// How an element stands to that of a field's name, which need not be made for it.
fn to_field(element: &Element, name: &str) -> Ordering {
    element.bytes().cmp(FIELD.iter().copied().chain(name.bytes()))
}

impl FieldSet {
    /// Reads `fieldsV1`.
    pub fn from_fields_v1(fields: &Value) -> Self {
        let fields = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != ".");
        let entries = fields.map(|(name, below)| {
            let children = Self::from_fields_v1(below);
            let member = below.get(".").is_some() || children.is_empty();
            (element(name), Entry { member, below: children })
        });
        let mut entries: Vec<_> = entries.collect();
        // As they come unless a build of the JSON library keeps the order in which maps were written.
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self { entries }
    }

    fn find(&self, element: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|(known, _)| known.as_ref().cmp(element)).ok()?;
        self.entries.get(index).map(|(_, entry)| entry)
    }

    fn find_field(&self, name: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|(known, _)| to_field(known, name)).ok()?;
        self.entries.get(index).map(|(_, entry)| entry)
    }

    /// The entry of an element, made when it is missing.
    pub fn entry(&mut self, element: Element) -> &mut Entry {
        let index = self.entries.binary_search_by(|(known, _)| known.cmp(&element)).unwrap_or_else(|index| {
            self.entries.insert(index, (element, Entry::default()));
            index
        });
        &mut self.entries[index].1
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[Element]) {
        if let Some((first, rest)) = path.split_first() {
            let entry = self.entry(Arc::clone(first));
            if rest.is_empty() { entry.member = true } else { entry.below.insert(rest) }
        }
    }

    /// Whether the path of one element is in the set.
    pub fn has(&self, element: &str) -> bool {
        self.find(element).is_some_and(|entry| entry.member)
    }

    /// Whether the path of a field is in the set.
    pub fn has_field(&self, name: &str) -> bool {
        self.find_field(name).is_some_and(|entry| entry.member)
    }

    /// What is in the set below an element.
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.find(element).map(|entry| &entry.below).filter(|below| !below.is_empty())
    }

    /// What is in the set below a field.
    pub fn below_field(&self, name: &str) -> Option<&Self> {
        self.find_field(name).map(|entry| &entry.below).filter(|below| !below.is_empty())
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, entry)| entry.is_hollow())
    }

    /// Whether every path of another set is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        other.entries.iter().all(|(element, theirs)| match self.find(element) {
            Some(mine) => (mine.member || !theirs.member) && mine.below.contains(&theirs.below),
            None => theirs.is_hollow(),
        })
    }

    /// Adds every path of another set.
    pub fn unite(&mut self, other: &Self) {
        if self.entries.is_empty() {
            self.entries.clone_from(&other.entries);
            return;
        }
        for (element, theirs) in &other.entries {
            let mine = self.entry(Arc::clone(element));
            mine.member |= theirs.member;
            mine.below.unite(&theirs.below);
        }
    }

    /// Takes away the paths of another set; what lies below a path is judged by itself.
    pub fn subtract(&mut self, other: &Self) {
        if other.entries.is_empty() {
            return;
        }
        self.entries.retain_mut(|(element, mine)| {
            if let Some(theirs) = other.find(element) {
                mine.member &= !theirs.member;
                mine.below.subtract(&theirs.below);
            }
            !mine.is_hollow()
        });
    }

    /// Takes away the paths of another set and whatever is below them.
    pub fn cut(&mut self, other: &Self) {
        if other.entries.is_empty() {
            return;
        }
        self.entries.retain_mut(|(element, mine)| {
            match other.find(element) {
                Some(theirs) if theirs.member => return false,
                Some(theirs) => mine.below.cut(&theirs.below),
                None => {}
            }
            !mine.is_hollow()
        });
    }

    /// Drops elements with which no path ends or goes on.
    pub fn drop_hollow(&mut self) {
        self.entries.retain_mut(|(_, entry)| !entry.is_hollow());
    }

    /// Every path of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let common = self.entries.iter().filter_map(|(element, mine)| {
            let theirs = other.find(element)?;
            let entry = Entry { member: mine.member && theirs.member, below: mine.below.intersection(&theirs.below) };
            (!entry.is_hollow()).then(|| (Arc::clone(element), entry))
        });
        Self { entries: common.collect() }
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
            (Arc::clone(element), Entry { member, below: entry.below.with_named_fields(child) })
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

/// Writes `fieldsV1`.
impl Serialize for FieldSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(element, entry)| (element.as_ref(), entry)))
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut below = serializer.serialize_map(None)?;
        if self.member && !self.below.is_empty() {
            below.serialize_entry(".", &Self::default())?;
        }
        for (element, entry) in &self.below.entries {
            below.serialize_entry(element.as_ref(), entry)?;
        }
        below.end()
    }
}

/// A path element as conflicts show it.
pub fn shown(element: &str) -> String {
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
                set.insert(&path.iter().map(|element| Element::from(element.as_str())).collect::<Vec<_>>());
            }
            set
        })
    }

    fn united(a: &FieldSet, b: &FieldSet) -> FieldSet {
        let mut union = a.clone();
        union.unite(b);
        union
    }

    fn difference(a: &FieldSet, b: &FieldSet) -> FieldSet {
        let mut difference = a.clone();
        difference.subtract(b);
        difference
    }

    proptest! {
        #[test]
        fn fields_v1_reads_back(set in sets()) {
            prop_assert_eq!(FieldSet::from_fields_v1(&json!(set)), set);
        }

        #[test]
        fn set_laws(a in sets(), b in sets()) {
            prop_assert_eq!(united(&a, &b), united(&b, &a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(united(&difference(&a, &b), &a.intersection(&b)), a.clone());
            prop_assert!(difference(&a, &b).intersection(&b).is_empty());
            prop_assert!(difference(&a, &a).is_empty());
            prop_assert_eq!(a.contains(&b), difference(&b, &a).is_empty());
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
