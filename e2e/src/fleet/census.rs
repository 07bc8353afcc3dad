//! How far each cluster is, from what its Cluster and its Machines say of themselves. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::{ResourceExt, api::DynamicObject};

use crate::tree;

/// The label by which a Machine belongs to its cluster.
const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// The label of control plane Machines.
const CONTROL_PLANE: &str = "cluster.x-k8s.io/control-plane";

/// Every cluster and every machine that there is.
#[derive(Default)]
pub struct Census {
    clusters: BTreeMap<String, Cluster>,
    machines: BTreeMap<String, Machine>,
}

/// What a Cluster says.
#[derive(Clone, Copy)]
struct Cluster {
    infrastructure: bool,
    initialized: bool,
    available: bool,
}

/// What a Machine says.
struct Machine {
    cluster: String,
    role: Role,
    version: String,
    available: bool,
}

/// What a Machine is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    ControlPlane,
    Worker,
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Cluster,
    Machine,
}

/// Sums over all clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Clusters whose infrastructure is ready.
    pub infrastructure: usize,
    /// Clusters whose API server has answered.
    pub initialized: usize,
    /// Clusters that are Available, by core's rules.
    pub available: usize,
    /// Machines.
    pub machines: usize,
    /// Machines that are Available.
    pub machines_available: usize,
}

impl Census {
    /// An object is there, or has changed.
    pub fn see(&mut self, kind: Kind, object: &DynamicObject) {
        let name = object.name_any();
        let says = |condition: &str| tree::is_true(object, condition);
        match kind {
            Kind::Cluster => {
                let cluster = Cluster {
                    infrastructure: says("InfrastructureReady"),
                    initialized: says("ControlPlaneInitialized"),
                    available: says("Available"),
                };
                self.clusters.insert(name, cluster);
            }
            Kind::Machine => {
                let cluster = object.labels().get(CLUSTER_NAME).cloned().unwrap_or_default();
                let is_control_plane = object.labels().contains_key(CONTROL_PLANE);
                let role = if is_control_plane { Role::ControlPlane } else { Role::Worker };
                let version = object.data["spec"]["version"].as_str().unwrap_or_default().to_owned();
                self.machines.insert(name, Machine { cluster, role, version, available: says("Available") });
            }
        }
    }

    /// An object is gone.
    pub fn lose(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Cluster => drop(self.clusters.remove(name)),
            Kind::Machine => drop(self.machines.remove(name)),
        }
    }

    /// Only these objects are there.
    pub fn keep(&mut self, kind: Kind, names: &BTreeSet<String>) {
        match kind {
            Kind::Cluster => self.clusters.retain(|name, _| names.contains(name)),
            Kind::Machine => self.machines.retain(|name, _| names.contains(name)),
        }
    }

    /// Clusters that are Available and have `machines` Machines, all of which are Available too: core calls a cluster
    /// Available with one control plane machine of three.
    pub fn complete(&self, machines: usize) -> BTreeSet<String> {
        let counts = self.counts();
        let is_complete = |(name, cluster): &(&String, &Cluster)| {
            cluster.available && counts.get(name.as_str()) == Some(&(machines, machines))
        };
        self.clusters.iter().filter(is_complete).map(|(name, _)| name.clone()).collect()
    }

    /// Clusters that are complete and whose Machines of this role all have this version.
    pub fn upgraded(&self, machines: usize, role: Role, version: &str) -> BTreeSet<String> {
        let mut done = self.complete(machines);
        for machine in self.machines.values().filter(|machine| machine.role == role && machine.version != version) {
            done.remove(&machine.cluster);
        }
        done
    }

    /// Clusters that are complete without any of these Machines.
    pub fn replaced(&self, machines: usize, lost: &[String]) -> BTreeSet<String> {
        let mut done = self.complete(machines);
        for machine in lost.iter().filter_map(|name| self.machines.get(name)) {
            done.remove(&machine.cluster);
        }
        done
    }

    /// A Machine of this role of a cluster.
    pub fn machine_of(&self, cluster: &str, role: Role) -> Option<String> {
        let mut found = self.machines.iter().filter(|(_, machine)| machine.cluster == cluster && machine.role == role);
        found.next().map(|(name, _)| name.clone())
    }

    /// Clusters of which a Machine is not Available.
    pub fn impaired(&self) -> BTreeSet<String> {
        self.machines.values().filter(|machine| !machine.available).map(|machine| machine.cluster.clone()).collect()
    }

    /// Clusters of `names` that are gone, with all their machines.
    pub fn gone(&self, names: &[String]) -> BTreeSet<String> {
        let counts = self.counts();
        let is_gone = |name: &&String| !self.clusters.contains_key(*name) && !counts.contains_key(name.as_str());
        names.iter().filter(is_gone).cloned().collect()
    }

    /// Machines of each cluster, and how many of them are Available.
    fn counts(&self) -> BTreeMap<&str, (usize, usize)> {
        let mut counts = BTreeMap::new();
        for machine in self.machines.values() {
            let (all, available): &mut (usize, usize) = counts.entry(machine.cluster.as_str()).or_default();
            *all += 1;
            *available += usize::from(machine.available);
        }
        counts
    }

    /// Sums over all.
    pub fn sums(&self) -> Sums {
        let clusters = |what: fn(&Cluster) -> bool| self.clusters.values().filter(|cluster| what(cluster)).count();
        Sums {
            infrastructure: clusters(|cluster| cluster.infrastructure),
            initialized: clusters(|cluster| cluster.initialized),
            available: clusters(|cluster| cluster.available),
            machines: self.machines.len(),
            machines_available: self.machines.values().filter(|machine| machine.available).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, cluster: Option<&str>, available: bool) -> DynamicObject {
        let labels = cluster.map(|cluster| json!({CLUSTER_NAME: cluster}));
        let status = if available { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels}, "spec": {"version": "v1"},
            "status": {"conditions": [{"type": "Available", "status": status}]},
        }))
        .unwrap()
    }

    fn see(census: &mut Census, cluster: &str, available: bool, machines: &[bool]) {
        census.see(Kind::Cluster, &object(cluster, None, available));
        for (number, available) in machines.iter().enumerate() {
            census.see(Kind::Machine, &object(&format!("{cluster}-{number}"), Some(cluster), *available));
        }
    }

    #[test]
    fn a_cluster_is_complete_with_all_its_machines() {
        let mut census = Census::default();
        see(&mut census, "a", true, &[true, true]);
        see(&mut census, "b", true, &[true, false]);
        see(&mut census, "c", true, &[true]);
        see(&mut census, "d", false, &[true, true]);
        assert_eq!(census.complete(2), ["a".to_owned()].into());
        assert_eq!(census.impaired(), ["b".to_owned()].into());
        let sums = census.sums();
        assert_eq!((sums.available, sums.machines, sums.machines_available), (3, 7, 6));
    }

    #[test]
    fn a_cluster_is_upgraded_and_mended_when_no_old_machine_is_left() {
        let mut census = Census::default();
        see(&mut census, "a", true, &[true, true]);
        assert_eq!(census.upgraded(2, Role::Worker, "v1"), ["a".to_owned()].into());
        assert!(census.upgraded(2, Role::Worker, "v2").is_empty());
        assert_eq!(census.upgraded(2, Role::ControlPlane, "v2"), ["a".to_owned()].into(), "it has none");
        let lost = [census.machine_of("a", Role::Worker).unwrap()];
        assert!(census.replaced(2, &lost).is_empty());
        census.lose(Kind::Machine, &lost[0]);
        assert!(census.replaced(2, &lost).is_empty(), "nothing came in its place");
        census.see(Kind::Machine, &object("a-9", Some("a"), true));
        assert_eq!(census.replaced(2, &lost), ["a".to_owned()].into());
    }

    #[test]
    fn a_cluster_is_gone_when_its_machines_are() {
        let mut census = Census::default();
        let names = ["a".to_owned(), "b".to_owned()];
        see(&mut census, "a", true, &[true]);
        see(&mut census, "b", true, &[true]);
        census.lose(Kind::Cluster, "a");
        assert!(census.gone(&names).is_empty());
        census.lose(Kind::Machine, "a-0");
        assert_eq!(census.gone(&names), ["a".to_owned()].into());
        census.keep(Kind::Cluster, &BTreeSet::new());
        census.keep(Kind::Machine, &BTreeSet::new());
        assert_eq!(census.gone(&names).len(), 2);
    }
}
