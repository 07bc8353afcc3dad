//! The volumes of a site, by their ids and by the VM that each is attached to.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use serde::{Deserialize, Serialize};

use super::Volume;

/// See the [module](self). It reads as the volumes by their ids.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<u64, Volume>", into = "BTreeMap<u64, Volume>")]
pub struct Disks {
    volumes: BTreeMap<u64, Volume>,
    /// VM and volume.
    attached: BTreeSet<(u64, u64)>,
}

impl Disks {
    /// Adds a volume.
    pub fn insert(&mut self, volume: Volume) {
        if let Some(at) = volume.attachment {
            self.attached.insert((at.vm, volume.id));
        }
        self.volumes.insert(volume.id, volume);
    }

    /// Takes a volume away.
    pub fn remove(&mut self, id: u64) -> Option<Volume> {
        let volume = self.volumes.remove(&id)?;
        if let Some(at) = volume.attachment {
            self.attached.remove(&(at.vm, id));
        }
        Some(volume)
    }

    /// Changes a volume, if it is there.
    pub fn change<T>(&mut self, id: u64, change: impl FnOnce(&mut Volume) -> T) -> Option<T> {
        let mut volume = self.remove(id)?;
        let result = change(&mut volume);
        self.insert(volume);
        Some(result)
    }

    /// The volumes that are attached to a VM, those whose attach task runs included.
    pub fn of_vm(&self, vm: u64) -> impl Iterator<Item = &Volume> {
        self.attached.range((vm, 0)..=(vm, u64::MAX)).filter_map(|(_, id)| self.volumes.get(id))
    }
}

impl Deref for Disks {
    type Target = BTreeMap<u64, Volume>;

    fn deref(&self) -> &Self::Target {
        &self.volumes
    }
}

impl From<BTreeMap<u64, Volume>> for Disks {
    fn from(volumes: BTreeMap<u64, Volume>) -> Self {
        let mut all = Self::default();
        for volume in volumes.into_values() {
            all.insert(volume);
        }
        all
    }
}

impl From<Disks> for BTreeMap<u64, Volume> {
    fn from(all: Disks) -> Self {
        all.volumes
    }
}
