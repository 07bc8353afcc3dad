//! Who owns the labels and annotations of an object of a machine, as its managed fields tell.
//!
//! Such an object is made in one write, by [`FIELD_MANAGER`]. What may change later belongs to [`METADATA_MANAGER`], so that
//! a label that leaves the spec leaves the object: it is handed over when it changes for the first time, which for most
//! objects is never.

use std::collections::BTreeSet;

use cluster_api::labels::{CLONED_FROM_GROUP_KIND, CLONED_FROM_NAME};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};

use super::names::{FIELD_MANAGER, METADATA_MANAGER};

/// What changes, as the keys of managed fields.
const CHANGING: [&str; 2] = ["f:labels", "f:annotations"];
/// What says where an object came from; it stays as it was made.
const ORIGIN: [&str; 2] = [CLONED_FROM_NAME, CLONED_FROM_GROUP_KIND];

/// The managed fields after [`FIELD_MANAGER`] has handed over, or `None` where it owns nothing that changes.
///
/// Only for objects that were made in one write: where [`METADATA_MANAGER`] owns anything, what [`FIELD_MANAGER`] has kept
/// came with the template and is fixed.
pub fn handed_over(object: &ObjectMeta) -> Option<Vec<ManagedFieldsEntry>> {
    if applied_by(object, METADATA_MANAGER).is_some() {
        return None;
    }
    let mut giver = applied_by(object, FIELD_MANAGER)?.clone();
    let mut handed = Map::new();
    for field in CHANGING {
        let owned = giver.fields_v1.as_mut()?.0.pointer_mut(&format!("/f:metadata/{field}"));
        let Some(owned) = owned.and_then(Value::as_object_mut) else { continue };
        let (kept, given): (Map<_, _>, Map<_, _>) = std::mem::take(owned)
            .into_iter()
            .partition(|(key, _)| name_of(key).is_some_and(|name| ORIGIN.contains(&name)));
        *owned = kept;
        handed.insert(field.to_owned(), Value::Object(given));
    }
    if handed.values().all(|given| given.as_object().is_none_or(Map::is_empty)) {
        return None;
    }
    let taker = ManagedFieldsEntry {
        manager: Some(METADATA_MANAGER.to_owned()),
        fields_v1: Some(FieldsV1(json!({"f:metadata": handed}))),
        ..giver.clone()
    };
    let others = object.managed_fields.iter().flatten().filter(|entry| !is_applied_by(entry, FIELD_MANAGER)).cloned();
    Some(others.chain([giver, taker]).collect())
}

/// Whether the object's labels and annotations that are ours and may change are just those that are wanted: there are no
/// others to take away. `wanted` is an object with `metadata`.
pub fn has_no_more_than(object: &ObjectMeta, wanted: &Value) -> bool {
    let manager = applied_by(object, METADATA_MANAGER).or_else(|| applied_by(object, FIELD_MANAGER));
    let Some(fields) = manager.and_then(|entry| entry.fields_v1.as_ref()) else { return false };
    CHANGING.iter().all(|field| {
        let owned = fields.0.pointer(&format!("/f:metadata/{field}")).and_then(Value::as_object);
        let owned: BTreeSet<_> = owned.into_iter().flat_map(Map::keys).filter_map(|key| name_of(key)).collect();
        let wanted = wanted["metadata"][name_of(field).unwrap_or_default()].as_object();
        owned.iter().all(|name| ORIGIN.contains(name) || wanted.is_some_and(|wanted| wanted.contains_key(*name)))
    })
}

/// Whether an object without what may change has no labels and annotations but those that say where it came from.
pub fn is_origin_alone(fixed: &Value) -> bool {
    ["labels", "annotations"].iter().all(|field| {
        let names = fixed["metadata"][field].as_object();
        names.into_iter().flat_map(Map::keys).all(|name| ORIGIN.contains(&name.as_str()))
    })
}

/// The field that a key of managed fields stands for.
fn name_of(key: &str) -> Option<&str> {
    key.strip_prefix("f:")
}

fn applied_by<'a>(object: &'a ObjectMeta, manager: &str) -> Option<&'a ManagedFieldsEntry> {
    object.managed_fields.iter().flatten().find(|entry| is_applied_by(entry, manager))
}

fn is_applied_by(entry: &ManagedFieldsEntry, manager: &str) -> bool {
    entry.manager.as_deref() == Some(manager)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            api_version: Some("infrastructure.cluster.x-k8s.io/v1beta1".to_owned()),
            fields_type: Some("FieldsV1".to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn object(entries: Vec<ManagedFieldsEntry>) -> ObjectMeta {
        ObjectMeta { managed_fields: Some(entries), ..ObjectMeta::default() }
    }

    fn made() -> ManagedFieldsEntry {
        let annotations = json!({format!("f:{CLONED_FROM_NAME}"): {}, "f:note": {}});
        let metadata = json!({"f:labels": {"f:a": {}}, "f:annotations": annotations, "f:ownerReferences": {}});
        entry(FIELD_MANAGER, "Apply", json!({"f:metadata": metadata, "f:spec": {"f:x": {}}}))
    }

    #[test]
    fn what_changes_is_handed_over_and_the_rest_is_kept() {
        let other = entry("core", "Update", json!({"f:metadata": {"f:labels": {"f:b": {}}}}));
        let after = handed_over(&object(vec![made(), other.clone()])).unwrap();
        let [first, giver, taker] = after.as_slice() else { panic!("{after:?}") };
        assert_eq!(*first, other, "others keep what is theirs");
        let kept =
            json!({"f:labels": {}, "f:annotations": {format!("f:{CLONED_FROM_NAME}"): {}}, "f:ownerReferences": {}});
        assert_eq!(giver.fields_v1.as_ref().unwrap().0, json!({"f:metadata": kept, "f:spec": {"f:x": {}}}));
        assert_eq!(taker.manager.as_deref(), Some(METADATA_MANAGER));
        let given = json!({"f:metadata": {"f:labels": {"f:a": {}}, "f:annotations": {"f:note": {}}}});
        assert_eq!(taker.fields_v1.as_ref().unwrap().0, given);
        assert_eq!(handed_over(&object(after)), None, "once");
    }

    #[test]
    fn objects_made_in_two_writes_or_by_others_stay_as_they_are() {
        let labels = entry(METADATA_MANAGER, "Apply", json!({"f:metadata": {"f:labels": {"f:b": {}}}}));
        assert_eq!(handed_over(&object(vec![made(), labels])), None);
        assert_eq!(handed_over(&object(vec![entry(FIELD_MANAGER, "Update", json!({"f:metadata": {}}))])), None);
        assert_eq!(handed_over(&object(vec![entry(FIELD_MANAGER, "Apply", json!({"f:spec": {}}))])), None);
    }

    #[test]
    fn a_label_that_is_not_wanted_any_more_is_seen() {
        let wanted = json!({"metadata": {"labels": {"a": "1"}, "annotations": {"note": ""}}});
        assert!(has_no_more_than(&object(vec![made()]), &wanted));
        assert!(!has_no_more_than(&object(vec![made()]), &json!({"metadata": {"labels": {"a": "1"}}})));
        assert!(!has_no_more_than(&object(Vec::new()), &wanted), "nobody knows");
        let after = object(handed_over(&object(vec![made()])).unwrap());
        assert!(has_no_more_than(&after, &wanted));
        assert!(!has_no_more_than(&after, &json!({"metadata": {"annotations": {"note": ""}}})));
    }
}
