//! What is measured of a run, as it is written down.

use std::collections::BTreeMap;

use serde::Serialize;
use xtask::fleet::{Managers, Options, name};

use super::requests::Counters;
use crate::measure::{Requests, Usage};

/// Everything of one run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Whose kubeadm providers ran.
    pub managers: String,
    /// Number of clusters.
    pub clusters: u16,
    /// Control plane machines and workers of each.
    pub shape: String,
    /// How each process was started.
    pub command_lines: BTreeMap<String, Vec<String>>,
    /// Secrets of others, where some were made.
    pub foreign_secrets: Option<ForeignSecrets>,
    /// Phases, in order.
    pub phases: Vec<Phase>,
    /// What was seen now and then.
    pub samples: Vec<Sample>,
}

/// What Secrets of others do to the memory of managers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForeignSecrets {
    /// How many were made.
    pub number: u32,
    /// Resident memory of each process before and after, MiB.
    pub resident_mib: BTreeMap<String, [f64; 2]>,
}

/// One phase: what happened, how long it took, what it cost.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// What happens in it.
    pub name: String,
    /// When it began, in seconds since the run did.
    pub from: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How many clusters it was about.
    pub wanted: usize,
    /// How long it took for each cluster that came through, in seconds since its own order was given.
    pub each: Vec<f64>,
    /// Processes.
    pub processes: BTreeMap<String, Used>,
    /// Requests of the managers.
    pub requests: BTreeMap<String, Requests>,
    /// The API server's own counters.
    pub server: Counters,
}

/// What a process used in a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// Processor time of the phase, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory at its end, MiB.
    pub resident_mib: f64,
    /// Most resident memory since the process was started, MiB.
    pub peak_mib: f64,
}

/// What is seen now and then.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// Clusters that are Available, and their Machines.
    pub available: usize,
    /// Machines that are Available.
    pub machines_available: usize,
    /// Processor time so far in seconds, and resident memory in MiB, by process.
    pub processes: BTreeMap<String, [f64; 2]>,
    /// Reads, writes and conflicts so far, by manager.
    pub requests: BTreeMap<String, [usize; 3]>,
}

impl Run {
    /// Nothing yet.
    pub fn new(options: &Options, managers: Managers) -> Self {
        Self {
            managers: name(managers),
            clusters: options.clusters,
            shape: name(options.shape),
            command_lines: BTreeMap::new(),
            foreign_secrets: None,
            phases: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// A phase by its name.
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == name)
    }
}

/// What processes used between two looks at them.
pub fn used(before: &[Usage], after: &[Usage]) -> BTreeMap<String, Used> {
    let earlier = |name: &str| before.iter().find(|usage| usage.name == name).map_or(0.0, |usage| usage.cpu);
    let used = after.iter().map(|usage| {
        let used =
            Used { cpu_seconds: usage.cpu - earlier(&usage.name), resident_mib: usage.rss, peak_mib: usage.peak };
        (usage.name.clone(), used)
    });
    used.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_of_the_phase_and_memory_is_of_its_end() {
        let usage = |rss, peak, cpu| Usage { name: "core".into(), rss, peak, cpu };
        let used = used(&[usage(10.0, 12.0, 3.0)], &[usage(20.0, 25.0, 4.5)]);
        assert_eq!(used["core"], Used { cpu_seconds: 1.5, resident_mib: 20.0, peak_mib: 25.0 });
    }
}
