//! Data disks: loop devices on the volumes' backing files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FileType, Mode, makedev, mknodat};
use tokio::process::Command;
use tracing::debug;

use super::command;
use crate::guest::{GuestDisk, GuestError};

/// Where the kernel tells of its block devices.
const BLOCK_DEVICES: &str = "/sys/block";

/// Major number of loop devices.
pub const LOOP_MAJOR: u32 = 7;

/// The device of one disk, and the name under which the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// For example `vdb`.
    pub name: String,
    /// Minor number of the loop device.
    pub minor: u32,
}

/// The names of the data disks as the guest sees them: `vda` is the system disk, the others follow in the order of
/// their sequence numbers without holes.
pub fn names(disks: &[GuestDisk]) -> Vec<(String, PathBuf)> {
    let mut data: Vec<_> = disks.iter().filter(|disk| !disk.system).collect();
    data.sort_by_key(|disk| disk.sequence);
    data.into_iter().enumerate().map(|(index, disk)| (device_name(index + 1), disk.path.clone())).collect()
}

/// `vda`…`vdz`, `vdaa`…
fn device_name(index: usize) -> String {
    let letter = |index: usize| char::from(b'a' + u8::try_from(index % 26).unwrap_or_default());
    if index < 26 { format!("vd{}", letter(index)) } else { format!("vd{}{}", letter(index / 26 - 1), letter(index)) }
}

/// Attaches a backing file to a free loop device and returns its minor number.
pub async fn attach(file: &Path) -> Result<u32, GuestError> {
    // Between asking for a free device and taking it another process may be quicker.
    let mut last = None;
    for _ in 0..20 {
        let free = command::output(Command::new("losetup").arg("--find")).await?;
        let device = PathBuf::from(free.trim());
        let minor = free.trim().strip_prefix("/dev/loop").and_then(|minor| minor.parse().ok());
        let minor: u32 =
            minor.ok_or_else(|| GuestError::Host { what: "losetup --find".into(), reason: free.clone() })?;
        make_node(&device, minor)?;
        match command::output(Command::new("losetup").arg(&device).arg(file)).await {
            Ok(_) => {
                write_through(minor);
                return Ok(minor);
            }
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(last.unwrap_or_else(|| GuestError::Host { what: "losetup".into(), reason: "no free loop device".into() }))
}

/// Lets the disk say that it has no volatile cache, as one behind a controller with a battery does: then the guest's
/// flushes need not wait for the host's disk. A machine whose power is cut loses nothing, because the host keeps its own.
fn write_through(minor: u32) {
    let path = format!("{BLOCK_DEVICES}/loop{minor}/queue/write_cache");
    if let Err(error) = fs::write(&path, "write through") {
        // Slower, and otherwise the same.
        debug!(path, %error, "A disk keeps its write cache.");
    }
}

/// Beyond the eight devices made at boot nobody makes the node where no udev runs.
fn make_node(device: &Path, minor: u32) -> Result<(), GuestError> {
    let made =
        mknodat(rustix::fs::CWD, device, FileType::BlockDevice, Mode::from_raw_mode(0o600), makedev(LOOP_MAJOR, minor));
    match made {
        Err(error) if error != rustix::io::Errno::EXIST => {
            Err(GuestError::Host { what: format!("device node {}", device.display()), reason: error.to_string() })
        }
        _ => Ok(()),
    }
}

/// Detaches a loop device; one that is still mounted somewhere goes with its last mount.
pub async fn detach(minor: u32) -> Result<(), GuestError> {
    command::output(Command::new("losetup").arg("--detach").arg(format!("/dev/loop{minor}"))).await.map(drop)
}

/// Loop devices whose backing file lies below `dir`.
pub fn attached_below(dir: &Path) -> io::Result<Vec<u32>> {
    attached(Path::new(BLOCK_DEVICES), dir)
}

fn attached(devices: &Path, dir: &Path) -> io::Result<Vec<u32>> {
    let mut minors = Vec::new();
    for entry in fs::read_dir(devices)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(minor) = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok()) else { continue };
        // A device without a backing file has no such entry.
        let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        // The kernel marks backing files that were removed.
        if Path::new(file.trim_end_matches('\n').trim_end_matches(" (deleted)")).starts_with(dir) {
            minors.push(minor);
        }
    }
    minors.sort_unstable();
    Ok(minors)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk(sequence: u32, system: bool) -> GuestDisk {
        GuestDisk { sequence, path: format!("/v/{sequence}").into(), size_bytes: 1, volume_id: String::new(), system }
    }

    #[test]
    fn devices_are_found_by_their_backing_file() {
        let devices = tempfile::tempdir().unwrap();
        for (name, file) in [
            ("loop3", "/data/site/disks/a b.img"),
            ("loop11", "/data/site/disks/gone.img (deleted)"),
            ("loop2", "/data/site-2/disks/volume-1.img"),
            ("vda", "/data/site/disks/c.img"),
        ] {
            fs::create_dir_all(devices.path().join(name).join("loop")).unwrap();
            fs::write(devices.path().join(name).join("loop/backing_file"), format!("{file}\n")).unwrap();
        }
        fs::create_dir_all(devices.path().join("loop0")).unwrap();
        assert_eq!(attached(devices.path(), Path::new("/data/site")).unwrap(), [3, 11]);
    }

    #[test]
    fn data_disks_are_named_in_sequence_order_without_holes() {
        let named = names(&[disk(7, false), disk(1, true), disk(2, false)]);
        assert_eq!(named, [("vdb".to_owned(), "/v/2".into()), ("vdc".to_owned(), "/v/7".into())]);
        assert_eq!(device_name(25), "vdz");
        assert_eq!(device_name(26), "vdaa");
        assert_eq!(device_name(53), "vdbb");
    }
}
