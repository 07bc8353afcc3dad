//! The system disk: a directory beside the backing file, bound to it by a mark in the file's first bytes.
//!
//! The site decides about disks by their files: a new file is a new disk, a copied one a copied disk. The content lies in
//! the machine's directory, so the two must never be mistaken for each other's.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use super::launch;
use crate::guest::GuestDisk;

/// File in a machine's directory with the mark of the disk that its content belongs to.
const MARK: &str = "system-disk";
const MARK_LENGTH: usize = 16;

/// Makes a machine's directory ready for its system disk: empty for a new disk, as it was for one that has been booted.
pub fn prepare(dir: &Path, disk: Option<&GuestDisk>) -> io::Result<()> {
    let known = fs::read(dir.join(MARK)).unwrap_or_default();
    let mark = disk.map(|disk| read_mark(&disk.path)).transpose()?.unwrap_or_default();
    if mark == [0; MARK_LENGTH] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir)?;
        if let Some(disk) = disk {
            let mark = uuid::Uuid::new_v4().into_bytes();
            // The directory first: a mark in the file alone would name content that never was.
            fs::write(dir.join(MARK), mark)?;
            OpenOptions::new().write(true).open(&disk.path)?.write_all_at(&mark, 0)?;
        }
    } else if known != mark {
        return Err(io::Error::other("the content of the system disk is not in this data directory"));
    }
    for name in ["upper", "work", "root"] {
        fs::create_dir_all(dir.join(name))?;
    }
    for name in launch::PLAIN_DIRS {
        fs::create_dir_all(dir.join("plain").join(name))?;
    }
    Ok(())
}

fn read_mark(file: &Path) -> io::Result<[u8; MARK_LENGTH]> {
    let mut mark = [0; MARK_LENGTH];
    match File::open(file)?.read_exact_at(&mut mark, 0) {
        // Too short to have been booted from.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; MARK_LENGTH]),
        Err(error) => Err(error),
        Ok(()) => Ok(mark),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn content_follows_the_backing_file() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("i-00000001");
        let path = temporary.path().join("volume");
        let disk =
            GuestDisk { sequence: 1, path: path.clone(), size_bytes: 1 << 20, volume_id: "1".into(), system: true };
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let written = dir.join("upper/written");

        prepare(&dir, Some(&disk)).unwrap();
        fs::write(&written, "").unwrap();
        prepare(&dir, Some(&disk)).unwrap();
        assert!(written.exists(), "a power cycle keeps the content");

        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        prepare(&dir, Some(&disk)).unwrap();
        assert!(!written.exists(), "a new file of the same name is a new disk");

        fs::remove_dir_all(&dir).unwrap();
        assert!(prepare(&dir, Some(&disk)).is_err(), "a disk without its content is not silently an empty one");
    }
}
