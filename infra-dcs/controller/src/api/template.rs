//! `DCSMachineTemplate`: what `DCSMachine`s are made from.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machine::DCSMachineSpec;

/// A template of `DCSMachine`s.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta1",
    kind = "DCSMachineTemplate",
    plural = "dcsmachinetemplates",
    shortname = "dcsmt",
    category = "cluster-api",
    namespaced,
    status = "DCSMachineTemplateStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"VMTemplate","type":"string","jsonPath":".spec.template.spec.vmTemplateName"}"#,
    printcolumn = r#"{"name":"CPU","type":"integer","jsonPath":".spec.template.spec.vmConfig.dcsMachineCpuSpec.quantity"}"#,
    printcolumn = r#"{"name":"Memory","type":"integer","jsonPath":".spec.template.spec.vmConfig.dcsMachineMemorySpec.quantity"}"#,
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.template.spec.ipHostPoolRef.name"}"#
)]
pub struct DCSMachineTemplateSpec {
    /// The template.
    pub template: MachineTemplate,
}

/// Metadata and spec of the machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineTemplate {
    /// Labels and annotations of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// What the machines shall be.
    pub spec: DCSMachineSpec,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateMeta {
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// What a node made from a template offers: autoscalers that begin at none have no node to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DCSMachineTemplateStatus {
    /// Quantities by resource: `cpu`, `memory`, `ephemeral-storage`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, String>,
    /// What the node runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_info: Option<NodeInfo>,
    /// Generation that this was observed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What a node runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// `amd64` or `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// `linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_system: Option<String>,
}
