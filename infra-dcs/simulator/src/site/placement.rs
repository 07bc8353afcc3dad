//! Which host runs a VM.

use std::collections::{BTreeMap, BTreeSet};

use super::{Result, Site, VmStatus, codes};

impl Site {
    /// Hosts of a compute cluster that could take guests at all.
    fn usable_hosts(&self, cluster: u64) -> BTreeSet<u64> {
        let usable = |host: &&super::Host| host.cluster == cluster && host.status == "normal" && !host.maintaining;
        self.hosts.values().filter(usable).map(|host| host.id).collect()
    }

    /// Hosts of a compute cluster that see all these datastores.
    pub fn hosts_with(&self, cluster: u64, datastores: &[u64]) -> BTreeSet<u64> {
        let mut hosts = self.usable_hosts(cluster);
        for datastore in datastores.iter().filter_map(|id| self.datastores.get(id)) {
            hosts.retain(|host| datastore.hosts.contains(host));
        }
        hosts
    }

    /// Memory in use on each host in MiB.
    pub fn memory_by_host(&self) -> BTreeMap<u64, u64> {
        let powered = |status| {
            !matches!(status, VmStatus::Stopped | VmStatus::Creating | VmStatus::Hibernated | VmStatus::Recycling)
        };
        let mut used = BTreeMap::new();
        for vm in self.vms.values().filter(|vm| powered(vm.status)) {
            if let Some(host) = vm.host {
                *used.entry(host).or_default() += vm.memory_mb;
            }
        }
        used
    }

    /// Memory in use on a host in MiB.
    pub fn memory_used(&self, host: u64) -> u64 {
        self.memory_by_host().get(&host).copied().unwrap_or_default()
    }

    /// Virtual CPUs in use on a host.
    pub fn cpus_used(&self, host: u64) -> u32 {
        self.vms.values().filter(|vm| vm.host == Some(host) && vm.status == VmStatus::Running).map(|vm| vm.cpus).sum()
    }

    /// Hosts on which VMs run that may not share a host with this one.
    pub(super) fn forbidden_hosts(&self, vm: u64) -> BTreeSet<u64> {
        let rules = self.clusters.values().filter(|cluster| cluster.drs).flat_map(|cluster| &cluster.rules);
        let others = rules.filter(|rule| rule.excludes(vm)).flat_map(|rule| rule.vms.iter().copied());
        others
            .filter(|other| *other != vm)
            .filter_map(|other| self.vms.get(&other))
            .filter(|other| other.status != VmStatus::Stopped)
            .filter_map(|other| other.host)
            .collect()
    }

    /// The host for a VM that is about to get power: the least loaded that sees its disks, has the memory and breaks
    /// no rule.
    pub(super) fn place(&self, id: u64) -> Result<u64> {
        let vm = self.vm(id)?;
        let datastores: Vec<u64> = self.disks_of(id).iter().map(|(volume, _)| volume.datastore).collect();
        let mut hosts = self.hosts_with(vm.cluster, &datastores);
        if vm.bound_to_host {
            hosts.retain(|host| vm.host == Some(*host));
        }
        if hosts.is_empty() {
            return codes::NO_HOST.refuse();
        }
        let used = self.memory_by_host();
        let used = |host: &u64| used.get(host).copied().unwrap_or_default();
        let fits = |host: &u64| {
            // A VM that is starting counts on the host of its previous run; it must not count against itself.
            let own = if vm.host == Some(*host) && vm.status != VmStatus::Stopped { vm.memory_mb } else { 0 };
            used(host) - own + vm.memory_mb <= self.hosts[host].memory_mb
        };
        hosts.retain(fits);
        if hosts.is_empty() {
            return codes::NO_HOST_MEMORY.refuse();
        }
        let forbidden = self.forbidden_hosts(id);
        hosts.retain(|host| !forbidden.contains(host));
        hosts.into_iter().min_by_key(|host| (used(host), *host)).ok_or_else(|| codes::NO_HOST_FOR_RULES.into())
    }
}
