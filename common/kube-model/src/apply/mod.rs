//! Server-side apply and the ownership of fields, after `merge/update.go` of structured-merge-diff.

pub(crate) mod fieldset;
pub(crate) mod managed;
pub(crate) mod schema;
pub(crate) mod walk;

use std::collections::BTreeMap;

use serde_json::Value;

use self::{
    fieldset::{FieldSet, field},
    managed::{ManagerId, Managers, Operation, Owned},
    schema::Schema,
    walk::Comparison,
};
use crate::object;

/// Fields of which nobody is recorded as the owner.
const UNOWNED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];
/// The manager of fields that were there before anybody's were recorded.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What the ownership of fields must know of a kind: its versions and their topology.
pub trait Versions {
    /// The topology of a version; none when the version is not served any more.
    fn schema(&self, api_version: &str) -> Option<&Schema>;
    /// An object in another version of its kind.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// One write, as far as ownership is concerned.
pub struct Write<'a> {
    /// The versions of the written kind.
    pub versions: &'a dyn Versions,
    /// The version that the write speaks.
    pub api_version: &'a str,
    /// The subresource that is written, or empty.
    pub subresource: &'a str,
    /// Name of the field manager.
    pub manager: &'a str,
    /// Top-level fields that this write cannot change.
    pub reset: &'a [&'a str],
    /// The present time, as managed fields record it.
    pub now: &'a str,
}

/// Fields that belong to others, by manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflicts(pub BTreeMap<ManagerId, FieldSet>);

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Others own fields that would change.
    Conflicts(Conflicts),
    /// The configuration does not fit the schema; the text says where.
    Malformed(String),
}

impl Write<'_> {
    fn id(&self, operation: Operation) -> ManagerId {
        ManagerId::new(self.manager, operation, self.api_version, self.subresource)
    }

    fn reset_fields(&self) -> FieldSet {
        let mut set = FieldSet::default();
        self.reset.iter().for_each(|name| set.insert(&[field(name)]));
        set
    }

    fn schema(&self, api_version: &str) -> &Schema {
        self.versions.schema(api_version).unwrap_or(&Schema::Untyped)
    }
}

/// Records what an update changed; both objects are in the version of the write. `new` gets its managed fields.
pub fn update(write: &Write<'_>, live: &Value, new: &mut Value) {
    let own = Managers::of(new);
    let managers = if !write.subresource.is_empty() {
        Managers::of(live)
    } else if Managers::is_reset(new) {
        Managers::default()
    } else if own.0.is_empty() {
        Managers::of(live)
    } else {
        own
    };
    object::remove_meta(new, "managedFields");
    // An existing object whose fields nobody owns stays so until the first apply.
    if managers.0.is_empty() && object::uid(live).is_some() {
        return;
    }
    record_update(write, live, new, managers).write(new);
}

fn record_update(write: &Write<'_>, live: &Value, new: &Value, mut managers: Managers) -> Managers {
    let id = write.id(Operation::Update);
    let bare = without_managed_fields(live);
    let comparison = take_from_others(write, &bare, new, &mut managers, None);
    let changed = comparison.changed();
    let unowned = unowned();
    let fields = changed.difference(&unowned);
    if !fields.is_empty() {
        let previous = managers.0.remove(&id).map(|owned| owned.fields).unwrap_or_default();
        let fields = fields.union(&previous);
        let owned = Owned { fields, api_version: write.api_version.into(), time: Some(write.now.into()) };
        managers.0.insert(id, owned);
    }
    managers.cap_updaters();
    managers
}

/// Merges an applied configuration into the live object, which is empty when there is none; both are in the version
/// of the write. The result has its managed fields.
pub fn apply(write: &Write<'_>, live: &Value, applied: &Value, force: bool) -> Result<Value, Refusal> {
    let schema = write.schema(write.api_version);
    walk::check(schema, applied, "").map_err(Refusal::Malformed)?;
    let mut managers = Managers::of(live);
    let live = without_managed_fields(live);
    if managers.0.is_empty() {
        let first = Write { manager: BEFORE_FIRST_APPLY, subresource: write.subresource, ..*write };
        managers = record_update(&first, &Value::Object(Default::default()), &live, managers);
    }
    let id = write.id(Operation::Apply);
    let fields = walk::field_set(schema, applied).without(&write.reset_fields());
    let time = managers.0.get(&id).and_then(|owned| owned.time.clone());
    let last = managers.0.insert(id.clone(), Owned { fields, api_version: write.api_version.into(), time });
    let merged = walk::merge(schema, &live, applied);
    let mut new = match last {
        Some(last) => prune(write, &merged, &managers, &last),
        None => merged.clone(),
    };

    if !force {
        let found = conflicts(write, &live, &new, &managers, &id);
        if !found.0.is_empty() {
            return Err(Refusal::Conflicts(found));
        }
    }
    take_from_others(write, &live, &new, &mut managers, Some(&id));
    let changed = new != live;
    if let Some(mine) = managers.0.get_mut(&id) {
        mine.fields = mine.fields.difference(&unowned());
        if changed {
            mine.time = Some(write.now.into());
        }
    }
    managers.0.retain(|_, owned| !owned.fields.is_empty());
    managers.write(&mut new);
    Ok(new)
}

fn unowned() -> FieldSet {
    let mut set = FieldSet::default();
    for path in UNOWNED {
        let path: Vec<_> = path.iter().map(|name| field(name)).collect();
        set.insert(&path);
    }
    set
}

fn without_managed_fields(object: &Value) -> Value {
    let mut bare = object.clone();
    object::remove_meta(&mut bare, "managedFields");
    bare
}

/// How the objects differ, in each version that some manager wrote.
fn comparisons(write: &Write<'_>, live: &Value, new: &Value, managers: &Managers) -> BTreeMap<String, Comparison> {
    let mut comparisons = BTreeMap::new();
    let own = walk::compare(write.schema(write.api_version), live, new).without(&write.reset_fields());
    comparisons.insert(write.api_version.to_owned(), own);
    for owned in managers.0.values() {
        if comparisons.contains_key(&owned.api_version) {
            continue;
        }
        let convert = |object: &Value| match object.as_object() {
            Some(fields) if fields.is_empty() => Some(object.clone()),
            _ => write.versions.convert(object, &owned.api_version),
        };
        let schema = write.versions.schema(&owned.api_version);
        if let (Some(schema), Some(live), Some(new)) = (schema, convert(live), convert(new)) {
            let comparison = walk::compare(schema, &live, &new).without(&write.reset_fields());
            comparisons.insert(owned.api_version.clone(), comparison);
        }
    }
    comparisons
}

fn conflicts(write: &Write<'_>, live: &Value, new: &Value, managers: &Managers, own: &ManagerId) -> Conflicts {
    let comparisons = comparisons(write, live, new, managers);
    let conflicts = managers.0.iter().filter(|(id, _)| *id != own).filter_map(|(id, owned)| {
        let fields = owned.fields.intersection(&comparisons.get(&owned.api_version)?.changed());
        (!fields.is_empty()).then(|| (id.clone(), fields))
    });
    Conflicts(conflicts.collect())
}

/// Takes from every manager but one what has changed or gone; managers of versions that are not served any more are
/// dropped. Gives how the objects differ in the version of the write.
fn take_from_others(
    write: &Write<'_>,
    live: &Value,
    new: &Value,
    managers: &mut Managers,
    keep: Option<&ManagerId>,
) -> Comparison {
    let mut comparisons = comparisons(write, live, new, managers);
    managers.0.retain(|id, owned| {
        if Some(id) == keep {
            return true;
        }
        let Some(comparison) = comparisons.get(&owned.api_version) else { return false };
        owned.fields = owned.fields.difference(&comparison.changed()).difference(&comparison.removed);
        !owned.fields.is_empty()
    });
    comparisons.remove(write.api_version).unwrap_or_default()
}

/// Takes out of the merged object what its manager applied last time, does not apply now, and nobody else owns.
fn prune(write: &Write<'_>, merged: &Value, managers: &Managers, last: &Owned) -> Value {
    let versions = write.versions;
    let (Some(last_schema), Some(merged_then)) =
        (versions.schema(&last.api_version), versions.convert(merged, &last.api_version))
    else {
        return merged.clone();
    };
    let last_fields = last.fields.with_named_fields(last_schema);
    let mut pruned = walk::remove(last_schema, &merged_then, &last_fields);
    if pruned.is_null() {
        pruned = Value::Object(Default::default());
    }

    // What anybody owns comes back: first in the version of the last apply, then in the others.
    let mut by_version: BTreeMap<&str, FieldSet> = BTreeMap::new();
    for owned in managers.0.values() {
        let fields = by_version.entry(&owned.api_version).or_default();
        *fields = fields.union(&owned.fields);
    }
    let own_version = by_version.remove(last.api_version.as_str()).map(|fields| (last.api_version.as_str(), fields));
    for (version, managed) in own_version.into_iter().chain(by_version) {
        let (Some(schema), Some(merged), Some(pruned_then)) =
            (versions.schema(version), versions.convert(merged, version), versions.convert(&pruned, version))
        else {
            continue;
        };
        let kept = walk::field_set(schema, &pruned_then).with_named_fields(schema);
        let kept = kept.union(&managed.with_named_fields(schema));
        let gone = walk::field_set(schema, &merged).with_named_fields(schema).difference(&kept);
        pruned = walk::remove(schema, &merged, &gone);
    }

    // Nothing goes that the manager did not own itself.
    let Some(pruned) = versions.convert(&pruned, &last.api_version) else { return merged.clone() };
    let kept = walk::field_set(last_schema, &pruned).with_named_fields(last_schema);
    let all = walk::field_set(last_schema, &merged_then).with_named_fields(last_schema);
    let gone = all.difference(&kept).intersection(&last_fields);
    let pruned = walk::remove(last_schema, &merged_then, &gone);
    versions.convert(&pruned, write.api_version).unwrap_or_else(|| merged.clone())
}

#[cfg(test)]
mod tests;
