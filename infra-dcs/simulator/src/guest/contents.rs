//! What a platform keeps in files over a restart of the simulator: contents under their hashes in one folder. What has not
//! changed is not written again, and a save that is cut short leaves the contents of the last one alone.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;

/// Ending of a file that is not whole yet.
const UNFINISHED: &str = "tmp";

/// See the [module](self).
pub struct Contents {
    folder: PathBuf,
    put: BTreeSet<String>,
}

impl Contents {
    /// The contents that belong to a saved state: `state.json` has `state.guests/` beside it.
    pub fn of(state: &Path) -> Self {
        Self { folder: state.with_extension("guests"), put: BTreeSet::new() }
    }

    /// The folder of the saved state itself, against which paths are told.
    pub fn base(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new(""))
    }

    /// Keeps a content; answers its name.
    pub fn put(&mut self, content: &[u8]) -> io::Result<String> {
        let name = name_of(content);
        let path = self.folder.join(&name);
        if self.put.insert(name.clone()) && !path.exists() {
            // Disks hold private keys.
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let unfinished = path.with_extension(UNFINISHED);
            let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(content)?;
            fs::rename(unfinished, path)?;
        }
        Ok(name)
    }

    /// A content that was kept.
    pub fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.folder.join(name);
        let why = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
        let content =
            fs::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        if name_of(&content) == name { Ok(content) } else { Err(why("the file is damaged; remove the saved state")) }
    }

    /// Removes what was kept before and not this time. For once the state that names the contents is written.
    pub fn prune(self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| self.put.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn name_of(content: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, content).as_ref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_has_changed_is_written_and_what_is_old_goes_last() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.json");
        let mut first = Contents::of(&state);
        let (kept, old) = (first.put(b"kept").unwrap(), first.put(b"old").unwrap());
        first.prune().unwrap();
        let file = |name: &str| directory.path().join("state.guests").join(name);
        let written = fs::metadata(file(&kept)).unwrap().modified().unwrap();
        let mut second = Contents::of(&state);
        assert_eq!(second.put(b"kept").unwrap(), kept);
        second.put(b"new").unwrap();
        assert_eq!(fs::metadata(file(&kept)).unwrap().modified().unwrap(), written);
        assert_eq!(second.get(&old).unwrap(), b"old", "a save that ends here leaves the last one whole");
        second.prune().unwrap();
        assert!(!file(&old).exists() && file(&kept).exists());
        fs::write(file(&kept), b"kep").unwrap();
        assert!(Contents::of(&state).get(&kept).unwrap_err().to_string().contains("is damaged"));
    }
}
