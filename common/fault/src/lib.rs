//! Crash points: a process kills itself right before or right after a named effect, so that a test can prove that the
//! next process converges.
//!
//! [`VARIABLE`] names a folder; each file in it, `<effect>.before` or `<effect>.after`, asks for one crash. A process
//! that gets there removes the file and ends itself: what is left in the folder was never reached, and the same
//! process, started again, does not end at the same place for ever. Without the variable nothing happens.
//!
//! Where many processes are simulated in one, each runs its work [`within`] a [`Hook`] of its own, which decides instead.

use std::{
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
};

use tracing::Instrument;

/// Environment variable that names the folder of crash points.
pub const VARIABLE: &str = "BASALT_CRASH_POINTS";

/// On which side of an effect a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Is told of each crash point of a simulated process. A crash is a future that never ends: what awaits it does no more.
pub trait Hook: Send + Sync {
    /// The process is at this side of an effect.
    fn reach(&self, effect: &'static str, moment: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

tokio::task_local! {
    static HOOK: Arc<dyn Hook>;
}

/// Runs work of a simulated process; without a hook the work of this one.
pub async fn within<F: Future>(hook: Option<Arc<dyn Hook>>, work: F) -> F::Output {
    match hook {
        Some(hook) => HOOK.scope(hook, work).await,
        None => work.await,
    }
}

/// Runs an effect between its two crash points, in a span of its own.
pub async fn around<F: Future>(effect: &'static str, work: F) -> F::Output {
    reach(effect, Moment::Before).await;
    let outcome = work.instrument(tracing::info_span!("effect", effect, otel.name = effect)).await;
    reach(effect, Moment::After).await;
    outcome
}

async fn reach(effect: &'static str, moment: Moment) {
    match HOOK.try_with(Arc::clone) {
        Ok(hook) => hook.reach(effect, moment).await,
        Err(_) => crash_at(effect, moment),
    }
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
    use std::sync::Mutex;

    use super::*;

    /// Notes what it is told, and lets nothing go on after an effect of this name.
    struct Deadly(&'static str, Mutex<Vec<String>>);

    impl Hook for Deadly {
        fn reach(&self, effect: &'static str, moment: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            self.1.lock().unwrap().push(moment.file_name(effect));
            if effect == self.0 && moment == Moment::After {
                Box::pin(std::future::pending())
            } else {
                Box::pin(std::future::ready(()))
            }
        }
    }

    #[tokio::test]
    async fn a_simulated_process_ends_where_its_hook_says_so() {
        let hook = Arc::new(Deadly("create-vm", Mutex::default()));
        let work = async {
            around("claim", async {}).await;
            around("create-vm", async {}).await;
            panic!("a dead process goes on");
        };
        let dead = within(Some(hook.clone()), work);
        tokio::select! {
            biased;
            () = dead => {}
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(*hook.1.lock().unwrap(), ["claim.before", "claim.after", "create-vm.before", "create-vm.after"]);
    }

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
