//! Progress for people and for logs: bars on a terminal, one line per finished stage elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows the stages of a run and remembers how long each took.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    terminal: bool,
    started: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { bars: MultiProgress::new(), terminal: std::io::stderr().is_terminal(), started: Instant::now() }
    }
}

impl Progress {
    /// Begins a stage; it ends with [`Stage::done`] or [`Stage::fail`], or as failed when dropped.
    pub fn stage(&self, name: impl Into<String>) -> Stage {
        let name = name.into();
        let bar = if self.terminal {
            let bar = self.bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner:.cyan} {prefix:<34} {elapsed:>5} {wide_msg:.dim}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            ProgressBar::hidden()
        };
        Stage { name, bar, progress: self.clone(), started: Instant::now(), open: true }
    }

    /// Prints a line above the bars.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.terminal {
            self.bars.suspend(|| eprintln!("{}", text.as_ref()));
        } else {
            eprintln!("{}", text.as_ref());
        }
    }

    /// Time since this run began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// One stage of a run.
pub struct Stage {
    name: String,
    bar: ProgressBar,
    progress: Progress,
    started: Instant,
    open: bool,
}

impl Stage {
    /// Shows what the stage is doing right now. Nothing is printed where there is no terminal.
    pub fn detail(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Ends the stage well; returns how long it took.
    pub fn done(mut self, summary: impl AsRef<str>) -> Duration {
        self.close('✓', summary.as_ref());
        self.started.elapsed()
    }

    /// Ends the stage with an error.
    pub fn fail(mut self, reason: impl AsRef<str>) {
        self.close('✗', reason.as_ref());
    }

    fn close(&mut self, mark: char, text: &str) {
        self.open = false;
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        self.progress.line(format!("{mark} {:<34} {seconds:>7.1} s  {text}", self.name));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.open {
            self.close('✗', "not finished");
        }
    }
}
