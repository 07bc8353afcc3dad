//! The time in a machine.

use std::time::Duration;

use futures::future::BoxFuture;

/// What tells a machine the time and lets it wait. Tests pass one that jumps.
pub trait GuestClock: Send + Sync {
    /// Now, in milliseconds since the epoch.
    fn now(&self) -> u64;
    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// The host's time.
#[derive(Debug, Default)]
pub struct HostClock(crate::clock::Clock);

impl GuestClock for HostClock {
    fn now(&self) -> u64 {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Time that passes only while somebody sleeps, and then at once.
    #[derive(Debug, Default)]
    pub(crate) struct JumpingClock(AtomicU64);

    impl GuestClock for JumpingClock {
        fn now(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
            self.0.fetch_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            Box::pin(std::future::ready(()))
        }
    }
}
