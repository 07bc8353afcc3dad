//! What must survive a crash and a move: an annotation of the `DCSMachine`. The status is rebuilt from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{DCSMachine, machine::NetworkConfig};

/// The annotation; its value is JSON with a version.
pub const ANNOTATION: &str = "infrastructure.cluster.x-k8s.io/dcs-record";
/// The version written.
const VERSION: u32 = 1;

/// Everything recorded of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub(super) version: u32,
    /// The claimed pool entry, as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// Names resolved to the site's objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The VM that is made, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// An upload of its boot medium was begun, and its outcome is not recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uploading: bool,
    /// Its boot medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
    /// The VM was moved into its folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    /// Work under way at the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// When it was first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Since when the site shows no such VM, though it was provisioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// What its pool is asked to do with the disks of its entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<Wish>,
}

/// What a pool is asked to do with the persistent disks of a machine's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Put them into the VM, which is made and has not been started.
    Attach,
    /// Take them out of the VM, which is stopped and about to be deleted.
    Detach,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: VERSION,
            network: None,
            placement: None,
            attempt: None,
            uploading: false,
            media: None,
            moved: false,
            task: None,
            started_at: None,
            missing_since: None,
            disks: None,
        }
    }
}

/// Names resolved to the site's objects: from here on only these count, whatever is renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// VM template.
    pub template: String,
    /// Compute cluster.
    pub compute_cluster: String,
    /// Folder; empty for the site itself.
    pub folder: String,
    /// Port groups, the primary NIC's first; empty keeps the template's.
    pub port_groups: Vec<String>,
    /// Datastores of the disks, the system disk's first.
    pub disk_datastores: Vec<String>,
    /// Datastore of the boot medium.
    pub media_datastore: String,
    /// Failure domain that the Machine named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
}

/// One VM that is made, or was: written before the call that makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// A UUID, chosen once; also the VM's identity at the site.
    pub id: String,
    /// When it was chosen.
    pub at: Timestamp,
    /// Nothing is made before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Why the one before failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// A boot medium.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Its path at the site.
    pub path: String,
    /// Its datastore.
    pub datastore: String,
    /// A digest of the boot data that it was made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// Slots of the persistent disks that it sets up in the guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<i64>,
    /// It was taken out of the VM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// It was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Until then an upload may end whose answer was lost, and put it there once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The VM's drive takes it only while the VM runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_power: bool,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Clones the VM.
    Create,
    /// Moves it into its folder.
    Move,
    /// Grows a disk.
    GrowDisk,
    /// Puts the boot medium into its drive.
    AttachMedia,
    /// Starts it.
    PowerOn,
    /// Takes the boot medium out.
    DetachMedia,
    /// Stops it.
    PowerOff,
    /// Deletes it.
    Delete,
}

/// Work under way at the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The site's id.
    pub id: String,
    /// What it does.
    pub work: Work,
    /// Since when.
    pub since: Timestamp,
    /// How far it was when that changed last; of long tasks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// How far a task was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// 0 to 100.
    pub progress: u32,
    /// Since when.
    pub at: Timestamp,
}

impl Record {
    /// The record of a machine; an error when there is one that cannot be read, because acting without it could make a
    /// second VM.
    pub fn of(machine: &DCSMachine) -> Result<Self, String> {
        let annotations = machine.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|annotations| annotations.get(ANNOTATION)) else {
            return Ok(Self::default());
        };
        let record: Self =
            serde_json::from_str(text).map_err(|error| format!("annotation {ANNOTATION} is not readable: {error}"))?;
        if record.version > VERSION {
            return Err(format!(
                "annotation {ANNOTATION} has version {}, this release reads {VERSION}",
                record.version
            ));
        }
        Ok(record)
    }

    /// The annotation's value.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The address that the machine holds.
    pub fn ip(&self) -> Option<&str> {
        self.network.as_ref()?.ip.as_deref()
    }
}
