//! `DCSMachine`: one VM.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, FailureDomain, Initialization, LocalReference, pool::Nic, schema};

/// What a VM shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1beta1",
    kind = "DCSMachine",
    plural = "dcsmachines",
    shortname = "dcsm",
    category = "cluster-api",
    namespaced,
    status = "DCSMachineStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".metadata.labels.cluster\\.x-k8s\\.io/cluster-name"}"#,
    printcolumn = r#"{"name":"Machine","type":"string","jsonPath":".metadata.ownerReferences[?(@.kind==\"Machine\")].name"}"#,
    printcolumn = r#"{"name":"Ready","type":"boolean","jsonPath":".status.ready"}"#,
    printcolumn = r#"{"name":"ProviderID","type":"string","jsonPath":".spec.providerID"}"#,
    printcolumn = r#"{"name":"IP","type":"string","jsonPath":".status.networkConfig.ip"}"#,
    printcolumn = r#"{"name":"VM URN","type":"string","priority":1,"jsonPath":".spec.vmUrn"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DCSMachineSpec {
    /// Pool that supplies the machine's identity.
    pub ip_host_pool_ref: LocalReference,
    /// Folder (`type: folder`) or compute cluster (`type: cluster`) of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// `dcs://` and the object's name; written once by the provider.
    #[serde(default, rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Compute placement; goes before `location`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Location>,
    /// Size, disks and network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_config: Option<VmConfig>,
    /// Name of the VM template.
    pub vm_template_name: String,
    /// URN of the VM; written by the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_urn: Option<String>,
}

/// A place on the site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `folder` or `cluster`.
    #[serde(rename = "type")]
    pub type_: String,
    /// URN; goes before the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urn: Option<String>,
}

/// Size, disks and network of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VmConfig {
    /// Datastore cluster from which the boot medium's datastore is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cd_rom_datastore_cluster_name: Option<String>,
    /// Datastore of the boot medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cd_rom_datastore_name: Option<String>,
    /// Virtual CPUs.
    pub dcs_machine_cpu_spec: Quantity,
    /// Disks that live and die with the VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dcs_machine_disk_spec: Vec<DiskSpec>,
    /// Memory in MB.
    pub dcs_machine_memory_spec: Quantity,
    /// Switch that scopes the port group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dv_switch_name: Option<String>,
    /// Port group of the primary NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_name: Option<String>,
    /// URN of the port group; excludes its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_urn: Option<String>,
}

/// A number of something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quantity {
    /// The number.
    #[schemars(schema_with = "schema::integer")]
    pub quantity: i64,
}

/// A disk of the VM's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskSpec {
    /// Datastore cluster from which a datastore is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_cluster_name: Option<String>,
    /// Datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_name: Option<String>,
    /// URN of the datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_urn: Option<String>,
    /// File system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Options of mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// Options of mkfs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Mount point; without one the disk is only attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Size in GB; 0 only for the system disk: as large as the template's.
    #[schemars(schema_with = "schema::integer")]
    pub quantity: i64,
    /// The system disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_volume: Option<bool>,
    /// What is on the disk is wiped at the first boot of a new VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe_filesystem: Option<bool>,
}

/// What was observed of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DCSMachineStatus {
    /// Additional NICs of the claimed entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_nic: Vec<Nic>,
    /// Addresses of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Datastore that holds the boot medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cd_rom_datastore_urn: Option<String>,
    /// The boot medium was taken out of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cd_rom_detached: Option<bool>,
    /// File of the boot medium, once its upload succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cd_rom_file: Option<String>,
    /// The boot medium was removed from its datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cd_rom_file_deleted: Option<bool>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Failure domain that the VM was placed in, where its Machine names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// Declared by the published schema; never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domains: Option<BTreeMap<String, FailureDomain>>,
    /// Provisioning, as the v1beta2 contract reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,
    /// The claimed pool entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<NetworkConfig>,
    /// Provisioning, as the v1beta1 contract reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
}

/// Kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    /// Name of the host.
    Hostname,
    /// Reachable from outside.
    ExternalIP,
    /// Reachable inside.
    InternalIP,
    /// Name in DNS, outside.
    ExternalDNS,
    /// Name in DNS, inside.
    InternalDNS,
}

/// An address of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// The address.
    #[schemars(length(min = 1, max = 256))]
    pub address: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub type_: AddressType,
}

/// The claimed pool entry, without its disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
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
    /// Host name of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Address of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// IPv6 address of the primary NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Name of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<String>,
    /// Length of the network prefix, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Port group of the primary NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_name: Option<String>,
    /// URN of that port group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_group_urn: Option<String>,
}
