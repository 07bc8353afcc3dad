//! Which machines belong to which cluster, on or off, and what all machines of a cluster suffer from.
//!
//! A machine belongs to the cluster that its kubelet asked for a certificate or has one of, until it belongs to another or
//! its disk is gone. What a cluster is said to suffer from is said to each of its machines, off or on; a machine that comes
//! later hears of it when it comes.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{Cluster, Clusters, kubelet::Kubelet};
use crate::guest::faults::{Afflictions, AfflictionsChange};

type Listener = Box<dyn Fn(&str, AfflictionsChange) + Send + Sync>;

/// Who is told when a machine has to suffer because its cluster does.
#[derive(Default)]
pub(super) struct Heir(OnceLock<Listener>);

/// A cluster's machines, by their ids.
#[derive(Default)]
pub(super) struct Roster(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    machines: BTreeSet<String>,
    afflictions: Afflictions,
}

impl Roster {
    /// Adds a machine. Answers what it has to suffer from, if it is new.
    fn add(&self, machine: &str) -> Option<AfflictionsChange> {
        let mut listed = self.0.lock();
        let is_new = listed.machines.insert(machine.to_owned());
        is_new.then(|| listed.afflictions.inflicted()).flatten()
    }

    pub(super) fn remove(&self, machine: &str) {
        self.0.lock().machines.remove(machine);
    }
}

impl Clusters {
    /// Whoever lets machines suffer hears here of those that join a cluster that does.
    pub fn on_heir(&self, listener: impl Fn(&str, AfflictionsChange) + Send + Sync + 'static) {
        // The first stays: a site has one platform.
        let _ = self.heir.0.set(Box::new(listener));
    }

    /// A kubelet belongs to this cluster from now on.
    pub(super) fn enrol(&self, cluster: &Arc<Cluster>, kubelet: &Arc<Kubelet>) {
        cluster.adopt(kubelet);
        let machine = &kubelet.machine.machine_id;
        if let Some(change) = cluster.roster.add(machine)
            && let Some(listener) = self.heir.0.get()
        {
            listener(machine, change);
        }
        self.all().iter().filter(|other| other.id != cluster.id).for_each(|other| other.roster.remove(machine));
    }

    /// Notes what a cluster, by its id or the pin of its authority, suffers from. Answers that and its machines.
    pub fn afflict(&self, cluster: &str, change: AfflictionsChange) -> Option<(Afflictions, Vec<String>)> {
        let found = self.named(cluster)?;
        let mut listed = found.roster.0.lock();
        listed.afflictions = listed.afflictions.changed(change);
        Some((listed.afflictions, listed.machines.iter().cloned().collect()))
    }

    /// Machines of a cluster, by its id or the pin of its authority.
    pub fn roster_of(&self, cluster: &str) -> Option<Vec<String>> {
        self.named(cluster).map(|found| found.roster.0.lock().machines.iter().cloned().collect())
    }

    fn named(&self, cluster: &str) -> Option<Arc<Cluster>> {
        self.all().into_iter().find(|known| known.id == cluster || known.authority == cluster)
    }
}
