//! Progress shown on a terminal as bars, elsewhere as one line a stage.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Shows the stages of one build.
pub struct Progress {
    started: Instant,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// Runs one stage under a bar; `work` sets the bar's message, and its length once it knows one.
    #[allow(clippy::unused_self, reason = "stages belong to the build whose time is shown at the end")]
    pub fn stage<T>(&self, name: &str, work: impl FnOnce(&ProgressBar) -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix:<22} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let result = work(&bar);
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f32();
        // Below a second a stage found its work done: not worth a line.
        if seconds >= 1.0 || result.is_err() {
            let mark = if result.is_ok() { "✓" } else { "✗" };
            eprintln!("  {mark} {name:<22} {seconds:>5.1} s");
        }
        result
    }

    /// The last line.
    pub fn done(&self, what: &str) {
        eprintln!("  ✓ {what} ({:.1} s)", self.started.elapsed().as_secs_f32());
    }
}

/// Makes a stage's bar count up to `length`.
pub fn count(bar: &ProgressBar, length: u64) {
    bar.set_length(length);
    if let Ok(style) =
        ProgressStyle::with_template("  {spinner} {prefix:<22} {elapsed:>4} [{bar:24}] {pos}/{len} {wide_msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
}
