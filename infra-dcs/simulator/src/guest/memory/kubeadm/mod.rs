//! Plays kubeadm: `init` and `join` with the checks, files, objects and words of the real one.
//!
//! ```text
//!  command ──► config/     the documents, strictly         ──► init.rs, join.rs   the phases
//!                                                                  │
//!      preflight, pki/, kubeconfig, manifests/, kubelet ◄──────────┤  write files
//!      client, discovery, objects/                      ◄──────────┤  speak to API servers over TLS
//!      host                                             ◄──────────┘  the machine: kubelet, clock, network, etcd
//! ```
//! It shares nothing with what renders these documents: it would believe its own mistakes. Facts are those of the real
//! kubeadm's source and documentation, versions 1.31 to 1.36.

use std::time::Duration;

mod cidr;
mod client;
pub mod command;
pub mod config;
mod discovery;
pub mod files;
pub mod host;
pub mod images;
mod init;
mod join;
pub mod kubeconfig;
pub mod kubelet;
pub mod manifests;
mod objects;
mod phases;
pub mod pki;
mod preflight;
pub mod tokens;
pub mod version;

pub use cidr::Cidr;

use host::Host;

/// First and longest pause between two tries. kubeadm waits longer; here answers come within milliseconds.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Trying again until the time is over.
struct Retry<'a> {
    host: &'a dyn Host,
    left: Duration,
    pause: Duration,
}

impl<'a> Retry<'a> {
    /// From now on for this long.
    fn new(host: &'a dyn Host, time: Duration) -> Self {
        Self { host, left: time, pause: PAUSE }
    }

    /// Waits a little; false when the time is over.
    async fn again(&mut self) -> bool {
        if self.left.is_zero() {
            return false;
        }
        let pause = self.pause.min(self.left);
        self.host.sleep(pause).await;
        self.left -= pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}
