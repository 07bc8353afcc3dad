//! Crash points: a process kills itself right before or right after a named effect, so that a test can prove that the
//! next process converges.
//!
//! [`VARIABLE`] names a folder; each file in it, `<effect>.before` or `<effect>.after`, asks for one crash. A process
//! that gets there removes the file and ends itself: what is left in the folder was never reached, and the same
//! process, started again, does not end at the same place for ever. Without the variable nothing happens.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tracing::Instrument;

/// Environment variable that names the folder of crash points.
pub const VARIABLE: &str = "BASALT_CRASH_POINTS";

/// On which side of an effect a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The effect has not happened.
    Before,
    /// The effect has happened, and nobody has noted it.
    After,
}

impl Moment {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];

    /// Name of the file that asks for a crash at this side of `effect`.
    pub fn file_name(self, effect: &str) -> String {
        match self {
            Self::Before => format!("{effect}.before"),
            Self::After => format!("{effect}.after"),
        }
    }
}

/// Runs an effect between its two crash points, in a span of its own.
pub async fn around<F: Future>(effect: &'static str, work: F) -> F::Output {
    crash_at(effect, Moment::Before);
    let outcome = work.instrument(tracing::info_span!("effect", effect, otel.name = effect)).await;
    crash_at(effect, Moment::After);
    outcome
}

fn crash_at(effect: &str, moment: Moment) {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    if folder.as_deref().is_some_and(|folder| is_asked(folder, effect, moment)) {
        tracing::warn!(effect, ?moment, "Killing this process, as asked.");
        // SIGKILL, not exit: nothing may be flushed, released or told to anyone.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Takes the request for a crash, if there is one.
fn is_asked(folder: &Path, effect: &str, moment: Moment) -> bool {
    fs::remove_file(folder.join(moment.file_name(effect))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_asked_for_once_by_effect_and_moment() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(Moment::After.file_name("create-vm")), "").unwrap();
        assert!(!is_asked(folder.path(), "create-vm", Moment::Before));
        assert!(!is_asked(folder.path(), "delete-vm", Moment::After));
        assert!(is_asked(folder.path(), "create-vm", Moment::After));
        assert!(!is_asked(folder.path(), "create-vm", Moment::After), "asked once, it crashed twice");
    }
}
