//! All writes to the management API server.
//!
//! Objects that we define are applied server-side with our field manager; what did not change is not sent again. Lists
//! that others share (finalizers, annotations' owners) are merge-patched under the resource version they were read at.

use std::{
    any::TypeId,
    collections::HashMap,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{NamespaceResourceScope, object::HasStatus},
};
use parking_lot::Mutex;
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
    applied: Arc<Mutex<HashMap<(TypeId, ObjectKey), Applied>>>,
}

/// A digest of what was applied last, and the version that came of it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Applied {
    digest: u64,
    version: u64,
}

/// Objects remembered above which all are forgotten: that costs one apply each, and bounds the memory.
const CROWDED: usize = 1 << 16;

impl Writer {
    pub(crate) fn new(client: Client, manager: &'static str, floor: Arc<Floor>, clock: Arc<dyn Clock>) -> Self {
        Self { client, manager, floor, clock, applied: Arc::default() }
    }

    /// The same writer under another field manager.
    #[must_use]
    pub fn with_manager(&self, manager: &'static str) -> Self {
        Self { manager, applied: Arc::default(), ..self.clone() }
    }

    /// Client of the management API server, for live reads.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The API of a kind in a namespace, for live reads.
    pub fn api<K: Written>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies an object as we define it, whole; returns what came of it. Nothing is sent, and nothing returned, when it
    /// was applied before and `current`, from the cache, is still what came of that.
    pub async fn apply<K: Written>(&self, desired: &K, current: Option<&K>) -> Result<Option<K>, ReconcileError> {
        let key = ObjectKey::of(desired);
        let body = apply_body(desired)?;
        let known = (TypeId::of::<K>(), key.clone());
        let digest = digest(&body);
        let version = current.map(|current| version_number(current.resource_version().as_deref()));
        if version.is_some_and(|version| self.applied.lock().get(&known) == Some(&Applied { digest, version })) {
            return Ok(None);
        }
        let parameters = PatchParams::apply(self.manager).force();
        let written = self.api::<K>(&key.namespace).patch(&key.name, &parameters, &Patch::Apply(&body)).await?;
        let version = self.remember(&written);
        let mut applied = self.applied.lock();
        if applied.len() > CROWDED {
            applied.clear();
        }
        applied.insert(known, Applied { digest, version });
        Ok(Some(written))
    }

    /// Applies a status, whole. Nothing is sent when the object already shows it.
    pub async fn apply_status<K>(&self, object: &K, status: &K::Status) -> Result<(), ReconcileError>
    where
        K: Written + HasStatus<Status: Serialize>,
    {
        let key = ObjectKey::of(object);
        let status = serde_json::to_value(status)?;
        if serde_json::to_value(object.status())? == status {
            return Ok(());
        }
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // The UID makes an apply to an object that was deleted and made again fail instead of giving it our status.
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": object.uid()},
            "status": status,
        });
        let parameters = PatchParams::apply(self.manager).force();
        let written = self.api::<K>(&key.namespace).patch_status(&key.name, &parameters, &Patch::Apply(&body)).await;
        self.remember(&written?);
        Ok(())
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
        let parameters = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let written = self.api::<K>(&key.namespace).patch(&key.name, &parameters, &Patch::Merge(&patch)).await?;
        self.remember(&written);
        Ok(written)
    }

    /// A merge patch of what only we write, whoever else wrote the object since.
    pub async fn merge_anyway<K: Written>(&self, key: &ObjectKey, patch: &Value) -> Result<K, ReconcileError> {
        let parameters = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let written = self.api::<K>(&key.namespace).patch(&key.name, &parameters, &Patch::Merge(patch)).await?;
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
                self.applied.lock().remove(&(TypeId::of::<K>(), key.clone()));
                let version = version_number(object.resource_version().as_deref());
                self.floor.wrote::<K>(key, Expected::GoneOrAfter(version), self.clock.monotonic());
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn remember<K: Written>(&self, written: &K) -> u64 {
        let version = version_number(written.resource_version().as_deref());
        self.floor.wrote::<K>(ObjectKey::of(written), Expected::AtLeast(version), self.clock.monotonic());
        version
    }
}

/// Stands for a body. Maps are sorted, so the same object has the same digest within a process.
fn digest(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}

/// An object as an apply wants it: with its types, without what the server keeps.
fn apply_body<K: Written>(desired: &K) -> Result<Value, ReconcileError> {
    let mut body = serde_json::to_value(desired)?;
    body["apiVersion"] = json!(K::api_version(&()));
    body["kind"] = json!(K::kind(&()));
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        for kept_by_server in ["managedFields", "resourceVersion", "creationTimestamp", "generation"] {
            metadata.remove(kept_by_server);
        }
    }
    if let Some(object) = body.as_object_mut() {
        object.remove("status");
    }
    Ok(body)
}
