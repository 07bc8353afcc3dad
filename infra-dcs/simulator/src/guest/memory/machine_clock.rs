//! A machine's clock: the site's, plus what it is wrong by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{clock::GuestClock, time::TimeSource};
use crate::clock::Clock;

/// See the [module](self). Clones are one clock.
#[derive(Clone, Debug)]
pub struct MachineClock {
    site: Arc<Clock>,
    skew_ms: Arc<AtomicI64>,
}

impl MachineClock {
    /// A clock that is right.
    pub fn new(site: Arc<Clock>) -> Self {
        Self { site, skew_ms: Arc::default() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let site = i64::try_from(self.site.now()).unwrap_or(i64::MAX);
        let now = site.saturating_add(self.skew_ms.load(Ordering::Relaxed));
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX)
    }

    /// As TLS and tokens are judged by it.
    pub fn source(&self) -> TimeSource {
        let clock = self.clone();
        TimeSource::new(move || GuestClock::now(&clock))
    }

    /// Makes it wrong by this much.
    pub fn set_skew_ms(&self, skew: i64) {
        self.skew_ms.store(skew, Ordering::Relaxed);
    }

    /// What it is wrong by.
    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }
}

impl GuestClock for MachineClock {
    fn now(&self) -> u64 {
        u64::try_from(Self::now(self).as_millisecond()).unwrap_or_default()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
