//! What is done next, step by step and after a crash at each of them.

use cluster_api::conditions::{Claim, Status};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use std::collections::BTreeSet;

use dcs_proto::{
    MachineError,
    error::{FOREIGN_MACHINE, Reason, UPLOAD_DATASTORE, UPLOAD_HOST},
    v1,
};

mod lost;
mod placing;

use super::{
    decide::{Facts, Growth, Plan, Read, Reading, Step, Verdict, decide, refused},
    record::{ANNOTATION, Attempt, Media, Placement, Record, Task, Work},
    *,
};
use crate::{api::pool::DiskPhase, claims, disks};

const ID: &str = "0b7c1f0e-8d2f-4a39-9c1a-2f6d3b5a9e10";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now().checked_sub(SignedDuration::from_secs(seconds)).unwrap()
}

/// A machine's world: built up to a point, then decided on.
struct World {
    machine: DCSMachine,
    record: Record,
    owner: Option<Machine>,
    infra: Option<DCSCluster>,
    pool: Option<DCSIpHostnamePool>,
    permit: bool,
    left: Option<String>,
    vm: Reading<Option<v1::Machine>>,
    found: Reading<Vec<v1::Machine>>,
    task: Reading<v1::Task>,
    console: Reading<String>,
    boot: Reading<Option<String>>,
}

fn from<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

impl World {
    /// Everything is there, nothing is done.
    fn new() -> Self {
        let meta =
            |name: &str| json!({"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "1"});
        let infra = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DCSCluster", "metadata": meta("c"),
            "spec": {"controlPlaneLoadBalancer": {"type": "external", "host": "h", "port": 6443},
                "credentialSecretRef": {"name": "login"}, "networkType": "kube-ovn"}, "status": {"ready": true}});
        let owner = json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "metadata": meta("m"),
            "spec": {"clusterName": "c", "bootstrap": {"dataSecretName": "boot"}}});
        let machine = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DCSMachine", "metadata": meta("m"),
            "spec": {"vmTemplateName": "t", "ipHostPoolRef": {"name": "p"},
                "vmConfig": {"dcsMachineCpuSpec": {"quantity": 4}, "dcsMachineMemorySpec": {"quantity": 8192}}}});
        let pool = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DCSIpHostnamePool", "metadata": meta("p"),
            "spec": {"pool": [{"ip": "10.0.0.7", "mask": "24"}, {"ip": "10.0.0.8", "mask": "24"}]}});
        Self {
            machine: from(machine),
            record: Record::default(),
            owner: Some(from(owner)),
            infra: Some(from(infra)),
            pool: Some(from(pool)),
            permit: true,
            left: None,
            vm: Reading::Unread,
            found: Reading::Unread,
            task: Reading::Unread,
            console: Reading::Unread,
            boot: Reading::Unread,
        }
    }

    fn protected() -> Self {
        let mut world = Self::new();
        world.machine.metadata.finalizers = Some(vec![crate::api::MACHINE_FINALIZER.to_owned()]);
        world
    }

    fn holding() -> Self {
        let mut world = Self::protected();
        let pool = world.pool.as_mut().unwrap();
        let held = claims::Claims::from([("10.0.0.7".to_owned(), claims::Claim::by("m"))]);
        pool.metadata.annotations = Some([claims::annotation(&held)].into());
        world.record.network = Some(pool.spec.pool[0].network());
        world
    }

    fn placed() -> Self {
        let mut world = Self::holding();
        world.record.placement = Some(Placement { template: "urn:t".into(), ..Placement::default() });
        world
    }

    fn attempted() -> Self {
        let mut world = Self::placed();
        world.record.attempt =
            Some(Attempt { number: 1, id: ID.into(), at: ago(5), not_before: None, last_failure: None });
        world
    }

    fn uploaded() -> Self {
        let mut world = Self::attempted();
        world.record.media = Some(Media { path: "m.iso".into(), datastore: "urn:d".into(), ..Media::default() });
        world
    }

    fn created() -> Self {
        let mut world = Self::uploaded();
        world.machine.spec.vm_urn = Some("urn:vm".into());
        world.task(Work::Create, Done)
    }

    fn running() -> Self {
        let mut world = Self::created();
        world.machine.spec.provider_id = Some("dcs://m".into());
        world.record.task = None;
        world.record.started_at = Some(ago(30));
        world.vm(Running, "m.iso")
    }

    fn task(mut self, work: Work, state: TaskState) -> Self {
        self.record.task = Some(Task { id: "task-1".into(), work, since: ago(20), seen: None });
        let failure = (state == Failed).then(|| v1::Failure {
            message: "no space".into(),
            code: "10300097".into(),
            ..v1::Failure::default()
        });
        self.task =
            Reading::Known(v1::Task { id: "task-1".into(), state: state.into(), failure, ..v1::Task::default() });
        self
    }

    fn vm(mut self, state: PowerState, media: &str) -> Self {
        self.vm = Reading::Known(Some(v1::Machine {
            urn: "urn:vm".into(),
            state: state.into(),
            state_text: format!("{state:?}"),
            boot_media: media.into(),
            attempt: ID.into(),
            ..v1::Machine::default()
        }));
        self
    }

    /// The system disk, as it is asked for and as the site shows it.
    fn system_disk(mut self, asked: i64, shown: Option<u64>) -> Self {
        let disks = vec![from(json!({"quantity": asked, "systemVolume": true, "datastoreName": "ds"}))];
        self.machine.spec.vm_config.as_mut().unwrap().dcs_machine_disk_spec = disks;
        if let Reading::Known(Some(vm)) = &mut self.vm {
            let disk = |size_gib| v1::Disk { sequence: 1, size_gib, volume_urn: "urn:v".into(), ..v1::Disk::default() };
            vm.disks = shown.map(disk).into_iter().collect();
        }
        self
    }

    /// The entry has a disk, which its pool shows so; `vm` is the one that it is recorded for.
    fn disk(mut self, phase: Option<DiskPhase>, vm: Option<&str>) -> Self {
        let pool = self.pool.as_mut().unwrap();
        pool.spec.pool[0].persistent_disk = vec![from(json!({"slot": 0, "quantityGB": 40, "datastoreName": "ds"}))];
        let Some(phase) = phase else { return self };
        let urn = Some("urn:volume").filter(|_| phase != DiskPhase::Creating);
        pool.status = Some(from(json!({"persistentDiskStatus":
            [{"ip": "10.0.0.7", "slot": 0, "phase": phase, "volumeUrn": urn, "attachedVmUrn": vm}]})));
        let record = disks::record::Record {
            volume: urn.map(str::to_owned),
            vm: vm.map(str::to_owned),
            left: self.left.clone(),
            ..Default::default()
        };
        let records = disks::record::Disks::from([(disks::record::Key::new("10.0.0.7", 0), record)]);
        let annotation = disks::record::annotation(&records).unwrap();
        pool.metadata.annotations.get_or_insert_default().insert(disks::record::ANNOTATION.to_owned(), annotation);
        self
    }

    /// The pool has noted that the disk is to be out of the VM.
    fn noted(mut self) -> Self {
        self.left = Some("urn:vm".into());
        self
    }

    /// The disk is in the VM.
    fn plugged(mut self) -> Self {
        if let Reading::Known(Some(vm)) = &mut self.vm {
            vm.disks =
                vec![v1::Disk { volume_urn: "urn:volume".into(), name: "p-48fbf301".into(), ..Default::default() }];
        }
        self
    }

    fn started(mut self, seconds: i64, console: Reading<String>) -> Self {
        self.record.started_at = Some(ago(seconds));
        self.console = console;
        self
    }

    fn asked(mut self, wish: Wish) -> Self {
        self.record.disks = Some(wish);
        self
    }

    fn no_vm(mut self) -> Self {
        self.vm = Reading::Known(None);
        self
    }

    fn deleting(mut self) -> Self {
        self.machine.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(ago(45)));
        self
    }

    fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn decide(&self) -> Verdict {
        let cluster: Cluster = from(json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "c", "namespace": "ns"},
            "spec": {"infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DCSCluster", "name": "c"}}}));
        decide(&Facts {
            machine: &self.machine,
            record: &self.record,
            owner: self.owner.as_ref(),
            cluster: Some(&cluster),
            infra: self.infra.as_ref(),
            pool: self.pool.as_ref(),
            recorded: BTreeSet::new(),
            permit: self.permit,
            now: now(),
            vm: self.vm.clone(),
            found: self.found.clone(),
            task: self.task.clone(),
            console: self.console.clone(),
            boot: self.boot.clone(),
        })
    }

    fn plan(&self) -> Plan {
        match self.decide() {
            Verdict::Plan(plan) => plan,
            Verdict::Need(read) => panic!("needs {read:?}"),
        }
    }

    fn said(&self) -> (Status, String) {
        let claim: Claim = self.plan().conditions.first().cloned().unwrap();
        (claim.status, claim.reason)
    }
}

use dcs_proto::v1::{
    PowerState::{self, Creating, Running, Stopped, Transition},
    TaskState::{self, Done, Failed, Unknown},
};

/// The way of a machine, and where it goes on after a crash between any effect and its record.
#[rstest]
#[case::nothing(World::new(), Step::AddFinalizer)]
#[case::protected(World::protected(), Step::ClaimEntry(World::new().pool.unwrap().spec.pool[0].clone()))]
#[case::claimed_and_crashed(World::holding().but(|world| world.record.network = None),
    Step::RecordEntry(World::new().pool.unwrap().spec.pool[0].clone()))]
#[case::holding(World::holding(), Step::Resolve)]
#[case::placed(World::placed(), Step::BeginAttempt)]
#[case::attempted(World::attempted(), Step::PutMedia)]
#[case::created_and_crashed(World::uploaded().but(|world| world.found = Reading::Known(vec![v1::Machine { urn: "urn:x".into(), ..Default::default() }])),
    Step::Adopt("urn:x".into()))]
#[case::uploaded(World::uploaded().but(|world| world.found = Reading::Known(vec![])), Step::Create)]
#[case::cloned(World::created().vm(Stopped, ""), Step::AttachMedia)]
#[case::task_forgotten(World::created().task(Work::Create, Unknown).vm(Stopped, ""), Step::AttachMedia)]
#[case::attached_and_crashed(World::created().vm(Stopped, "m.iso"), Step::PowerOn)]
#[case::attached(World::created().task(Work::AttachMedia, Done).vm(Stopped, "m.iso"), Step::PowerOn)]
#[case::started_and_crashed(World::created().vm(Running, "m.iso"), Step::Provision)]
#[case::started(World::created().task(Work::PowerOn, Done).vm(Running, "m.iso"), Step::Provision)]
#[case::smaller_than_asked(World::created().vm(Stopped, "m.iso").system_disk(80, Some(40)), Step::GrowDisk(Growth { volume: "urn:v".into(), gib: 80 }))]
#[case::growing_failed(World::created().task(Work::GrowDisk, Failed).vm(Stopped, "m.iso").system_disk(80, Some(40)), Step::GrowDisk(Growth { volume: "urn:v".into(), gib: 80 }))]
#[case::grown(World::created().task(Work::GrowDisk, Done).vm(Stopped, "m.iso").system_disk(80, Some(80)), Step::PowerOn)]
#[case::as_large_as_the_template(World::created().vm(Stopped, "m.iso").system_disk(0, Some(40)), Step::PowerOn)]
#[case::start_failed(World::created().but(|world| world.record.started_at = Some(ago(3))).task(Work::PowerOn, Failed).vm(Stopped, "m.iso"), Step::PowerOn)]
#[case::not_joined(World::running(), Step::Wait)]
fn creation(#[case] world: World, #[case] expected: Step) {
    assert_eq!(world.plan().step, expected);
}

#[rstest]
#[case::after_join(World::running(), Step::DetachMedia)]
#[case::detached_and_crashed(World::running().vm(Running, ""), Step::DeleteMedia)]
#[case::detach_failed(World::running().task(Work::DetachMedia, Failed).but(|world| world.record.task.as_mut().unwrap().since = ago(40)), Step::DetachMedia)]
#[case::detach_failed_just_now(World::running().task(Work::DetachMedia, Failed), Step::Wait)]
#[case::clean(World::running().but(|world| world.record.media.as_mut().unwrap().deleted = true), Step::Wait)]
fn boot_media_go_once_the_machine_has_joined(#[case] world: World, #[case] expected: Step) {
    let world = world.but(|world| {
        world.owner.as_mut().unwrap().status = Some(from(json!({"nodeRef": {"name": "m"}})));
    });
    assert_eq!(world.plan().step, expected);
}

#[test]
fn a_settled_machine_is_read_once_and_left_alone() {
    let settled = World::running().but(|world| {
        world.record.media.as_mut().unwrap().deleted = true;
        world.owner.as_mut().unwrap().status = Some(from(json!({"nodeRef": {"name": "m"}})));
    });
    let plan = settled.plan();
    assert_eq!((plan.step, plan.again), (Step::Wait, None));
}

#[rstest]
#[case::find(World::uploaded(), Read::Found)]
#[case::task(World::created().but(|world| world.task = Reading::Unread), Read::Task)]
#[case::vm(World::created(), Read::Machine)]
#[case::deleting(World::created().deleting(), Read::Machine)]
#[case::deleting_in_doubt(World::uploaded().deleting(), Read::Found)]
fn what_is_not_known_is_read_first(#[case] world: World, #[case] expected: Read) {
    assert!(matches!(world.decide(), Verdict::Need(read) if read == expected));
}

#[rstest]
#[case::no_owner(World::new().but(|world| world.owner = None), "WaitingForOwner")]
#[case::no_infra(World::new().but(|world| world.infra = None), "DCSClusterNotFound")]
#[case::infra_not_ready(World::new().but(|world| world.infra.as_mut().unwrap().status = None), "WaitingForClusterInfrastructure")]
#[case::no_data(World::new().but(|world| world.owner.as_mut().unwrap().spec.bootstrap.data_secret_name = None), "WaitingForBootstrapData")]
#[case::wrong_password(World::protected().but(refuse_login), "CredentialsInvalid")]
#[case::no_pool(World::protected().but(|world| world.pool = None), "PoolNotFound")]
#[case::exhausted(World::protected().but(|world| world.pool.as_mut().unwrap().spec.pool.clear()), "IPPoolExhausted")]
#[case::queue(World::placed().but(|world| world.permit = false), "WaitingForDeployPermit")]
#[case::two_of_us(World::uploaded().but(|world| world.found = Reading::Known(vec![v1::Machine::default(); 2])), "DuplicateVM")]
#[case::cloning(World::created().task(Work::Create, TaskState::Running), "Creating")]
#[case::in_transition(World::created().vm(Transition, ""), "VMMidTransition")]
#[case::stopped_behind_us(World::created().but(|world| world.record.started_at = Some(ago(9))).vm(Stopped, "m.iso"), "VMStopped")]
#[case::gone_behind_us(World::running().no_vm().but(|world| world.record.missing_since = Some(ago(31))), "VMNotFound")]
#[case::disk_missing(World::created().vm(Stopped, "m.iso").system_disk(80, None), "DiskMissing")]
#[case::disk_stays_small(World::created().task(Work::GrowDisk, Done).vm(Stopped, "m.iso").system_disk(80, Some(40)), "DiskTooSmall")]
#[case::foreign_debris(World::created().task(Work::Create, Failed).vm(Running, ""), "CreateFailed")]
#[case::disks(World::holding().disk(None, None), "Creating")]
#[case::disks_in_error(World::holding().disk(Some(DiskPhase::Error), None), "DiskError")]
#[case::disks_of_the_vm_before(World::holding().disk(Some(DiskPhase::Attached), Some("urn:old")), "AttachedElsewhere")]
fn what_is_missing_is_said(#[case] world: World, #[case] reason: &str) {
    assert_eq!(world.plan().step, Step::Wait);
    assert_eq!(world.said(), (Status::False, reason.to_owned()));
    let again = world.plan().again;
    assert!(again.is_none_or(|again| again <= Duration::from_secs(60)), "{again:?}");
}

#[test]
fn one_look_that_shows_no_vm_is_not_believed() {
    let first = World::running().no_vm().plan();
    assert_eq!((first.step, first.conditions[0].status), (Step::RecordMissing(true), Status::True));
    let soon = World::running().no_vm().but(|world| world.record.missing_since = Some(ago(10))).plan();
    assert_eq!(
        (soon.step, soon.conditions[0].status, soon.again),
        (Step::Wait, Status::True, Some(Duration::from_secs(20)))
    );
    let back = World::running().but(|world| world.record.missing_since = Some(ago(10)));
    assert_eq!(back.plan().step, Step::RecordMissing(false));
}

fn console(text: &str) -> Reading<String> {
    Reading::Known(text.to_owned())
}

fn no_console() -> Reading<String> {
    Reading::Failed(MachineError::new(Reason::Unsupported, "unknown action"))
}

#[rstest]
#[case::young(30, Reading::Unread, None)]
#[case::booting(200, console("starting"), None)]
#[case::failed(70, console("before\nboot failed: no config\n"), Some(("BootFailed", "before\nboot failed: no config")))]
#[case::silent(300, console("starting"), Some(("NodeNotJoined", "end of its console:\nstarting")))]
#[case::silent_without_console(300, no_console(), Some(("NodeNotJoined", "does not give its console (unknown action)")))]
fn a_boot_that_fails_shows_its_console(
    #[case] seconds: i64,
    #[case] shown: Reading<String>,
    #[case] expected: Option<(&str, &str)>,
) {
    let world = World::running().started(seconds, shown);
    let plan = world.plan();
    let said = plan.conditions.iter().find(|claim| claim.type_ == types::BOOTED);
    assert_eq!(
        said.map(|claim| (claim.status, claim.reason.as_str())),
        expected.map(|(reason, _)| (Status::False, reason))
    );
    let status = status::status(
        &world.machine,
        &world.record,
        paused::claim(None, &world.machine.metadata),
        &plan.conditions,
        now(),
    );
    let ready = crate::api::condition(&status.conditions, "Ready").unwrap();
    match expected {
        None => assert_eq!(ready.status, "True"),
        Some((reason, text)) => {
            assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some(reason)));
            assert!(ready.message.as_ref().unwrap().contains(text), "{ready:?}");
        }
    }
    assert_eq!(status.ready, Some(true), "what is provisioned stays so");
}

#[test]
fn a_console_is_looked_at_only_when_a_machine_is_late() {
    let late = World::running().started(90, Reading::Unread);
    assert!(matches!(late.decide(), Verdict::Need(Read::Console)));
    let joined = World::running().started(90, Reading::Unread).but(|world| {
        world.owner.as_mut().unwrap().status = Some(from(json!({"nodeRef": {"name": "m"}})));
    });
    assert!(matches!(joined.decide(), Verdict::Plan(_)));
}

#[rstest]
#[case(MachineError::new(Reason::Conflict, "no").about(FOREIGN_MACHINE, "m"), "VMNameConflict")]
#[case(MachineError::new(Reason::Conflict, "no"), "Conflict")]
#[case(MachineError::new(Reason::Unreachable, "no").about(UPLOAD_HOST, "h:8443"), "HostUploadUnreachable")]
#[case(MachineError::new(Reason::Busy, "no").about(UPLOAD_DATASTORE, "urn:d"), "DatastoreNotUploadable")]
#[case(MachineError::new(Reason::Unreachable, "no"), "SiteUnreachable")]
#[case(MachineError::new(Reason::Capacity, "no").with_code("10410003"), "InsufficientCapacity")]
fn refusals_are_told_apart(#[case] error: MachineError, #[case] reason: &str) {
    let (claim, again) = refused(types::PROVISIONED, "doing", &error);
    assert_eq!(claim.reason, reason);
    assert!(claim.message.starts_with("doing: no") && !again.is_zero());
}

/// The list of effects is what crash tests go by: what is missing there is never tested.
#[test]
fn the_list_of_effects_is_complete() {
    let sources = [include_str!("act.rs"), include_str!("boot_data.rs"), include_str!("mod.rs")];
    let code = sources.map(|source| {
        source
            .split_once("pub const EFFECTS")
            .map_or(source, |(_, rest)| rest.split_once("];").map_or(rest, |(_, rest)| rest))
    });
    let code = code.join("\n");
    let named: BTreeSet<&str> =
        code.split('"').filter(|text| text.starts_with("machine-") && !text.contains(' ')).collect();
    assert_eq!(named, EFFECTS.iter().copied().collect::<BTreeSet<_>>());
    let writes = ["writer.merge", "writer.add_finalizer", "writer.remove_finalizer", "writer.create", "writer.apply"];
    let count: usize = writes.iter().map(|write| code.matches(write).count()).sum();
    assert_eq!(count, 8, "a write was added: put it between crash points, then count it here");
}

fn refuse_login(world: &mut World) {
    let status = json!({"ready": true, "conditions": [{"type": "CredentialsValid", "status": "False",
        "reason": "CredentialsInvalid", "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    world.infra.as_mut().unwrap().status = Some(from(status));
}

#[test]
fn what_a_failed_clone_leaves_is_cleared_before_the_next_attempt() {
    let failed = World::created().task(Work::Create, Failed);
    assert_eq!(failed.but(|_| ()).vm(Stopped, "").plan().step, Step::Delete);
    // A VM that is not ours stays, whatever happens.
    let foreign = World::created().task(Work::Create, Failed).vm(Stopped, "").but(|world| {
        if let Reading::Known(Some(vm)) = &mut world.vm {
            vm.attempt = "another".into();
        }
    });
    assert_eq!(foreign.plan().step, Step::Wait);
    // So is a VM that a clone left without its disks while nobody looked.
    let debris = World::created().vm(Stopped, "").system_disk(80, None);
    assert_eq!(debris.but(|world| world.record.attempt.as_mut().unwrap().at = ago(70)).plan().step, Step::Delete);
    // What is being cleared away is never started.
    assert_eq!(World::created().task(Work::Delete, Done).vm(Stopped, "").plan().step, Step::Delete);
    assert_eq!(World::created().task(Work::Delete, Done).no_vm().plan().step, Step::DeleteMedia);
    let clean = World::created().task(Work::Create, Failed).no_vm();
    let clean = clean.but(|world| world.record.media.as_mut().unwrap().deleted = true);
    match clean.plan().step {
        Step::NextAttempt(next) => {
            assert_eq!(next.number, 2);
            assert_eq!(next.not_before, now().checked_add(SignedDuration::from_secs(30)).ok());
            assert_eq!(next.last_failure.as_deref(), Some("no space (code 10300097)"));
        }
        other => panic!("{other:?}"),
    }
    let waiting = World::attempted().but(|world| {
        world.record.attempt.as_mut().unwrap().not_before = now().checked_add(SignedDuration::from_secs(9)).ok();
    });
    assert_eq!((waiting.plan().step, waiting.said().1.as_str()), (Step::Wait, "CreateFailed"));
}

#[test]
fn a_call_that_was_made_right_before_the_deletion_may_still_be_carried_out() {
    let mut world = World::uploaded().deleting();
    world.found = Reading::Known(vec![]);
    world.record.attempt.as_mut().unwrap().at = ago(600);
    assert_eq!(world.plan().step, Step::DeleteMedia);
    world.machine.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(ago(10)));
    assert_eq!(world.plan().step, Step::Wait, "the attempt is old, its last call need not be");
}

/// The way out, and where it goes on after a crash.
#[rstest]
#[case::nothing_made(World::protected().but(|world| world.record.network = None), Step::RemoveFinalizer)]
#[case::entry_only(World::holding(), Step::Release)]
#[case::released_and_crashed(World::holding().but(|world| world.pool.as_mut().unwrap().metadata.annotations = None), Step::RemoveFinalizer)]
#[case::pool_gone(World::holding().but(|world| world.pool = None), Step::RemoveFinalizer)]
#[case::lost_call_made_it(World::uploaded().but(|world| world.found = Reading::Known(vec![v1::Machine { urn: "urn:x".into(), ..Default::default() }])),
    Step::Adopt("urn:x".into()))]
#[case::lost_call_may_still(World::uploaded().but(|world| world.found = Reading::Known(vec![])), Step::Wait)]
#[case::lost_call_did_not(World::uploaded().but(|world| {
        world.found = Reading::Known(vec![]);
        world.record.attempt.as_mut().unwrap().at = ago(60);
    }), Step::DeleteMedia)]
#[case::upload_may_still_come(World::attempted().but(|world| world.found = Reading::Known(vec![])), Step::Wait)]
#[case::uploaded_and_crashed(World::attempted().but(|world| {
        world.found = Reading::Known(vec![]);
        world.record.attempt.as_mut().unwrap().at = ago(60);
    }), Step::DeleteMedia)]
#[case::running(World::running(), Step::PowerOff)]
#[case::stopping(World::running().task(Work::PowerOff, TaskState::Running), Step::Wait)]
#[case::stop_ended_without_stopping(World::running().task(Work::PowerOff, Done), Step::PowerOff)]
#[case::mid_transition(World::running().vm(Transition, ""), Step::Wait)]
#[case::creating(World::created().task(Work::Create, Unknown).vm(Creating, ""), Step::Wait)]
#[case::stopped(World::running().vm(Stopped, "m.iso"), Step::Delete)]
#[case::deleted_task_running(World::running().task(Work::Delete, TaskState::Running), Step::Wait)]
#[case::gone(World::running().no_vm(), Step::DeleteMedia)]
#[case::media_gone(World::running().no_vm().but(|world| world.record.media.as_mut().unwrap().deleted = true), Step::Release)]
#[case::never_provisioned(World::created().vm(Stopped, ""), Step::Delete)]
#[case::wrong_password(World::running().but(refuse_login), Step::Wait)]
fn deletion(#[case] world: World, #[case] expected: Step) {
    assert_eq!(world.deleting().plan().step, expected);
}

/// Disks that outlive VMs: in before the first start, out before the VM is deleted.
#[rstest]
#[case::available(World::holding().disk(Some(DiskPhase::Available), None), Step::Resolve)]
#[case::cloned(World::created().vm(Stopped, "").disk(Some(DiskPhase::Available), None), Step::AskDisks(Wish::Attach))]
#[case::asked(World::created().vm(Stopped, "").disk(Some(DiskPhase::Attaching), None).asked(Wish::Attach), Step::Wait)]
#[case::not_seen_in_the_vm(World::created().vm(Stopped, "").disk(Some(DiskPhase::Attached), Some("urn:vm")).asked(Wish::Attach), Step::Wait)]
#[case::attached(World::created().vm(Stopped, "").disk(Some(DiskPhase::Attached), Some("urn:vm")).asked(Wish::Attach).plugged(), Step::AttachMedia)]
#[case::with_media(World::created().vm(Stopped, "m.iso").disk(Some(DiskPhase::Attached), Some("urn:vm")).asked(Wish::Attach).plugged(), Step::PowerOn)]
#[case::with_media_but_no_disk(World::created().vm(Stopped, "m.iso").disk(Some(DiskPhase::Error), None).asked(Wish::Attach), Step::Wait)]
#[case::stopped(World::running().vm(Stopped, "").disk(Some(DiskPhase::Attached), Some("urn:vm")).plugged().deleting(), Step::AskDisks(Wish::Detach))]
#[case::detaching(World::running().vm(Stopped, "").disk(Some(DiskPhase::Detaching), Some("urn:vm")).plugged().deleting().asked(Wish::Detach), Step::Wait)]
#[case::detached_and_not_recorded(World::running().vm(Stopped, "").noted().disk(Some(DiskPhase::Detaching), Some("urn:vm")).deleting().asked(Wish::Detach), Step::Wait)]
#[case::detached(World::running().vm(Stopped, "").noted().disk(Some(DiskPhase::Available), None).deleting().asked(Wish::Detach), Step::Delete)]
#[case::may_be_on_its_way(World::running().vm(Stopped, "").disk(Some(DiskPhase::Available), None).deleting().asked(Wish::Detach), Step::Wait)]
#[case::never_looked_at(World::running().vm(Stopped, "").disk(None, None).deleting().asked(Wish::Detach), Step::Wait)]
#[case::to_be_taken_over(World::running().vm(Stopped, "").disk(Some(DiskPhase::Creating), Some("urn:vm")).deleting().asked(Wish::Detach), Step::Wait)]
#[case::lost(World::running().vm(Stopped, "").noted().disk(Some(DiskPhase::Error), None).deleting().asked(Wish::Detach), Step::Delete)]
#[case::debris(World::created().task(Work::Create, Failed).vm(Stopped, "").disk(Some(DiskPhase::Attached), Some("urn:vm")).plugged(), Step::AskDisks(Wish::Detach))]
fn disks_outlive_vms(#[case] world: World, #[case] expected: Step) {
    assert_eq!(world.plan().step, expected);
}

#[test]
fn a_running_machine_does_not_wait_for_a_disk_that_was_appended() {
    let world = World::running().disk(Some(DiskPhase::Creating), None);
    assert_eq!(world.plan().step, Step::Wait);
    let claim = standing::condition(world.pool.as_ref(), "10.0.0.7", Some("urn:vm")).unwrap();
    assert_eq!((claim.status, claim.reason.as_str()), (Status::False, "Creating"));
    let said = [Claim::holds(types::PROVISIONED, "Provisioned"), claim];
    let paused = paused::claim(None, &world.machine.metadata);
    let status = status::status(&world.machine, &world.record, paused, &said, now());
    assert_eq!(crate::api::condition(&status.conditions, "Ready").unwrap().status, "True");
}

#[test]
fn a_retained_vm_keeps_running_and_its_entry() {
    let asked = [(crate::api::RETAIN_VM.to_owned(), "true".to_owned())];
    let world =
        World::running().deleting().but(|world| world.machine.metadata.annotations = Some(asked.clone().into()));
    assert_eq!(world.plan().step, Step::Retain);
    let by_owner = World::running()
        .deleting()
        .but(|world| world.owner.as_mut().unwrap().metadata.annotations = Some(asked.into()));
    assert_eq!(by_owner.plan().step, Step::Retain);
    let marked = by_owner.but(|world| {
        let claim = claims::Claim { machine: "m".into(), retained: true };
        let held = claims::Claims::from([("10.0.0.7".to_owned(), claim)]);
        world.pool.as_mut().unwrap().metadata.annotations = Some([claims::annotation(&held)].into());
    });
    assert_eq!(marked.plan().step, Step::RemoveFinalizer);
}

#[test]
fn a_record_survives_the_annotation_and_an_unreadable_one_stops_everything() {
    let mut machine = World::created().machine;
    let record = World::created().record;
    machine.metadata.annotations = Some([(ANNOTATION.to_owned(), record.to_json())].into());
    assert_eq!(Record::of(&machine), Ok(record));
    for bad in ["{", r#"{"version": 99}"#] {
        machine.metadata.annotations = Some([(ANNOTATION.to_owned(), bad.to_owned())].into());
        assert!(Record::of(&machine).is_err(), "{bad}");
    }
}

#[test]
fn a_status_is_rebuilt_from_the_record_alone() {
    let mut world = World::running();
    world.machine.status = None;
    let paused = paused::claim(None, &world.machine.metadata);
    let said = [Claim::holds(types::PROVISIONED, "Provisioned")];
    let status = status::status(&world.machine, &world.record, paused, &said, now());
    insta::assert_json_snapshot!(status);
}

#[test]
fn the_site_is_asked_for_exactly_what_the_spec_says() {
    let mut world = World::placed();
    world.machine.spec.location = Some(from(json!({"type": "folder", "name": "vms"})));
    world.machine.spec.vm_config = Some(from(json!({
        "dcsMachineCpuSpec": {"quantity": 4}, "dcsMachineMemorySpec": {"quantity": 8192},
        "dvSwitchName": "dvs", "portGroupName": "pg", "cdRomDatastoreName": "nfs",
        "dcsMachineDiskSpec": [
            {"quantity": 100, "datastoreClusterName": "dc", "path": "/var/lib/kubelet"},
            {"quantity": 0, "systemVolume": true, "datastoreName": "ds"}]})));
    let asked = request::placement(&world.machine.spec, None, world.record.network.as_ref(), 1);
    assert_eq!(asked.folder.as_ref().map(|folder| folder.name.as_str()), Some("vms"));
    assert!(asked.compute_cluster.is_none());
    let stores: Vec<_> =
        asked.datastores.iter().map(|store| (store.name.as_str(), store.cluster_name.as_str())).collect();
    assert_eq!(stores, [("ds", ""), ("", "dc"), ("nfs", "")], "the system disk comes first, the medium last");
    assert_eq!(asked.networks.len(), 1);

    let found = v1::Placement {
        template: Some(v1::Template { urn: "urn:t".into(), system_disk_gib: 40, ..Default::default() }),
        datastore_urns: vec!["a".into(), "b".into(), "c".into()],
        port_group_urns: vec!["g".into()],
        ..Default::default()
    };
    let placement = request::placed(&world.machine.spec, None, &found).unwrap();
    assert_eq!((placement.disk_datastores.len(), placement.media_datastore.as_str()), (2, "c"));
    world.record = Record { placement: Some(placement), ..World::attempted().record };
    let wanted = request::machine(&world.machine, &world.record, v1::Owner::default()).unwrap();
    let disks: Vec<_> = wanted.disks.iter().map(|disk| (disk.sequence, disk.size_gib, disk.system)).collect();
    assert_eq!(disks, [(1, 0, true), (2, 100, false)]);
    assert_eq!((wanted.attempt.as_str(), wanted.name.as_str(), wanted.nics.len()), (ID, "m", 1));
    world.record.media = World::uploaded().record.media;
    let wanted = request::machine(&world.machine, &world.record, v1::Owner::default()).unwrap();
    assert_eq!(wanted.boot_media_path, "m.iso", "the medium is in the drive from the start where the site can do that");
}

#[rstest]
#[case("VM template", "VMTemplateNotFound")]
#[case("port group", "PortGroupNotFound")]
#[case("switch", "SwitchNotFound")]
#[case("folder", "FolderNotFound")]
#[case("compute cluster", "ComputeClusterNotFound")]
#[case("datastore", "DatastoreNotFound")]
#[case("datastore cluster", "DatastoreNotFound")]
fn unresolved_names_are_named(#[case] kind: &str, #[case] expected: &str) {
    let unresolved = vec![v1::Unresolved { kind: kind.into(), name: "wanted".into(), ..Default::default() }];
    let found = v1::Placement { unresolved, ..Default::default() };
    let (reason, message) = request::placed(&World::new().machine.spec, None, &found).unwrap_err();
    assert_eq!(reason, expected);
    assert!(message.contains("\"wanted\""), "{message}");
}
