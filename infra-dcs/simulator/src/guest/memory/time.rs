//! The time that a machine believes.

use std::{fmt, sync::Arc, time::Duration};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::clock::Clock;

/// Where a machine takes its time from: milliseconds since the epoch. A machine whose clock is wrong has its own.
#[derive(Clone)]
pub struct TimeSource(Arc<dyn Fn() -> u64 + Send + Sync>);

impl TimeSource {
    /// Time from a function that gives milliseconds since the epoch.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Milliseconds since the epoch.
    pub fn now(&self) -> u64 {
        (self.0)()
    }

    /// Now, as certificates are judged by it.
    pub fn unix_time(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.now()))
    }
}

impl From<Arc<Clock>> for TimeSource {
    fn from(clock: Arc<Clock>) -> Self {
        Self::new(move || clock.now())
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TimeSource").field(&self.now()).finish()
    }
}

impl TimeProvider for TimeSource {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix_time())
    }
}
