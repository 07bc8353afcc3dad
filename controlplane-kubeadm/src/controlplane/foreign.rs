//! Objects of infrastructure providers: kinds that are known only by reference. Their API version is found through the
//! contract label of their CRD.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cluster_api::v1beta2::ContractReference;
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, Preconditions},
    core::Version,
};
use manager::{Category, ObjectKey, ReconcileError, clock::Clock};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Contracts in order of preference.
const CONTRACTS: [&str; 2] = ["cluster.x-k8s.io/v1beta2", "cluster.x-k8s.io/v1beta1"];
/// How long is believed which version of a kind belongs to the contract, and what the metadata of an object is. Both
/// change rarely; what we write ourselves is noticed at once.
const FRESH: Duration = Duration::from_secs(600);
/// How long a missing thing is waited for before it is looked for again.
const MISSING: Duration = Duration::from_secs(10);

type Cached<T> = Mutex<HashMap<(ContractReference, String), (Duration, T)>>;

/// Reads and applies objects of kinds known by reference.
pub struct Foreign {
    client: Client,
    clock: Arc<dyn Clock>,
    resources: Mutex<HashMap<(String, String), (Duration, ApiResource)>>,
    metadata: Cached<Arc<ObjectMeta>>,
}

impl Foreign {
    /// With the client of the management cluster.
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, resources: Mutex::default(), metadata: Mutex::default() }
    }

    /// The version of a kind that belongs to the contract.
    pub async fn resource(&self, group: &str, kind: &str) -> Result<ApiResource, ReconcileError> {
        let now = self.clock.monotonic();
        let known = (group.to_owned(), kind.to_owned());
        if let Some((read, resource)) = self.resources.lock().get(&known)
            && now.saturating_sub(*read) < FRESH
        {
            return Ok(resource.clone());
        }
        let plural = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)).plural;
        let name = format!("{plural}.{group}");
        let waiting = |reason: String| ReconcileError::new(Category::Waiting(MISSING), reason);
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let Some(definition) = definitions.get_metadata_opt(&name).await? else {
            return Err(waiting(format!(
                "CustomResourceDefinition {name} does not exist; install the provider of {kind}"
            )));
        };
        let label = CONTRACTS.iter().find_map(|contract| definition.labels().get(*contract));
        let label = label.ok_or_else(|| {
            waiting(format!("CustomResourceDefinition {name} has none of the labels {}", CONTRACTS.join(", ")))
        })?;
        let version = label.split('_').max_by_key(|version| Version::parse(version).priority()).unwrap_or(label);
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
        self.resources.lock().insert(known, (now, resource.clone()));
        Ok(resource)
    }

    async fn api(&self, reference: &ContractReference, namespace: &str) -> Result<Api<DynamicObject>, ReconcileError> {
        let resource = self.resource(&reference.api_group, &reference.kind).await?;
        Ok(Api::namespaced_with(self.client.clone(), namespace, &resource))
    }

    /// An object as it is now.
    pub async fn get(
        &self,
        reference: &ContractReference,
        namespace: &str,
    ) -> Result<Option<DynamicObject>, ReconcileError> {
        Ok(self.api(reference, namespace).await?.get_opt(&reference.name).await?)
    }

    /// Metadata of an object, at most [`FRESH`] old. That one is missing is never remembered.
    pub async fn metadata(
        &self,
        reference: &ContractReference,
        namespace: &str,
    ) -> Result<Option<Arc<ObjectMeta>>, ReconcileError> {
        let now = self.clock.monotonic();
        let known = (reference.clone(), namespace.to_owned());
        if let Some((read, metadata)) = self.metadata.lock().get(&known)
            && now.saturating_sub(*read) < FRESH
        {
            return Ok(Some(Arc::clone(metadata)));
        }
        let found = self.api(reference, namespace).await?.get_metadata_opt(&reference.name).await?;
        let mut cache = self.metadata.lock();
        cache.retain(|_, (read, _)| now.saturating_sub(*read) < FRESH);
        let Some(found) = found else { return Ok(None) };
        let metadata = Arc::new(ObjectMeta { managed_fields: None, ..found.metadata });
        cache.insert(known, (now, Arc::clone(&metadata)));
        Ok(Some(metadata))
    }

    /// Metadata of an object as it is now, with its managed fields.
    pub async fn live_metadata(
        &self,
        reference: &ContractReference,
        namespace: &str,
    ) -> Result<Option<ObjectMeta>, ReconcileError> {
        let found = self.api(reference, namespace).await?.get_metadata_opt(&reference.name).await?;
        Ok(found.map(|found| found.metadata))
    }

    /// Replaces the managed fields of an object, unless it was written since it was read; returns the metadata that it has
    /// then.
    pub async fn replace_managed_fields(
        &self,
        reference: &ContractReference,
        namespace: &str,
        read: &ObjectMeta,
        fields: &[ManagedFieldsEntry],
    ) -> Result<ObjectMeta, ReconcileError> {
        let metadata = json!({"uid": read.uid, "resourceVersion": read.resource_version, "managedFields": fields});
        self.merge(reference, namespace, &json!({"metadata": metadata})).await
    }

    /// Applies an object's fields as one field manager; returns the metadata that it has then.
    pub async fn apply(
        &self,
        reference: &ContractReference,
        key: &ObjectKey,
        body: &Value,
        manager: &str,
    ) -> Result<ObjectMeta, ReconcileError> {
        let api = self.api(reference, &key.namespace).await?;
        let applied = api.patch(&key.name, &PatchParams::apply(manager).force(), &Patch::Apply(body)).await;
        // A conflict too says that what is remembered is out of date.
        self.metadata.lock().remove(&(reference.clone(), key.namespace.clone()));
        Ok(applied?.metadata)
    }

    /// Merge-patches an object that only we write in this place; returns the metadata that it has then.
    pub async fn merge(
        &self,
        reference: &ContractReference,
        namespace: &str,
        patch: &Value,
    ) -> Result<ObjectMeta, ReconcileError> {
        let api = self.api(reference, namespace).await?;
        let patched = api.patch(&reference.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        self.metadata.lock().remove(&(reference.clone(), namespace.to_owned()));
        Ok(patched?.metadata)
    }

    /// Deletes an object, if it is there and has this owner.
    pub async fn delete_owned(
        &self,
        reference: &ContractReference,
        namespace: &str,
        owner: &str,
    ) -> Result<(), ReconcileError> {
        let api = self.api(reference, namespace).await?;
        let Some(found) = api.get_metadata_opt(&reference.name).await? else { return Ok(()) };
        if !found.owner_references().iter().any(|reference| reference.uid == owner) {
            return Ok(());
        }
        let preconditions = Preconditions { uid: found.metadata.uid, resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = api.delete(&reference.name, &parameters).await;
        self.metadata.lock().remove(&(reference.clone(), namespace.to_owned()));
        match deleted {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Names of the machine pools of a cluster; none where the kind is not installed.
    pub async fn machine_pools(&self, cluster: &ObjectKey) -> Result<Vec<String>, ReconcileError> {
        let kind = GroupVersionKind::gvk(cluster_api::v1beta2::GROUP, "v1beta2", "MachinePool");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &cluster.namespace, &ApiResource::from_gvk(&kind));
        let selector = format!("{}={}", cluster_api::labels::CLUSTER_NAME, cluster.name);
        match api.list_metadata(&kube::api::ListParams::default().labels(&selector)).await {
            Ok(pools) => Ok(pools.items.iter().map(ResourceExt::name_any).collect()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}
