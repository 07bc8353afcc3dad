//! Server-side apply and the ownership of fields, after `merge/update.go` of structured-merge-diff.

pub(crate) mod fieldset;
pub(crate) mod managed;
pub(crate) mod schema;
pub(crate) mod walk;

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

use self::{
    fieldset::{FieldSet, field},
    managed::{ManagerId, Managers, Operation, Owned, Said},
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

/// Who owns what after an update; both objects are in the version of the write, without their managed fields.
/// `owners` are those of the live object, `said` what the written one says of its own.
pub fn update(write: &Write<'_>, live: &Value, owners: &Managers, new: &Value, said: Said) -> Managers {
    let managers = match said {
        _ if !write.subresource.is_empty() => owners.clone(),
        Said::Nothing => owners.clone(),
        Said::Reset => Managers::default(),
        Said::Managers(managers) => managers,
    };
    // An existing object whose fields nobody owns stays so until the first apply.
    if managers.is_empty() && object::uid(live).is_some() {
        return managers;
    }
    record_update(write, live, new, managers)
}

fn record_update(write: &Write<'_>, live: &Value, new: &Value, mut managers: Managers) -> Managers {
    let id = write.id(Operation::Update);
    let mut fields = take_from_others(write, live, new, &mut managers, None).changed();
    fields.subtract(&UNOWNED_FIELDS);
    if !fields.is_empty() {
        if let Some(previous) = managers.get(&id) {
            fields.unite(&previous.fields);
        }
        let owned = Owned { fields, api_version: write.api_version.into(), time: Some(write.now.into()) };
        managers.insert(id, owned);
    }
    managers.cap_updaters();
    managers
}

/// Merges an applied configuration into the live object, which is empty when there is none; both are in the version
/// of the write, without their managed fields. Gives the new object and who owns what of it.
pub fn apply(
    write: &Write<'_>,
    live: &Value,
    owners: &Managers,
    applied: &Value,
    force: bool,
) -> Result<(Value, Managers), Refusal> {
    let schema = write.schema(write.api_version);
    walk::check(schema, applied).map_err(Refusal::Malformed)?;
    let mut managers = owners.clone();
    if managers.is_empty() {
        let first = Write { manager: BEFORE_FIRST_APPLY, subresource: write.subresource, ..*write };
        managers = record_update(&first, &Value::Object(Default::default()), live, managers);
    }
    let id = write.id(Operation::Apply);
    let mut fields = walk::field_set(schema, applied);
    fields.cut(&write.reset_fields());
    let time = managers.get(&id).and_then(|owned| owned.time.clone());
    let last = managers.insert(id.clone(), Owned { fields, api_version: write.api_version.into(), time });
    let merged = walk::merge(schema, live, applied);
    let new = match last {
        Some(last) => prune(write, merged, &managers, &last),
        None => merged,
    };

    if !force {
        let found = conflicts(write, live, &new, &managers, &id);
        if !found.0.is_empty() {
            return Err(Refusal::Conflicts(found));
        }
    }
    take_from_others(write, live, &new, &mut managers, Some(&id));
    let changed = new != *live;
    if let Some(mine) = managers.get_mut(&id) {
        mine.fields.subtract(&UNOWNED_FIELDS);
        if changed {
            mine.time = Some(write.now.into());
        }
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
    Ok((new, managers))
}

/// [`UNOWNED`] as a set.
static UNOWNED_FIELDS: LazyLock<FieldSet> = LazyLock::new(|| {
    let mut set = FieldSet::default();
    for path in UNOWNED {
        let path: Vec<_> = path.iter().map(|name| field(name)).collect();
        set.insert(&path);
    }
    set
});

/// How the objects differ, in each version that some manager wrote, that of the write first.
fn comparisons(write: &Write<'_>, live: &Value, new: &Value, managers: &Managers) -> Vec<(String, Comparison)> {
    let reset = write.reset_fields();
    let mut own = walk::compare(write.schema(write.api_version), live, new);
    own.cut(&reset);
    let mut comparisons = vec![(write.api_version.to_owned(), own)];
    for (_, owned) in managers.iter() {
        if in_version(&comparisons, &owned.api_version).is_some() {
            continue;
        }
        let convert = |object: &Value| match object.as_object() {
            Some(fields) if fields.is_empty() => Some(object.clone()),
            _ => write.versions.convert(object, &owned.api_version),
        };
        let schema = write.versions.schema(&owned.api_version);
        if let (Some(schema), Some(live), Some(new)) = (schema, convert(live), convert(new)) {
            let mut comparison = walk::compare(schema, &live, &new);
            comparison.cut(&reset);
            comparisons.push((owned.api_version.clone(), comparison));
        }
    }
    comparisons
}

fn in_version<'a>(comparisons: &'a [(String, Comparison)], api_version: &str) -> Option<&'a Comparison> {
    comparisons.iter().find(|(known, _)| known == api_version).map(|(_, comparison)| comparison)
}

fn conflicts(write: &Write<'_>, live: &Value, new: &Value, managers: &Managers, own: &ManagerId) -> Conflicts {
    let comparisons = comparisons(write, live, new, managers);
    let conflicts = managers.iter().filter(|(id, _)| id != own).filter_map(|(id, owned)| {
        let comparison = in_version(&comparisons, &owned.api_version)?;
        let mut fields = owned.fields.intersection(&comparison.added);
        fields.unite(&owned.fields.intersection(&comparison.modified));
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
    managers.retain(|id, owned| {
        if Some(id) == keep {
            return true;
        }
        let Some(comparison) = in_version(&comparisons, &owned.api_version) else { return false };
        for gone in [&comparison.added, &comparison.modified, &comparison.removed] {
            owned.fields.subtract(gone);
        }
        !owned.fields.is_empty()
    });
    comparisons.swap_remove(0).1
}

/// Takes out of the merged object what its manager applied last time, does not apply now, and nobody else owns.
fn prune(write: &Write<'_>, merged: Value, managers: &Managers, last: &Owned) -> Value {
    // Who gives nothing up loses nothing; most applies are such.
    let is_of_one_version = |(_, owned): &(ManagerId, Owned)| owned.api_version == last.api_version;
    let now = managers.get(&write.id(Operation::Apply)).filter(|_| managers.iter().all(is_of_one_version));
    if now.is_some_and(|now| now.fields.contains(&last.fields)) {
        return merged;
    }
    let versions = write.versions;
    let (Some(last_schema), Some(merged_then)) =
        (versions.schema(&last.api_version), versions.convert(&merged, &last.api_version))
    else {
        return merged;
    };
    let last_fields = last.fields.with_named_fields(last_schema);
    let mut pruned = walk::remove(last_schema, &merged_then, &last_fields);
    if pruned.is_null() {
        pruned = Value::Object(Default::default());
    }

    // What anybody owns comes back: first in the version of the last apply, then in the others.
    let mut by_version: BTreeMap<&str, FieldSet> = BTreeMap::new();
    for (_, owned) in managers.iter() {
        by_version.entry(&owned.api_version).or_default().unite(&owned.fields);
    }
    let own_version = by_version.remove(last.api_version.as_str()).map(|fields| (last.api_version.as_str(), fields));
    for (version, managed) in own_version.into_iter().chain(by_version) {
        let (Some(schema), Some(merged), Some(pruned_then)) =
            (versions.schema(version), versions.convert(&merged, version), versions.convert(&pruned, version))
        else {
            continue;
        };
        let mut gone = walk::field_set(schema, &merged).with_named_fields(schema);
        gone.subtract(&walk::field_set(schema, &pruned_then).with_named_fields(schema));
        gone.subtract(&managed.with_named_fields(schema));
        pruned = walk::remove(schema, &merged, &gone);
    }

    // Nothing goes that the manager did not own itself.
    let Some(pruned) = versions.convert(&pruned, &last.api_version) else { return merged };
    let mut gone = walk::field_set(last_schema, &merged_then).with_named_fields(last_schema);
    gone.subtract(&walk::field_set(last_schema, &pruned).with_named_fields(last_schema));
    let pruned = walk::remove(last_schema, &merged_then, &gone.intersection(&last_fields));
    versions.convert(&pruned, write.api_version).unwrap_or(merged)
}

#[cfg(test)]
mod tests;
