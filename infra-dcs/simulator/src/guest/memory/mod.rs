//! Memory guests: virtual machines without a kernel. At power-on one reads its boot medium and disks as a real image
//! would, interprets the Ignition or cloud-config document strictly, and runs what it says in a small shell over a file
//! system in memory. It refuses what the real image refuses, and shares no code with what renders the documents: a
//! mistake there must not be believed here.
//!
//! ```text
//!  platform ──► boot/ ──► document/, network/, systemd/     read strictly, applied to a machine
//!     │           └──────► shell/     bash over the machine; programs it does not play are asked of `Commands`
//!     │                      └──► host ──► kubeadm/     init and join, over TLS to the cluster's API servers
//!     │                             └────► cluster/     kubelets, static pods, controllers
//!     │                                      ├─► api_server/   TLS, who may do what, port-forward
//!     │                                      └─► etcd/         members, quorum
//!     └─ what all of them act on: machine, root (files), disk, image, console, cable, machine_clock
//! ```

pub mod api_server;
pub mod boot;
#[cfg(test)]
mod boot_testing;
pub mod cable;
pub mod clock;
pub mod cluster;
pub mod console;
pub mod disk;
pub mod document;
pub mod etcd;
pub mod host;
pub mod image;
pub mod kubeadm;
pub mod machine;
pub mod machine_clock;
pub mod network;
pub mod platform;
pub mod root;
pub mod shell;
pub mod systemd;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod tls;
