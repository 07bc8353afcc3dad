//! `DCSClusterTemplate`: what the `DCSCluster`s of a `ClusterClass` are made from.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{cluster::DCSClusterSpec, template::TemplateMeta};

/// A template of `DCSCluster`s.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta1",
    kind = "DCSClusterTemplate",
    plural = "dcsclustertemplates",
    shortname = "dcsct",
    category = "cluster-api",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Site","type":"string","jsonPath":".spec.template.spec.site"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct DCSClusterTemplateSpec {
    /// The template.
    pub template: ClusterTemplate,
}

/// Metadata and spec of the clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterTemplate {
    /// Labels and annotations of the clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// What the clusters shall be; patches of a class put in what differs between them.
    pub spec: DCSClusterSpec,
}
