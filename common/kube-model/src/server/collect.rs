//! The garbage collector and the namespace controller, one step at a time.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    Clock, DeleteParams, Propagation, State,
    delete::{FOREGROUND, ORPHAN},
};
use crate::{
    object,
    storage::{Change, ObjectId, key, owner_uids},
    stored::Stored,
};

/// How the owners of an object stand.
#[derive(Default)]
struct Owners {
    /// UIDs of those that are there.
    solid: Vec<String>,
    /// UIDs of those that are gone.
    gone: Vec<String>,
    /// UIDs of those that wait for their dependents to go.
    waiting: Vec<String>,
}

impl State {
    /// Notes which objects a change gives the collector to look at.
    pub(super) fn note_garbage(&mut self, id: &ObjectId, change: &Change) {
        let old = change.old.as_deref();
        let mut noted: Vec<ObjectId> = Vec::new();
        if let Some(new) = change.new.as_deref() {
            let owners_changed = old.is_none_or(|old| !object::owners(old).eq(object::owners(new)));
            let waits = object::finalizers(new).iter().any(|name| [ORPHAN, FOREGROUND].contains(name));
            let is_emptied = id.0 == self.namespaces() && old.is_none_or(|old| !object::is_deleting(old));
            if (owners_changed && object::owners(new).next().is_some())
                || (object::is_deleting(new) && (waits || is_emptied))
            {
                noted.push(id.clone());
            }
        } else {
            let uid = old.and_then(|old| object::uid(old)).unwrap_or_default();
            noted.extend(self.store.dependents(uid).cloned());
        }
        // Owners wait for dependents to go or to let go of them, and namespaces to be empty.
        if let Some(old) = old {
            let waiting = owner_uids(old).filter_map(|uid| self.store.find_uid(uid));
            let is_waiting = |owner: &&ObjectId| self.store.get(owner).is_some_and(|owner| object::is_deleting(owner));
            noted.extend(waiting.filter(is_waiting).cloned());
            if change.new.is_none()
                && let namespace = object::namespace(old)
                && self.namespace(namespace).is_some_and(|namespace| object::is_deleting(namespace))
            {
                noted.push((self.namespaces(), key("", namespace)));
            }
        }
        for id in noted {
            if !self.garbage.contains(&id) {
                self.garbage.push_back(id);
            }
        }
    }

    fn namespaces(&self) -> crate::registry::ResourceId {
        // Built-in kinds are installed first and never removed.
        self.registry.find_kind("", "Namespace").unwrap_or(crate::registry::ResourceId(0))
    }

    /// Looks at one noted object; false when none was noted.
    pub(super) fn collect_one(&mut self, clock: &Clock) -> bool {
        let Some(id) = self.garbage.pop_front() else { return false };
        let Some(object) = self.store.get(&id).cloned() else { return true };
        let finalizers = object::finalizers(&object);
        if id.0 == self.namespaces() && object::is_deleting(&object) {
            self.empty_namespace(&id, &object, clock);
        } else if object::is_deleting(&object) && finalizers.contains(&ORPHAN) {
            self.orphan_dependents(&object);
            self.remove_finalizer(&id, ORPHAN);
        } else if object::is_deleting(&object) && finalizers.contains(&FOREGROUND) {
            self.delete_dependents(&id, &object, clock);
        } else if !object::is_deleting(&object) {
            self.judge(&id, &object, clock);
        }
        true
    }

    /// Deletes an object whose owners are gone, or lets go of those that are.
    fn judge(&mut self, id: &ObjectId, object: &Stored, clock: &Clock) {
        let owners = self.owners(object);
        if !owners.solid.is_empty() {
            let gone: Vec<_> = owners.gone.into_iter().chain(owners.waiting).collect();
            if !gone.is_empty() {
                self.let_go(id, &gone);
            }
            return;
        }
        if owners.gone.is_empty() && owners.waiting.is_empty() {
            return;
        }
        let uid = object::uid(object).unwrap_or_default();
        let has_dependents = self.store.dependents(uid).next().is_some();
        let finalizers = object::finalizers(object);
        let propagation = if (!owners.waiting.is_empty() && has_dependents) || finalizers.contains(&FOREGROUND) {
            Propagation::Foreground
        } else if finalizers.contains(&ORPHAN) {
            Propagation::Orphan
        } else {
            Propagation::Background
        };
        self.delete_by(id, object, propagation, clock);
    }

    fn owners(&self, object: &Value) -> Owners {
        let mut owners = Owners::default();
        for uid in owner_uids(object) {
            let owner = self.store.find_uid(uid).and_then(|id| self.store.get(id));
            // A namespaced owner elsewhere counts as none.
            let owner = owner.filter(|owner| {
                let home = object::namespace(owner);
                home.is_empty() || home == object::namespace(object)
            });
            let list = match owner {
                None => &mut owners.gone,
                Some(owner) if object::is_deleting(owner) && object::finalizers(owner).contains(&FOREGROUND) => {
                    &mut owners.waiting
                }
                Some(_) => &mut owners.solid,
            };
            list.push(uid.to_owned());
        }
        owners
    }

    fn delete_by(&mut self, id: &ObjectId, object: &Stored, propagation: Propagation, clock: &Clock) {
        let params = DeleteParams {
            uid: object::uid(object).map(str::to_owned),
            propagation: Some(propagation),
            ..DeleteParams::default()
        };
        // It was read under the same lock: nothing can have come between.
        let _ = self.delete(id, object::name(object), &params, clock);
    }

    /// Deletes what an owner waits for; lets it go when nothing is left that blocks it.
    fn delete_dependents(&mut self, id: &ObjectId, owner: &Stored, clock: &Clock) {
        let uid = object::uid(owner).unwrap_or_default().to_owned();
        let dependents: Vec<_> = self.store.dependents(&uid).cloned().collect();
        let blocks = |object: &Value| {
            object::owners(object).any(|owner| owner["uid"] == json!(uid) && owner["blockOwnerDeletion"] == json!(true))
        };
        let is_blocked = dependents.iter().any(|id| self.store.get(id).is_some_and(|object| blocks(object)));
        if !is_blocked {
            return self.remove_finalizer(id, FOREGROUND);
        }
        for id in dependents {
            if let Some(object) = self.store.get(&id).cloned().filter(|object| !object::is_deleting(object)) {
                self.judge(&id, &object, clock);
            }
        }
    }

    fn orphan_dependents(&mut self, owner: &Value) {
        let uid = object::uid(owner).unwrap_or_default().to_owned();
        let dependents: Vec<_> = self.store.dependents(&uid).cloned().collect();
        for id in dependents {
            self.let_go(&id, std::slice::from_ref(&uid));
        }
    }

    /// Removes owners from an object.
    fn let_go(&mut self, id: &ObjectId, owners: &[String]) {
        let Some(live) = self.store.get(id).cloned() else { return };
        let mut object = live.fields().as_ref().clone();
        let is_kept = |owner: &&Value| !owners.iter().any(|uid| owner["uid"] == json!(uid));
        let kept: Vec<_> = object::owners(&object).filter(is_kept).cloned().collect();
        if kept.is_empty() {
            object::remove_meta(&mut object, "ownerReferences");
        } else {
            object::set_meta(&mut object, "ownerReferences", Value::Array(kept));
        }
        self.commit(id, Some((object, Arc::clone(live.managers()))));
    }

    fn remove_finalizer(&mut self, id: &ObjectId, finalizer: &str) {
        let Some(live) = self.store.get(id).cloned() else { return };
        let kept: Vec<_> = object::finalizers(&live).into_iter().filter(|name| *name != finalizer).collect();
        if kept.is_empty() {
            self.commit(id, None);
        } else {
            let mut object = live.fields().as_ref().clone();
            object::set_finalizers(&mut object, &kept);
            self.commit(id, Some((object, Arc::clone(live.managers()))));
        }
    }

    /// Deletes what is in a namespace, and the namespace when nothing is left.
    fn empty_namespace(&mut self, id: &ObjectId, namespace: &Stored, clock: &Clock) {
        let prefix = format!("{}/", object::name(namespace));
        let resources: Vec<_> = self.registry.iter().map(|(id, _)| id).collect();
        let content = |state: &Self| -> Vec<ObjectId> {
            let of = |resource| state.store.range(resource, &prefix, "").map(move |(key, _)| (resource, key.clone()));
            resources.iter().flat_map(|resource| of(*resource)).collect()
        };
        for id in content(self) {
            if let Some(object) = self.store.get(&id).cloned().filter(|object| !object::is_deleting(object)) {
                self.delete_by(&id, &object, Propagation::Background, clock);
            }
        }
        if content(self).is_empty() {
            let mut object = namespace.fields().as_ref().clone();
            let finalizers = object.pointer("/spec/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
            let kept: Vec<_> = finalizers.into_iter().filter(|name| *name != json!("kubernetes")).collect();
            let waits = !kept.is_empty() || !object::finalizers(namespace).is_empty();
            object["spec"] = if kept.is_empty() { json!({}) } else { json!({"finalizers": kept}) };
            if object != **namespace {
                self.commit(id, Some((object, Arc::clone(namespace.managers()))));
            }
            if !waits {
                self.commit(id, None);
            }
        } else {
            let left: Vec<(ObjectId, Arc<Stored>)> = content(self)
                .into_iter()
                .filter_map(|id| Some((id.clone(), Arc::clone(self.store.get(&id)?))))
                .collect();
            self.show_remaining(id, namespace, &left, clock);
        }
    }

    /// Says in a namespace's conditions what it waits for.
    fn show_remaining(&mut self, id: &ObjectId, namespace: &Stored, left: &[(ObjectId, Arc<Stored>)], clock: &Clock) {
        let resource = |id: &ObjectId| {
            let resource = self.registry.get(id.0);
            resource.map(|resource| format!("{}.{}", resource.plural, resource.group)).unwrap_or_default()
        };
        let kinds = counted(left.iter().map(|(id, _)| resource(id)), |kind, count| {
            format!("{kind} has {count} resource instances")
        });
        let finalizers = left.iter().flat_map(|(_, object)| object::finalizers(object)).map(str::to_owned);
        let finalizers = counted(finalizers, |name, count| format!("{name} in {count} resource instances"));
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            let known = namespace["status"]["conditions"].as_array().into_iter().flatten();
            let since = known.into_iter().find(|known| known["type"] == kind && known["status"] == status);
            let since = since.map_or_else(|| json!(clock.text()), |known| known["lastTransitionTime"].clone());
            json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
        };
        let mut conditions = vec![
            condition(
                "NamespaceDeletionDiscoveryFailure",
                "False",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            condition(
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            condition(
                "NamespaceDeletionContentFailure",
                "False",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            condition(
                "NamespaceContentRemaining",
                "True",
                "SomeResourcesRemain",
                &format!("Some resources are remaining: {kinds}"),
            ),
        ];
        conditions.push(if finalizers.is_empty() {
            condition(
                "NamespaceFinalizersRemaining",
                "False",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            )
        } else {
            let why = format!("Some content in the namespace has finalizers remaining: {finalizers}");
            condition("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", &why)
        });
        let mut object = namespace.fields().as_ref().clone();
        object["status"]["conditions"] = json!(conditions);
        if object != **namespace {
            self.commit(id, Some((object, Arc::clone(namespace.managers()))));
        }
    }
}

/// How often each text occurs, in words.
fn counted(texts: impl Iterator<Item = String>, say: impl Fn(&str, usize) -> String) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts.iter().map(|(text, count)| say(text, *count)).collect::<Vec<_>>().join(", ")
}
