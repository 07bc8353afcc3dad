//! The documents that VRM sends, as far as they are read. Everything is optional: releases differ.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// The answer of a call that started a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Started {
    /// What is made or worked on.
    pub urn: Option<String>,
    /// The task.
    pub task_uri: Option<String>,
    /// The task, by URN.
    pub task_urn: Option<String>,
}

/// A task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Task {
    pub uri: String,
    pub entity_urn: Option<String>,
    pub entity_name: Option<String>,
    pub status: String,
    pub progress: Option<f64>,
    pub reason: Option<Value>,
    pub reason_des: Option<String>,
}

/// A site, a cluster, a folder, a switch: what has a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Named {
    pub urn: String,
    pub uri: String,
    pub name: String,
    pub status: Option<String>,
}

/// A datastore.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Datastore {
    pub urn: String,
    pub uri: String,
    pub name: String,
    pub status: String,
    #[serde(rename = "freeSizeGB")]
    pub free_size_gb: Option<f64>,
    #[serde(rename = "actualFreeSizeGB")]
    pub actual_free_size_gb: Option<f64>,
    #[serde(rename = "actualCapacityGB")]
    pub actual_capacity_gb: Option<f64>,
    #[serde(rename = "capacityGB")]
    pub capacity_gb: Option<f64>,
    pub datastore_cluster_name: Option<String>,
}

impl Datastore {
    /// Free space, in GiB.
    pub fn free(&self) -> f64 {
        self.actual_free_size_gb.or(self.free_size_gb).unwrap_or(0.0)
    }

    /// The part that is in use, in percent; where the site tells.
    pub fn used_percent(&self) -> Option<f64> {
        let capacity = self.actual_capacity_gb.or(self.capacity_gb).filter(|capacity| *capacity > 0.0)?;
        Some(100.0 - self.free() / capacity * 100.0)
    }
}

/// A virtual machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Vm {
    pub urn: String,
    pub uri: String,
    pub uuid: Option<String>,
    pub name: String,
    pub arch: Option<String>,
    pub description: Option<String>,
    pub group: Option<String>,
    pub status: String,
    pub cluster_urn: Option<String>,
    pub host_urn: Option<String>,
    pub host_name: Option<String>,
    pub pv_driver_status: Option<String>,
    pub cd_rom_status: Option<String>,
    pub is_template: Option<bool>,
    pub os_options: Option<OsOptions>,
    pub params: Option<VmParams>,
    pub vm_config: VmConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct VmParams {
    pub parent_obj_urn: Option<String>,
}

/// The answer of a move into a folder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Moved {
    /// The task, where the release makes one.
    pub task_urn: Option<String>,
    /// What was moved.
    #[serde(rename = "moveVmsSucceededList")]
    pub succeeded: Option<Vec<MovedVm>>,
    /// What was not. The spelling is VRM's.
    #[serde(rename = "moveVmsFaileddList")]
    pub failed: Option<Vec<MovedVm>>,
}

/// A machine that was moved, or was not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct MovedVm {
    pub vm_id: Option<String>,
    pub error_code: Option<Value>,
    pub error_des: Option<String>,
}

/// A number that releases send as text or as a number.
pub fn number(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct OsOptions {
    pub os_type: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct VmConfig {
    pub cpu: Cpu,
    pub memory: Memory,
    pub disks: Option<Vec<Disk>>,
    pub nics: Option<Vec<Nic>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Cpu {
    pub quantity: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Memory {
    #[serde(rename = "quantityMB")]
    pub quantity_mb: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Disk {
    pub sequence_num: u32,
    pub volume_urn: Option<String>,
    pub disk_name: Option<String>,
    #[serde(rename = "quantityGB")]
    pub quantity_gb: u64,
    pub datastore_urn: Option<String>,
    pub indep_disk: Option<bool>,
    pub persistent_disk: Option<bool>,
    pub pci_type: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Nic {
    pub name: String,
    pub sequence_num: Option<u32>,
    pub port_group_urn: Option<String>,
    pub mac: Option<String>,
    pub ip: Option<String>,
    pub ip_list: Option<String>,
    pub ips6: Option<Vec<String>>,
}

/// A volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Volume {
    pub urn: String,
    pub uri: String,
    pub name: String,
    #[serde(rename = "quantityGB")]
    pub quantity_gb: u64,
    pub status: String,
    pub datastore_urn: Option<String>,
    pub datastore_name: Option<String>,
    pub indep_disk: Option<bool>,
    pub persistent_disk: Option<bool>,
    /// 3 when a machine holds it, 2 when none does; in lists only.
    pub bind_to_vm: Option<Value>,
    /// Marks; sites of older releases keep none.
    pub custom_properties: Option<HashMap<String, Value>>,
}

/// Where to upload a file.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct UploadTicket {
    pub upload_url: String,
    pub token: String,
}

/// A file on a datastore.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct File {
    pub id: Option<Value>,
    pub name: String,
    pub size: Option<u64>,
}

impl File {
    /// Its id, as its path wants it.
    pub fn id(&self) -> Option<String> {
        match self.id.as_ref()? {
            Value::String(id) => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        }
    }
}
