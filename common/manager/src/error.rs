//! What a reconcile may answer, and how its errors are treated.

use std::time::Duration;

/// How a pass over one object ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is waited for: the next change or resync wakes the object.
    Settled,
    /// Something outside is waited for: look again after this time.
    Requeue(Duration),
}

impl Outcome {
    /// The same, but looked at again after this time at the latest.
    #[must_use]
    pub fn no_later(self, after: Option<Duration>) -> Self {
        let asked = match self {
            Self::Settled => None,
            Self::Requeue(asked) => Some(asked),
        };
        asked.into_iter().chain(after).min().map_or(Self::Settled, Self::Requeue)
    }
}

/// How an error is treated. A closed set: it labels metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// May pass by itself: exponential backoff.
    Transient,
    /// Someone else wrote first: look again at once, quietly.
    Conflict,
    /// Asked to slow down: look again after the given time.
    Throttled(Duration),
    /// Something outside is missing and said so in a condition: look again after the given time, quietly.
    Waiting(Duration),
    /// Cannot pass until the object changes; said so in a condition: only the resync looks again.
    Terminal,
    /// A broken invariant of ours: slow backoff, loudly.
    Bug,
}

impl Category {
    /// Its name as a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Conflict => "conflict",
            Self::Throttled(_) => "throttled",
            Self::Waiting(_) => "waiting",
            Self::Terminal => "terminal",
            Self::Bug => "bug",
        }
    }

    /// Whether something went wrong, as opposed to being awaited or met by another's write.
    pub(crate) fn is_failure(self) -> bool {
        !matches!(self, Self::Conflict | Self::Waiting(_))
    }
}

/// Why a pass over one object ended early.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ReconcileError {
    /// How it is treated.
    pub category: Category,
    message: String,
}

impl ReconcileError {
    /// An error of this category. The message must hold no secret.
    pub fn new(category: Category, message: impl Into<String>) -> Self {
        Self { category, message: message.into() }
    }

    /// An error that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Category::Transient, message)
    }

    /// The same error, with what was being done.
    #[must_use]
    pub fn context(self, doing: &str) -> Self {
        Self { category: self.category, message: format!("{doing}: {}", self.message) }
    }
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        let category = match &error {
            kube::Error::Api(status) => match (status.code, retry_after(status)) {
                (409, _) => Category::Conflict,
                (429, after) => Category::Throttled(after.unwrap_or(Duration::from_secs(1))),
                // Overloaded or restarting, and it says for how long.
                (500..=599, Some(after)) => Category::Throttled(after),
                _ => Category::Transient,
            },
            _ => Category::Transient,
        };
        Self::new(category, error.to_string())
    }
}

impl From<serde_json::Error> for ReconcileError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(Category::Bug, format!("cannot serialise: {error}"))
    }
}

/// How long the server asks to wait, if it does.
pub(crate) fn retry_after(status: &kube::core::Status) -> Option<Duration> {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

/// Whether what was asked for is not there.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
