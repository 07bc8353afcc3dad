//! Memory guests: virtual machines without a kernel. At power-on one reads its boot medium and disks as a real image
//! would, interprets the Ignition or cloud-config document strictly, and runs what it says in a small shell over a file
//! system in memory. It refuses what the real image refuses, and shares no code with what renders the documents: a
//! mistake there must not be believed here.
//!
//! ```text
//!  boot.rs      power-on to running: document, network, units, commands ──► Booted or BootFailure
//!    │
//!    ├─ document/   Ignition 3.x, cloud-config: read strictly, applied to a machine
//!    ├─ network/    keyfiles and network data ──► addresses of the machine's NICs
//!    ├─ systemd/    unit files: what is enabled, in which order it starts
//!    └─ shell/      bash over the machine; programs it does not play are asked of `Commands`
//!         │
//!       machine.rs  what all of them act on: root, disks, NICs, services, console, clock
//!         ├─ root.rs   the file system under `/`
//!         ├─ disk.rs   data disks: blank, partitioned, formatted
//!         └─ image.rs  what the system disk holds before the first boot
//! ```

pub mod boot;
pub mod clock;
pub mod disk;
pub mod document;
pub mod image;
pub mod machine;
pub mod network;
pub mod root;
pub mod shell;
pub mod systemd;
#[cfg(test)]
mod testing;
