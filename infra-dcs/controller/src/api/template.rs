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

/// Nothing is observed of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DCSMachineTemplateStatus {}
