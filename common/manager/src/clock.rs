//! Time, passed in, so that a controller can run under a simulated clock.

use std::{sync::OnceLock, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock time, for what is written into objects.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never goes back. For timers and ages.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock. Its monotonic time is that of tokio's timers, so that both stand still together in a test that
/// pauses them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        // Earlier than any moment that is asked for: in a test whose timers stood still before another began to count, the
        // first ages would be cut short.
        const BEFORE: Duration = Duration::from_secs(60);
        static START: OnceLock<Instant> = OnceLock::new();
        let start = || Instant::now().checked_sub(BEFORE).unwrap_or_else(Instant::now);
        Instant::now().saturating_duration_since(*START.get_or_init(start))
    }
}
