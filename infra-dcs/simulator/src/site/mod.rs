//! The site as a pure model: no I/O, no clock. Time comes in as milliseconds since the epoch; what must happen outside
//! (disk files, guests) goes out as [`Effect`]s for the engine.
//!
//! A volume carries its attachment, so a disk can be attached to one VM at most by construction; the disks of a VM are
//! derived from the volumes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod cdrom;
pub mod check;
pub mod clone;
pub mod codes;
pub mod drs;
pub mod files;
pub mod folders;
pub mod inventory;
pub mod placement;
pub mod policy;
pub mod power;
pub mod sessions;
pub mod tasks;
#[cfg(test)]
mod tests;
pub mod urn;
pub mod vms;
pub mod volumes;

pub use codes::{Code, VrmError};
pub use urn::{Entity, VmId};

/// Result of an operation of the site.
pub type Result<T, E = VrmError> = std::result::Result<T, E>;

/// The whole state of a site; what is saved and loaded, tokens excepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    /// Site id.
    pub id: String,
    /// Site name.
    pub name: String,
    /// Management address.
    pub ip: String,
    /// Switches.
    pub policy: policy::Policy,
    /// Durations of tasks.
    pub latency: policy::Latency,
    /// Users by name.
    pub users: BTreeMap<String, sessions::User>,
    /// Tokens; they die with the VRM.
    #[serde(skip)]
    pub sessions: BTreeMap<String, sessions::Session>,
    /// Compute clusters.
    pub clusters: BTreeMap<u64, ComputeCluster>,
    /// Hosts.
    pub hosts: BTreeMap<u64, Host>,
    /// VM folders.
    pub folders: BTreeMap<u64, Folder>,
    /// Datastores.
    pub datastores: BTreeMap<u64, Datastore>,
    /// Datastore clusters.
    pub datastore_clusters: BTreeMap<u64, DatastoreCluster>,
    /// Distributed switches.
    pub switches: BTreeMap<u64, Switch>,
    /// Port groups.
    pub port_groups: BTreeMap<u64, PortGroup>,
    /// VMs and VM templates.
    pub vms: BTreeMap<u64, Vm>,
    /// Volumes.
    pub volumes: BTreeMap<u64, Volume>,
    /// Tasks.
    pub tasks: BTreeMap<u64, tasks::Task>,
    /// Uploaded files.
    pub files: BTreeMap<u64, files::File>,
    /// Upload tickets by their secret path segment.
    #[serde(skip)]
    pub uploads: BTreeMap<String, files::Ticket>,
    /// Faults that future tasks meet.
    #[serde(default)]
    pub task_faults: Vec<tasks::TaskFault>,
    /// What the engine has to do, in order.
    #[serde(skip)]
    pub effects: Vec<Effect>,
    /// Number of changes so far, for the audit.
    pub changes: u64,
    next_ids: BTreeMap<u64, u64>,
    random: u64,
}

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

/// What the engine does for the site, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Makes the volume's sparse file, or sets its size.
    SizeDisk {
        /// Volume.
        volume: u64,
        /// Size in bytes.
        bytes: u64,
    },
    /// Makes the volume's content blank.
    BlankDisk {
        /// Volume.
        volume: u64,
        /// Size in bytes.
        bytes: u64,
    },
    /// Removes the volume's file.
    RemoveDisk {
        /// Volume.
        volume: u64,
    },
    /// Removes an uploaded file.
    RemoveFile {
        /// File.
        file: u64,
    },
    /// Powers the guest on and answers with [`Site::powered_on`].
    PowerOn {
        /// Task that waits.
        task: u64,
        /// VM.
        vm: u64,
    },
    /// Powers the guest off and answers with [`Site::powered_off`].
    PowerOff {
        /// Task that waits.
        task: u64,
        /// VM.
        vm: u64,
        /// Whether the guest is asked.
        safe: bool,
    },
    /// Forgets the guest of a VM that is gone.
    Destroy {
        /// VM.
        vm: u64,
    },
}

impl Site {
    fn empty(id: String, seed: u64) -> Self {
        Self {
            id,
            name: String::new(),
            ip: String::new(),
            policy: policy::Policy::default(),
            latency: policy::Latency::default(),
            users: BTreeMap::new(),
            sessions: BTreeMap::new(),
            clusters: BTreeMap::new(),
            hosts: BTreeMap::new(),
            folders: BTreeMap::new(),
            datastores: BTreeMap::new(),
            datastore_clusters: BTreeMap::new(),
            switches: BTreeMap::new(),
            port_groups: BTreeMap::new(),
            vms: BTreeMap::new(),
            volumes: BTreeMap::new(),
            tasks: BTreeMap::new(),
            files: BTreeMap::new(),
            uploads: BTreeMap::new(),
            task_faults: vec![],
            effects: vec![],
            changes: 0,
            next_ids: BTreeMap::new(),
            random: seed,
        }
    }

    /// The next id of the number range that begins after `base`; each kind of object has its range.
    fn id_after(&mut self, base: u64) -> u64 {
        let next = self.next_ids.entry(base).or_insert(base);
        *next += 1;
        *next
    }

    fn new_vm_id(&mut self) -> u64 {
        // VM ids and folder ids may not share a range: both are seen by clients, and a mix-up should show.
        self.id_after(0x4A0)
    }

    /// The next number of the site's own random sequence (splitmix64): the same seed gives the same site.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn new_uuid(&mut self) -> String {
        let bytes = (u128::from(self.random()) << 64 | u128::from(self.random())).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    fn new_mac(&mut self) -> String {
        let [.., high, middle, low] = self.id_after(0x88_C600).to_be_bytes();
        format!("28:6e:d4:{high:02x}:{middle:02x}:{low:02x}")
    }

    fn changed(&mut self) {
        self.changes += 1;
    }

    /// URN of an object.
    pub fn urn(&self, entity: Entity) -> String {
        entity.urn(&self.id)
    }

    /// Object of a URN.
    pub fn parse(&self, urn: &str) -> Option<Entity> {
        Entity::parse(&self.id, urn)
    }

    /// Port group as an entity.
    pub fn port_group_entity(&self, id: u64) -> Entity {
        Entity::PortGroup(self.port_groups.get(&id).map_or(0, |group| group.switch), id)
    }

    /// Volumes of a VM in sequence order, those whose attach task runs included.
    pub fn disks_of(&self, vm: u64) -> Vec<(&Volume, Attachment)> {
        let mut disks: Vec<_> = self
            .volumes
            .values()
            .filter_map(|volume| volume.attachment.filter(|at| at.vm == vm).map(|at| (volume, at)))
            .collect();
        disks.sort_by_key(|(_, at)| (at.bus, at.sequence));
        disks
    }

    /// Used space of a datastore in GB. A thin volume counts a twentieth of its size.
    pub fn used_gb(&self, datastore: u64) -> u64 {
        let volumes = self.volumes.values().filter(|volume| volume.datastore == datastore);
        let volumes: u64 = volumes.map(|volume| space_gb(volume.size_gb, volume.thin)).sum();
        let files: u64 =
            self.files.values().filter(|file| file.datastore == datastore).map(|file| file.size >> 30).sum();
        self.datastores.get(&datastore).map_or(0, |store| store.base_used_gb) + volumes + files
    }

    /// Free space of a datastore in GB.
    pub fn free_gb(&self, datastore: u64) -> u64 {
        let capacity = self.datastores.get(&datastore).map_or(0, |store| store.capacity_gb);
        capacity.saturating_sub(self.used_gb(datastore))
    }
}

/// Space that a volume takes in GB.
pub fn space_gb(size_gb: u64, thin: bool) -> u64 {
    if thin { size_gb.div_ceil(20) } else { size_gb }
}
