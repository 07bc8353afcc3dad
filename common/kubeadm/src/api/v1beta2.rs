//! `KubeadmConfig` and `KubeadmConfigTemplate` at v1beta2, the stored version.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::spec::KubeadmConfigSpec;

/// API group of the kinds.
pub const GROUP: &str = "bootstrap.cluster.x-k8s.io";
/// API version of the kinds.
pub const API_VERSION: &str = "bootstrap.cluster.x-k8s.io/v1beta2";

/// The spec of a `KubeadmConfig`: [`KubeadmConfigSpec`] under the name that the derive needs.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "bootstrap.cluster.x-k8s.io", version = "v1beta2", kind = "KubeadmConfig", namespaced)]
#[kube(status = "KubeadmConfigStatus", derive = "PartialEq", derive = "Default", category = "cluster-api")]
#[kube(printcolumn(
    name = "Cluster",
    type_ = "string",
    json_path = ".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']",
    description = "Cluster"
))]
#[kube(printcolumn(
    name = "Paused",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Paused\")].status",
    description = "Reconciliation paused",
    priority = 10
))]
#[kube(printcolumn(
    name = "Data secret created",
    type_ = "string",
    json_path = ".status.initialization.dataSecretCreated",
    description = "Boostrap secret is created"
))]
#[kube(printcolumn(
    name = "Age",
    type_ = "date",
    json_path = ".metadata.creationTimestamp",
    description = "Time duration since creation of KubeadmConfig"
))]
#[serde(transparent)]
pub struct ConfigSpec(pub KubeadmConfigSpec);

/// Observed state of a `KubeadmConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct KubeadmConfigStatus {
    /// Conditions by type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "cluster_api::crd::conditions")]
    pub conditions: Vec<Condition>,
    /// One-way facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,
    /// Secret with the boot data.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub data_secret_name: String,
    /// Generation that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub observed_generation: Option<i64>,
    /// What readers of v1beta1 see.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::v1beta1::deprecated_status")]
    pub deprecated: Option<serde_json::Value>,
}

/// One-way facts of a `KubeadmConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Initialization {
    /// The boot data exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_secret_created: Option<bool>,
}

impl KubeadmConfig {
    /// Whether the boot data exists.
    pub fn is_data_secret_created(&self) -> bool {
        let facts = self.status.as_ref().and_then(|status| status.initialization.as_ref());
        facts.and_then(|facts| facts.data_secret_created).unwrap_or(false)
    }

    /// Its conditions.
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

/// Spec of a `KubeadmConfigTemplate`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "bootstrap.cluster.x-k8s.io", version = "v1beta2", kind = "KubeadmConfigTemplate", namespaced)]
#[kube(derive = "PartialEq", derive = "Default", category = "cluster-api")]
#[kube(printcolumn(
    name = "ClusterClass",
    type_ = "string",
    json_path = ".metadata.ownerReferences[?(@.kind==\"ClusterClass\")].name",
    description = "Name of the ClusterClass owning this template"
))]
#[kube(printcolumn(
    name = "Cluster",
    type_ = "string",
    json_path = ".metadata.ownerReferences[?(@.kind==\"Cluster\")].name",
    description = "Name of the Cluster owning this template"
))]
#[kube(printcolumn(
    name = "Age",
    type_ = "date",
    json_path = ".metadata.creationTimestamp",
    description = "Time duration since creation of KubeadmConfigTemplate"
))]
pub struct KubeadmConfigTemplateSpec {
    /// What is cloned.
    pub template: KubeadmConfigTemplateResource,
}

/// What a template makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1))]
pub struct KubeadmConfigTemplateResource {
    /// Labels and annotations of the clones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Spec of the clones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<KubeadmConfigSpec>,
}

/// Labels and annotations of a template's clones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1))]
pub struct TemplateMeta {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
