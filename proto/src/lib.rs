//! The machine service between the DCS controller and its adapter: generated messages, client and server, its typed
//! errors, and the check that it stays compatible.

pub mod compatibility;
pub mod error;

/// `dcs.machine.v1`, generated.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("dcs.machine.v1");
}

pub use error::MachineError;

/// The descriptor set of this version of the service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
