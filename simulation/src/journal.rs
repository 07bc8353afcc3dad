//! What happens in a world, in order; and where it is noticed that something happened that must not.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::clock::SimClock;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, since the world began.
    pub at: Duration,
    /// Who did it.
    pub actor: Arc<str>,
    /// What.
    pub what: String,
    /// What came of it; empty where that is plain.
    pub outcome: String,
    /// Whether somebody outside brought it about on purpose.
    pub is_fault: bool,
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at.as_secs(), self.at.subsec_millis());
        let mark = if self.is_fault { "!" } else { " " };
        write!(formatter, "{seconds:>6}.{millis:03} {mark} {:<16} {}", self.actor, self.what)?;
        if self.outcome.is_empty() { Ok(()) } else { write!(formatter, " → {}", self.outcome) }
    }
}

/// What must never be so, and was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {what}")]
pub struct Violation {
    /// The invariant or promise, by its short name (`I3`, `converges`).
    pub rule: &'static str,
    /// What was found.
    pub what: String,
}

impl Violation {
    /// A violation of a rule.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// Checks that everything is as it must be.
pub type Check = Box<dyn Fn() -> Result<(), Violation> + Send + Sync>;

/// The journal of one world.
pub struct Journal {
    clock: SimClock,
    entries: Mutex<Vec<Entry>>,
    checks: Mutex<Vec<Arc<Check>>>,
    violation: watch::Sender<Option<Violation>>,
    /// What nobody may tell (I9).
    secrets: Mutex<BTreeSet<String>>,
    /// Those who wait for changes, woken in the order in which they came: a `watch` wakes them in a random one.
    listeners: Mutex<Vec<Arc<Notify>>>,
}

impl Journal {
    /// An empty one.
    pub fn new(clock: SimClock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            entries: Mutex::default(),
            checks: Mutex::default(),
            violation: watch::Sender::new(None),
            secrets: Mutex::default(),
            listeners: Mutex::default(),
        })
    }

    /// The world's true time.
    pub fn clock(&self) -> SimClock {
        self.clock
    }

    /// Notes what somebody did and what came of it.
    pub fn note(&self, actor: &Arc<str>, what: impl Into<String>, outcome: impl Into<String>) {
        self.write(actor, what.into(), outcome.into(), false);
    }

    /// Notes what was done to somebody on purpose.
    pub fn fault(&self, actor: &Arc<str>, what: impl Into<String>) {
        self.write(actor, what.into(), String::new(), true);
    }

    fn write(&self, actor: &Arc<str>, what: String, outcome: String, is_fault: bool) {
        let entry = Entry { at: self.clock.elapsed(), actor: Arc::clone(actor), what, outcome, is_fault };
        self.entries.lock().push(entry);
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().clone()
    }

    /// Adds what must hold after each change.
    pub fn watch_over(&self, check: impl Fn() -> Result<(), Violation> + Send + Sync + 'static) {
        self.checks.lock().push(Arc::new(Box::new(check)));
    }

    /// From now on nobody may tell this (I9).
    pub fn keep_secret(&self, secret: &str) {
        let mut secrets = self.secrets.lock();
        if !secrets.contains(secret) {
            secrets.insert(secret.to_owned());
        }
    }

    /// Everything that nobody may tell.
    pub fn secrets(&self) -> Vec<String> {
        self.secrets.lock().iter().cloned().collect()
    }

    /// Something changed: wakes those who wait for changes.
    pub fn changed(&self) {
        self.listeners.lock().iter().for_each(|listener| listener.notify_one());
    }

    /// Checks that all is well. To be called after each step of anybody.
    pub fn check(&self) {
        let checks = self.checks.lock().clone();
        for check in checks {
            if let Err(violation) = check() {
                self.violate(violation);
            }
        }
    }

    /// Something must never be so, and is. The first counts.
    pub fn violate(&self, violation: Violation) {
        self.violation.send_if_modified(|known| {
            let is_first = known.is_none();
            if is_first {
                *known = Some(violation);
            }
            is_first
        });
    }

    /// Waits for a violation.
    pub async fn violated(&self) -> Violation {
        let mut violation = self.violation.subscribe();
        loop {
            if let Some(violation) = violation.borrow_and_update().clone() {
                return violation;
            }
            if violation.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells of changes since the last time that it was waited for.
    pub fn changes(&self) -> Arc<Notify> {
        let listener = Arc::new(Notify::new());
        self.listeners.lock().push(Arc::clone(&listener));
        listener
    }
}
