//! `DCSIpHostnamePool`: identities of nodes, and the disks that outlive their VMs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, machine::NetworkConfig, schema};

/// A list of node identities.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta1",
    kind = "DCSIpHostnamePool",
    plural = "dcsiphostnamepools",
    shortname = "dcspool",
    category = "cluster-api",
    namespaced,
    status = "DCSIpHostnamePoolStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Total","type":"integer","jsonPath":".status.total"}"#,
    printcolumn = r#"{"name":"Free","type":"integer","jsonPath":".status.free"}"#,
    printcolumn = r#"{"name":"Disks","type":"integer","jsonPath":".status.disks"}"#,
    printcolumn = r#"{"name":"DiskErrors","type":"integer","jsonPath":".status.diskErrors"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct DCSIpHostnamePoolSpec {
    /// The identities.
    pub pool: Vec<PoolEntry>,
}

/// The identity of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolEntry {
    /// NICs after the primary one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addition_nic: Vec<Nic>,
    /// Servers, separated by `;`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// Switch of the primary NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dv_switch_name: Option<String>,
    /// Default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Host name of the guest; the name of the VM when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Address of the node: the key of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// IPv6 address of the primary NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Name of the VM; the name of the `DCSMachine` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<String>,
    /// Length of the network prefix, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Disks that outlive the VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub persistent_disk: Vec<PersistentDisk>,
    /// Port group of the primary NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_name: Option<String>,
    /// URN of that port group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_urn: Option<String>,
}

impl PoolEntry {
    /// The entry's key.
    pub fn ip(&self) -> &str {
        self.ip.as_deref().unwrap_or_default()
    }

    /// What a machine that claims the entry records.
    pub fn network(&self) -> NetworkConfig {
        NetworkConfig {
            addition_nic: self.addition_nic.clone(),
            dns: self.dns.clone(),
            dv_switch_name: self.dv_switch_name.clone(),
            gateway: self.gateway.clone(),
            hostname: self.hostname.clone(),
            ip: self.ip.clone(),
            ipv6: self.ipv6.clone(),
            machine_name: self.machine_name.clone(),
            mask: self.mask.clone(),
            port_group_name: self.port_group_name.clone(),
            port_group_urn: self.port_group_urn.clone(),
        }
    }
}

/// A NIC after the primary one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// Servers, separated by `;`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// Switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dv_switch_name: Option<String>,
    /// Gateway; it may take the default route from the primary NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Length of the network prefix, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Port group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_name: Option<String>,
    /// URN of the port group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_urn: Option<String>,
}

/// A disk that outlives the VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.datastoreClusterName) != has(self.datastoreName)", "exactly one of datastoreClusterName or datastoreName is required")
)]
pub struct PersistentDisk {
    /// Datastore cluster from which a datastore is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_cluster_name: Option<String>,
    /// Datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_name: Option<String>,
    /// File system; `ext4` when there is a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Thin provisioning; nothing is said to the site when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_thin: Option<bool>,
    /// Options of mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// Options of mkfs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Mount point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/.+"))]
    pub path: Option<String>,
    /// Bus; `VIRTIO` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_type: Option<String>,
    /// Size in GB.
    #[serde(rename = "quantityGB")]
    #[schemars(schema_with = "schema::integer_from_1")]
    pub quantity_gb: i64,
    /// Number of the disk in its entry.
    #[schemars(schema_with = "schema::integer_from_0")]
    pub slot: i64,
}

/// What was observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DCSIpHostnamePoolStatus {
    /// Who holds which entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ip"]))]
    pub allocations: Vec<Allocation>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Disks that are not as they shall be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub disk_errors: Option<i64>,
    /// Persistent disks of all entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub disks: Option<i64>,
    /// Entries that nobody holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub free: Option<i64>,
    /// State of each persistent disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub persistent_disk_status: Vec<PersistentDiskStatus>,
    /// All entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub total: Option<i64>,
}

/// Whether an entry is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllocationState {
    /// By nobody.
    Free,
    /// By a machine.
    Claimed,
    /// By a VM that was left running when its machine was deleted.
    Retained,
}

/// Who holds an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// Key of the entry.
    pub ip: String,
    /// Name of the `DCSMachine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<String>,
    /// Whether it is held.
    pub state: AllocationState,
}

/// What happens to a persistent disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DiskPhase {
    /// Its volume is being made.
    Creating,
    /// Its volume waits for a machine.
    Available,
    /// It is being attached.
    Attaching,
    /// A VM holds it.
    Attached,
    /// It is being detached.
    Detaching,
    /// Its volume is being deleted.
    Deleting,
    /// It is not as it shall be; see `lastError`.
    Error,
}

/// State of a persistent disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentDiskStatus {
    /// VM that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_vm_urn: Option<String>,
    /// Datastore that holds the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_urn: Option<String>,
    /// Key of the entry.
    pub ip: String,
    /// Why the phase is `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When the phase changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub last_transition_time: Option<Time>,
    /// Name of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Machine that the record serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_machine_name: Option<String>,
    /// Its UID, which outlives it.
    #[serde(default, rename = "ownerMachineUID", skip_serializing_if = "Option::is_none")]
    pub owner_machine_uid: Option<String>,
    /// Mount point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What happens to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DiskPhase>,
    /// Number of the disk in its entry.
    #[schemars(schema_with = "schema::integer")]
    pub slot: i64,
    /// URN of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_urn: Option<String>,
}
