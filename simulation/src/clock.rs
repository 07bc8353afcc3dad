//! Simulated time: it stands still while anybody has something to do, and then jumps to whoever is due next.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use manager::clock::Clock;
use tokio::time::Instant;

/// When worlds begin: a fixed moment, in seconds since 1970.
const EPOCH: i64 = 1_800_000_000;

/// The clock of one machine of a world: it may be wrong by a constant time.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    start: Instant,
    skew: SignedDuration,
}

impl SimClock {
    /// A clock that begins now. To be made within the world's runtime, whose timers it goes by.
    pub fn new() -> Self {
        Self { start: Instant::now(), skew: SignedDuration::ZERO }
    }

    /// The clock of a machine whose wall clock is wrong.
    #[must_use]
    pub fn skewed(self, skew: SignedDuration) -> Self {
        Self { skew, ..self }
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let begun = Timestamp::from_second(EPOCH).unwrap_or(Timestamp::UNIX_EPOCH);
        let since = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::ZERO);
        begun.checked_add(since + self.skew).unwrap_or(begun)
    }

    fn monotonic(&self) -> Duration {
        self.elapsed()
    }
}
