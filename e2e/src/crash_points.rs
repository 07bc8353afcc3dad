//! Where our processes are asked to end themselves, so that scenarios show that the next process converges.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use fault::Moment;

/// A crash before or after one effect of one of our processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Name of the effect, as its crate enumerates it.
    pub effect: &'static str,
    /// On which side of it.
    pub moment: Moment,
}

impl CrashPoint {
    /// Both sides of every effect of every one of our processes.
    pub fn all() -> Vec<Self> {
        let effects = bootstrap_kubeadm::config::EFFECTS.iter().copied();
        let effects = effects.chain(controlplane_kubeadm::controlplane::act::EFFECTS.iter().copied());
        let effects = effects.chain(dcs_controller::effects()).chain(dcs_adapter::fault::EFFECTS.iter().copied());
        Self::of(effects).collect()
    }

    /// Both sides of these effects.
    pub fn of(effects: impl Iterator<Item = &'static str>) -> impl Iterator<Item = Self> {
        effects.flat_map(|effect| Moment::ALL.map(|moment| Self { effect, moment }))
    }

    /// Its name in reports: `create-machine.before`.
    pub fn name(self) -> String {
        self.moment.file_name(self.effect)
    }
}

/// The folder that tells our processes where to crash; they take a request out when they get there.
pub struct CrashPoints {
    folder: PathBuf,
    armed: bool,
}

impl CrashPoints {
    /// An empty folder: nothing crashes.
    pub fn create(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder, armed: false })
    }

    /// What [`fault::VARIABLE`] names.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks for these crashes.
    pub fn arm(&mut self, points: &[CrashPoint]) -> Result<()> {
        for point in points {
            fs::write(self.folder.join(point.name()), "")?;
        }
        self.armed = true;
        Ok(())
    }

    /// Whether a process may end by SIGKILL.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Takes the requests back; returns the names of those that no process got to.
    pub fn disarm(&mut self) -> Result<BTreeSet<String>> {
        self.armed = false;
        let mut left = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            fs::remove_file(&path)?;
            left.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        Ok(left)
    }
}
