use dcs_proto::v1::PowerState;
use jiff::SignedDuration;
use proptest::{prelude::*, test_runner::RngSeed};

use super::{Cut, World, attach, declared, detach};
use crate::{api::pool::DiskPhase, disks::decide::User};

/// What may happen to a disk's world.
#[derive(Clone, Debug)]
enum Event {
    Pass(Cut),
    Finish(bool),
    Time(i64),
    /// The machine that holds the entry goes on: claim, VM, disks, start, join.
    Forward,
    /// It goes back: stop, disks out, VM deleted, entry released.
    Back,
    EntryRemoved,
    EntryDeclared,
    StatusLost,
    Unreachable(bool),
}

/// Where the machine that holds the entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    None,
    Claimed,
    Cloned,
    Running,
    Stopping,
    Stopped,
}

struct Life {
    world: World,
    stage: Stage,
    machines: u32,
}

impl Life {
    fn vm(&self) -> String {
        format!("urn:vm-{}", self.machines)
    }

    /// What the machine controller would do next; it asks the same questions of the records.
    fn forward(&mut self) {
        let vm = self.vm();
        match self.stage {
            // An entry whose disk is in a VM, or going, is given to nobody; see `claims::choose`.
            Stage::None
                if self.world.declared.is_some()
                    && !self.world.going
                    && self.world.record.as_ref().is_none_or(|record| record.vm.is_none() && !record.ending) =>
            {
                self.machines += 1;
                (self.stage, self.world.user) = (Stage::Claimed, User::Waits);
            }
            Stage::Claimed if self.shows(DiskPhase::Available) => {
                self.world.site.add_vm(&vm, PowerState::Stopped);
                (self.stage, self.world.user) = (Stage::Cloned, attach(&vm));
            }
            Stage::Cloned if self.shows(DiskPhase::Attached) && self.holds() => {
                self.world.site.vm(&vm).unwrap().set_state(PowerState::Running);
                self.stage = Stage::Running;
                self.world.user = User::Attach { vm, used: true };
            }
            _ => {}
        }
    }

    fn back(&mut self) {
        let vm = self.vm();
        match self.stage {
            Stage::Claimed => (self.stage, self.world.user) = (Stage::None, User::Nobody),
            Stage::Cloned | Stage::Running => (self.stage, self.world.user) = (Stage::Stopping, User::Still),
            Stage::Stopping => {
                self.world.site.vm(&vm).unwrap().set_state(PowerState::Stopped);
                (self.stage, self.world.user) = (Stage::Stopped, detach(&vm));
            }
            // As `standing::before_deletion` has it: the VM shows no disk, and the record says that none can come.
            Stage::Stopped if !self.holds() && self.let_go() => {
                self.world.site.delete_vm(&vm);
                (self.stage, self.world.user) = (Stage::None, User::Nobody);
            }
            _ => {}
        }
    }

    fn shows(&self, phase: DiskPhase) -> bool {
        self.world.shown.as_ref().is_some_and(|shown| shown.phase == Some(phase))
    }

    fn holds(&self) -> bool {
        let vm = self.vm();
        self.world.site.vms.iter().any(|known| known.urn == vm && !known.disks.is_empty())
    }

    fn let_go(&self) -> bool {
        let vm = Some(self.vm());
        self.world.record.as_ref().is_none_or(|record| record.left == vm && record.vm != vm)
    }

    fn meet(&mut self, event: &Event) {
        match event {
            Event::Pass(cut) => self.world.pass(*cut),
            Event::Finish(well) => self.world.site.finish(*well),
            Event::Time(seconds) => {
                self.world.now = self.world.now.checked_add(SignedDuration::from_secs(*seconds)).unwrap();
            }
            Event::Forward => self.forward(),
            Event::Back => self.back(),
            // The webhook refuses it while the entry is held.
            Event::EntryRemoved if self.stage == Stage::None => (self.world.declared, self.world.going) = (None, true),
            Event::EntryDeclared => (self.world.declared, self.world.going) = (Some(declared()), false),
            Event::StatusLost => self.world.shown = None,
            Event::Unreachable(yes) => self.world.unreachable = *yes,
            Event::EntryRemoved => {}
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let cut = prop_oneof![
        6 => Just(Cut::Never), 1 => Just(Cut::BeforeRecord), 1 => Just(Cut::BeforeCall), 1 => Just(Cut::BeforeOutcome),
        1 => Just(Cut::Answer)
    ];
    let event = prop_oneof![
        10 => cut.prop_map(Event::Pass),
        5 => prop::bool::weighted(0.85).prop_map(Event::Finish),
        3 => (1_i64..200).prop_map(Event::Time),
        6 => Just(Event::Forward),
        4 => Just(Event::Back),
        1 => Just(Event::EntryRemoved),
        1 => Just(Event::EntryDeclared),
        1 => Just(Event::StatusLost),
        1 => prop::bool::ANY.prop_map(Event::Unreachable),
    ];
    prop::collection::vec(event, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// I4: a disk is in one VM at the most, and is never deleted while its entry is held; nor is there ever a second
    /// volume of its name, or one that goes with a VM.
    #[test]
    fn a_disk_is_in_one_vm_and_never_deleted_while_claimed(events in events()) {
        let mut life = Life { world: World::new().but(|world| world.user = User::Nobody), stage: Stage::None, machines: 0 };
        for event in &events {
            life.meet(event);
            prop_assert_eq!(&life.world.site.wrongs, &Vec::<String>::new());
            prop_assert!(life.world.site.volumes.len() <= 1);
        }
        // Left alone, it comes to rest: in its VM, free, or gone.
        life.world.unreachable = false;
        life.world.site.finish(true);
        for _ in 0..8 {
            if !matches!(life.stage, Stage::Stopping | Stage::Stopped) {
                break;
            }
            life.back();
            life.world.settle();
        }
        life.world.settle();
        prop_assert_eq!(&life.world.site.wrongs, &Vec::<String>::new());
        let phase = life.world.phase();
        let expected = match life.stage {
            Stage::Cloned | Stage::Running => vec![Some(DiskPhase::Attached)],
            Stage::Claimed => vec![Some(DiskPhase::Available)],
            _ if life.world.going => vec![None],
            _ => vec![None, Some(DiskPhase::Available)],
        };
        prop_assert!(expected.contains(&phase), "{:?} in {:?}: {:?}", phase, life.stage, life.world);
    }
}
