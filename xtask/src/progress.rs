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

    /// A bar for things that are counted, `total` of them; it goes when dropped.
    pub fn count(&self, name: impl Into<String>, total: u64) -> Count {
        let name = name.into();
        let bar = if self.terminal { self.bars.add(ProgressBar::new(total)) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("  {prefix:<34} {bar:24.cyan} {pos:>4}/{len:<4} {wide_msg:.dim}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.clone());
        Count { name, total, bar, progress: self.clone(), told: Instant::now() }
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

/// How often a count is told where there is no terminal.
const TELL: Duration = Duration::from_secs(15);

/// Things that are counted.
pub struct Count {
    name: String,
    total: u64,
    bar: ProgressBar,
    progress: Progress,
    told: Instant,
}

impl Count {
    /// How many there are by now, and what else is to be said.
    pub fn set(&mut self, number: u64, detail: &str) {
        self.bar.set_position(number);
        self.bar.set_message(detail.to_owned());
        if !self.progress.terminal && self.told.elapsed() >= TELL {
            self.told = Instant::now();
            let elapsed = self.bar.elapsed().as_secs();
            self.progress.line(format!("    {elapsed:>5} s  {} {number}/{}  {detail}", self.name, self.total));
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
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
