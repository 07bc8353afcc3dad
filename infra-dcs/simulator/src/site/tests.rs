//! The model by itself: rules in tables, invariants under random calls.

use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};

use super::{
    Code, Effect, Entity, Result, Site, VmStatus, codes,
    inventory::SiteFile,
    policy::Release,
    power::OffOutcome,
    tasks::{Accepted, Task, TaskFault, TaskStatus},
    vms::DeleteOptions,
};

/// A site with its hands: time moves only here, and every effect is answered at once.
struct World {
    site: Site,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self { site: Site::build(&SiteFile::default(), 0).unwrap(), now: 1_000 }
    }

    #[allow(clippy::unused_self)] // Reads as what it is: a fact of this world.
    fn template(&self) -> u64 {
        // The default site's only template; a call may have deleted it.
        0x4A1
    }

    fn datastore(&self, index: usize) -> String {
        self.site.urn(Entity::Datastore(*self.site.datastores.keys().nth(index).unwrap()))
    }

    /// Lets everything end that ends by itself.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.now += 20_000;
            self.site.advance(self.now);
            for effect in std::mem::take(&mut self.site.effects) {
                match effect {
                    Effect::PowerOn { task, vm } => self.site.powered_on(self.now, task, vm, true),
                    Effect::PowerOff { task, vm, .. } => self.site.powered_off(self.now, task, vm, OffOutcome::Off),
                    _ => {}
                }
            }
        }
        assert_eq!(self.site.violations(), Vec::<String>::new());
        // What is looked up is what a search finds.
        for vm in self.site.vms.keys() {
            let attached = |volume: &&super::Volume| volume.attachment.is_some_and(|at| at.vm == *vm);
            let found = self.site.volumes.values().filter(attached).map(|volume| volume.id);
            assert!(self.site.volumes.of_vm(*vm).map(|volume| volume.id).eq(found));
        }
        let running = self.site.tasks.values().filter(|task| task.status == TaskStatus::Running);
        assert_eq!(self.site.next_due(), running.filter_map(Task::end).map(|end| end.at).min());
    }

    fn clone(&mut self, mut body: Value) -> Result<u64> {
        body["name"] = "m".into();
        if body.get("autoBoot").is_none() {
            body["autoBoot"] = false.into();
        }
        let template = self.template();
        let request = serde_json::from_value(body).unwrap();
        match self.site.clone_vm(self.now, "u", template, request)?.entity {
            Entity::Vm(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn machine(&mut self) -> u64 {
        let id = self.clone(json!({})).unwrap();
        self.settle();
        id
    }

    fn volume(&mut self) -> String {
        let body = json!({"name": "v", "quantityGB": 10, "datastoreUrn": self.datastore(0)});
        let accepted = self.site.create_volume(self.now, "u", serde_json::from_value(body).unwrap()).unwrap();
        self.settle();
        self.site.urn(accepted.entity)
    }

    fn attach(&mut self, vm: u64, volume: &str, sequence: Option<u32>) -> Result<Accepted> {
        let request = serde_json::from_value(json!({"volUrn": volume, "sequenceNum": sequence})).unwrap();
        self.site.attach_volume(self.now, "u", vm, &request)
    }

    fn status(&self, vm: u64) -> VmStatus {
        self.site.vms[&vm].status
    }
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code
}

#[test]
fn a_clone_boots_unless_told_not_to() {
    let mut world = World::new();
    let (booted, left) =
        (world.clone(json!({"autoBoot": null})).unwrap(), world.clone(json!({"autoBoot": false})).unwrap());
    world.settle();
    assert_eq!((world.status(booted), world.status(left)), (VmStatus::Running, VmStatus::Stopped));
}

#[test]
fn template_disks_that_are_not_listed_are_dropped_and_new_numbers_make_volumes() {
    let mut world = World::new();
    let datastore = world.datastore(1);
    let id = world
        .clone(json!({"vmConfig": {"disks": [
            {"sequenceNum": 1, "quantityGB": 500, "datastoreUrn": datastore},
            {"sequenceNum": 4, "quantityGB": 7, "datastoreUrn": datastore, "isThin": true},
        ]}}))
        .unwrap();
    world.settle();
    let disks: Vec<_> =
        world.site.disks_of(id).iter().map(|(volume, at)| (at.sequence, volume.size_gb, volume.thin)).collect();
    assert_eq!(disks, [(1, 40, false), (4, 7, true)], "a copied disk keeps the template's size");
}

#[test]
fn clone_refusals() {
    let mut world = World::new();
    let store = world.datastore(0);
    let disk = |sequence: u32| json!({"sequenceNum": sequence, "quantityGB": 1, "datastoreUrn": store});
    for (body, expected) in [
        (json!({"vmConfig": {"disks": [disk(2)]}}), codes::BAD_DISKS),
        (json!({"vmConfig": {"disks": [disk(1), disk(1)]}}), codes::SLOT_TAKEN),
        (json!({"vmConfig": {"disks": [disk(1), disk(26)]}}), codes::SLOT_TAKEN),
        (json!({"vmConfig": {"disks": [disk(1), {"sequenceNum": 2, "datastoreUrn": store}]}}), codes::BAD_DISKS),
        (
            json!({"vmConfig": {"disks": [{"sequenceNum": 1, "datastoreUrn": "urn:sites:5A1C0D3E:datastorecluster:5"}]}}),
            codes::BAD_URN,
        ),
        (
            json!({"vmConfig": {"disks": [disk(1), {"sequenceNum": 2, "quantityGB": 60_000, "datastoreUrn": store}]}}),
            codes::NO_SPACE,
        ),
        (
            json!({"vmConfig": {"nics": [{"name": "Network Adapter 0", "portGroupUrn": "urn:sites:5A1C0D3E:dvswitchs:1:portgroups:99"}]}}),
            codes::PORT_GROUP_NOT_FOUND,
        ),
        (
            json!({"vmConfig": {"nics": [{"name": "a", "sequenceNum": 0}, {"name": "a", "sequenceNum": 1}]}}),
            codes::BAD_NICS,
        ),
        (json!({"vmConfig": {"cpu": {"quantity": 0}}}), codes::BAD_PARAMETER),
        (json!({"location": "urn:sites:5A1C0D3E:clusters:99"}), codes::BAD_LOCATION),
        (json!({"parentObjUrn": "urn:sites:5A1C0D3E:folders:9"}), codes::FOLDER_NOT_FOUND),
        (json!({"vmCustomization": {"hostname": "12345"}}), codes::CUSTOM_HOST_NAME),
        (json!({"vmCustomization": {"nicSpecification": []}}), codes::CUSTOM_COUNT),
        (json!({"cdRomProtocol": "file", "cdRomDevicePath": "8@none.iso"}), codes::CD_ISO_MISSING),
    ] {
        assert_eq!(code(world.clone(body.clone())), expected, "{body}");
        assert_eq!(world.site.vms.len(), 1, "a refusal leaves nothing: {body}");
    }
    let uuid = json!({"clonedVmUUID": "3f0b6a52-0000-4000-8000-000000000001"});
    let first = world.clone(uuid.clone()).unwrap();
    assert_eq!(world.site.vms[&first].uuid, "3f0b6a52-0000-4000-8000-000000000001");
    assert_eq!(code(world.clone(uuid)), codes::UUID_USED);
}

#[test]
fn power_follows_the_states_and_the_tools() {
    let mut world = World::new();
    let (template, vm) = (world.template(), world.machine());
    let now = world.now;
    assert_eq!(code(world.site.start(now, "u", template)), codes::IS_TEMPLATE);
    assert_eq!(code(world.site.stop(now, "u", vm, false)), codes::IS_STOPPED);
    world.site.start(now, "u", vm).unwrap();
    assert_eq!(code(world.site.start(now, "u", vm)), codes::SAME_OPERATION);
    assert_eq!(code(world.site.stop(now, "u", vm, false)), codes::UNFINISHED_TASK);
    world.settle();
    assert_eq!(code(world.site.start(world.now, "u", vm)), codes::IS_RUNNING);
    assert_eq!(code(world.site.stop(world.now, "u", vm, true)), codes::NO_TOOLS);
    assert_eq!(code(world.site.delete_vm(world.now, "u", vm, DeleteOptions::default())), codes::DELETE_NEEDS_STOPPED);
    world.site.tools_running(vm, &[], "node");
    world.site.stop(world.now, "u", vm, true).unwrap();
    world.settle();
    assert_eq!(world.status(vm), VmStatus::Stopped);
    // A guest that goes off by itself is a stopped VM too.
    world.site.start(world.now, "u", vm).unwrap();
    world.settle();
    world.site.guest_off(vm);
    assert_eq!(world.status(vm), VmStatus::Stopped);
}

#[test]
fn a_guest_that_refuses_to_stop_leaves_the_vm_running() {
    let mut world = World::new();
    let vm = world.machine();
    world.site.start(world.now, "u", vm).unwrap();
    world.settle();
    world.site.tools_running(vm, &[], "");
    let task = world.site.stop(world.now, "u", vm, true).unwrap().task;
    world.now += 60_000;
    world.site.advance(world.now);
    world.site.powered_off(world.now, task, vm, OffOutcome::Refused);
    assert_eq!(world.status(vm), VmStatus::Running);
    assert_eq!(world.site.tasks[&task].reason, Some(codes::GUEST_REFUSED_STOP));
}

#[test]
fn deleting_a_vm_deletes_its_disks_by_default() {
    let mut world = World::new();
    let (kept, lost) = (world.machine(), world.machine());
    let before = world.site.volumes.len();
    let keep = DeleteOptions { keep_disks: true, ..DeleteOptions::default() };
    world.site.delete_vm(world.now, "u", kept, keep).unwrap();
    world.site.delete_vm(world.now, "u", lost, DeleteOptions::default()).unwrap();
    world.settle();
    assert_eq!(world.site.volumes.len(), before - 1);
    assert_eq!(code(world.site.delete_vm(world.now, "u", lost, DeleteOptions::default())), codes::VM_NOT_FOUND);
}

#[test]
fn a_template_is_busy_while_it_is_cloned_and_clones_wait_for_slots() {
    let mut world = World::new();
    world.site.policy.deploy_slots = 1;
    let template = world.template();
    world
        .site
        .task_faults
        .push(serde_json::from_value(json!({"task": "DeployVM", "times": 1, "stallAt": 35})).unwrap());
    let (stuck, behind) = (world.clone(json!({})).unwrap(), world.clone(json!({})).unwrap());
    assert_eq!(code(world.site.start(world.now, "u", template)), codes::TEMPLATE_CLONING_START);
    assert_eq!(code(world.site.delete_vm(world.now, "u", template, DeleteOptions::default())), codes::TEMPLATE_CLONING);
    world.settle();
    let shown: Vec<_> = world.site.tasks.values().map(|task| (task.status, task.percent(world.now))).collect();
    assert_eq!(shown, [(TaskStatus::Running, 35), (TaskStatus::Waiting, 0)]);
    assert_eq!((world.status(stuck), world.status(behind)), (VmStatus::Creating, VmStatus::Creating));
    assert_eq!(world.site.resume_stalled(world.now, None), 1);
    world.settle();
    assert_eq!((world.status(stuck), world.status(behind)), (VmStatus::Stopped, VmStatus::Stopped));
}

#[test]
fn a_failed_deployment_leaves_debris_or_nothing() {
    let mut world = World::new();
    for (vanish, left) in [(false, Some(VmStatus::Stopped)), (true, None)] {
        let fault: TaskFault =
            serde_json::from_value(json!({"times": 1, "fail": {"at": 50, "code": 10_300_152, "vanish": vanish}}))
                .unwrap();
        world.site.task_faults.push(fault);
        let id = world.clone(json!({})).unwrap();
        world.settle();
        assert_eq!(world.site.vms.get(&id).map(|vm| vm.status), left);
        assert!(world.site.disks_of(id).is_empty());
        assert_eq!(world.site.tasks.values().next_back().unwrap().reason, Some(Code(10_300_152)));
    }
}

#[test]
fn tasks_show_how_far_they_are_and_are_forgotten_in_time() {
    let mut world = World::new();
    let fault = |trouble: Value| serde_json::from_value::<TaskFault>(trouble).unwrap();
    world.site.task_faults.push(fault(json!({"times": 1, "fail": {"at": 50, "code": 10_300_152}})));
    let failing = world.clone(json!({})).unwrap();
    let task = world.site.vms[&failing].task.unwrap();
    let (begins, duration) = (world.now, world.site.tasks[&task].duration);
    for percent in [0, 20, 49] {
        world.site.advance(begins + (duration * percent).div_ceil(100));
        assert_eq!(u64::from(world.site.tasks[&task].percent(world.site.now)), percent);
    }
    world.site.advance(begins + duration.div_ceil(2));
    assert_eq!((world.site.tasks[&task].status, world.site.tasks[&task].progress), (TaskStatus::Failed, 50));

    let ended = world.site.now;
    world.site.advance(ended + world.site.policy.task_retention_ms - 1);
    assert!(world.site.task(task).is_ok());
    world.site.advance(ended + world.site.policy.task_retention_ms);
    assert_eq!(code(world.site.task(task)), codes::GONE);

    world.now = world.site.now;
    world.site.task_faults.push(fault(json!({"times": 1, "purge": true})));
    let made = world.clone(json!({})).unwrap();
    let task = world.site.vms[&made].task.unwrap();
    world.settle();
    assert_eq!((world.status(made), code(world.site.task(task))), (VmStatus::Stopped, codes::GONE));
}

#[test]
fn volumes_attach_once_at_free_numbers() {
    let mut world = World::new();
    let (one, other, volume, second) = (world.machine(), world.machine(), world.volume(), world.volume());
    assert_eq!(code(world.attach(one, &volume, Some(1))), codes::SLOT_TAKEN);
    assert_eq!(code(world.attach(one, &volume, Some(26))), codes::SLOT_TAKEN);
    world.attach(one, &volume, Some(4)).unwrap();
    assert_eq!(code(world.attach(one, &volume, Some(4))), codes::ATTACHED_HERE);
    assert_eq!(code(world.attach(other, &volume, None)), codes::ATTACHED_ELSEWHERE);
    assert_eq!(code(world.attach(one, &second, None)), codes::SAME_OPERATION);
    world.settle();
    let Some(Entity::Volume(id)) = world.site.parse(&volume) else { panic!() };
    assert_eq!(code(world.site.delete_volume(world.now, "u", id)), codes::VOLUME_BOUND);
    assert_eq!(code(world.site.expand_volume(world.now, "u", None, id, 20_480)), codes::VOLUME_BOUND_EXPAND);
    assert_eq!(code(world.site.expand_volume(world.now, "u", Some(one), id, 10_240)), codes::NOT_LARGER);
    assert_eq!(code(world.site.detach_volume(world.now, "u", other, &volume, false)), codes::NOT_ATTACHED);
    world.site.detach_volume(world.now, "u", one, &volume, false).unwrap();
    world.settle();
    assert_eq!(code(world.site.detach_volume(world.now, "u", one, &volume, false)), codes::DETACHED_ALREADY);
    world.attach(other, &volume, None).unwrap();
    world.settle();
    assert_eq!(world.site.volumes[&id].attachment.unwrap().sequence, 2);
    let system = world.site.urn(Entity::Volume(world.site.disks_of(one)[0].0.id));
    assert_eq!(code(world.site.detach_volume(world.now, "u", one, &system, false)), codes::SYSTEM_DISK);
}

/// Uploads a file and tells its device path.
fn iso(world: &mut World, name: &str) -> String {
    let datastore = *world.site.datastores.keys().next().unwrap();
    let ticket = world.site.apply_upload(world.now, datastore, name, 2048).unwrap();
    world.site.uploaded(world.now, &ticket).unwrap();
    format!("{datastore}@{name}")
}

#[test]
fn media_follow_the_release() {
    let mut world = World::new();
    let vm = world.machine();
    let path = iso(&mut world, "a.iso");
    assert_eq!(code(world.site.apply_upload(world.now, 8, "a.iso", 1)), codes::FILE_EXISTS);
    assert_eq!(code(world.site.attach_cd(world.now, "u", vm, &path, Some("file"), false)), codes::VM_STATE);
    assert_eq!(code(world.site.attach_cd(world.now, "u", vm, &path, Some("http"), true)), codes::CD_PROTOCOL);
    assert_eq!(code(world.site.attach_cd(world.now, "u", vm, "a.iso", Some("file"), true)), codes::CD_PATH);
    assert_eq!(code(world.site.detach_cd(world.now, "u", vm)), codes::CD_NOT_MOUNTED);
    world.site.attach_cd(world.now, "u", vm, &path, Some("file"), true).unwrap();
    world.settle();
    let file = world.site.file_in_drive(vm).unwrap();
    assert_eq!(code(world.site.delete_file(8, file)), codes::FILE_IN_USE);
    assert_eq!(code(world.site.attach_cd(world.now, "u", vm, &path, Some("file"), true)), codes::CD_MOUNTED);
    assert_eq!(code(world.site.detach_cd(world.now, "u", vm)), codes::VM_STATE, "a stopped VM keeps its medium");
    for (release, stays) in [(Release::Fc881, true), (Release::R6, false)] {
        world.site.policy.release = release;
        world.site.start(world.now, "u", vm).unwrap();
        world.settle();
        world.site.stop(world.now, "u", vm, false).unwrap();
        world.settle();
        assert_eq!(world.site.vms[&vm].medium.is_some(), stays, "{release:?}");
    }
    assert_eq!(code(world.site.attach_cd(world.now, "u", vm, &path, Some("datastore"), true)), codes::VM_STATE);
    world.site.delete_file(8, file).unwrap();
}

#[test]
fn exclusion_rules_spread_and_indexes_move() {
    let mut world = World::new();
    let cluster = *world.site.clusters.keys().next().unwrap();
    let vms: Vec<u64> = (0..3).map(|_| world.machine()).collect();
    let members: Vec<Value> = vms.iter().map(|vm| json!({"urn": world.site.urn(Entity::Vm(*vm))})).collect();
    let apply = |world: &mut World, rule: Value| {
        let result = world.site.change_rules(world.now, cluster, &[serde_json::from_value(rule).unwrap()]);
        world.settle();
        result
    };
    apply(&mut world, json!({"operationType": 2, "ruleName": "first", "ruleType": 2})).unwrap();
    apply(&mut world, json!({"operationType": 2, "ruleName": "cp", "ruleType": 2})).unwrap();
    for (rule, expected) in [
        (json!({"operationType": 2, "ruleName": "cp", "ruleType": 2}), codes::RULE_NAME_USED),
        (json!({"operationType": 2, "ruleName": "a:b", "ruleType": 2}), codes::RULE_NAME),
        (json!({"operationType": 1, "ruleName": "cp"}), codes::RULE_INDEX_MISSING),
        (json!({"operationType": 1, "ruleIndex": 9}), codes::RULE_NOT_FOUND),
        (json!({"operationType": 1, "ruleIndex": 2, "ruleType": 1}), codes::RULE_TYPE),
        (
            json!({"operationType": 1, "ruleIndex": 2, "vms": [{"urn": "urn:sites:5A1C0D3E:vms:i-00000001"}]}),
            codes::RULE_VM_ELSEWHERE,
        ),
        (json!({"operationType": 7}), codes::RULE_OPERATION),
    ] {
        assert_eq!(code(apply(&mut world, rule.clone())), expected, "{rule}");
    }
    apply(&mut world, json!({"operationType": 1, "ruleIndex": 2, "ruleName": "cp", "vms": members})).unwrap();
    apply(&mut world, json!({"operationType": 0, "ruleIndex": 1})).unwrap();
    let rules: Vec<_> =
        world.site.clusters[&cluster].rules.iter().map(|rule| (rule.index, rule.name.clone())).collect();
    assert_eq!(rules, [(1, "cp".to_owned())]);
    for vm in &vms {
        world.site.start(world.now, "u", *vm).unwrap();
        world.settle();
    }
    let hosts: std::collections::BTreeSet<_> = vms.iter().map(|vm| world.site.vms[vm].host).collect();
    assert_eq!(hosts.len(), 3);
    world.site.policy.rule_max_vms = 2;
    let members: Vec<Value> = vms.iter().map(|vm| json!({"urn": world.site.urn(Entity::Vm(*vm))})).collect();
    assert_eq!(
        code(apply(&mut world, json!({"operationType": 1, "ruleIndex": 1, "vms": members}))),
        codes::RULE_TOO_MANY_VMS
    );
}

#[test]
fn a_saved_site_comes_back_and_what_had_power_gets_it_again() {
    let mut world = World::new();
    let vm = world.machine();
    world.site.start(world.now, "u", vm).unwrap();
    world.settle();
    let text = serde_json::to_string(&world.site).unwrap();
    world.site = serde_json::from_str(&text).unwrap();
    world.site.power_restored(world.now);
    assert_eq!(world.status(vm), VmStatus::Starting);
    world.settle();
    assert_eq!((world.status(vm), world.site.vms[&vm].boots), (VmStatus::Running, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Whatever is asked in whatever order: no disk at two places, no slot twice, no task that holds an object for ever.
    #[test]
    fn invariants_hold_under_any_calls(calls in proptest::collection::vec((0_u8..14, any::<u8>(), any::<u8>()), 1..60)) {
        let mut world = World::new();
        world.site.policy.delete_only_stopped = false;
        for (call, first, second) in calls {
            let now = world.now;
            let pick = |keys: Vec<u64>, by: u8| keys.get(usize::from(by) % keys.len().max(1)).copied().unwrap_or_default();
            let vm = pick(world.site.vms.keys().copied().collect(), first);
            let volume = pick(world.site.volumes.keys().copied().collect(), second);
            let urn = world.site.urn(Entity::Volume(volume));
            match call {
                0 => drop(world.clone(json!({"autoBoot": second % 2 == 0}))),
                1 => drop(world.site.start(now, "u", vm)),
                2 => drop(world.site.stop(now, "u", vm, second % 2 == 0)),
                3 => {
                    let options = DeleteOptions { keep_disks: second % 2 == 1, ..DeleteOptions::default() };
                    drop(world.site.delete_vm(now, "u", vm, options));
                }
                4 => {
                    let body = json!({"quantityGB": u32::from(first), "datastoreUrn": world.datastore(usize::from(second) % 3)});
                    drop(world.site.create_volume(now, "u", serde_json::from_value(body).unwrap()));
                }
                5 => drop(world.attach(vm, &urn, (first % 2 == 0).then_some(u32::from(second) % 30))),
                6 => drop(world.site.detach_volume(now, "u", vm, &urn, first % 2 == 0)),
                7 => drop(world.site.delete_volume(now, "u", volume)),
                8 => drop(world.site.expand_volume(now, "u", (first % 2 == 0).then_some(vm), volume, u64::from(first) * 1024)),
                9 => drop(world.site.reboot(now, "u", vm, false)),
                10 => world.site.tools_running(vm, &[], ""),
                11 => world.site.guest_off(vm),
                12 => world.site.restart(now),
                _ => {
                    world.now += u64::from(first) * 50;
                    world.site.advance(world.now);
                }
            }
            prop_assert_eq!(world.site.violations(), Vec::<String>::new());
        }
        world.settle();
    }
}
