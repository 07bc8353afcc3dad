//! Disks as a guest sees them: blank, with a partition table, or with a file system.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::root::Volume;

/// Major number of virtio disks.
pub const VIRTIO_MAJOR: u32 = 252;
/// Minor numbers of one virtio disk: itself and its partitions.
pub const MINORS_PER_DISK: u32 = 16;

/// What is on a disk or partition. A handle: it outlives the machine, and goes with the disk to the next one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Content>>);

/// See [`Disk`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub enum Content {
    /// Nothing that `blkid` would find.
    #[default]
    Blank,
    /// A file system on the whole of it.
    FileSystem(Volume),
    /// A swap area with this UUID.
    Swap(String),
    /// A partition table.
    Partitioned(Table),
}

/// Type of a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// Master boot record, which `blkid` calls `dos`.
    Dos,
}

impl TableKind {
    /// As `blkid` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt => "gpt",
            Self::Dos => "dos",
        }
    }
}

/// A partition table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Table {
    /// Type.
    pub kind: TableKind,
    /// Partitions, by number.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Partition {
    /// Number, from 1.
    pub number: u32,
    /// Label of GPT; empty without one.
    pub label: String,
    /// Type: a GUID in GPT, two hexadecimal digits in MBR.
    pub type_code: String,
    /// Where it begins, in MiB.
    pub start_mib: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What is on it.
    pub disk: Disk,
}

impl Disk {
    /// A disk that holds a file system.
    pub fn with(volume: Volume) -> Self {
        Self(Arc::new(Mutex::new(Content::FileSystem(volume))))
    }

    /// What is on it now.
    pub fn content(&self) -> Content {
        self.0.lock().clone()
    }

    /// Overwrites what is on it.
    pub fn set(&self, content: Content) {
        *self.0.lock() = content;
    }

    /// The file system on it.
    pub fn volume(&self) -> Option<Volume> {
        match &*self.0.lock() {
            Content::FileSystem(volume) => Some(volume.clone()),
            _ => None,
        }
    }
}

impl Serialize for Disk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.lock().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Disk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Content::deserialize(deserializer).map(|content| Self(Arc::new(Mutex::new(content))))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().fmt(f)
    }
}

/// A disk attached to a machine.
#[derive(Clone, Debug)]
pub struct BlockDevice {
    /// Name under `/dev`, for example `vdb`.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Serial number; empty where the platform shows none.
    pub serial: String,
    /// What is on it.
    pub disk: Disk,
}

/// A whole disk or a partition, as a path under `/dev` names it.
#[derive(Clone, Debug)]
pub struct Block {
    /// Name under `/dev`, for example `vdb1`.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Major and minor number.
    pub numbers: (u32, u32),
    /// The disk of a partition.
    pub parent: Option<String>,
    /// What is on it.
    pub disk: Disk,
}

/// All disks of a machine and their partitions, each disk before its partitions.
pub fn blocks(devices: &[BlockDevice]) -> Vec<Block> {
    let mut found = Vec::new();
    for (index, device) in (0u32..).zip(devices) {
        let minor = index * MINORS_PER_DISK;
        found.push(Block {
            name: device.name.clone(),
            size_bytes: device.size_bytes,
            numbers: (VIRTIO_MAJOR, minor),
            parent: None,
            disk: device.disk.clone(),
        });
        if let Content::Partitioned(table) = device.disk.content() {
            found.extend(table.partitions.into_iter().map(|partition| Block {
                name: format!("{}{}", device.name, partition.number),
                size_bytes: partition.size_bytes,
                numbers: (VIRTIO_MAJOR, minor + partition.number),
                parent: Some(device.name.clone()),
                disk: partition.disk,
            }));
        }
    }
    found
}
