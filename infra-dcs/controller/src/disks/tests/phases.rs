use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, PowerState, TaskState},
};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::{Cut, NAME, World, attach, declared, detach, mark, world::record};
use crate::{
    api::pool::{DiskPhase, PersistentDisk},
    disks::{
        decide::{Call, QUARANTINE, User},
        outcome::after_call,
        record::{Attempt, Failure, Record, Task, Work},
        sequence::sequence,
    },
};

fn attempted(seconds: i64) -> Record {
    let at = World::new().now.checked_sub(SignedDuration::from_secs(seconds)).unwrap();
    Record { attempt: Some(Attempt { at }), ..record() }
}

fn with_task(mut world: World, work: Work, call: Call, state: TaskState) -> World {
    let task = Task { id: "task".into(), work, since: world.now };
    world.record.get_or_insert_with(record).task = Some(task);
    let failure = Some(v1::Failure { message: "no space".into(), code: "10420037".into(), ..v1::Failure::default() });
    world.site.tasks.push((v1::Task { id: "task".into(), state: state.into(), failure, ..v1::Task::default() }, call));
    world
}

/// Every phase, and where it goes on after a crash at any point of it.
#[rstest]
#[case::nobody(World::new().but(|world| world.user = User::Nobody), None, None)]
#[case::claimed(World::new(), Some(DiskPhase::Creating), Some(Call::Create))]
#[case::asked_a_moment_ago(World::with(attempted(5)), Some(DiskPhase::Creating), None)]
#[case::asked_long_ago_and_nothing_came(World::with(attempted(121)), Some(DiskPhase::Creating), Some(Call::Create))]
#[case::being_made(
    with_task(World::with(attempted(5)), Work::Create, Call::Create, TaskState::Running),
    Some(DiskPhase::Creating),
    None
)]
#[case::not_made(
    with_task(World::with(attempted(5)), Work::Create, Call::Create, TaskState::Failed),
    Some(DiskPhase::Error),
    None
)]
#[case::made(World::with(attempted(5)).but(|world| _ = world.site.add_volume("urn:v", NAME)), Some(DiskPhase::Available), None)]
#[case::made_and_not_whole(World::with(attempted(5)).but(|world| world.site.add_volume("urn:v", NAME).usable = false), Some(DiskPhase::Creating), None)]
#[case::found_after_its_record_was_lost(World::new().but(|world| _ = world.site.add_volume("urn:v", NAME)), Some(DiskPhase::Available), None)]
#[case::available(World::available(), Some(DiskPhase::Available), None)]
#[case::wanted(World::available().but(|world| world.user = attach("urn:vm")), Some(DiskPhase::Attaching), Some(attach_call("urn:vm")))]
#[case::wanted_by_a_vm_in_transition(World::available().but(|world| {
        world.user = attach("urn:vm");
        world.site.vm("urn:vm").unwrap().set_state(PowerState::Creating);
    }), Some(DiskPhase::Available), None)]
#[case::attach_recorded_and_not_called(World::available().record(|record| record.vm = Some("urn:vm".into())).but(|world| world.user = attach("urn:vm")),
    Some(DiskPhase::Attaching), Some(attach_call("urn:vm")))]
#[case::attaching(with_task(World::available(), Work::Attach, attach_call("urn:vm"), TaskState::Running)
    .record(|record| record.vm = Some("urn:vm".into())).but(|world| world.user = attach("urn:vm")), Some(DiskPhase::Attaching), None)]
#[case::attach_failed(with_task(World::available(), Work::Attach, attach_call("urn:vm"), TaskState::Failed)
    .record(|record| record.vm = Some("urn:vm".into())).but(|world| world.user = attach("urn:vm")), Some(DiskPhase::Error), None)]
#[case::attach_task_forgotten(World::available().record(|record| {
        record.vm = Some("urn:vm".into());
        record.task = Some(Task { id: "purged".into(), work: Work::Attach, since: Timestamp::UNIX_EPOCH });
    }).but(|world| world.user = attach("urn:vm")), Some(DiskPhase::Attaching), Some(attach_call("urn:vm")))]
#[case::attached(World::attached(), Some(DiskPhase::Attached), None)]
#[case::retained(World::attached().but(|world| world.user = User::Still), Some(DiskPhase::Attached), None)]
#[case::stopping(World::attached().but(|world| {
        world.user = detach("urn:vm");
        world.site.vm("urn:vm").unwrap().set_state(PowerState::Running);
    }), Some(DiskPhase::Attached), None)]
#[case::stopped(World::attached().but(|world| world.user = detach("urn:vm")), Some(DiskPhase::Detaching), Some(detach_call()))]
#[case::detaching(with_task(World::attached(), Work::Detach, detach_call(), TaskState::Running).but(|world| world.user = detach("urn:vm")), Some(DiskPhase::Detaching), None)]
#[case::detach_failed(with_task(World::attached(), Work::Detach, detach_call(), TaskState::Failed).but(|world| world.user = detach("urn:vm")), Some(DiskPhase::Error), None)]
#[case::detached_and_crashed(World::available().record(|record| record.vm = Some("urn:vm".into())).but(|world| world.user = detach("urn:vm")), Some(DiskPhase::Available), None)]
#[case::detached_without_its_properties(World::available().but(|world| world.site.volume("urn:v").unwrap().independent = false), Some(DiskPhase::Detaching), Some(Call::Adopt("urn:v".into())))]
#[case::entry_gone(World::available().but(unclaimed_and_going), Some(DiskPhase::Deleting), Some(Call::Delete("urn:v".into())))]
#[case::entry_gone_and_still_in_a_vm(World::attached().but(unclaimed_and_going), Some(DiskPhase::Attached), None)]
#[case::entry_gone_and_held(World::attached().but(|world| world.going = true), Some(DiskPhase::Attached), None)]
#[case::deletion_recorded_and_not_called(World::available().record(|record| record.ending = true).but(unclaimed_and_going), Some(DiskPhase::Deleting), Some(Call::Delete("urn:v".into())))]
#[case::deleting(with_task(World::available(), Work::Delete, Call::Delete("urn:v".into()), TaskState::Running).record(|record| record.ending = true), Some(DiskPhase::Deleting), None)]
#[case::deleted(World::available().record(|record| record.ending = true).but(|world| world.site.volumes.clear()), None, None)]
#[case::slot_removed_behind_our_back(World::available().but(|world| (world.declared, world.user) = (None, User::Nobody)), Some(DiskPhase::Available), None)]
#[case::unreachable(World::available().but(|world| world.unreachable = true), Some(DiskPhase::Available), None)]
fn phases(#[case] world: World, #[case] phase: Option<DiskPhase>, #[case] call: Option<Call>) {
    let plan = world.plan();
    assert_eq!((plan.phase, plan.call), (phase, call), "{:?}", plan.error);
    let again = plan.again.unwrap_or_default();
    assert!(again.as_secs() <= 120, "{again:?}");
}

fn unclaimed_and_going(world: &mut World) {
    (world.user, world.going) = (User::Nobody, true);
}

fn attach_call(vm: &str) -> Call {
    Call::Attach { volume: "urn:v".into(), vm: vm.into(), sequence: 4, bus: "VIRTIO".into() }
}

fn detach_call() -> Call {
    Call::Detach { volume: "urn:v".into(), vm: "urn:vm".into() }
}

/// What only people can put right: said, and left alone.
#[rstest]
#[case::two_of_the_name(World::with(attempted(5)).but(|world| {
        world.site.add_volume("urn:a", NAME);
        world.site.add_volume("urn:b", NAME);
    }), "DuplicateVolume: urn:a and urn:b")]
#[case::of_another_namespace(World::new().but(|world| {
        world.site.add_volume("urn:a", NAME).owner = Some(v1::Owner { resource: "other/pool/10.0.0.7/0".into(), ..mark() });
    }), "VolumeOfAnother: urn:a is called pool-48fbf301 and belongs to other/pool")]
#[case::of_another_management_cluster(World::new().but(|world| {
        world.site.add_volume("urn:a", NAME).owner = Some(v1::Owner { management_cluster: "mc2".into(), ..mark() });
    }), "VolumeOfAnother")]
#[case::unmarked_and_of_another_size(World::new().but(|world| {
        let volume = world.site.add_volume("urn:a", NAME);
        (volume.owner, volume.size_gib) = (None, 10);
    }), "VolumeOfAnother: urn:a is called pool-48fbf301, bears no mark and has 10 GiB")]
#[case::found_in_a_foreign_vm(World::new().but(|world| {
        world.site.add_vm("urn:foreign", PowerState::Running);
        world.site.add_volume("urn:v", NAME);
        world.site.plug("urn:v", "urn:foreign", 2);
    }), "AttachedElsewhere: volume urn:v is attached to urn:foreign")]
#[case::moved_to_a_foreign_vm(World::available().but(|world| {
        world.site.add_vm("urn:foreign", PowerState::Running);
        world.site.plug("urn:v", "urn:foreign", 2);
        world.user = attach("urn:vm");
    }), "AttachedElsewhere")]
#[case::vanished(World::available().but(|world| world.site.volumes.clear()), "VolumeLost: volume urn:v is gone")]
#[case::vanished_with_its_vm(World::attached().but(|world| {
        world.site.vms.clear();
        world.site.volumes.clear();
    }), "VolumeLost")]
#[case::declared_larger(World::available().but(|world| world.declared.as_mut().unwrap().quantity_gb = 60), "SizeMismatch")]
#[case::beyond_the_bus(World::available().but(|world| {
        world.declared.as_mut().unwrap().slot = 24;
        world.user = attach("urn:vm");
    }), "SequenceOutOfRange: slot 24 after 2 data disks needs sequence number 28; the last of VIRTIO is 25")]
#[case::beyond_the_bus_before_the_vm_is_made(World::available().but(|world| world.declared.as_mut().unwrap().slot = 24), "SequenceOutOfRange")]
#[case::place_taken(World::available().but(|world| {
        world.site.add_volume("urn:other", "vm-4");
        world.site.plug("urn:other", "urn:vm", 4);
        world.user = attach("urn:vm");
    }), "SequenceTaken")]
fn what_is_wrong_is_said_and_left_alone(#[case] mut world: World, #[case] expected: &str) {
    let plan = world.plan();
    assert_eq!((plan.phase, plan.call.clone()), (Some(DiskPhase::Error), None));
    assert!(world.error().starts_with(expected), "{}", world.error());
    assert!(plan.again.is_some_and(|again| again.as_secs() >= 60), "slowly: {:?}", plan.again);
    let volumes = world.site.volumes.clone();
    for _ in 0..3 {
        world.pass(Cut::Never);
    }
    assert_eq!(world.site.volumes, volumes);
}

#[test]
fn an_error_ends_when_its_cause_does() {
    let mut world = World::available().but(|world| world.site.volumes.clear());
    world.pass(Cut::Never);
    assert_eq!(world.phase(), Some(DiskPhase::Error));
    world.site.add_volume("urn:v", NAME);
    world.pass(Cut::Never);
    assert_eq!((world.phase(), world.error()), (Some(DiskPhase::Available), String::new()));
}

#[test]
fn a_lost_volume_is_made_anew_only_when_it_is_asked_for() {
    let lost = || World::available().record(|record| record.used = true).but(|world| world.site.volumes.clear());
    let mut asked = lost().but(|world| world.recreate = true);
    asked.pass(Cut::Never);
    asked.recreate = false;
    asked.site.finish(true);
    asked.settle();
    assert_eq!(asked.phase(), Some(DiskPhase::Available));
    assert!(!asked.record.unwrap().used, "its guest may format it");
    let mut left = lost();
    left.settle();
    assert_eq!((left.phase(), left.site.made), (Some(DiskPhase::Error), 0));
}

#[test]
fn an_attached_disk_is_settled_by_the_list_alone() {
    let mut world = World::attached();
    world.settle();
    // Neither the VM nor the volume may be asked for: without them the answer is the same.
    world.site.vms.clear();
    let plan = world.plan();
    assert_eq!((plan.phase, plan.call, plan.again), (Some(DiskPhase::Attached), None, None));
    assert_eq!(plan.record, world.record);
}

#[test]
fn a_full_datastore_is_tried_again_slowly_and_another_one_may_be_chosen() {
    let error = MachineError::new(Reason::Capacity, "datastore cluster dsc: 3 GiB free, 40 GiB needed");
    let world = World::new();
    let refused = after_call(&attempted(0), &Call::Create, &Err(error), world.now);
    assert_eq!(refused.attempt, None, "nothing was made: nothing is waited for");
    let mut world = World::with(refused);
    assert_eq!(world.phase(), Some(DiskPhase::Error));
    assert!(world.error().contains("datastore cluster dsc"), "{}", world.error());
    assert!(world.plan().again.unwrap().as_secs() > 100);
    world.now = world.now.checked_add(SignedDuration::from_secs(121)).unwrap();
    assert_eq!(world.plan().call, Some(Call::Create));
}

#[test]
fn what_passes_by_itself_is_no_error() {
    let busy = MachineError::new(Reason::Busy, "host busy");
    let mut world = World::available().but(|world| world.user = attach("urn:vm"));
    let record = Record { vm: Some("urn:vm".into()), ..world.record.clone().unwrap() };
    world.record = Some(after_call(&record, &attach_call("urn:vm"), &Err(busy), world.now));
    let plan = world.plan();
    assert_eq!((plan.phase, plan.call), (Some(DiskPhase::Attaching), None));
    assert_eq!(world.error(), "SiteBusy: host busy");
    world.now = world.now.checked_add(SignedDuration::from_secs(11)).unwrap();
    assert_eq!(world.plan().call, Some(attach_call("urn:vm")));
}

#[test]
fn a_site_that_does_not_take_the_properties_is_not_asked_in_a_loop() {
    let adopt = Call::Adopt("urn:v".into());
    let mut world = World::available().but(|world| world.site.volume("urn:v").unwrap().independent = false);
    let record = world.record.clone().unwrap();
    world.record = Some(after_call(&record, &adopt, &Ok(v1::Task::default()), world.now));
    assert_eq!((world.phase(), world.plan().call), (Some(DiskPhase::Error), None));
    world.site.volume("urn:v").unwrap().independent = true;
    assert_eq!((world.phase(), world.error()), (Some(DiskPhase::Available), String::new()));
}

#[test]
fn sequence_numbers_follow_the_machines_own_disks() {
    let on = |slot: i64, bus: Option<&str>| PersistentDisk { slot, pci_type: bus.map(str::to_owned), ..declared() };
    assert_eq!(sequence(3, &on(0, None)), Ok(5));
    assert_eq!(sequence(3, &on(20, None)), Ok(25));
    assert!(sequence(3, &on(21, None)).is_err());
    assert_eq!(sequence(0, &on(1, Some("IDE"))), Ok(3));
    assert!(sequence(1, &on(1, Some("IDE"))).is_err());
    assert_eq!(sequence(3, &on(55, Some("SCSI"))), Ok(60));
    assert!(sequence(3, &on(0, Some("NVME"))).is_err());
    assert!(sequence(3, &on(i64::MAX, None)).is_err());
}

#[test]
fn a_failure_is_forgotten_once_it_works() {
    let failure = Failure { message: "TaskFailed: x".into(), until: Timestamp::UNIX_EPOCH, grave: true };
    let mut world = World::attached().record(|record| record.failure = Some(failure));
    world.pass(Cut::Never);
    assert_eq!(world.record.unwrap().failure, None);
}

#[test]
fn a_lost_answer_is_waited_for_and_makes_no_second_volume() {
    let mut world = World::new();
    world.pass(Cut::Answer);
    world.site.volumes.clear();
    world.site.tasks.clear();
    // The site makes it late: until then nothing is asked for again.
    world.now = world.now.checked_add(QUARANTINE - SignedDuration::from_secs(1)).unwrap();
    world.pass(Cut::Never);
    assert_eq!(world.site.made, 1);
    world.site.add_volume("urn:late", NAME);
    world.settle();
    assert_eq!((world.site.made, world.record.unwrap().volume.as_deref()), (1, Some("urn:late")));
}
