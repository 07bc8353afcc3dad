//! How a process ends.

use tokio_util::sync::CancellationToken;

/// Two steps to an end: no new work; then none at all. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// No new work is begun; what is under way may end.
    pub(crate) stop: CancellationToken,
    /// What is under way is abandoned: someone else may be doing it already.
    pub(crate) abandon: CancellationToken,
}

impl Drain {
    /// Begins the end: no new work.
    pub fn begin(&self) {
        self.stop.cancel();
    }

    /// Ends at once, with what is under way.
    pub(crate) fn abandon(&self) {
        self.stop.cancel();
        self.abandon.cancel();
    }
}
