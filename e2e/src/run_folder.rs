//! The folder of a run (`target/e2e/<name>`): emptied when the run begins, and its own until it ends. What is in it stays
//! for whoever wants to look, until the next run of that name.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// See the [module](self). Whoever holds it has the folder for itself; the end of its process is enough to let it go.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Takes and empties a folder, unless a run that has not ended has it.
    pub fn take(path: PathBuf) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        // Beside the folder: what is in it goes.
        let lock = lock(&path.with_extension("lock"))?;
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot clear {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a file until the returned handle is dropped, at the latest when this process ends; refused while another has it.
pub fn lock(path: &Path) -> Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(path);
    let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("{} is locked by a run that has not ended: wait for it, or stop it", path.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_runs_at_a_time_and_empty_at_its_beginning() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/demo");
        let first = RunFolder::take(path.clone()).unwrap();
        fs::write(first.path().join("log"), "mine").unwrap();
        let refused = RunFolder::take(path.clone()).unwrap_err().to_string();
        assert!(refused.contains("has not ended"), "{refused}");
        assert!(path.join("log").exists(), "what the other writes stays");
        drop(first);
        let second = RunFolder::take(path.clone()).unwrap();
        assert!(!second.path().join("log").exists());
    }
}
