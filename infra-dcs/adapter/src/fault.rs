//! Crash points, under the same environment variable as the managers': `BASALT_FAULT=clone-vm:after:2`.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// Every effect of the adapter at the site, by the name of its crash point.
pub const EFFECTS: &[&str] = &[
    "vrm-login",
    "vrm-clone",
    "vrm-start",
    "vrm-stop",
    "vrm-delete",
    "vrm-upload",
    "vrm-attach-media",
    "vrm-detach-media",
    "vrm-delete-media",
    "vrm-create-volume",
    "vrm-attach-volume",
    "vrm-detach-volume",
    "vrm-delete-volume",
    "vrm-change-rule",
];

static SEEN: AtomicU32 = AtomicU32::new(0);

/// Runs an effect between its two crash points.
pub async fn around<F: Future>(effect: &'static str, work: F) -> F::Output {
    crash_at(effect, "before");
    let outcome = work.await;
    crash_at(effect, "after");
    outcome
}

fn crash_at(effect: &str, moment: &str) {
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    let Some(asked) = ASKED.get_or_init(|| std::env::var("BASALT_FAULT").ok()) else { return };
    let mut parts = asked.split(':');
    if parts.next() != Some(effect) || parts.next() != Some(moment) {
        return;
    }
    let wanted = parts.next().and_then(|number| number.parse().ok()).unwrap_or(1);
    if SEEN.fetch_add(1, Ordering::SeqCst) + 1 == wanted {
        // SIGKILL, not exit: nothing may be flushed or told to anyone.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
