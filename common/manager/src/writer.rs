//! All writes to the management API server.
//!
//! Objects that we define are applied server-side with our field manager. Lists that others share (finalizers, annotations'
//! owners) are merge-patched under the resource version they were read at.

use std::{fmt::Debug, sync::Arc};

use json_patch::{PatchOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Category, ObjectKey, ReconcileError,
    clock::Clock,
    error::is_not_found,
    floor::{Expected, Floor},
    informer::version_number,
};

/// A kind that can be written.
pub trait Written:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Written for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Writes with one field manager; cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    manager: &'static str,
    floor: Arc<Floor>,
    clock: Arc<dyn Clock>,
}

impl Writer {
    pub(crate) fn new(client: Client, manager: &'static str, floor: Arc<Floor>, clock: Arc<dyn Clock>) -> Self {
        Self { client, manager, floor, clock }
    }

    /// The same writer under another field manager.
    #[must_use]
    pub fn with_manager(&self, manager: &'static str) -> Self {
        Self { manager, ..self.clone() }
    }

    /// Client of the management API server, for live reads.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The API of a kind in a namespace, for live reads.
    pub fn api<K: Written>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies an object as we define it, whole; returns what came of it. With `read`, only while the object is as it was read:
    /// of two applies of which the first is held up on its way, the second must be the last.
    pub async fn apply<K: Written>(&self, desired: &K, read: Option<&K>) -> Result<K, ReconcileError> {
        let body = apply_body(desired, read)?;
        let (key, parameters) = (ObjectKey::of(desired), PatchParams::apply(self.manager).force());
        let written = self.api::<K>(&key.namespace).patch(&key.name, &parameters, &Patch::Apply(&body)).await?;
        self.remember(&written);
        Ok(written)
    }

    /// Applies a status, whole. Nothing is sent when the object already shows it. An object that is gone needs none.
    pub async fn apply_status<K>(&self, object: &K, status: &K::Status) -> Result<(), ReconcileError>
    where
        K: Written + HasStatus<Status: Serialize>,
    {
        let status = serde_json::to_value(status)?;
        if serde_json::to_value(object.status())? == status {
            return Ok(());
        }
        self.apply_to_status(object, &status).await
    }

    /// Applies conditions to the status of an object that others give conditions of their own: each is an entry by its
    /// type. An object that is gone needs none.
    pub async fn apply_conditions<K: Written>(
        &self,
        object: &K,
        conditions: &[Condition],
    ) -> Result<(), ReconcileError> {
        self.apply_to_status(object, &json!({"conditions": conditions})).await
    }

    async fn apply_to_status<K: Written>(&self, object: &K, status: &Value) -> Result<(), ReconcileError> {
        let key = ObjectKey::of(object);
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // The UID makes an apply to an object that was deleted and made again fail instead of giving it our status.
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": object.uid()},
            "status": status,
        });
        self.write_status(object, &PatchParams::apply(self.manager).force(), &Patch::Apply(&body)).await
    }

    /// A merge patch of a status that fails when the object was written since it was read. An object that is gone needs
    /// none.
    pub async fn merge_status<K: Written>(&self, object: &K, mut patch: Value) -> Result<(), ReconcileError> {
        patch["metadata"] = json!({"resourceVersion": object.resource_version(), "uid": object.uid()});
        self.write_status(object, &self.changes(), &Patch::Merge(&patch)).await
    }

    async fn write_status<K: Written>(
        &self,
        object: &K,
        parameters: &PatchParams,
        patch: &Patch<&Value>,
    ) -> Result<(), ReconcileError> {
        let key = ObjectKey::of(object);
        match self.api::<K>(&key.namespace).patch_status(&key.name, parameters, patch).await {
            Ok(written) => {
                self.remember(&written);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates an object. `Ok(None)` when one of that name exists.
    pub async fn create<K: Written>(&self, object: &K) -> Result<Option<K>, ReconcileError> {
        let parameters = PostParams { field_manager: Some(self.manager.to_owned()), ..PostParams::default() };
        match self.api::<K>(&object.namespace().unwrap_or_default()).create(&parameters, object).await {
            Ok(created) => {
                self.remember(&created);
                Ok(Some(created))
            }
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a Secret of a fixed name. One that exists is returned when `owner` controls it or nobody does.
    pub async fn create_secret(&self, secret: &Secret, owner: &str) -> Result<Secret, ReconcileError> {
        if let Some(created) = self.create(secret).await? {
            return Ok(created);
        }
        let name = secret.name_any();
        let existing = self.api::<Secret>(&secret.namespace().unwrap_or_default()).get(&name).await?;
        let controller = existing.owner_references().iter().find(|owner| owner.controller == Some(true));
        match controller {
            Some(other) if other.uid != owner => Err(ReconcileError::new(
                Category::Terminal,
                format!("Secret {name} exists and belongs to {} {}; delete or rename it", other.kind, other.name),
            )),
            _ => Ok(existing),
        }
    }

    /// Replaces the data of a Secret that was read before, unless someone else wrote it since.
    pub async fn replace_secret(&self, secret: &Secret) -> Result<(), ReconcileError> {
        let parameters = PostParams { field_manager: Some(self.manager.to_owned()), ..PostParams::default() };
        let api = self.api::<Secret>(&secret.namespace().unwrap_or_default());
        api.replace(&secret.name_any(), &parameters, secret).await?;
        Ok(())
    }

    /// Adds a finalizer, in a write of its own, unless it is there.
    pub async fn add_finalizer<K: Written>(&self, object: &K, finalizer: &str) -> Result<(), ReconcileError> {
        if object.finalizers().iter().any(|present| present == finalizer) {
            return Ok(());
        }
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(finalizer.to_owned());
        self.merge(object, json!({"metadata": {"finalizers": finalizers}})).await.map(drop)
    }

    /// Removes a finalizer, unless it is gone. An object that is gone has lost it too.
    pub async fn remove_finalizer<K: Written>(&self, object: &K, finalizer: &str) -> Result<(), ReconcileError> {
        if !object.finalizers().iter().any(|present| present == finalizer) {
            return Ok(());
        }
        let finalizers: Vec<_> = object.finalizers().iter().filter(|present| *present != finalizer).collect();
        match self.merge_guarded(object, json!({"metadata": {"finalizers": finalizers}})).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A merge patch that fails when the object was written since it was read; returns the object as it became.
    pub async fn merge<K: Written>(&self, object: &K, patch: Value) -> Result<K, ReconcileError> {
        Ok(self.merge_guarded(object, patch).await?)
    }

    async fn merge_guarded<K: Written>(&self, object: &K, mut patch: Value) -> Result<K, kube::Error> {
        let key = ObjectKey::of(object);
        patch["metadata"]["resourceVersion"] = json!(object.resource_version());
        patch["metadata"]["uid"] = json!(object.uid());
        let written = self.api::<K>(&key.namespace).patch(&key.name, &self.changes(), &Patch::Merge(&patch)).await?;
        self.remember(&written);
        Ok(written)
    }

    /// A merge patch of a spec that fails when the spec was written since the object was read; returns the object as it
    /// became. What others write to metadata and status meanwhile, as core does all the time, is no conflict.
    pub async fn merge_spec<K: Written>(&self, object: &K, spec: &Value) -> Result<K, ReconcileError> {
        let key = ObjectKey::of(object);
        let patch: Patch<K> = Patch::Json(spec_patch(object, spec)?);
        match self.api::<K>(&key.namespace).patch(&key.name, &self.changes(), &patch).await {
            Ok(written) => {
                self.remember(&written);
                Ok(written)
            }
            Err(kube::Error::Api(status)) if is_failed_test(&status) => {
                let message = format!("{} {key}: its spec was written meanwhile", K::kind(&()));
                Err(ReconcileError::new(Category::Conflict, message))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A merge patch of what only we write, whoever else wrote the object since.
    pub async fn merge_anyway<K: Written>(&self, key: &ObjectKey, patch: &Value) -> Result<K, ReconcileError> {
        let written = self.api::<K>(&key.namespace).patch(&key.name, &self.changes(), &Patch::Merge(patch)).await?;
        self.remember(&written);
        Ok(written)
    }

    /// Deletes exactly this object; one that is gone or deleting already is fine.
    pub async fn delete<K: Written>(&self, object: &K) -> Result<(), ReconcileError> {
        if object.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let key = ObjectKey::of(object);
        let preconditions = Preconditions { uid: object.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api::<K>(&key.namespace).delete(&key.name, &parameters).await {
            Ok(_) => {
                let version = version_number(object.resource_version().as_deref());
                self.floor.wrote::<K>(key, Expected::GoneOrAfter(version), self.clock.monotonic());
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Parameters of a patch that changes fields without applying them.
    fn changes(&self) -> PatchParams {
        PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() }
    }

    fn remember<K: Written>(&self, written: &K) {
        let version = version_number(written.resource_version().as_deref());
        self.floor.wrote::<K>(ObjectKey::of(written), Expected::AtLeast(version), self.clock.monotonic());
    }
}

/// A merge patch of a spec as operations, the first of which make sure that object and spec are still those that were read.
fn spec_patch<K: Written>(object: &K, spec: &Value) -> Result<json_patch::Patch, ReconcileError> {
    let before = json!({"spec": serde_json::to_value(object)?["spec"]});
    let mut after = before.clone();
    json_patch::merge(&mut after, &json!({"spec": spec}));
    let read = [("uid", json!(object.meta().uid)), ("generation", json!(object.meta().generation))];
    let tests = read.iter().filter(|(_, value)| !value.is_null()).map(|(field, value)| {
        let path = PointerBuf::from_tokens(["metadata", *field]);
        PatchOperation::Test(TestOperation { path, value: value.clone() })
    });
    Ok(json_patch::Patch(tests.chain(json_patch::diff(&before, &after).0).collect()))
}

/// Whether a patch was refused because a test of it failed. The API server does not say which operation it was; ours always
/// fit the object that the tests are for.
fn is_failed_test(status: &kube::core::Status) -> bool {
    status.code == 422
        && status.reason == "Invalid"
        && status.details.as_ref().is_none_or(|details| details.causes.is_empty())
}

/// An object as an apply wants it: with its types, without what the server keeps, for the version that was read.
fn apply_body<K: Written>(desired: &K, read: Option<&K>) -> Result<Value, ReconcileError> {
    let mut body = serde_json::to_value(desired)?;
    body["apiVersion"] = json!(K::api_version(&()));
    body["kind"] = json!(K::kind(&()));
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        for kept_by_server in ["managedFields", "resourceVersion", "creationTimestamp", "generation"] {
            metadata.remove(kept_by_server);
        }
        if let Some(version) = read.and_then(ResourceExt::resource_version) {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
    }
    if let Some(object) = body.as_object_mut() {
        object.remove("status");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn an_apply_is_for_the_version_that_was_read_if_any() {
        let pod = |metadata: Value| serde_json::from_value::<Pod>(json!({"metadata": metadata})).unwrap();
        let desired = pod(json!({"name": "p", "resourceVersion": "6", "generation": 3, "labels": {"a": "b"}}));
        let read = pod(json!({"name": "p", "resourceVersion": "7"}));
        let sent = |read| apply_body(&desired, read).unwrap()["metadata"].clone();
        assert_eq!(sent(None), json!({"name": "p", "labels": {"a": "b"}}));
        assert_eq!(sent(Some(&read)), json!({"name": "p", "labels": {"a": "b"}, "resourceVersion": "7"}));
    }

    #[test]
    fn a_change_of_a_spec_depends_on_nothing_but_object_and_spec() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "generation": 3, "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"nodeName": "n", "containers": []},
        }))
        .unwrap();
        let patch = spec_patch(&pod, &json!({"hostname": "h", "nodeName": null})).unwrap();
        let wanted = json!([
            {"op": "test", "path": "/metadata/uid", "value": "u"},
            {"op": "test", "path": "/metadata/generation", "value": 3},
            {"op": "add", "path": "/spec/hostname", "value": "h"},
            {"op": "remove", "path": "/spec/nodeName"},
        ]);
        assert_eq!(json!(patch), wanted);
    }

    #[test]
    fn a_failed_test_is_told_from_an_object_that_is_refused() {
        let answer = |details: Value| -> kube::core::Status {
            let answer =
                json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "m", "details": details});
            serde_json::from_value(answer).unwrap()
        };
        assert!(is_failed_test(&answer(json!({}))));
        let cause = json!({"reason": "FieldValueInvalid", "message": "m", "field": "spec.x"});
        assert!(!is_failed_test(&answer(json!({"causes": [cause]}))));
    }
}
