//! Machines without content: powered on, they run and do nothing. For tests of the REST interface alone.

use std::collections::{BTreeSet, HashSet};

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{GuestError, GuestEvent, GuestPlatform, GuestSpec, PowerOff, StopReason};

/// See the [module](self).
pub struct NoGuests {
    running: Mutex<HashSet<String>>,
    events: mpsc::Sender<GuestEvent>,
}

impl NoGuests {
    /// A platform that tells `events` about stopped machines; there is nothing else to tell.
    pub fn new(events: mpsc::Sender<GuestEvent>) -> Self {
        Self { running: Mutex::default(), events }
    }

    async fn stop(&self, id: &str, reason: StopReason) {
        let was_running = self.running.lock().remove(id);
        if was_running {
            // A closed channel means that the site is gone: nobody is left to be told.
            let _ = self.events.send(GuestEvent::Stopped { id: id.to_owned(), reason }).await;
        }
    }
}

impl GuestPlatform for NoGuests {
    fn power_on(&self, spec: GuestSpec) -> BoxFuture<'_, Result<(), GuestError>> {
        async move {
            if self.running.lock().insert(spec.id.clone()) { Ok(()) } else { Err(GuestError::AlreadyRunning(spec.id)) }
        }
        .boxed()
    }

    fn power_off<'a>(&'a self, id: &'a str, how: PowerOff) -> BoxFuture<'a, Result<(), GuestError>> {
        async move {
            let reason = match how {
                PowerOff::Safe => StopReason::PoweredOffInside,
                PowerOff::Force => StopReason::Killed,
            };
            self.stop(id, reason).await;
            Ok(())
        }
        .boxed()
    }

    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), GuestError>> {
        self.power_off(id, PowerOff::Force)
    }

    fn keep_only<'a>(&'a self, known: &'a BTreeSet<String>) -> BoxFuture<'a, Result<(), GuestError>> {
        async move {
            self.running.lock().retain(|id| known.contains(id));
            Ok(())
        }
        .boxed()
    }

    fn console(&self, _id: &str, _lines: usize) -> Vec<String> {
        Vec::new()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move { self.running.lock().clear() }.boxed()
    }
}
