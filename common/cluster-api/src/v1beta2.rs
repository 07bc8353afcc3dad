//! Core kinds at `cluster.x-k8s.io/v1beta2`, as far as providers read them. Unknown fields are ignored: core may add
//! what it likes. Providers patch only metadata of these objects; a control plane provider also creates Machines.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group of the core kinds.
pub const GROUP: &str = "cluster.x-k8s.io";
/// API version at which core kinds are read and written.
pub const API_VERSION: &str = "cluster.x-k8s.io/v1beta2";

/// A cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cluster.x-k8s.io", version = "v1beta2", kind = "Cluster", namespaced, status = "ClusterStatus")]
#[kube(derive = "PartialEq", derive = "Default")]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Nothing of the cluster is reconciled while true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Networks of pods and services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_network: Option<ClusterNetwork>,
    /// Where the API server is reached; empty until it is known.
    #[serde(default, skip_serializing_if = "ApiEndpoint::is_zero")]
    pub control_plane_endpoint: ApiEndpoint,
    /// The control plane object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_ref: Option<ContractReference>,
    /// The infrastructure object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_ref: Option<ContractReference>,
    /// Present when a topology manages the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
}

/// Networks of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetwork {
    /// Port of the API server on each control plane machine; 6443 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_port: Option<i32>,
    /// Addresses of services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<NetworkRanges>,
    /// Addresses of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NetworkRanges>,
    /// DNS domain of services; `cluster.local` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_domain: Option<String>,
}

/// CIDR blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRanges {
    /// Blocks in CIDR notation; one, or one of each family.
    #[serde(default)]
    pub cidr_blocks: Vec<String>,
}

impl NetworkRanges {
    /// The blocks as kubeadm writes them: joined by commas.
    pub fn joined(&self) -> String {
        self.cidr_blocks.join(",")
    }
}

/// Host and port of an API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiEndpoint {
    /// DNS name or address.
    #[serde(default)]
    pub host: String,
    /// TCP port.
    #[serde(default)]
    pub port: i32,
}

impl ApiEndpoint {
    /// Whether neither host nor port is set.
    pub fn is_zero(&self) -> bool {
        self.host.is_empty() && self.port == 0
    }

    /// Whether both host and port are set.
    pub fn is_valid(&self) -> bool {
        !self.host.is_empty() && self.port != 0
    }

    /// `host:port`, once both are set.
    pub fn address(&self) -> Option<String> {
        self.is_valid().then(|| self.to_string())
    }
}

impl std::fmt::Display for ApiEndpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// A reference to an object of a provider, without its version: the CRD's contract label says which to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContractReference {
    /// API group.
    #[serde(default)]
    pub api_group: String,
    /// Kind.
    #[serde(default)]
    pub kind: String,
    /// Name, in the namespace of the referring object.
    #[serde(default)]
    pub name: String,
}

/// The part of a topology that providers look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// Kubernetes version wanted for the whole cluster.
    #[serde(default)]
    pub version: String,
}

/// Observed state of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Conditions by type.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// One-way facts of the cluster's first provisioning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<ClusterInitialization>,
    /// Failure domains that the infrastructure offers.
    #[serde(default)]
    pub failure_domains: Vec<FailureDomain>,
}

/// One-way facts of a cluster's first provisioning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInitialization {
    /// The infrastructure that machines need exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_provisioned: Option<bool>,
    /// The API server has answered once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_initialized: Option<bool>,
}

/// A place whose failure takes only what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureDomain {
    /// Name.
    pub name: String,
    /// Whether control plane machines may go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<bool>,
    /// Free-form facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Cluster {
    /// Whether the infrastructure that machines need exists.
    pub fn is_infrastructure_provisioned(&self) -> bool {
        self.initialization().and_then(|facts| facts.infrastructure_provisioned).unwrap_or(false)
    }

    /// Whether the API server has answered once.
    pub fn is_control_plane_initialized(&self) -> bool {
        self.initialization().and_then(|facts| facts.control_plane_initialized).unwrap_or(false)
    }

    fn initialization(&self) -> Option<&ClusterInitialization> {
        self.status.as_ref()?.initialization.as_ref()
    }
}

/// A machine that is or becomes a node.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cluster.x-k8s.io", version = "v1beta2", kind = "Machine", namespaced, status = "MachineStatus")]
#[kube(derive = "PartialEq", derive = "Default")]
#[serde(rename_all = "camelCase")]
pub struct MachineSpec {
    /// Cluster it belongs to.
    #[serde(default)]
    pub cluster_name: String,
    /// Where its boot configuration comes from.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// Its infrastructure object.
    #[serde(default)]
    pub infrastructure_ref: ContractReference,
    /// Kubernetes version, with a leading `v`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Identity of its node at the infrastructure.
    #[serde(default, skip_serializing_if = "String::is_empty", rename = "providerID")]
    pub provider_id: String,
    /// Failure domain it shall be placed in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure_domain: String,
    /// Seconds a node must be ready before its machine counts as available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i32>,
    /// Conditions that count towards its readiness.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readiness_gates: Vec<ReadinessGate>,
    /// Limits of its deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<MachineDeletionSpec>,
    /// Taints that core keeps on its node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<MachineTaint>,
}

/// Where a machine's boot configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The bootstrap object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_ref: Option<ContractReference>,
    /// Secret with the data; set by core once the bootstrap provider has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_secret_name: Option<String>,
}

/// A condition of a Machine that counts towards its readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessGate {
    /// Type of the condition.
    pub condition_type: String,
    /// `Positive` or `Negative`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polarity: Option<String>,
}

/// Limits of a machine's deletion, in seconds; 0 means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineDeletionSpec {
    /// For draining its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_drain_timeout_seconds: Option<i32>,
    /// For detaching its volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_volume_detach_timeout_seconds: Option<i32>,
    /// For deleting its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_deletion_timeout_seconds: Option<i32>,
}

/// A taint that core keeps on a machine's node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineTaint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// `Always` or `OnInitialization`.
    pub propagation: String,
}

/// Observed state of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// Conditions by type.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// One-way facts of its first provisioning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<MachineInitialization>,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ref: Option<NodeReference>,
    /// What its node says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_info: Option<NodeInfo>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<MachineAddress>,
    /// Failure domain it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// When its certificates expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_expiry_date: Option<Time>,
    /// How far its deletion is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<MachineDeletionStatus>,
}

/// One-way facts of a machine's first provisioning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineInitialization {
    /// Its infrastructure exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_provisioned: Option<bool>,
    /// Its boot data exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_data_secret_created: Option<bool>,
}

/// A machine's node, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReference {
    /// Name of the node.
    pub name: String,
}

/// The part of a node's own information that providers look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// Version of its kubelet, with a leading `v`.
    #[serde(default)]
    pub kubelet_version: String,
}

/// An address of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineAddress {
    /// `Hostname`, `ExternalIP`, `InternalIP`, `ExternalDNS` or `InternalDNS`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The address.
    pub address: String,
}

/// How far a machine's deletion is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineDeletionStatus {
    /// When draining began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_drain_start_time: Option<Time>,
}

impl Machine {
    /// Name of its node, once core has found it.
    pub fn node_name(&self) -> Option<&str> {
        Some(self.status.as_ref()?.node_ref.as_ref()?.name.as_str())
    }

    /// Its conditions.
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }

    /// Whether its infrastructure exists, or once did.
    pub fn is_infrastructure_provisioned(&self) -> bool {
        let facts = self.status.as_ref().and_then(|status| status.initialization.as_ref());
        facts.and_then(|facts| facts.infrastructure_provisioned).unwrap_or(false)
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it belongs to the control plane.
    pub fn is_control_plane(&self) -> bool {
        self.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(crate::labels::CONTROL_PLANE))
    }
}

impl Cluster {
    /// Its conditions.
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

/// A pool of machines that share their boot data.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cluster.x-k8s.io", version = "v1beta2", kind = "MachinePool", namespaced, status = "MachinePoolStatus")]
#[kube(derive = "PartialEq", derive = "Default")]
#[serde(rename_all = "camelCase")]
pub struct MachinePoolSpec {
    /// Cluster it belongs to.
    #[serde(default)]
    pub cluster_name: String,
    /// Number of machines; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What its machines are like.
    #[serde(default)]
    pub template: MachinePoolTemplate,
}

/// What the machines of a pool are like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachinePoolTemplate {
    /// Spec of each machine.
    #[serde(default)]
    pub spec: MachineSpec,
}

/// Observed state of a pool of machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachinePoolStatus {
    /// One-way facts of its first provisioning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<MachineInitialization>,
    /// Its nodes.
    #[serde(default)]
    pub node_refs: Vec<NodeReference>,
}

impl MachinePool {
    /// Whether each of its machines has a node.
    pub fn has_all_nodes(&self) -> bool {
        let nodes = self.status.as_ref().map_or(0, |status| status.node_refs.len());
        usize::try_from(self.spec.replicas.unwrap_or(1)) == Ok(nodes)
    }
}
