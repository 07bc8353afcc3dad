//! What the tests share.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use kube_model::Sources;

/// Time that moves a second with each look, and names that count.
#[derive(Default)]
pub struct Counting(AtomicU64);

impl Sources for Counting {
    fn now(&self) -> Timestamp {
        let seconds = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_second(1_700_000_000 + i64::try_from(seconds).expect("few looks")).expect("a near time")
    }

    fn uid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn name_suffix(&self) -> String {
        format!("{:05}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}
