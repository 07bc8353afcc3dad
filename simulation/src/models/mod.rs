//! The rest of the world: core, infrastructure, workload cluster. Each model does what the real one does as far as ours can
//! tell, in its own time, and notes what it does.

pub mod bootstrap;
pub mod core;
pub mod etcd;
pub mod health;
pub mod infrastructure;
pub mod kubeadm;
pub mod pods;
pub mod site;
pub mod workload;

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{chance::Chance, journal::Journal};

/// Somebody who looks at the world whenever it changes, and brings it a step further.
pub trait Model: Send {
    /// One look. Answers when to look again even where nothing changes.
    fn step(&mut self) -> Option<Duration>;
}

/// Lets a model live. It hears of changes after a while between `pace`.
pub async fn live(mut model: impl Model, journal: Arc<Journal>, chance: Chance, pace: (Duration, Duration)) {
    let changes = journal.changes();
    loop {
        let again = model.step();
        journal.check();
        let changed = changes.notified();
        match again {
            // An error says that the time came first.
            Some(again) => drop(timeout(again, changed).await),
            None => changed.await,
        }
        sleep(chance.between(pace.0, pace.1)).await;
    }
}
