//! Deletion of objects and collections.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};
use serde_json::{Value, json};

use super::{Clock, List, ListParams, Server, State, Target};
use crate::{
    errors::{ApiError, Qualified},
    object,
    registry::Resource,
    selectors::Selector,
    storage::{ObjectId, key},
    stored::Stored,
    watch::{View, at_version},
};

/// Waits until dependents have lost their owner.
pub(super) const ORPHAN: &str = "orphan";
/// Namespaces without which nothing works (`NamespaceLifecycle`).
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Waits until dependents that block it are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted before.
    Foreground,
}

/// Parameters of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteParams {
    /// UID that the object must have.
    pub uid: Option<String>,
    /// Resource version that the object must have.
    pub resource_version: Option<String>,
    /// What becomes of dependents; without it the object's finalizers decide, and else they are deleted afterwards.
    pub propagation: Option<Propagation>,
    /// Seconds for whoever has to stop first; only kinds with grace heed it.
    pub grace_seconds: Option<i64>,
    /// Nothing is changed.
    pub is_dry_run: bool,
}

/// The answer to a deletion.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object as it was, or as it waits for its finalizers.
    Object(Arc<Stored>),
    /// It is gone.
    Gone(Box<Status>),
}

impl Server {
    /// Deletes an object, or marks it as being deleted.
    pub fn delete(&self, target: &Target, params: &DeleteParams) -> Result<Deleted, ApiError> {
        self.change(|state, clock| {
            let found = state.find(target)?;
            if !target.subresource.is_empty() {
                return Err(ApiError::method_not_allowed());
            }
            let id = (found.id, key(&target.namespace, &target.name));
            let view = View { version: target.version.clone(), is_metadata_only: false };
            let (object, is_gone) = state.delete(&id, &target.name, params, clock)?;
            let resource = &found.resource;
            if is_gone && !resource.behaviour.returns_deleted {
                return Ok(Deleted::Gone(Box::new(success(resource, &object))));
            }
            Ok(Deleted::Object(view.show(resource, &object)?))
        })
    }

    /// Deletes the selected objects of a collection; gives them as they were.
    pub fn delete_collection(
        &self,
        target: &Target,
        list: &ListParams,
        params: &DeleteParams,
    ) -> Result<List, ApiError> {
        self.change(|state, clock| {
            let found = state.find(target)?;
            if found.resource.behaviour.deletes_one_by_one {
                return Err(ApiError::method_not_allowed());
            }
            let selector = Selector::parse(&found.resource, &list.labels, &list.fields)?;
            let selected = state.list(&found, target, list, &selector)?;
            for object in &selected.items {
                let id = (found.id, key(object::namespace(object), object::name(object)));
                match state.delete(&id, object::name(object), params, clock) {
                    Err(error) if error.code() != 404 => return Err(error),
                    _ => {}
                }
            }
            Ok(selected)
        })
    }
}

fn success(resource: &Resource, object: &Value) -> Status {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Status {
        status: Some("Success".into()),
        details: Some(StatusDetails {
            name: text(object::name(object)),
            group: text(&resource.group),
            kind: text(&resource.plural),
            uid: object::uid(object).map(str::to_owned),
            ..StatusDetails::default()
        }),
        ..Status::default()
    }
}

impl State {
    /// Deletes an object or marks it; gives it as it is now, or was, and whether it is gone.
    pub(super) fn delete(
        &mut self,
        id: &ObjectId,
        name: &str,
        params: &DeleteParams,
        clock: &Clock,
    ) -> Result<(Arc<Stored>, bool), ApiError> {
        let resource = Arc::clone(self.registry.get(id.0).ok_or_else(ApiError::no_such_path)?);
        let live = self.store.get(id).cloned();
        let live = live.ok_or_else(|| ApiError::not_found(resource.qualified(), name))?;
        check_preconditions(&resource, &live, params)?;
        if resource.kind == "Namespace" && resource.group.is_empty() {
            return self.delete_namespace(id, &live, params, clock);
        }
        let mut object = live.fields().as_ref().clone();
        let is_graceful = match resource.behaviour.grace {
            Some(grace) => match begin_grace(&mut object, grace(&live), params, clock) {
                Grace::Pending => return Ok((live, false)),
                Grace::Begun => true,
                Grace::None => false,
            },
            None => false,
        };
        set_propagation(&mut object, params.propagation);
        let waits = !object::finalizers(&object).is_empty();
        let is_given_time = is_graceful && object::meta_number(&object, "deletionGracePeriodSeconds") > Some(0);
        if !waits && !is_given_time {
            if params.is_dry_run {
                return Ok((live, true));
            }
            self.commit(id, None);
            return Ok((Arc::new(at_version(&live, self.store.version())), true));
        }
        if waits && !is_graceful {
            mark(&mut object, clock);
        }
        self.settle(id, live, object, params).map(|object| (object, false))
    }

    /// A namespace is emptied first; its own finalizers are in its spec.
    fn delete_namespace(
        &mut self,
        id: &ObjectId,
        live: &Arc<Stored>,
        params: &DeleteParams,
        clock: &Clock,
    ) -> Result<(Arc<Stored>, bool), ApiError> {
        if IMMORTAL.contains(&object::name(live)) {
            let namespaces = Qualified { group: "", resource: "namespaces" };
            return Err(ApiError::forbidden(namespaces, object::name(live), "this namespace may not be deleted"));
        }
        if object::is_deleting(live) {
            return Ok((Arc::clone(live), false));
        }
        let mut object = live.fields().as_ref().clone();
        object::set_meta(&mut object, "deletionTimestamp", json!(clock.text()));
        object["status"]["phase"] = json!("Terminating");
        set_propagation(&mut object, params.propagation);
        self.settle(id, Arc::clone(live), object, params).map(|object| (object, false))
    }

    fn settle(
        &mut self,
        id: &ObjectId,
        live: Arc<Stored>,
        object: Value,
        params: &DeleteParams,
    ) -> Result<Arc<Stored>, ApiError> {
        if object == **live {
            return Ok(live);
        }
        if params.is_dry_run {
            return Ok(Arc::new(live.with_fields(object)));
        }
        let change = self.commit(id, Some((object, Arc::clone(live.managers()))));
        change.new.clone().ok_or_else(|| ApiError::internal("an object that is being deleted is gone"))
    }
}

pub(super) fn check_preconditions(resource: &Resource, live: &Value, params: &DeleteParams) -> Result<(), ApiError> {
    let refused = |why: String| Err(ApiError::conflict(resource.qualified_kind(), object::name(live), &why));
    let stored = object::uid(live).unwrap_or_default();
    if let Some(asked) = params.uid.as_deref().filter(|asked| *asked != stored) {
        return refused(format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({stored}). The object might have \
             been deleted and then recreated"
        ));
    }
    let stored = object::meta(live, "resourceVersion").unwrap_or_default();
    if let Some(asked) = params.resource_version.as_deref().filter(|asked| *asked != stored) {
        return refused(format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({stored}). \
             The object might have been modified"
        ));
    }
    Ok(())
}

enum Grace {
    /// Nothing has to be waited for.
    None,
    /// The wait begins, or has become shorter.
    Begun,
    /// It waits already, and no longer than is asked for.
    Pending,
}

/// Begins to wait for whoever has to stop first (`registry/rest/delete.go`).
fn begin_grace(object: &mut Value, wanted: i64, params: &DeleteParams, clock: &Clock) -> Grace {
    let asked = params.grace_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    if object::is_deleting(object) {
        let pending = object::meta_number(object, "deletionGracePeriodSeconds").unwrap_or_default();
        return match asked {
            _ if pending == 0 => Grace::None,
            Some(seconds) if seconds < pending => {
                object::set_meta(object, "deletionTimestamp", json!(clock.text_after(seconds)));
                object::set_meta(object, "deletionGracePeriodSeconds", json!(seconds));
                Grace::Begun
            }
            _ => Grace::Pending,
        };
    }
    // What runs nowhere stops at once, whatever is asked for.
    let seconds = if wanted == 0 { 0 } else { asked.unwrap_or(wanted) };
    object::set_meta(object, "deletionTimestamp", json!(clock.text_after(seconds)));
    object::set_meta(object, "deletionGracePeriodSeconds", json!(seconds));
    bump_generation(object);
    Grace::Begun
}

fn bump_generation(object: &mut Value) {
    if let Some(generation) = object::meta_number(object, "generation").filter(|generation| *generation > 0) {
        object::set_meta(object, "generation", json!(generation + 1));
    }
}

/// Marks an object that its finalizers keep.
fn mark(object: &mut Value, clock: &Clock) {
    if !object::is_deleting(object) {
        bump_generation(object);
        object::set_meta(object, "deletionTimestamp", json!(clock.text()));
    }
    object::set_meta(object, "deletionGracePeriodSeconds", json!(0));
}

/// Sets the finalizers that the garbage collector heeds.
fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let finalizers: Vec<String> = object::finalizers(object).into_iter().map(str::to_owned).collect();
    let mut kept: Vec<&str> =
        finalizers.iter().map(String::as_str).filter(|name| ![ORPHAN, FOREGROUND].contains(name)).collect();
    match propagation {
        Propagation::Orphan => kept.push(ORPHAN),
        Propagation::Foreground => kept.push(FOREGROUND),
        Propagation::Background => {}
    }
    object::set_finalizers(object, &kept);
}
