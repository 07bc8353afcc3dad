//! The simulator's time: the machine's, plus what a test put on top.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since the epoch, which tests can move forward. It never goes back, whatever the machine's clock does:
/// tasks and tokens would not end otherwise.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    began_at: u64,
    ahead: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { began: Instant::now(), began_at: u64::try_from(machine).unwrap_or_default(), ahead: AtomicU64::new(0) }
    }
}

impl Clock {
    /// Now, in milliseconds since the epoch.
    pub fn now(&self) -> u64 {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_at.saturating_add(passed).saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Moves time forward.
    pub fn advance(&self, milliseconds: u64) {
        self.ahead.fetch_add(milliseconds, Ordering::Relaxed);
    }
}
