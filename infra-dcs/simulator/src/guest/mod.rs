//! What runs inside a virtual machine: the seam between the simulated site, which knows disks, NICs and power states,
//! and the platforms that give a powered-on machine a content.
//!
//! The site calls a [`GuestPlatform`]; the platform answers with [`GuestEvent`]s on a bounded channel. What survives a power
//! cycle lies in the machine's disks; a platform whose disks are no files saves them with the site's state.

use std::{collections::BTreeSet, io, net::IpAddr, path::PathBuf};

use futures::future::BoxFuture;
use serde_json::Value;

use contents::Contents;

pub mod cli;
pub mod contents;
pub mod faults;
pub mod image;
pub mod iso;
pub mod memory;
pub mod none;
pub mod sandbox;

/// A virtual machine as the site describes it at power-on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestSpec {
    /// VRM's short id, for example `i-0000000A`; unique on the site.
    pub id: String,
    /// Display name. Never the guest's host name: that comes from the guest's own configuration.
    pub name: String,
    /// Name of the VM template the machine was cloned from.
    pub image: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// All disks, the system disk included, in any order.
    pub disks: Vec<GuestDisk>,
    /// All NICs.
    pub nics: Vec<GuestNic>,
    /// The ISO file in the CD-ROM drive.
    pub cdrom: Option<PathBuf>,
}

/// One disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestDisk {
    /// VRM's sequence number: 1 is the system disk. Guests see disks in this order, holes closed.
    pub sequence: u32,
    /// The sparse backing file; it exists.
    pub path: PathBuf,
    /// Size in bytes.
    pub size_bytes: u64,
    /// VRM's volume id, shown to the guest as the disk's serial where the platform can.
    pub volume_id: String,
    /// Whether this is the disk the machine boots from.
    pub system: bool,
}

/// One NIC of a machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestNic {
    /// Position, 0 is `eth0`.
    pub index: u32,
    /// Hardware address, for example `28:6e:d4:00:00:01`.
    pub mac: String,
    /// Name of the port group it is plugged into.
    pub port_group: String,
}

/// How a machine is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// The guest is asked and shuts down by itself; it may take its time, and the call returns when it is off.
    Safe,
    /// The power is cut.
    Force,
}

/// Why a machine is no longer running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest shut itself down, asked or not.
    PoweredOffInside,
    /// The power was cut, or the guest died.
    Killed,
    /// The guest never came to life: what stopped it, with the console's last lines.
    BootFailed(String),
}

/// What a platform tells the site about a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEvent {
    /// A line on the console.
    Console {
        /// Machine.
        id: String,
        /// The line, without control characters.
        line: String,
    },
    /// The guest tools answer, or what they tell has changed.
    ToolsRunning {
        /// Machine.
        id: String,
        /// Global addresses by hardware address of the NIC that carries them.
        addresses: Vec<(String, IpAddr)>,
        /// The host name the guest gave itself.
        hostname: String,
    },
    /// The machine is off.
    Stopped {
        /// Machine.
        id: String,
        /// Why.
        reason: StopReason,
    },
}

/// Why a platform could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The machine is already powered on.
    #[error("machine {0} is already running")]
    AlreadyRunning(String),
    /// The machine is not powered on.
    #[error("machine {0} is not running; power it on first")]
    NotRunning(String),
    /// The guest did not shut down in the time given.
    #[error("machine {0} did not shut down within {1:?}")]
    ShutdownTimeout(String, std::time::Duration),
    /// The boot medium cannot be read.
    #[error("the CD-ROM of machine {id} is unreadable: {reason}")]
    Cdrom {
        /// Machine.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host refused something.
    #[error("{what}: {reason}")]
    Host {
        /// What was tried.
        what: String,
        /// The host's words.
        reason: String,
    },
}

/// A kind of guest. All calls are safe to repeat and take effect in the order they are made for one machine.
pub trait GuestPlatform: Send + Sync {
    /// Boots the machine and returns as soon as it is powered; what happens inside is told by events.
    fn power_on(&self, spec: GuestSpec) -> BoxFuture<'_, Result<(), GuestError>>;
    /// Switches the machine off and returns when it is off. A machine that is off already is a success.
    fn power_off<'a>(&'a self, id: &'a str, how: PowerOff) -> BoxFuture<'a, Result<(), GuestError>>;
    /// Switches the machine off and forgets the content of its system disk. Unknown machines are a success.
    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), GuestError>>;
    /// Forgets, as [`GuestPlatform::destroy`] does, every machine that is not among `known`: an earlier process or
    /// another state of the site may have left some, and their ids come round again.
    fn keep_only<'a>(&'a self, known: &'a BTreeSet<String>) -> BoxFuture<'a, Result<(), GuestError>>;
    /// The last `lines` lines of the machine's console, oldest first. Also of a machine that is off.
    fn console(&self, id: &str, lines: usize) -> Vec<String>;
    /// Cuts the power of every machine and gives back everything held of the host.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
    /// Keeps what is on the machines' disks, where that is not in their backing files. Answers what
    /// [`GuestPlatform::restore`] needs beside the contents; null where nothing has to be kept.
    fn save(&self, _contents: &mut Contents) -> io::Result<Value> {
        Ok(Value::Null)
    }
    /// Puts on the machines' disks what was on them when they were saved. No machine may run.
    fn restore(&self, _contents: &Contents, _saved: &Value) -> io::Result<()> {
        Ok(())
    }
    /// What tests can do to its machines beside the API.
    fn staging(&self) -> &dyn faults::Staging {
        &faults::Unstaged
    }
}
