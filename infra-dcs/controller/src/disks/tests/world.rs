//! One disk in its world, and the passes of the pool controller over it.

use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, PowerState},
};
use jiff::{SignedDuration, Timestamp};

use super::{DATA_DISKS, Model, NAME, attach, declared, mark};
use crate::{
    api::pool::{DiskPhase, PersistentDisk, PersistentDiskStatus},
    disks::{
        decide::{Facts, Plan, Read, Reading, User, Verdict, decide},
        outcome::after_call,
        record::{Key, Record},
    },
};

/// One disk, its record, and those who want it.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) site: Model,
    pub(super) record: Option<Record>,
    pub(super) shown: Option<PersistentDiskStatus>,
    pub(super) declared: Option<PersistentDisk>,
    pub(super) user: User,
    pub(super) data_disks: u32,
    pub(super) claim: Option<(String, u32)>,
    pub(super) going: bool,
    pub(super) recreate: bool,
    pub(super) unreachable: bool,
    pub(super) now: Timestamp,
}

/// Where a pass is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Never,
    BeforeRecord,
    BeforeCall,
    BeforeOutcome,
    /// The call is carried out and its answer lost.
    Answer,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            site: Model::default(),
            record: None,
            shown: None,
            declared: Some(declared()),
            user: User::Waits,
            data_disks: DATA_DISKS,
            claim: None,
            going: false,
            recreate: false,
            unreachable: false,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    pub(super) fn with(record: Record) -> Self {
        Self { record: Some(record), ..Self::new() }
    }

    /// A volume that is free.
    pub(super) fn available() -> Self {
        let mut world = Self::with(Record { volume: Some("urn:v".into()), size: 40, ..record() });
        world.site.add_volume("urn:v", NAME);
        world.site.add_vm("urn:vm", PowerState::Stopped);
        world
    }

    /// A volume that is in a VM.
    pub(super) fn attached() -> Self {
        let mut world = Self::available();
        world.site.plug("urn:v", "urn:vm", 4);
        world.record.as_mut().unwrap().vm = Some("urn:vm".into());
        world.user = attach("urn:vm");
        world
    }

    pub(super) fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn record(mut self, change: impl FnOnce(&mut Record)) -> Self {
        change(self.record.as_mut().unwrap());
        self
    }

    pub(super) fn plan(&self) -> Plan {
        let (name, key, mark) = (NAME, Key::new("10.0.0.7", 0), mark());
        let refused = || MachineError::new(Reason::Unreachable, "no answer");
        let (mut volume, mut vm, mut task) = (Reading::Unread, Reading::Unread, Reading::Unread);
        let mut listed = Reading::Unread;
        let prefixed: Vec<v1::Volume> = {
            let named = self.site.volumes.iter().filter(|volume| volume.name.starts_with("pool-"));
            named.map(|volume| v1::Volume { machine_urns: Vec::new(), ..volume.clone() }).collect()
        };
        for _ in 0..6 {
            let facts = Facts {
                key: &key,
                name,
                mark: &mark,
                declared: self.declared.as_ref(),
                record: self.record.as_ref(),
                shown: self.shown.as_ref(),
                user: &self.user,
                cluster: Some("c"),
                holder: Some(("m", "uid-m")),
                data_disks: self.data_disks,
                claim: self.claim.as_ref().map(|(vm, sequence)| (vm.as_str(), *sequence)),
                ending: self.going && self.user == User::Nobody,
                recreate: self.recreate,
                busy: false,
                listed: listed.clone(),
                volume: volume.clone(),
                vm: vm.clone(),
                task: task.clone(),
                now: self.now,
            };
            match decide(&facts) {
                Verdict::Plan(plan) => return plan,
                Verdict::Need(_) if self.unreachable => {
                    (listed, volume) = (Reading::Failed(refused()), Reading::Failed(refused()));
                    (vm, task) = (Reading::Failed(refused()), Reading::Failed(refused()));
                }
                Verdict::Need(Read::Volumes) => listed = Reading::Known(prefixed.as_slice()),
                Verdict::Need(Read::Volume(urn)) => {
                    volume = Reading::Known(self.site.volumes.iter().find(|volume| volume.urn == urn).cloned());
                }
                Verdict::Need(Read::Machine(urn)) => {
                    vm = Reading::Known(self.site.vms.iter().find(|vm| vm.urn == urn).cloned());
                }
                Verdict::Need(Read::Task) => {
                    let id = self.record.as_ref().and_then(|record| record.task.as_ref()).map(|task| &task.id);
                    task = match self.site.tasks.iter().find(|(task, _)| Some(&task.id) == id) {
                        Some((task, _)) => Reading::Known(task.clone()),
                        None => Reading::Failed(MachineError::new(Reason::NotFound, "forgotten")),
                    };
                }
            }
        }
        panic!("the same facts were asked for again");
    }

    /// One pass, as the pool controller makes it.
    pub(super) fn pass(&mut self, cut: Cut) {
        let plan = self.plan();
        if cut == Cut::BeforeRecord {
            return;
        }
        self.record.clone_from(&plan.record);
        self.shown = plan.phase.map(|phase| {
            let record = plan.record.clone().unwrap_or_default();
            let json = serde_json::json!({"ip": "10.0.0.7", "slot": 0, "phase": phase, "attachedVmUrn": record.vm});
            serde_json::from_value(json).unwrap()
        });
        let (Some(call), Some(record)) = (&plan.call, &plan.record) else { return };
        if cut == Cut::BeforeCall {
            return;
        }
        let claimed = self.user != User::Nobody;
        let mut answer = self.site.accept(call, claimed);
        if cut == Cut::BeforeOutcome {
            return;
        }
        if cut == Cut::Answer {
            answer = Err(MachineError::new(Reason::OutcomeUnknown, "no answer"));
        }
        self.record = Some(after_call(record, call, &answer, self.now));
    }

    /// Passes until nothing is to be done; tasks end between them.
    pub(super) fn settle(&mut self) {
        for _ in 0..40 {
            let before = (self.record.clone(), self.shown.clone());
            self.pass(Cut::Never);
            self.site.finish(true);
            self.now = self.now.checked_add(SignedDuration::from_secs(121)).unwrap();
            if (&self.record, &self.shown) == (&before.0, &before.1) && self.plan().call.is_none() {
                return;
            }
        }
        panic!("does not settle: {self:#?}");
    }

    pub(super) fn phase(&self) -> Option<DiskPhase> {
        self.plan().phase
    }

    pub(super) fn error(&self) -> String {
        self.plan().error.unwrap_or_default()
    }
}

pub(super) fn record() -> Record {
    Record { cluster: "c".into(), machine: "m".into(), machine_uid: "uid-m".into(), ..Record::default() }
}
