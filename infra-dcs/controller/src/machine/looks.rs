//! VMs as they were read moments ago. Passes come in bursts while a machine is made, because others write its object
//! too: those that only wait share one look at the site.

use std::collections::HashMap;

use cluster_api::conditions::Claim;
use dcs_proto::v1::{self, TaskState};
use jiff::{SignedDuration, Timestamp};
use manager::ObjectKey;
use parking_lot::Mutex;

use super::{Record, Scene, decide::Reading};

/// How long a look serves others: less than the time between two looks at work that takes seconds.
const RECENT: SignedDuration = SignedDuration::from_millis(1500);

/// The looks that are recent.
#[derive(Default)]
pub(super) struct Looks {
    known: Mutex<HashMap<ObjectKey, Look>>,
}

struct Look {
    at: Timestamp,
    moment: Moment,
    vm: Option<v1::Machine>,
}

/// Where a machine stands: whatever we do to its VM or its disks, and the end of every task, makes it another moment.
#[derive(PartialEq)]
struct Moment {
    urn: String,
    record: Record,
    task: Option<TaskState>,
    /// What the pool says of its disks.
    disks: Option<Claim>,
}

impl Moment {
    fn of(scene: &Scene, task: Option<TaskState>) -> Self {
        Self { urn: scene.vm_urn(), record: scene.record.clone(), task, disks: scene.disks() }
    }
}

impl Looks {
    /// The VM as it was read at most [`RECENT`] ago, if nothing of ours has happened to it since. `task` is the state
    /// in which this pass found the recorded task.
    pub(super) fn recent(
        &self,
        scene: &Scene,
        task: Option<TaskState>,
        now: Timestamp,
    ) -> Reading<Option<v1::Machine>> {
        let known = self.known.lock();
        let look = known.get(&scene.key).filter(|look| is_recent(look, now));
        let look = look.filter(|look| look.moment == Moment::of(scene, task));
        look.map_or(Reading::Unread, |look| Reading::Known(look.vm.clone()))
    }

    /// Keeps a look, and forgets those that are not recent any more.
    pub(super) fn keep(&self, scene: &Scene, task: Option<TaskState>, vm: Option<v1::Machine>, now: Timestamp) {
        let mut known = self.known.lock();
        known.retain(|_, look| is_recent(look, now));
        known.insert(scene.key.clone(), Look { at: now, moment: Moment::of(scene, task), vm });
    }
}

fn is_recent(look: &Look, now: Timestamp) -> bool {
    let age = now.duration_since(look.at);
    !age.is_negative() && age < RECENT
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_vm_is_looked_at_again_once_its_pool_says_that_its_disks_are_in_it() {
        let now = Timestamp::UNIX_EPOCH;
        let scene = |phase: &str| {
            let machine = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DCSMachine",
                "metadata": {"name": "m"}, "spec": {"vmTemplateName": "t", "ipHostPoolRef": {"name": "p"}, "vmUrn": "urn:vm",
                "vmConfig": {"dcsMachineCpuSpec": {"quantity": 4}, "dcsMachineMemorySpec": {"quantity": 8192}}}});
            let pool = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DCSIpHostnamePool",
                "metadata": {"name": "p"},
                "spec": {"pool": [{"ip": "10.0.0.7", "mask": "24", "persistentDisk": [{"slot": 0, "quantityGB": 10}]}]},
                "status": {"persistentDiskStatus": [{"ip": "10.0.0.7", "slot": 0, "phase": phase, "attachedVmUrn": "urn:vm"}]}});
            let pool: crate::api::DCSIpHostnamePool = serde_json::from_value(pool).unwrap();
            let network = Some(pool.spec.pool[0].network());
            Scene {
                key: ObjectKey::new("ns", "m"),
                machine: Arc::new(serde_json::from_value(machine).unwrap()),
                record: Record { network, ..Record::default() },
                owner: None,
                cluster: None,
                infra: None,
                pool: Some(Arc::new(pool)),
            }
        };
        let looks = Looks::default();
        looks.keep(&scene("Attaching"), None, Some(v1::Machine::default()), now);
        assert!(matches!(looks.recent(&scene("Attaching"), None, now), Reading::Known(_)));
        assert!(matches!(looks.recent(&scene("Attached"), None, now), Reading::Unread));
    }
}
