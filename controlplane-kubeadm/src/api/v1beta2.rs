//! The kinds at v1beta2, the stored version.

use cluster_api::v1beta2::{MachineDeletionSpec, MachineTaint, ReadinessGate};
use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, Time},
    util::intstr::IntOrString,
};
use kube::CustomResource;
use kubeadm::api::{spec::KubeadmConfigSpec, v1beta2::TemplateMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// API group of the kinds.
pub const GROUP: &str = "controlplane.cluster.x-k8s.io";

/// What a control plane shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "controlplane.cluster.x-k8s.io", version = "v1beta2", kind = "KubeadmControlPlane", namespaced)]
#[kube(
    status = "KubeadmControlPlaneStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "cluster-api",
    shortname = "kcp"
)]
#[kube(scale(
    spec_replicas_path = ".spec.replicas",
    status_replicas_path = ".status.replicas",
    label_selector_path = ".status.selector"
))]
#[kube(printcolumn(
    name = "Cluster",
    type_ = "string",
    json_path = ".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']",
    description = "Cluster"
))]
#[kube(printcolumn(
    name = "Available",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Available\")].status",
    description = "Cluster pass all availability checks"
))]
#[kube(printcolumn(
    name = "Desired",
    type_ = "integer",
    json_path = ".spec.replicas",
    description = "The desired number of machines"
))]
#[kube(printcolumn(
    name = "Current",
    type_ = "integer",
    json_path = ".status.replicas",
    description = "The number of machines"
))]
#[kube(printcolumn(
    name = "Ready",
    type_ = "integer",
    json_path = ".status.readyReplicas",
    description = "The number of machines with Ready condition true"
))]
#[kube(printcolumn(
    name = "Available",
    type_ = "integer",
    json_path = ".status.availableReplicas",
    description = "The number of machines with Available condition true"
))]
#[kube(printcolumn(
    name = "Up-to-date",
    type_ = "integer",
    json_path = ".status.upToDateReplicas",
    description = "The number of machines with UpToDate condition true"
))]
#[kube(printcolumn(
    name = "Paused",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Paused\")].status",
    description = "Reconciliation paused",
    priority = 10
))]
#[kube(printcolumn(
    name = "Initialized",
    type_ = "boolean",
    json_path = ".status.initialization.controlPlaneInitialized",
    description = "This denotes whether or not the control plane can accept requests"
))]
#[kube(printcolumn(
    name = "Age",
    type_ = "date",
    json_path = ".metadata.creationTimestamp",
    description = "Time duration since creation of KubeadmControlPlane"
))]
#[kube(printcolumn(
    name = "Version",
    type_ = "string",
    json_path = ".spec.version",
    description = "Kubernetes version associated with this control plane"
))]
#[serde(rename_all = "camelCase")]
pub struct KubeadmControlPlaneSpec {
    /// Number of machines; odd with stacked etcd; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Kubernetes version, with a leading `v`.
    #[schemars(length(min = 1, max = 256))]
    pub version: String,
    /// What the machines are made from.
    pub machine_template: MachineTemplate,
    /// How the machines become nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeadm_config_spec: Option<KubeadmConfigSpec>,
    /// When and how machines are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Limits of replacing machines for their health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<Remediation>,
    /// How machines are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_naming: Option<MachineNaming>,
}

/// What machines are made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineTemplate {
    /// Labels and annotations of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Their spec.
    pub spec: MachineTemplateSpec,
}

/// Spec of the machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineTemplateSpec {
    /// Template of their infrastructure.
    pub infrastructure_ref: InfrastructureRef,
    /// Conditions that count towards their readiness.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readiness_gates: Vec<ReadinessGate>,
    /// Limits of their deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<MachineDeletionSpec>,
    /// Taints that core keeps on their nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<MachineTaint>,
}

/// A template of another provider; its CRD's contract label says which version is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InfrastructureRef {
    /// Kind.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    pub kind: String,
    /// Name, in the control plane's namespace.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// API group.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub api_group: String,
}

/// When and how machines are replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Rollout {
    /// Ahead of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<RolloutBefore>,
    /// Machines made before this moment are replaced after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Time>,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RolloutStrategy>,
}

/// Events ahead of which machines are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct RolloutBefore {
    /// Days before the machines' certificates expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7))]
    pub certificates_expiry_days: Option<i32>,
}

/// How machines are replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct RolloutStrategy {
    /// The only way there is.
    #[serde(rename = "type")]
    pub type_: StrategyType,
    /// Settings of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
}

/// Way of replacing machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StrategyType {
    /// One after the other.
    #[default]
    RollingUpdate,
}

/// Settings of replacing machines one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct RollingUpdate {
    /// Machines that may exist beyond the wanted number: 0 or 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
}

/// Limits of replacing machines for their health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Remediation {
    /// Times that a replacement may be replaced again; without limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retry: Option<i32>,
    /// Seconds between two replacements.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub retry_period_seconds: Option<i32>,
    /// Seconds of health after which the count starts anew; 3600 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_healthy_period_seconds: Option<i32>,
}

/// How machines are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1))]
pub struct MachineNaming {
    /// Template with `{{ .random }}` in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    pub template: String,
}

/// What a control plane is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct KubeadmControlPlaneStatus {
    /// Conditions by type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "cluster_api::crd::conditions")]
    pub conditions: Vec<Condition>,
    /// One-way facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,
    /// Label selector of the machines, for the scale subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 4096))]
    pub selector: String,
    /// Machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Machines that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Machines that are available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,
    /// Machines that are as the spec wants them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_date_replicas: Option<i32>,
    /// Versions of the machines, old to new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"]))]
    pub versions: Vec<StatusVersion>,
    /// Lowest version of the machines.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    pub version: String,
    /// Generation that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub observed_generation: Option<i64>,
    /// The last machine that was replaced for its health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_remediation: Option<LastRemediation>,
    /// What readers of v1beta1 see.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "deprecated_status")]
    pub deprecated: Option<serde_json::Value>,
}

/// Conditions, failures and counters as v1beta1 counts.
fn deprecated_status(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let count = json!({"type": "integer", "format": "int32"});
    kubeadm::api::v1beta1::deprecated(&json!({
        "failureReason": {"type": "string"},
        "updatedReplicas": count, "readyReplicas": count, "unavailableReplicas": count,
    }))
}

/// One-way facts of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Initialization {
    /// The API server has answered once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_initialized: Option<bool>,
}

/// A version and how many machines have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusVersion {
    /// Version, with a leading `v`.
    #[schemars(length(min = 1, max = 256))]
    pub version: String,
    /// Machines that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub replicas: Option<i32>,
}

/// The last machine that was replaced for its health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRemediation {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub machine: String,
    /// When.
    pub time: Time,
    /// Which replacement in a row it was.
    #[schemars(range(min = 0))]
    pub retry_count: i32,
}

/// Template of control planes, for a ClusterClass.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "controlplane.cluster.x-k8s.io", version = "v1beta2", kind = "KubeadmControlPlaneTemplate", namespaced)]
#[kube(derive = "PartialEq", derive = "Default", category = "cluster-api")]
#[kube(printcolumn(
    name = "ClusterClass",
    type_ = "string",
    json_path = ".metadata.ownerReferences[?(@.kind==\"ClusterClass\")].name",
    description = "Name of the ClusterClass owning this template"
))]
#[kube(printcolumn(
    name = "Age",
    type_ = "date",
    json_path = ".metadata.creationTimestamp",
    description = "Time duration since creation of KubeadmControlPlaneTemplate"
))]
pub struct KubeadmControlPlaneTemplateSpec {
    /// What is cloned.
    pub template: TemplateResource,
}

/// What a template makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1))]
pub struct TemplateResource {
    /// Labels and annotations of the clones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Spec of the clones; the topology adds replicas, version and infrastructure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<TemplateResourceSpec>,
}

/// Spec of a template's clones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct TemplateResourceSpec {
    /// What machines are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_template: Option<TemplateMachineTemplate>,
    /// How machines become nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeadm_config_spec: Option<KubeadmConfigSpec>,
    /// When and how machines are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Limits of replacing machines for their health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remediation: Option<Remediation>,
    /// How machines are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_naming: Option<MachineNaming>,
}

/// What machines of a template's clones are made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1))]
pub struct TemplateMachineTemplate {
    /// Labels and annotations of the machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Their spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<TemplateMachineSpec>,
}

/// Spec of the machines of a template's clones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1))]
pub struct TemplateMachineSpec {
    /// Limits of their deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<MachineDeletionSpec>,
    /// Taints that core keeps on their nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<MachineTaint>,
}

impl KubeadmControlPlane {
    /// Its conditions.
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }

    /// Whether the API server has answered once.
    pub fn is_initialized(&self) -> bool {
        let facts = self.status.as_ref().and_then(|status| status.initialization.as_ref());
        facts.and_then(|facts| facts.control_plane_initialized).unwrap_or(false)
    }
}
