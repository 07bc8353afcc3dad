//! The objects of a site.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Result, cdrom, codes, drs, policy};

/// A compute cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeCluster {
    /// Id.
    pub id: u64,
    /// Unique name.
    pub name: String,
    /// Whether DRS is on.
    pub drs: bool,
    /// DRS rules.
    pub rules: Vec<drs::Rule>,
    /// Index of the next rule.
    pub next_rule: u64,
}

/// A physical host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Management address.
    pub ip: String,
    /// Its compute cluster.
    pub cluster: u64,
    /// CPU cores.
    pub cores: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// VRM's status word; `normal` is healthy.
    pub status: String,
    /// Whether it is in maintenance.
    pub maintaining: bool,
}

/// A VM folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Folder {
    /// Id.
    pub id: u64,
    /// Name, unique below its parent.
    pub name: String,
    /// Parent folder; none is the site.
    pub parent: Option<u64>,
}

/// A datastore.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Datastore {
    /// Id.
    pub id: u64,
    /// Unique name.
    pub name: String,
    /// Its datastore cluster.
    pub cluster: Option<u64>,
    /// Capacity in GB.
    pub capacity_gb: u64,
    /// Used by what the site does not show, in GB.
    pub base_used_gb: u64,
    /// VRM's storage type.
    pub storage_type: String,
    /// Whether thin volumes are possible.
    pub thin: bool,
    /// Whether files can be uploaded.
    pub uploads: bool,
    /// VRM's status word; `NORMAL` is healthy.
    pub status: String,
    /// Hosts that see it.
    pub hosts: BTreeSet<u64>,
}

/// A datastore cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatastoreCluster {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
}

/// A distributed switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Switch {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
}

/// A port group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortGroup {
    /// Id.
    pub id: u64,
    /// Its switch.
    pub switch: u64,
    /// Name, unique in its switch.
    pub name: String,
    /// VLAN id; 0 is untagged.
    pub vlan: u16,
}

/// VRM's states of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmStatus {
    /// Powered on.
    Running,
    /// Powered off.
    Stopped,
    /// The host does not answer.
    Unknown,
    /// Asleep on disk.
    Hibernated,
    /// Being created.
    Creating,
    /// The guest is shutting down.
    ShuttingDown,
    /// Moving to another host.
    Migrating,
    /// Being resumed after a fault.
    FaultResuming,
    /// Being started.
    Starting,
    /// Being stopped.
    Stopping,
    /// Falling asleep.
    Hibernating,
    /// Paused.
    Pause,
    /// In the recycle bin.
    Recycling,
}

impl VmStatus {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
            Self::Hibernated => "hibernated",
            Self::Creating => "creating",
            Self::ShuttingDown => "shutting-down",
            Self::Migrating => "migrating",
            Self::FaultResuming => "fault-resuming",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Hibernating => "hibernating",
            Self::Pause => "pause",
            Self::Recycling => "recycling",
        }
    }
}

/// State of the guest tools (`pvDriverStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tools {
    /// Silent.
    NotRunning,
    /// The guest is booting.
    Starting,
    /// Answering.
    Running,
}

/// A VM or VM template.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vm {
    /// Id, printed as `i-0000000A`.
    pub id: u64,
    /// UUID, unique on the site.
    pub uuid: String,
    /// Name, not unique.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Free text.
    pub group: Option<String>,
    /// The client's own UUID.
    pub external_uuid: Option<String>,
    /// The client's own marks.
    pub custom_properties: BTreeMap<String, String>,
    /// Whether it is a VM template.
    pub is_template: bool,
    /// Name of the VM template at the root of its clones: the image that its guest boots.
    pub image: String,
    /// Its folder; none is the site.
    pub folder: Option<u64>,
    /// Its compute cluster.
    pub cluster: u64,
    /// Its host, once it was placed.
    pub host: Option<u64>,
    /// Whether it may run on that host only.
    pub bound_to_host: bool,
    /// State.
    pub status: VmStatus,
    /// Guest tools.
    pub tools: Tools,
    /// Host name that the tools told.
    pub guest_hostname: Option<String>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// NICs in order.
    pub nics: Vec<Nic>,
    /// Medium in the CD-ROM drive.
    pub medium: Option<cdrom::Medium>,
    /// `osOptions` as given.
    pub os_options: Value,
    /// `vmCustomization` as given; nothing in the site acts on it.
    pub customization: Value,
    /// Milliseconds since the epoch.
    pub created: u64,
    /// Its unfinished task.
    pub task: Option<u64>,
    /// How often it was powered on.
    pub boots: u64,
    /// Why its guest did not come to life, by the latest boot.
    pub boot_failure: Option<String>,
}

impl Vm {
    /// A VM that is being created.
    pub fn new(id: u64, name: String, cluster: u64, now: u64) -> Self {
        Self {
            id,
            uuid: String::new(),
            name,
            description: String::new(),
            group: None,
            external_uuid: None,
            custom_properties: BTreeMap::new(),
            is_template: false,
            image: String::new(),
            folder: None,
            cluster,
            host: None,
            bound_to_host: false,
            status: VmStatus::Creating,
            tools: Tools::NotRunning,
            guest_hostname: None,
            cpus: 1,
            memory_mb: 1024,
            nics: vec![],
            medium: None,
            os_options: Value::Null,
            customization: Value::Null,
            created: now,
            task: None,
            boots: 0,
            boot_failure: None,
        }
    }
}

/// A NIC.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// Id.
    pub id: u64,
    /// `Network Adapter 0`.
    pub name: String,
    /// Position.
    pub sequence: u32,
    /// Port group.
    pub port_group: u64,
    /// Hardware address.
    pub mac: String,
    /// Addresses that the tools told.
    pub addresses: Vec<IpAddr>,
}

/// Bus of a disk (`pciType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Bus {
    /// Paravirtual.
    Virtio,
    /// IDE.
    Ide,
    /// SCSI.
    Scsi,
}

impl Bus {
    /// Reads `pciType`; absent is the release's default.
    pub fn read(text: Option<&str>, release: policy::Release) -> Result<Self> {
        match text {
            None if release == policy::Release::R6 => Ok(Self::Ide),
            None => Ok(Self::Virtio),
            Some(word) => match word.to_ascii_uppercase().as_str() {
                "VIRTIO" => Ok(Self::Virtio),
                "IDE" => Ok(Self::Ide),
                "SCSI" => Ok(Self::Scsi),
                _ => Err(codes::BUS_TYPE.because(format!("pciType {word:?}"))),
            },
        }
    }

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Virtio => "VIRTIO",
            Self::Ide => "IDE",
            Self::Scsi => "SCSI",
        }
    }

    /// Whether a disk may have this sequence number. The CD-ROM drive owns the third IDE position.
    pub fn has_slot(self, sequence: u32, release: policy::Release) -> bool {
        (1..=self.slots(release)).contains(&sequence) && (self != Self::Ide || sequence != 3)
    }

    /// Highest sequence number.
    pub fn slots(self, release: policy::Release) -> u32 {
        match (self, release) {
            (Self::Virtio, policy::Release::Fc881) => 25,
            (Self::Ide, policy::Release::Fc881) => 3,
            _ => 60,
        }
    }
}

/// States of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VolumeStatus {
    /// Being created.
    Creating,
    /// Being deleted.
    Deleting,
    /// Usable.
    Use,
    /// Growing.
    Resizing,
}

impl VolumeStatus {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Deleting => "DELETING",
            Self::Use => "USE",
            Self::Resizing => "RESIZING",
        }
    }
}

/// Where a volume is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The VM.
    pub vm: u64,
    /// Sequence number; 1 is the system disk.
    pub sequence: u32,
    /// Bus.
    pub bus: Bus,
    /// False while the attach task runs.
    pub done: bool,
}

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Id.
    pub id: u64,
    /// UUID.
    pub uuid: String,
    /// Name, not unique.
    pub name: String,
    /// Size in GB.
    pub size_gb: u64,
    /// Datastore.
    pub datastore: u64,
    /// Thin provisioned.
    pub thin: bool,
    /// Independent: not part of snapshots.
    pub independent: bool,
    /// Persistent: writes survive.
    pub persistent: bool,
    /// State.
    pub status: VolumeStatus,
    /// Where it is attached.
    pub attachment: Option<Attachment>,
    /// The client's own marks.
    pub custom_properties: BTreeMap<String, String>,
    /// Its unfinished task, other than its VM's.
    pub task: Option<u64>,
}

impl Volume {
    /// A free, usable volume.
    pub fn new(id: u64, uuid: String, name: String, size_gb: u64, datastore: u64) -> Self {
        Self {
            id,
            uuid,
            name,
            size_gb,
            datastore,
            thin: false,
            independent: false,
            persistent: true,
            status: VolumeStatus::Use,
            attachment: None,
            custom_properties: BTreeMap::new(),
            task: None,
        }
    }

    /// Attaches it, as part of making a VM.
    pub fn attach(&mut self, vm: u64, sequence: u32, bus: Bus) {
        self.attachment = Some(Attachment { vm, sequence, bus, done: true });
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.size_gb << 30
    }
}
