//! Where a VM lies, what its drive takes, whose its entry is, and sites that cannot be asked.

use super::*;
use crate::machine::record::Seen;

fn in_folder(world: World, wanted: &str, shown: Option<&str>) -> World {
    world.but(|world| {
        wanted.clone_into(&mut world.record.placement.as_mut().unwrap().folder);
        if let Reading::Known(Some(vm)) = &mut world.vm {
            vm.folder_urn = shown.map(str::to_owned);
        }
    })
}

#[rstest]
#[case::elsewhere("urn:f", Some("urn:site"), false, Step::MoveToFolder("urn:f".into()))]
#[case::there("urn:f", Some("urn:f"), false, Step::PowerOn)]
#[case::moved_and_not_shown("urn:f", Some("urn:site"), true, Step::PowerOn)]
#[case::site_does_not_tell("urn:f", None, false, Step::PowerOn)]
#[case::nothing_asked("", Some("urn:f"), false, Step::PowerOn)]
fn a_vm_is_moved_into_its_folder_before_it_starts(
    #[case] wanted: &str,
    #[case] shown: Option<&str>,
    #[case] moved: bool,
    #[case] expected: Step,
) {
    let world = in_folder(World::created().vm(Stopped, "m.iso"), wanted, shown);
    assert_eq!(world.but(|world| world.record.moved = moved).plan().step, expected);
}

#[test]
fn a_move_that_is_refused_is_tried_again_and_said() {
    let error = MachineError::new(Reason::NotFound, "the folder does not exist").with_code("10300621");
    let (claim, _) = refused(types::PROVISIONED, "moving the VM into its folder", &error);
    assert_eq!((claim.type_.as_str(), claim.reason.as_str()), ("VMProvisioned", "NotFound"));
}

/// Releases whose drives take a medium of running VMs only.
#[rstest]
#[case::not_known_yet(World::created().vm(Stopped, ""), false, Step::AttachMedia)]
#[case::stopped(World::created().vm(Stopped, ""), true, Step::PowerOn)]
#[case::started(World::created().vm(Running, ""), true, Step::AttachMedia)]
#[case::in_the_drive(World::created().vm(Running, "m.iso"), true, Step::Provision)]
fn a_drive_that_needs_power_gets_its_medium_after_the_start(
    #[case] world: World,
    #[case] on_power: bool,
    #[case] expected: Step,
) {
    assert_eq!(world.but(|world| world.record.media.as_mut().unwrap().on_power = on_power).plan().step, expected);
}

fn claimed_by(world: World, machine: Option<&str>) -> World {
    world.but(|world| {
        let claims = machine.map(|machine| ("10.0.0.7".to_owned(), claims::Claim::by(machine)));
        let held: claims::Claims = claims.into_iter().collect();
        world.pool.as_mut().unwrap().metadata.annotations = Some([claims::annotation(&held)].into());
    })
}

/// An address is one machine's: the pool's record decides, and the first claims it anew where that was lost.
#[rstest]
#[case::lost(claimed_by(World::holding(), None), Step::ClaimEntry(World::new().pool.unwrap().spec.pool[0].clone()))]
#[case::of_another(claimed_by(World::holding(), Some("other")), Step::ForgetEntry)]
#[case::of_another_with_a_vm(claimed_by(World::created().vm(Stopped, "m.iso"), Some("other")), Step::Wait)]
#[case::ours(World::holding(), Step::Resolve)]
fn an_entry_is_held_by_one_machine(#[case] world: World, #[case] expected: Step) {
    assert_eq!(world.plan().step, expected);
    if expected == Step::Wait {
        assert_eq!(world.said().1, "DuplicateIP");
    }
}

fn making(age: i64, seen: Option<(u32, i64)>) -> World {
    World::created().task(Work::Create, TaskState::Running).but(|world| {
        let task = world.record.task.as_mut().unwrap();
        task.since = ago(age);
        task.seen = seen.map(|(progress, since)| Seen { progress, at: ago(since) });
        if let Reading::Known(shown) = &mut world.task {
            shown.progress = 35;
        }
    })
}

#[rstest]
#[case::young(making(30, None), Step::Wait, "Creating")]
#[case::long(making(90, None), Step::RecordProgress(35), "Creating")]
#[case::further(making(900, Some((20, 400))), Step::RecordProgress(35), "Creating")]
#[case::slow(making(900, Some((35, 200))), Step::Wait, "Creating")]
#[case::stalled(making(900, Some((35, 400))), Step::Wait, "PlacementStalled")]
fn a_clone_is_stalled_when_it_gets_no_further(#[case] world: World, #[case] step: Step, #[case] reason: &str) {
    let plan = world.plan();
    assert_eq!((plan.step, plan.conditions[0].reason.as_str()), (step, reason));
    if reason == "PlacementStalled" {
        assert!(plan.conditions[0].message.contains("task-1 has shown 35 % for 5 min"), "{:?}", plan.conditions);
    }
}

#[test]
fn a_clone_that_no_host_can_take_says_what_must_be_visible() {
    let mut world = World::created().task(Work::Create, Failed).no_vm();
    if let Reading::Known(task) = &mut world.task {
        task.failure.as_mut().unwrap().reason = Reason::Placement.into();
    }
    world.record.media.as_mut().unwrap().deleted = true;
    let plan = world.plan();
    assert!(plan.conditions[0].message.contains("must be visible to the hosts"), "{:?}", plan.conditions);
}

fn barred<T>() -> Reading<T> {
    Reading::Barred(Claim::new(types::PROVISIONED, false, "CredentialsMissing", "Secret login does not exist"))
}

/// The Secret went before the machines: their deletion waits for it, and goes on when it is back.
#[rstest]
#[case::running(World::running().but(|world| world.vm = barred()))]
#[case::stopping(World::running().task(Work::PowerOff, TaskState::Running).but(|world| world.task = barred()))]
#[case::in_doubt(World::uploaded().but(|world| world.found = barred()))]
fn a_deletion_without_credentials_waits(#[case] world: World) {
    let waiting = world.deleting();
    assert_eq!(waiting.plan().step, Step::Wait);
    assert_eq!(waiting.said(), (Status::False, "CredentialsMissing".to_owned()));
    assert!(waiting.plan().again.is_some(), "Secrets are not watched: it looks again");
    let back = waiting.but(|world| (world.vm, world.record.task) = (Reading::Known(None), None));
    let back = back.but(|world| world.found = Reading::Known(Vec::new()));
    assert!(matches!(back.plan().step, Step::DeleteMedia | Step::Wait));
    assert!(back.plan().conditions.iter().all(|claim| claim.reason != "CredentialsMissing"));
}

#[test]
fn a_vm_is_retained_without_credentials() {
    let asked = [(crate::api::RETAIN_VM.to_owned(), "true".to_owned())];
    let world = World::running().deleting().but(|world| {
        world.machine.metadata.annotations = Some(asked.into());
        (world.vm, world.task) = (barred(), barred());
        world.infra = None;
    });
    assert_eq!(world.plan().step, Step::Retain);
}

#[test]
fn a_machine_that_runs_stays_ready_while_its_site_cannot_be_asked() {
    let plan = World::running().but(|world| world.vm = barred()).plan();
    assert_eq!((plan.step, plan.conditions[0].status), (Step::Wait, Status::True));
}

#[test]
fn a_stop_that_is_waited_for_shows_how_grave_it_is() {
    for (state, reason, severity) in [(Running, "WaitingForStop", "Info"), (Transition, "VMMidTransition", "Warning")] {
        let world = World::running().vm(state, "").deleting();
        let paused = paused::claim(None, &world.machine.metadata);
        let status = status::status(&world.machine, &world.record, paused, &world.plan().conditions, now());
        let shown = crate::api::condition(&status.conditions, types::STOP_PENDING).unwrap();
        assert_eq!((shown.reason.as_deref(), shown.severity.as_deref()), (Some(reason), Some(severity)));
    }
}

#[test]
fn the_failure_domain_of_a_machine_is_its_compute_cluster() {
    let mut world = World::placed();
    world.machine.spec.location = Some(from(json!({"type": "cluster", "name": "home"})));
    let cluster = |domain: Option<&str>| {
        request::placement(&world.machine.spec, domain, None, 1).compute_cluster.map(|cluster| cluster.name)
    };
    assert_eq!(cluster(None).as_deref(), Some("home"));
    assert_eq!(cluster(Some("zone-b")).as_deref(), Some("zone-b"));
    let found = v1::Placement { template: Some(v1::Template::default()), ..Default::default() };
    let placement = request::placed(&world.machine.spec, Some("zone-b"), &found).unwrap();
    world.record.placement = Some(placement);
    let paused = paused::claim(None, &world.machine.metadata);
    let status = status::status(&world.machine, &world.record, paused, &[], now());
    assert_eq!(status.failure_domain.as_deref(), Some("zone-b"));
}
