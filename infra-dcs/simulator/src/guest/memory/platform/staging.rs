//! Accidents of machines and clusters, as a test stages them.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, try_join_all};

use super::{MemoryGuests, Order, Site};
use crate::guest::{
    GuestError, StopReason,
    faults::{Accident, Afflictions, AfflictionsChange, GuestCluster, Staging},
    memory::{cluster::DiskState, host::Powered},
};

/// Lets a machine feel what it suffers from.
pub(super) fn apply(powered: &Powered, afflictions: Afflictions) {
    powered.set_partitioned(afflictions.partitioned);
    powered.set_clock_skew_ms(afflictions.clock_skew_ms);
}

/// What is wrong with a machine's disk by what it suffers from.
fn disk_state(afflictions: Afflictions) -> DiskState {
    DiskState {
        is_slow: afflictions.slow_disk,
        is_full: afflictions.etcd_no_space,
        is_corrupt: afflictions.etcd_corrupt,
    }
}

impl Site {
    /// Changes what a machine suffers from, whether it is on or off.
    pub(super) fn afflict(&self, id: &str, change: AfflictionsChange) -> Afflictions {
        let (now, powered) = {
            let mut machines = self.machines.lock();
            let entry = machines.entry(id.to_owned()).or_default();
            entry.afflictions = entry.afflictions.changed(change);
            entry.disk.set(disk_state(entry.afflictions));
            (entry.afflictions, entry.running.as_ref().map(|running| Arc::clone(&running.powered)))
        };
        if let Some(powered) = powered {
            apply(&powered, now);
        }
        self.clusters.feel(id);
        now
    }
}

impl Staging for MemoryGuests {
    fn afflictions(&self, id: &str) -> Result<Afflictions, GuestError> {
        let machines = self.site.machines.lock();
        Ok(machines.get(id).map(|entry| entry.afflictions).unwrap_or_default())
    }

    fn afflict(&self, id: &str, change: AfflictionsChange) -> Result<Afflictions, GuestError> {
        Ok(self.site.afflict(id, change))
    }

    fn afflict_cluster(&self, cluster: &str, change: AfflictionsChange) -> Result<Option<Afflictions>, GuestError> {
        let Some((now, machines)) = self.site.clusters.afflict(cluster, change) else { return Ok(None) };
        for machine in machines {
            self.site.afflict(&machine, change);
        }
        Ok(Some(now))
    }

    fn strike<'a>(&'a self, id: &'a str, accident: Accident) -> BoxFuture<'a, Result<(), GuestError>> {
        async move {
            let order = self
                .site
                .machines
                .lock()
                .get(id)
                .and_then(|entry| entry.running.as_ref())
                .map(|running| Arc::clone(&running.order));
            let order = order.ok_or_else(|| GuestError::NotRunning(id.to_owned()))?;
            match accident {
                Accident::Crash => self.site.stop(id, StopReason::Killed).await,
                Accident::Reboot => {
                    order.send_if_modified(|order| {
                        let runs = *order == Order::Run;
                        if runs {
                            *order = Order::Reboot;
                        }
                        runs
                    });
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn strike_cluster<'a>(&'a self, cluster: &'a str, accident: Accident) -> BoxFuture<'a, Result<bool, GuestError>> {
        async move {
            let Some(machines) = self.site.clusters.roster_of(cluster) else { return Ok(false) };
            let struck = machines.iter().map(|machine| async move {
                match self.strike(machine, accident).await {
                    Err(GuestError::NotRunning(_)) => Ok(()),
                    outcome => outcome,
                }
            });
            try_join_all(struck).await.map(|_| true)
        }
        .boxed()
    }

    fn clusters(&self) -> Vec<GuestCluster> {
        self.site.clusters.describe()
    }
}
