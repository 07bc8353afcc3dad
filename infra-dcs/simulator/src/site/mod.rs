//! The site as a pure model: no I/O, no clock. Time comes in as milliseconds since the epoch; what must happen outside
//! (disk files, guests) goes out as [`Effect`]s for the engine.
//!
//! A volume carries its attachment, so a disk can be attached to one VM at most by construction; the disks of a VM are
//! derived from the volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod cdrom;
pub mod check;
pub mod clone;
pub mod codes;
pub mod disks;
pub mod drs;
pub mod files;
pub mod folders;
pub mod inventory;
pub mod model;
pub mod placement;
pub mod policy;
pub mod power;
pub mod sessions;
pub mod tasks;
#[cfg(test)]
mod tests;
pub mod timetable;
pub mod urn;
pub mod vms;
pub mod volumes;

pub use codes::{Code, VrmError};
pub use model::*;
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
    pub volumes: disks::Disks,
    /// Tasks.
    pub tasks: timetable::Timetable,
    /// Uploaded files.
    pub files: BTreeMap<u64, files::File>,
    /// Upload tickets by their secret path segment.
    #[serde(skip)]
    pub uploads: BTreeMap<String, files::Ticket>,
    /// Faults that future tasks meet.
    #[serde(default)]
    pub task_faults: Vec<tasks::TaskFault>,
    /// The moment up to which everything has come about.
    #[serde(skip)]
    pub now: u64,
    /// What the engine has to do, in order.
    #[serde(skip)]
    pub effects: Vec<Effect>,
    /// Number of changes so far, for the audit.
    pub changes: u64,
    next_ids: BTreeMap<u64, u64>,
    random: u64,
}

/// What the engine does for the site, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Sets the size of the volume's sparse file.
    SizeDisk {
        /// Volume.
        volume: u64,
        /// Size in bytes.
        bytes: u64,
    },
    /// Makes the volume's sparse file, blank whatever was there.
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
            volumes: disks::Disks::default(),
            tasks: timetable::Timetable::default(),
            files: BTreeMap::new(),
            uploads: BTreeMap::new(),
            task_faults: vec![],
            now: 0,
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
        let of_vm = self.volumes.of_vm(vm);
        let mut disks: Vec<_> = of_vm.filter_map(|volume| Some((volume, volume.attachment?))).collect();
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
