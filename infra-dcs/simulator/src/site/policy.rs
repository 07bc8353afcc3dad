//! What differs between sites and releases, and how long things take.

use serde::{Deserialize, Serialize};

/// Which release's rules for CD-ROMs, disks and customization the site follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// 6.x: media only in running VMs, ejected at every stop; 11 disks.
    R6,
    /// 8.8.1: a `file` medium may be put into a stopped VM for its power-on and stays there; 25 VIRTIO disks.
    Fc881,
}

/// Switches of the site. All have the defaults of a site as it is delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Policy {
    /// Rules of CD-ROMs, disks and customization.
    pub release: Release,
    /// Life of a token in milliseconds.
    pub token_validity_ms: u64,
    /// Whether use prolongs a token.
    pub token_sliding: bool,
    /// Failed logins until a user is locked; 0 never locks.
    pub lock_threshold: u32,
    /// How long a lock lasts in milliseconds, counted from the latest attempt; 0 never unlocks.
    pub lock_ms: u64,
    /// Whether only stopped VMs may be deleted (refusal 102212808).
    pub delete_only_stopped: bool,
    /// Deploy tasks that run at once; later ones wait. 1 is the site-wide deploy lock.
    pub deploy_slots: usize,
    /// Whether `quantityGB` above the template's size grows a copied disk.
    pub clone_grows_disks: bool,
    /// Whether a clone is made in the folder that its call names; else it lies where the source does.
    pub clone_takes_folder: bool,
    /// Whether running guests take disks.
    pub disk_hot_plug: bool,
    /// Whether running guests give disks back.
    pub disk_hot_unplug: bool,
    /// Most VMs of one exclusion rule.
    pub rule_max_vms: usize,
    /// Whether an upload of a name that exists replaces the file instead of being refused.
    pub upload_overwrites: bool,
    /// How long finished tasks can be queried, in milliseconds.
    pub task_retention_ms: u64,
    /// Seconds for which an upload ticket is good.
    pub upload_expire_seconds: u64,
    /// Whether VMs without content (`--guests none`) report their tools as running.
    pub tools_without_guest: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            release: Release::Fc881,
            token_validity_ms: 600_000,
            token_sliding: false,
            lock_threshold: 5,
            lock_ms: 300_000,
            delete_only_stopped: true,
            deploy_slots: 4,
            clone_grows_disks: false,
            clone_takes_folder: true,
            disk_hot_plug: true,
            disk_hot_unplug: true,
            rule_max_vms: 8,
            upload_overwrites: false,
            task_retention_ms: 3_600_000,
            upload_expire_seconds: 300,
            tools_without_guest: true,
        }
    }
}

/// How long tasks take before jitter of a quarter either way, in milliseconds, times `scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Latency {
    /// Factor on everything; 0 finishes tasks at once.
    pub scale: f64,
    /// Deploying a VM from a template.
    pub deploy_ms: u64,
    /// What the hosts need before a guest gets power, or after it lost it.
    pub power_ms: u64,
    /// Deleting a VM.
    pub delete_ms: u64,
    /// Creating, deleting, expanding a volume.
    pub volume_ms: u64,
    /// Attaching or detaching a volume or medium.
    pub attach_ms: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { scale: 1.0, deploy_ms: 6_000, power_ms: 1_000, delete_ms: 1_500, volume_ms: 1_000, attach_ms: 600 }
    }
}
