//! STUB
use super::root::{FileSystem, Volume};
/// STUB
pub fn system_disk(_version: &str) -> Volume {
    Volume::new(FileSystem::new("ext4", "", ""))
}
