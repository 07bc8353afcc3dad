//! The simulator's time: the machine's, plus what a test put on top.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since the epoch, which tests can move forward.
#[derive(Debug, Default)]
pub struct Clock {
    ahead: AtomicU64,
}

impl Clock {
    /// Now, in milliseconds since the epoch.
    pub fn now(&self) -> u64 {
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        u64::try_from(machine).unwrap_or(u64::MAX).saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Moves time forward.
    pub fn advance(&self, milliseconds: u64) {
        self.ahead.fetch_add(milliseconds, Ordering::Relaxed);
    }
}
