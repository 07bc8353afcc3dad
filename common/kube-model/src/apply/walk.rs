//! Walks over values along their schema: which fields a value has, how two values differ, how one is merged into another
//! and how fields are taken out. After `typed/` of structured-merge-diff.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value};

use super::{
    fieldset::{Element, Entry, FieldSet, element, field, shown},
    schema::{Schema, Shape},
};

/// How a new value differs from an old one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Fields that the new value has and the old one lacks.
    pub added: FieldSet,
    /// Fields that both have, with another value.
    pub modified: FieldSet,
    /// Fields that the new value lacks.
    pub removed: FieldSet,
}

impl Comparison {
    /// Leaves out some fields and what is below them.
    pub fn cut(&mut self, fields: &FieldSet) {
        self.added.cut(fields);
        self.modified.cut(fields);
        self.removed.cut(fields);
    }

    /// What the new value says anew.
    pub fn changed(self) -> FieldSet {
        let mut changed = self.added;
        changed.unite(&self.modified);
        changed
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn fields_of(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn items_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The fields that a value has, as an applied configuration owns them.
pub fn field_set(schema: &Schema, value: &Value) -> FieldSet {
    let mut root = Entry::default();
    fill(schema, value, &mut root);
    root.below
}

fn fill(schema: &Schema, value: &Value, entry: &mut Entry) {
    match schema.shape(value) {
        Shape::Leaf => entry.member = true,
        Shape::Any => {}
        Shape::Map => {
            for (name, value) in fields_of(Some(value)) {
                let (child, is_named) = schema.field(name);
                let below = entry.below.entry(field(name));
                fill(child, value, below);
                let is_hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                below.member |= is_hollow || !is_named;
            }
            entry.below.drop_hollow();
        }
        Shape::List => {
            for (item, items) in grouped(schema, items_of(Some(value))) {
                let below = entry.below.entry(element(&item));
                // Items that cannot be told apart are owned as one.
                if let [item] = items.as_slice() {
                    fill(schema.element(), item, below);
                }
                below.member = true;
            }
        }
    }
}

/// Items by their path element; those without one are left out, as validation refuses them elsewhere.
fn grouped<'a>(schema: &Schema, items: &'a [Value]) -> BTreeMap<String, Vec<&'a Value>> {
    let mut groups: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in items {
        if let Ok(element) = schema.item(item) {
            groups.entry(element).or_default().push(item);
        }
    }
    groups
}

/// A place in a value. It is written out only where something is wrong with it.
enum Place<'a> {
    Root,
    Field(&'a Self, &'a str),
    Item(&'a Self, &'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(outer, name) => write!(f, "{outer}.{name}"),
            Self::Item(outer, element) => write!(f, "{outer}{}", shown(element)),
        }
    }
}

/// Refuses a configuration with fields that the schema does not have, or whose merged lists hold items that cannot be
/// told apart.
pub fn check(schema: &Schema, value: &Value) -> Result<(), String> {
    check_at(schema, value, &Place::Root)
}

fn check_at(schema: &Schema, value: &Value, place: &Place<'_>) -> Result<(), String> {
    match schema.shape(value) {
        Shape::Leaf => match schema {
            Schema::Record { .. } | Schema::Map(_) => Err(format!("{place}: expected map, got {value}")),
            Schema::Set | Schema::Keyed { .. } => Err(format!("{place}: expected list, got {value}")),
            _ => Ok(()),
        },
        Shape::Any => Ok(()),
        Shape::Map => fields_of(Some(value)).try_for_each(|(name, value)| {
            let place = Place::Field(place, name);
            if !schema.allows(name) {
                return Err(format!("{place}: field not declared in schema"));
            }
            check_at(schema.field(name).0, value, &place)
        }),
        Shape::List => {
            let mut seen = BTreeSet::new();
            for (index, item) in items_of(Some(value)).iter().enumerate() {
                let element = schema.item(item).map_err(|reason| format!("{place}: element {index}: {reason}"))?;
                check_at(schema.element(), item, &Place::Item(place, &element))?;
                if seen.contains(&element) {
                    return Err(format!("{place}: duplicate entries for key {}", shown(&element)));
                }
                seen.insert(element);
            }
            Ok(())
        }
    }
}

/// How a new value differs from an old one.
pub fn compare(schema: &Schema, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    compare_at(schema, Some(old), Some(new), &mut Vec::new(), &mut comparison);
    comparison
}

fn compare_at(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Element>,
    found: &mut Comparison,
) {
    let shape = match (old.map(|old| schema.shape(old)), new.map(|new| schema.shape(new))) {
        (Some(old_shape), Some(new_shape)) if old_shape == new_shape || new_shape == Shape::Any => old_shape,
        (Some(Shape::Any) | None, Some(shape)) | (Some(shape), None) => shape,
        (Some(_), Some(_)) => {
            found.modified.insert(path);
            compare_below(schema, old, None, path, found);
            return compare_below(schema, None, new, path, found);
        }
        (None, None) => return,
    };
    let both_empty = old.is_none_or(is_empty) && new.is_none_or(is_empty);
    let is_leaf = matches!(shape, Shape::Leaf | Shape::Any) || both_empty;
    if is_leaf && old.is_some() && new.is_some() && old != new {
        found.modified.insert(path);
    }
    if !is_leaf {
        compare_below(schema, old, new, path, found);
    }
    match (old, new) {
        (None, Some(_)) => found.added.insert(path),
        (Some(_), None) => found.removed.insert(path),
        _ => {}
    }
}

fn compare_below(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Element>,
    found: &mut Comparison,
) {
    let lacks = |value: Option<&Value>, name: &str| value.is_none_or(|value| value.get(name).is_none());
    let pairs = fields_of(old).map(|(name, value)| (name, Some(value), new.and_then(|new| new.get(name))));
    let added = fields_of(new).filter(|(name, _)| lacks(old, name)).map(|(name, value)| (name, None, Some(value)));
    for (name, old, new) in pairs.chain(added) {
        // Equal subtrees are by far the most; they need no walk.
        if old == new {
            continue;
        }
        path.push(field(name));
        compare_at(schema.field(name).0, old, new, path, found);
        path.pop();
    }
    if matches!(schema, Schema::Set | Schema::Keyed { .. }) {
        compare_items(schema, items_of(old), items_of(new), path, found);
    }
}

fn compare_items(schema: &Schema, old: &[Value], new: &[Value], path: &mut Vec<Element>, found: &mut Comparison) {
    let (old, new) = (grouped(schema, old), grouped(schema, new));
    let items: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for item in items {
        let old = old.get(item).map_or(&[][..], Vec::as_slice);
        let new = new.get(item).map_or(&[][..], Vec::as_slice);
        path.push(element(item));
        match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => {
                compare_at(schema.element(), old.first().copied(), new.first().copied(), path, found);
            }
            (2.., 2..) if old != new => found.modified.insert(path),
            (2.., 2..) => {}
            (2.., _) => {
                if let Some(new) = new.first() {
                    compare_at(schema.element(), None, Some(new), path, found);
                }
                found.removed.insert(path);
            }
            (_, 2..) => {
                if let Some(old) = old.first() {
                    compare_at(schema.element(), Some(old), None, path, found);
                }
                found.added.insert(path);
            }
        }
        path.pop();
    }
}

/// An applied configuration merged into the live value.
pub fn merge(schema: &Schema, live: &Value, applied: &Value) -> Value {
    merge_at(schema, Some(live), Some(applied)).unwrap_or(Value::Null)
}

fn merge_at(schema: &Schema, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let (Some(live_value), Some(applied_value)) = (live, applied) else { return applied.or(live).cloned() };
    let shape = match (schema.shape(live_value), schema.shape(applied_value)) {
        (shape, Shape::Any) => shape,
        (Shape::Any, shape) => shape,
        (live, applied) if live == applied => applied,
        // The kinds differ: what is applied stands alone.
        _ => return Some(applied_value.clone()),
    };
    if is_empty(live_value) && is_empty(applied_value) {
        return Some(applied_value.clone());
    }
    match shape {
        Shape::Leaf | Shape::Any => Some(applied_value.clone()),
        Shape::Map => {
            let kept = fields_of(live).map(|(name, value)| (name, Some(value), applied_value.get(name)));
            let added = fields_of(applied).filter(|(name, _)| live_value.get(*name).is_none());
            let added = added.map(|(name, value)| (name, None, Some(value)));
            let merged: Map<_, _> = kept
                .chain(added)
                .filter_map(|(name, live, applied)| {
                    Some((name.clone(), merge_at(schema.field(name).0, live, applied)?))
                })
                .collect();
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
        Shape::List => {
            let merged = merge_items(schema, items_of(live), items_of(applied));
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
    }
}

/// Merges lists: the applied items in their order, and among them the others where they stood.
fn merge_items(schema: &Schema, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let live: Vec<_> = live.iter().filter_map(|item| Some((schema.item(item).ok()?, item))).collect();
    let applied_elements: Vec<_> = applied.iter().filter_map(|item| schema.item(item).ok()).collect();
    let mut live_groups: BTreeMap<&String, Vec<&Value>> = BTreeMap::new();
    for (element, item) in &live {
        live_groups.entry(element).or_default().push(item);
    }
    let applied_groups = grouped(schema, applied);
    let mut shared = applied_elements.iter().filter(|element| live_groups.contains_key(*element));
    let mut next_shared = shared.next();
    let mut merged: BTreeSet<&String> = BTreeSet::new();
    let mut out = Vec::new();
    let take_applied = |element: &String, out: &mut Vec<Value>| {
        // Items of the live list that cannot be told apart are not merged with the applied one.
        let mine = live_groups.get(element).filter(|group| group.len() == 1).and_then(|group| group.first());
        let theirs = applied_groups.get(element).and_then(|group| group.first());
        out.extend(merge_at(schema.element(), mine.copied(), theirs.copied()));
    };
    let (mut l, mut a) = (0, 0);
    while l < live.len() || a < applied_elements.len() {
        if let (Some((mine, _)), Some(theirs)) = (live.get(l), applied_elements.get(a)) {
            if mine == theirs {
                merged.insert(theirs);
                take_applied(theirs, &mut out);
                (l, a) = (l + 1, a + 1);
                next_shared = shared.next();
                continue;
            }
            if applied_groups.contains_key(mine) && next_shared.is_some_and(|next| next != mine) {
                // A shared item, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if let Some((mine, item)) = live.get(l) {
            if !applied_groups.contains_key(mine) {
                out.push((*item).clone());
                l += 1;
                continue;
            } else if merged.contains(mine) {
                l += 1;
            }
        }
        if let Some(theirs) = applied_elements.get(a) {
            merged.insert(theirs);
            take_applied(theirs, &mut out);
            a += 1;
            if next_shared == Some(theirs) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// A value without some of its fields. A map or list that loses all it has becomes null, which decoding drops where the
/// schema knows the field.
pub fn remove(schema: &Schema, value: &Value, fields: &FieldSet) -> Value {
    match schema.shape(value) {
        Shape::Leaf | Shape::Any => value.clone(),
        Shape::Map => {
            let kept: Map<_, _> = fields_of(Some(value))
                .filter(|(name, _)| !fields.has_field(name))
                .map(|(name, value)| match fields.below_field(name) {
                    Some(below) => (name.clone(), remove(schema.field(name).0, value, below)),
                    None => (name.clone(), value.clone()),
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        Shape::List => {
            let kept: Vec<_> = items_of(Some(value))
                .iter()
                .filter_map(|item| {
                    let Ok(element) = schema.item(item) else { return Some(item.clone()) };
                    if fields.has(&element) {
                        return None;
                    }
                    Some(match fields.below(&element) {
                        Some(below) => remove(schema.element(), item, below),
                        None => item.clone(),
                    })
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::record([
            ("labels", Schema::map()),
            ("tags", Schema::Set),
            ("ports", Schema::keyed(["name"], Schema::Plain)),
            ("free", Schema::Untyped),
        ])
    }

    #[test]
    fn an_applied_value_owns_what_it_names() {
        let value = json!({
            "labels": {"a": "1"}, "tags": ["x"], "ports": [{"name": "http", "port": 80}],
            "list": [1, 2], "empty": {}, "inner": {"deep": {"leaf": 1}}, "free": {"a": {"b": [1]}},
        });
        assert_eq!(
            json!(field_set(&schema(), &value)),
            json!({
                "f:labels": {"f:a": {}}, "f:tags": {r#"v:"x""#: {}},
                "f:ports": {r#"k:{"name":"http"}"#: {".": {}, "f:name": {}, "f:port": {}}},
                "f:list": {}, "f:empty": {}, "f:inner": {"f:deep": {"f:leaf": {}}},
                "f:free": {"f:a": {".": {}, "f:b": {}}},
            })
        );
    }

    #[test]
    fn a_comparison_tells_added_modified_removed() {
        let old = json!({"labels": {"a": "1", "b": "1"}, "tags": ["x"], "ports": [{"name": "a", "port": 1}]});
        let new = json!({"labels": {"a": "2", "c": "1"}, "ports": [{"name": "a", "port": 2}, {"name": "b"}]});
        let comparison = compare(&schema(), &old, &new);
        assert_eq!(
            json!(comparison.added),
            json!({"f:labels": {"f:c": {}}, "f:ports": {r#"k:{"name":"b"}"#: {".": {}, "f:name": {}}}})
        );
        assert_eq!(
            json!(comparison.modified),
            json!({"f:labels": {"f:a": {}}, "f:ports": {r#"k:{"name":"a"}"#: {"f:port": {}}}})
        );
        assert_eq!(json!(comparison.removed), json!({"f:labels": {"f:b": {}}, "f:tags": {".": {}, r#"v:"x""#: {}}}));
    }

    #[test]
    fn lists_merge_in_the_applied_order() {
        let merged = |live: Value, applied: Value| merge(&Schema::Set, &live, &applied);
        assert_eq!(merged(json!(["a", "b", "c"]), json!(["c", "a"])), json!(["b", "c", "a"]));
        assert_eq!(merged(json!(["a", "b"]), json!(["x", "b"])), json!(["a", "x", "b"]));
        assert_eq!(merged(json!(["a"]), json!(["b"])), json!(["a", "b"]));
    }

    #[test]
    fn removal_follows_the_schema() {
        let value = json!({"labels": {"a": "1"}, "ports": [{"name": "a"}, {"name": "b", "port": 1}], "x": 1});
        let fields = FieldSet::from_fields_v1(&json!({
            "f:labels": {"f:a": {}}, "f:ports": {r#"k:{"name":"a"}"#: {}, r#"k:{"name":"b"}"#: {"f:port": {}}},
        }));
        let rest = remove(&schema(), &value, &fields);
        assert_eq!(rest, json!({"labels": null, "ports": [{"name": "b"}], "x": 1}));
    }

    #[test]
    fn items_that_cannot_be_told_apart_are_refused() {
        let reason = check(&schema(), &json!({"ports": [{"name": "a"}, {"name": "a"}]})).unwrap_err();
        assert_eq!(reason, r#".ports: duplicate entries for key [name="a"]"#);
        assert!(check(&schema(), &json!({"ports": [{"port": 1}]})).unwrap_err().contains("omits all key"));
    }
}
