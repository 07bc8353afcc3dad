//! What the caches tell of a pool's disks: who is to have each, and what is going. No I/O.

use std::{collections::BTreeSet, sync::Arc};

use cluster_api::{
    labels, owner, paused,
    v1beta2::{Cluster, GROUP as CORE, Machine},
};
use dcs_proto::v1;
use kube::ResourceExt;
use manager::{Informer, ObjectKey};

use super::{
    decide::User,
    record::{Disks, Key, RECREATE},
    sequence::slot_of,
};
use crate::{
    api::{
        DCSCluster, DCSIpHostnamePool, DCSMachine, DCSMachineSpec, DCSMachineTemplate, condition,
        pool::{PersistentDisk, PoolEntry},
    },
    claims,
    machine::{BY_POOL, Caches, Record as MachineRecord, Wish, types},
};

/// One disk of a pool, as far as the caches know it.
pub struct Disk {
    /// Its identity.
    pub key: Key,
    /// Name of its volume.
    pub name: String,
    /// Whom its volume is marked for; the management cluster is filled in by who knows it.
    pub mark: v1::Owner,
    /// How it is declared.
    pub declared: Option<PersistentDisk>,
    /// Who is to have it.
    pub user: User,
    /// The machine that holds its entry.
    pub holder: Option<Holder>,
    /// Infrastructure of the cluster whose site holds the volume, or shall.
    pub infra: Option<Arc<DCSCluster>>,
    /// VM and sequence number of the disk that is to become this one.
    pub claim: Option<(String, u32)>,
    /// Nobody holds the entry, and the entry, the pool or the cluster is going.
    pub ending: bool,
    /// An operator wants the lost volume made anew.
    pub recreate: bool,
    /// Nothing may be done at the site now.
    pub hands_off: Option<HandsOff>,
}

/// Why nothing may be done at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandsOff {
    /// Someone wants it so, and will end it.
    Paused,
    /// Something is wrong.
    Because(String),
}

/// A machine that holds an entry.
#[derive(Clone)]
pub struct Holder {
    /// The `DCSMachine`.
    pub machine: Arc<DCSMachine>,
    /// Name of its Machine.
    pub name: String,
    /// UID of its Machine.
    pub uid: String,
    record: Option<MachineRecord>,
    owner: Option<Arc<Machine>>,
    cluster: Option<Arc<Cluster>>,
    infra: Option<Arc<DCSCluster>>,
}

impl Holder {
    /// The failure domain that its Machine names: a compute cluster.
    pub fn failure_domain(&self) -> Option<&str> {
        self.owner.as_deref().map(|owner| owner.spec.failure_domain.as_str()).filter(|name| !name.is_empty())
    }
}

/// The caches that tell of disks.
#[derive(Clone)]
pub struct Sources {
    /// Machines, pools, clusters.
    pub caches: Caches,
    /// Templates: how many disks of their own the next machines will have.
    pub templates: Informer<DCSMachineTemplate>,
}

impl Sources {
    /// All disks that are declared or recorded, in a stable order.
    pub fn disks(&self, pool: &DCSIpHostnamePool, recorded: &Disks) -> Vec<Disk> {
        let declared = pool
            .spec
            .pool
            .iter()
            .flat_map(|entry| entry.persistent_disk.iter().map(|disk| Key::new(entry.ip(), disk.slot)));
        let keys: BTreeSet<Key> = declared.chain(recorded.keys().cloned()).collect();
        let holders = self.holders(pool);
        keys.into_iter().map(|key| self.disk(pool, recorded, &holders, key)).collect()
    }

    fn holders(&self, pool: &DCSIpHostnamePool) -> Vec<Holder> {
        let machines = self.caches.machines.by_index(BY_POOL, &ObjectKey::of(pool).to_string());
        machines.into_iter().map(|machine| self.holder(machine)).collect()
    }

    fn holder(&self, machine: Arc<DCSMachine>) -> Holder {
        let key = ObjectKey::of(&*machine);
        let reference = owner::of_kind(&machine.metadata, CORE, "Machine");
        let owner = reference.as_ref().and_then(|owner| self.caches.owners.get(&key.sibling(&owner.name)));
        let cluster = owner
            .as_ref()
            .map(|owner| owner.spec.cluster_name.clone())
            .or_else(|| machine.labels().get(labels::CLUSTER_NAME).cloned())
            .and_then(|name| self.caches.clusters.get(&key.sibling(name)));
        let infra = cluster
            .as_ref()
            .and_then(|cluster| cluster.spec.infrastructure_ref.as_ref())
            .and_then(|reference| self.caches.infras.get(&key.sibling(&reference.name)));
        Holder {
            name: reference.as_ref().map(|owner| owner.name.clone()).unwrap_or_default(),
            uid: reference.as_ref().map(|owner| owner.uid.clone()).unwrap_or_default(),
            record: MachineRecord::of(&machine).ok(),
            machine,
            owner,
            cluster,
            infra,
        }
    }

    fn disk(&self, pool: &DCSIpHostnamePool, recorded: &Disks, holders: &[Holder], key: Key) -> Disk {
        let pool_name = pool.name_any();
        let entry = pool.spec.pool.iter().find(|entry| entry.ip() == key.ip);
        let declared = entry.and_then(|entry| entry.persistent_disk.iter().find(|disk| disk.slot == key.slot));
        let record = recorded.get(&key);
        let claims = claims::of_pool(pool);
        let claim = claims.get(&key.ip);
        // A machine's own record counts too: the pool's may have been lost.
        let holder = holders.iter().find(|holder| match claim {
            Some(claim) => claim.machine == holder.machine.name_any() && !claim.retained,
            None => holder.record.as_ref().and_then(MachineRecord::ip) == Some(key.ip.as_str()),
        });
        let user = match (claim, holder) {
            (None, None) => User::Nobody,
            (_, None) => User::Still,
            (_, Some(holder)) => user(holder, key.slot),
        };
        let infra = holder.and_then(|holder| holder.infra.clone()).or_else(|| {
            let name = &record?.cluster;
            self.caches.infras.get(&ObjectKey::new(pool.namespace()?, name.clone()))
        });
        let cluster = holder.and_then(|holder| holder.cluster.clone()).or_else(|| self.cluster_of(infra.as_deref()));
        let going = entry.is_none()
            || pool.metadata.deletion_timestamp.is_some()
            || infra.as_ref().is_some_and(|infra| infra.metadata.deletion_timestamp.is_some());
        Disk {
            name: key.volume_name(&pool_name),
            mark: v1::Owner {
                resource: format!("{}/{pool_name}/{key}", pool.namespace().unwrap_or_default()),
                uid: pool.uid().unwrap_or_default(),
                cluster: cluster.as_ref().map(|cluster| cluster.name_any()).unwrap_or_default(),
                ..v1::Owner::default()
            },
            declared: declared.cloned(),
            claim: holder.filter(|_| record.is_none_or(|record| record.volume.is_none())).and_then(|holder| {
                let template = holder.machine.annotations().get(labels::CLONED_FROM_NAME)?;
                let template = self.templates.get(&ObjectKey::of(pool).sibling(template))?;
                claimable(&holder.machine, &template.spec.template.spec, key.slot)
            }),
            ending: going && user == User::Nobody,
            recreate: pool
                .annotations()
                .get(RECREATE)
                .is_some_and(|asked| asked.split(',').any(|asked| asked.trim() == key.to_string())),
            hands_off: hands_off(infra.as_deref(), cluster.as_deref(), holder),
            holder: holder.cloned(),
            infra,
            user,
            key,
        }
    }

    fn cluster_of(&self, infra: Option<&DCSCluster>) -> Option<Arc<Cluster>> {
        let infra = infra?;
        let name = owner::of_kind(&infra.metadata, CORE, "Cluster").map(|owner| owner.name.clone());
        let name = name.or_else(|| infra.labels().get(labels::CLUSTER_NAME).cloned())?;
        self.caches.clusters.get(&ObjectKey::of(infra).sibling(name))
    }
}

/// Why nothing may be done at the site now.
fn hands_off(infra: Option<&DCSCluster>, cluster: Option<&Cluster>, holder: Option<&Holder>) -> Option<HandsOff> {
    let Some(infra) = infra else {
        let message = "DCSClusterNotFound: the DCSCluster whose site holds the volume does not exist";
        return Some(HandsOff::Because(message.to_owned()));
    };
    let by_machine = holder.is_some_and(|holder| paused::is_paused(None, &holder.machine.metadata));
    if paused::is_paused(cluster, &infra.metadata) || by_machine {
        return Some(HandsOff::Paused);
    }
    let conditions = infra.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    // The cluster's own controller tries the login again; disks do not.
    let refused = condition(conditions, types::CREDENTIALS).filter(|condition| condition.status == "False")?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(HandsOff::Because(format!("{}: {}", text(&refused.reason), text(&refused.message))))
}

/// What the machine that holds an entry wants with a disk of it.
fn user(holder: &Holder, slot: i64) -> User {
    let machine = &holder.machine;
    // Without its record nothing is known of what it does.
    let Some(record) = &holder.record else { return User::Still };
    match (record.disks, machine.spec.vm_urn.clone()) {
        (Some(Wish::Detach), Some(vm)) => User::Detach { vm },
        _ if machine.metadata.deletion_timestamp.is_some() => User::Still,
        // Disks that are appended later reach a machine that runs.
        (wish, Some(vm)) if machine.spec.provider_id.is_some() || wish == Some(Wish::Attach) => {
            let joined = holder.owner.as_ref().is_some_and(|owner| owner.node_name().is_some());
            let set_up = record.media.as_ref().is_some_and(|media| media.slots.contains(&slot));
            User::Attach { vm, used: joined && set_up }
        }
        _ => User::Waits,
    }
}

/// Disks of a machine's own beside the system disk.
pub fn data_disks(spec: &DCSMachineSpec) -> u32 {
    let disks = spec.vm_config.as_ref().map(|config| config.dcs_machine_disk_spec.as_slice()).unwrap_or_default();
    let count = disks.iter().filter(|disk| disk.system_volume != Some(true)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A machine made when its template had more disks than now: the disk that the template gave up and that has the place of
/// this slot is taken over.
fn claimable(machine: &DCSMachine, template: &DCSMachineSpec, slot: i64) -> Option<(String, u32)> {
    let vm = machine.spec.vm_urn.clone().filter(|_| machine.spec.provider_id.is_some())?;
    let (before, now) = (data_disks(&machine.spec), data_disks(template));
    // The system disk has sequence number 1, its own disks follow.
    (2..=before.saturating_add(1)).find(|sequence| slot_of(*sequence, now) == Some(slot)).map(|sequence| (vm, sequence))
}

/// The declared disks of an entry.
pub fn declared<'a>(pool: &'a DCSIpHostnamePool, ip: &str) -> &'a [PersistentDisk] {
    pool.spec.pool.iter().find(|entry| entry.ip() == ip).map(disks_of).unwrap_or_default()
}

fn disks_of(entry: &PoolEntry) -> &[PersistentDisk] {
    &entry.persistent_disk
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn spec(data_disks: usize) -> DCSMachineSpec {
        let mut disks = vec![json!({"quantity": 0, "systemVolume": true})];
        disks.resize(data_disks + 1, json!({"quantity": 10}));
        serde_json::from_value(json!({"vmTemplateName": "t", "ipHostPoolRef": {"name": "p"}, "vmConfig": {
            "dcsMachineCpuSpec": {"quantity": 4}, "dcsMachineMemorySpec": {"quantity": 8192}, "dcsMachineDiskSpec": disks}}))
        .unwrap()
    }

    /// The documented example: system, kubelet, etcd, containerd, cpaas; the new template keeps two data disks.
    #[rstest]
    #[case::cpaas(4, 2, 1, Some(5))]
    #[case::containerd(4, 2, 0, Some(4))]
    #[case::beyond_the_old_disks(4, 2, 2, None)]
    #[case::template_unchanged(4, 4, 0, None)]
    #[case::template_grew(2, 4, 0, None)]
    #[case::all_given_up(2, 0, 0, Some(2))]
    fn disks_that_a_template_gave_up_are_claimed(
        #[case] before: usize,
        #[case] now: usize,
        #[case] slot: i64,
        #[case] expected: Option<u32>,
    ) {
        let mut machine = DCSMachine::new("m", spec(before));
        machine.spec.vm_urn = Some("urn:vm".into());
        assert_eq!(claimable(&machine, &spec(now), slot), None, "not before it runs");
        machine.spec.provider_id = Some("dcs://m".into());
        let found = claimable(&machine, &spec(now), slot);
        assert_eq!(found.map(|(_, sequence)| sequence), expected);
    }
}
