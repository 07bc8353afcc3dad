//! What is wrong with a machine's disk, as its member of etcd feels it. It belongs to the machine, whether that is on or off.

use parking_lot::Mutex;

/// What a disk suffers from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskState {
    /// Writes wait.
    pub is_slow: bool,
    /// The database is full.
    pub is_full: bool,
    /// The data differs from that of other members.
    pub is_corrupt: bool,
}

/// The state of a machine's disk, shared by whoever breaks it and whoever feels it.
#[derive(Debug, Default)]
pub struct DiskFaults(Mutex<DiskState>);

impl DiskFaults {
    /// The state now.
    pub fn now(&self) -> DiskState {
        *self.0.lock()
    }

    /// Breaks or mends the disk.
    pub fn set(&self, state: DiskState) {
        *self.0.lock() = state;
    }
}
