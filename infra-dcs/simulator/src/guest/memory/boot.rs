//! From power-on to a running machine.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    clock::GuestClock,
    disk::BlockDevice,
    machine::{Machine, Observer},
    root::Volume,
};
use crate::guest::{GuestNic, iso::Medium};

/// What a machine finds when its power comes.
pub struct PowerOn {
    /// Name of the machine's platform identity, for example `i-0000000A`.
    pub id: String,
    /// The file system on the system disk; [`image::system_disk`](super::image::system_disk) makes a new one. It must
    /// be kept over power cycles.
    pub system: Volume,
    /// Size of the system disk in bytes.
    pub system_size: u64,
    /// Data disks in the order of their sequence numbers, named `vdb`, `vdc` and so on.
    pub disks: Vec<BlockDevice>,
    /// NICs.
    pub nics: Vec<GuestNic>,
    /// The medium in the CD-ROM drive.
    pub medium: Option<Medium>,
    /// Time.
    pub clock: Arc<dyn GuestClock>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Booted {
    /// The machine, with everything that boot has left in it.
    pub machine: Machine,
    /// Its host name.
    pub hostname: String,
    /// Addresses by hardware address of the NIC that carries them.
    pub addresses: Vec<(String, IpAddr)>,
    /// How kubelet was started; none where it was not.
    pub kubelet: Option<Kubelet>,
}

/// How kubelet was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubelet {
    /// Command line with variables replaced, without the program's name.
    pub arguments: Vec<String>,
    /// Variables from the unit, its drop-ins and environment files.
    pub environment: BTreeMap<String, String>,
}

/// Why a machine did not come up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {message}")]
pub struct BootFailure {
    /// Unit or step, for example `ignition`, `network`, `kubeadm.service`, `runcmd`.
    pub step: String,
    /// What went wrong there.
    pub message: String,
}
