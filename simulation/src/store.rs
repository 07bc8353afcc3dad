//! Direct access to an API server for models of those who are not under test: without transport, without faults.

use std::sync::Arc;

use kube_model::{ApiError, DeleteParams, List, ListParams, Patch, Propagation, Server, Target, WriteParams};
use manager::clock::Clock;
use serde_json::Value;

use crate::journal::{Journal, Violation};

/// A kind as paths name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Name.
    pub kind: &'static str,
    /// Plural.
    pub plural: &'static str,
}

impl Kind {
    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    fn target(&self, namespace: &str, name: &str, subresource: &str) -> Target {
        Target {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            plural: self.plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// An API server as one actor sees it.
#[derive(Clone)]
pub struct Store {
    actor: Arc<str>,
    server: Arc<Server>,
    journal: Arc<Journal>,
    namespace: &'static str,
}

impl Store {
    /// The objects of a namespace (empty: cluster-wide ones), for an actor of this name.
    pub fn new(actor: &str, server: Arc<Server>, journal: Arc<Journal>, namespace: &'static str) -> Self {
        Self { actor: actor.into(), server, journal, namespace }
    }

    /// The same server, and another namespace.
    #[must_use]
    pub fn within(&self, namespace: &'static str) -> Self {
        Self { namespace, ..self.clone() }
    }

    /// Who this is.
    pub fn actor(&self) -> &Arc<str> {
        &self.actor
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The journal of its world.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// An object.
    pub fn get(&self, kind: Kind, name: &str) -> Option<Arc<Value>> {
        self.server.get(&kind.target(self.namespace, name, ""), false).ok()
    }

    /// All objects of a kind, by name.
    pub fn list(&self, kind: Kind) -> Vec<Arc<Value>> {
        let listed = self.server.list(&kind.target(self.namespace, "", ""), &ListParams::default());
        listed.map(List::into_fields).unwrap_or_default()
    }

    /// Creates an object; kind and version are filled in. One that exists is fine.
    pub fn create(&self, kind: Kind, mut object: Value) {
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        let name = text(&object, "/metadata/name").to_owned();
        let created = self.server.create(&kind.target(self.namespace, "", ""), object, &self.params());
        self.settle("create", kind, &name, created.map(drop));
    }

    /// Merge-patches an object. One that is gone is fine.
    pub fn merge(&self, kind: Kind, name: &str, patch: Value) {
        self.patch(kind, name, "", patch);
    }

    /// Merge-patches a status. An object that is gone is fine.
    pub fn merge_status(&self, kind: Kind, name: &str, status: Value) {
        self.patch(kind, name, "status", serde_json::json!({"status": status}));
    }

    /// Merge-patches status and whatever guards it. An object that is gone, or was written meanwhile, is fine.
    pub fn merge_status_guarded(&self, kind: Kind, name: &str, patch: Value) {
        self.patch(kind, name, "status", patch);
    }

    /// The true time, as objects carry it.
    pub fn now(&self) -> String {
        self.journal.clock().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn patch(&self, kind: Kind, name: &str, subresource: &str, patch: Value) {
        let before = self.server.version();
        let target = kind.target(self.namespace, name, subresource);
        let patched = self.server.patch(&target, &Patch::Merge(patch), &self.params());
        // What changes nothing is not worth a line.
        if patched.is_err() || self.server.version() != before {
            let what = if subresource.is_empty() { "patch" } else { "patch status of" };
            self.settle(what, kind, name, patched.map(drop));
        }
    }

    /// Deletes an object, and what it owns afterwards. One that is gone is fine.
    pub fn delete(&self, kind: Kind, name: &str) {
        self.delete_with(kind, name, None);
    }

    /// Deletes a pod whose node is gone: nobody has to stop first.
    pub fn delete_now(&self, kind: Kind, name: &str) {
        self.delete_with(kind, name, Some(0));
    }

    fn delete_with(&self, kind: Kind, name: &str, grace_seconds: Option<i64>) {
        let params =
            DeleteParams { propagation: Some(Propagation::Background), grace_seconds, ..DeleteParams::default() };
        let before = self.server.version();
        let deleted = self.server.delete(&kind.target(self.namespace, name, ""), &params);
        if self.server.version() != before {
            self.settle("delete", kind, name, deleted.map(drop));
        }
    }

    fn params(&self) -> WriteParams {
        WriteParams { manager: self.actor.to_string(), ..WriteParams::default() }
    }

    /// A model that is refused something other than what races explain is wrong: its world proves nothing.
    fn settle(&self, verb: &str, kind: Kind, name: &str, outcome: Result<(), ApiError>) {
        let said = match &outcome {
            Ok(()) => String::new(),
            Err(error) => format!("{} {}", error.code(), error.message()),
        };
        self.journal.note(&self.actor, format!("{verb} {}/{name}", kind.plural), said);
        match outcome {
            Err(error) if ![404, 409].contains(&error.code()) => {
                let what = format!("{} cannot {verb} {}/{name}: {}", self.actor, kind.plural, error.message());
                self.journal.violate(Violation::new("model", what));
            }
            _ => self.journal.changed(),
        }
    }
}

/// What lies at a path of field names, such as `/metadata/name`. JSON pointers say the same and cost a string for each name.
pub fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(object, |inner, name| inner.get(name))
}

/// A text in an object, by its path; empty where there is none.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// A flag in an object, by its path.
pub fn flag(object: &Value, path: &str) -> bool {
    at(object, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of a list in an object, by its path.
pub fn items<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    at(object, path).and_then(Value::as_array).into_iter().flatten()
}

/// Whether an object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some()
}

/// The finalizers of an object.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = at(object, "/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A value of a Secret.
pub fn secret_value(secret: &Value, key: &str) -> Vec<u8> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let encoded = secret.get("data").and_then(|data| data.get(key)).and_then(Value::as_str).unwrap_or_default();
    BASE64_STANDARD.decode(encoded).unwrap_or_default()
}
