//! Documents of the first boot, read strictly: what the real reader would pass over in silence, or with a warning that
//! nobody sees, fails the boot here and says where.

pub mod cloud_config;
pub mod ignition;
pub mod network;
mod reader;

pub use reader::DocumentError;
