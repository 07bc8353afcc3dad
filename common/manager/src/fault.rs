//! Crash points: the process kills itself before or after a named effect, so that a test can prove that the next
//! process converges. Nothing happens unless `BASALT_FAULT` asks for it.
//!
//! `BASALT_FAULT=create-machine:after` or `create-machine:before:3` (the third time).

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// Environment variable that asks for a crash.
pub const VARIABLE: &str = "BASALT_FAULT";

struct Fault {
    effect: String,
    moment: Moment,
    at: u32,
    seen: AtomicU32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// Runs an effect between its two crash points.
pub async fn around<F: Future>(effect: &'static str, work: F) -> F::Output {
    crash_at(effect, Moment::Before);
    let outcome = work.await;
    crash_at(effect, Moment::After);
    outcome
}

fn crash_at(effect: &str, moment: Moment) {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    let fault = FAULT.get_or_init(|| std::env::var(VARIABLE).ok().and_then(|text| parse(&text)));
    let Some(fault) = fault else { return };
    if fault.effect != effect || fault.moment != moment {
        return;
    }
    if fault.seen.fetch_add(1, Ordering::SeqCst) + 1 == fault.at {
        tracing::warn!(effect, "Killing this process, as asked.");
        // SIGKILL, not exit: nothing may be flushed, released or told to anyone.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

fn parse(text: &str) -> Option<Fault> {
    let mut parts = text.split(':');
    let effect = parts.next().filter(|effect| !effect.is_empty())?.to_owned();
    let moment = match parts.next()? {
        "before" => Moment::Before,
        "after" => Moment::After,
        _ => return None,
    };
    let at = parts.next().map_or(Some(1), |number| number.parse().ok())?;
    Some(Fault { effect, moment, at, seen: AtomicU32::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_asked_for_by_effect_moment_and_count() {
        let fault = parse("create-vm:after:3").unwrap();
        assert_eq!((fault.effect.as_str(), fault.at), ("create-vm", 3));
        assert!(parse("create-vm:before").is_some_and(|fault| fault.at == 1));
        assert!(parse("create-vm").is_none() && parse("create-vm:during").is_none());
    }
}
