//! `DCSCluster`: credentials, site and API endpoint of a cluster.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, FailureDomain, Initialization, LocalReference, schema};

/// What a cluster needs of its site.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta1",
    kind = "DCSCluster",
    plural = "dcsclusters",
    shortname = "dcsc",
    category = "cluster-api",
    namespaced,
    status = "DCSClusterStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".metadata.labels.cluster\\.x-k8s\\.io/cluster-name"}"#,
    printcolumn = r#"{"name":"Ready","type":"boolean","jsonPath":".status.ready"}"#,
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".spec.controlPlaneEndpoint.host"}"#,
    printcolumn = r#"{"name":"Site","type":"string","jsonPath":".spec.site"}"#,
    printcolumn = r#"{"name":"HA","type":"boolean","jsonPath":".spec.controlPlaneHA.enabled"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DCSClusterSpec {
    /// Endpoint of the API server, which core copies to the Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<ApiEndpoint>,
    /// Whether the control plane's VMs are kept on different hosts.
    #[serde(default, rename = "controlPlaneHA", skip_serializing_if = "Option::is_none")]
    pub control_plane_ha: Option<ControlPlaneHA>,
    /// How the API server is exposed.
    pub control_plane_load_balancer: LoadBalancer,
    /// Secret with the login of the site.
    pub credential_secret_ref: LocalReference,
    /// Secret with an `encryption-provider.conf`, used instead of a generated key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_provider_config_ref: Option<LocalReference>,
    /// Network of the cluster; `kube-ovn`.
    pub network_type: String,
    /// Id of the site, e.g. `5A1C0D3E`. It may come from the Secret instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

/// An API endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiEndpoint {
    /// Host name or address.
    #[schemars(length(max = 512))]
    pub host: String,
    /// Port.
    pub port: i32,
}

/// Whether the control plane's VMs are kept on different hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ControlPlaneHA {
    /// True: one exclusion rule over the current control plane VMs is kept; otherwise the owned rule is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Kind of load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalancerType {
    /// A virtual address that the provider builds itself.
    Internal,
    /// The operator's own load balancer.
    #[default]
    External,
}

/// How the API server is exposed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBalancer {
    /// Address or name.
    pub host: String,
    /// Network interface that holds the virtual address; empty finds it by the node's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), regex(pattern = r"^[A-Za-z0-9_.:-]*$"))]
    pub interface: Option<String>,
    /// Port of the API server.
    #[schemars(schema_with = "schema::port")]
    pub port: i32,
    /// `external` or `internal`.
    #[serde(rename = "type")]
    pub type_: LoadBalancerType,
    /// VRRP id of an internal load balancer, 1 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int64")]
    pub vrid: Option<i64>,
}

/// What was observed of a cluster's infrastructure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DCSClusterStatus {
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The exclusion rule of the control plane.
    #[serde(default, rename = "controlPlaneHA", skip_serializing_if = "Option::is_none")]
    pub control_plane_ha: Option<ControlPlaneHAStatus>,
    /// Declared by the published schema; never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domains: Option<BTreeMap<String, FailureDomain>>,
    /// Provisioning, as the v1beta2 contract reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,
    /// Provisioning, as the v1beta1 contract reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
}

/// The exclusion rule of the control plane, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneHAStatus {
    /// Compute cluster that holds the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_urn: Option<String>,
    /// VMs in the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<ControlPlaneHAMember>>,
    /// Index that the site gave the rule; meaningful only together with its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub rule_index: Option<i64>,
    /// Name of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<String>,
}

/// A VM in the exclusion rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneHAMember {
    /// Name of the `DCSMachine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<String>,
    /// URN of its VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_urn: Option<String>,
}
