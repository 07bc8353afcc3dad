//! A site behind the machine service: virtual machines, boot media, volumes, an exclusion rule, and the tasks that change
//! them. It answers as the adapter does (`infra-dcs/adapter`), and remembers what must never have happened.

mod service;
mod volumes;
mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dcs_controller::api::MACHINE_FINALIZER;
use dcs_proto::{
    MachineError,
    error::{FOREIGN_MACHINE, Reason},
    v1::{self, PowerState, TaskState},
};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};
use tonic::Status;

pub use wire::transport;

use super::{Model, workload::WorkloadCluster};
use crate::{
    chance::Chance,
    journal::{Journal, Violation},
    kinds::DCS_MACHINE,
    store::{Kind, Store, finalizers},
    world::FarEnd,
};

/// Time that a task takes.
const TAKES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(9));
/// The folder that is offered.
const FOLDER: &str = "urn:folders:1";

/// What a task does when it ends well.
#[derive(Clone, Debug)]
enum Work {
    Create(String),
    Start(String),
    Stop(String),
    Delete(String),
    Insert { vm: String, path: String },
    Eject(String),
    Grow { vm: String, volume: String, gib: u64 },
    CreateVolume(String),
    Attach { volume: String, vm: String, sequence: u32, bus: String },
    Detach { volume: String, vm: String },
    DeleteVolume(String),
}

#[derive(Clone, Debug)]
struct Task {
    shown: v1::Task,
    work: Work,
    due: Instant,
    fails: bool,
}

/// A boot medium: whose it is, and what a guest reads on it.
#[derive(Clone, Debug)]
struct Medium {
    user_data: Vec<u8>,
    network_data: Vec<u8>,
}

#[derive(Default)]
struct State {
    made: u64,
    sessions: Vec<String>,
    vms: BTreeMap<String, v1::Machine>,
    media: BTreeMap<String, Medium>,
    /// What each VM read of its network when it booted first, for as long as it is there.
    networks: BTreeMap<String, Vec<u8>>,
    volumes: BTreeMap<String, v1::Volume>,
    rules: BTreeMap<String, v1::ExclusionRule>,
    tasks: BTreeMap<String, Task>,
    watchers: Vec<mpsc::Sender<Result<v1::Task, Status>>>,
}

impl State {
    fn new_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }
}

/// The site.
pub struct Site {
    journal: Arc<Journal>,
    store: Store,
    workload: Arc<WorkloadCluster>,
    chance: Chance,
    actor: Arc<str>,
    state: Mutex<State>,
    silent: Mutex<Instant>,
}

type Answer<T> = Result<T, MachineError>;

impl Site {
    /// An empty site, whose guests become hosts of the workload cluster.
    pub fn new(store: Store, workload: Arc<WorkloadCluster>, chance: Chance) -> Arc<Self> {
        let journal = Arc::clone(store.journal());
        let silent = Mutex::new(Instant::now());
        let actor = "site".into();
        Arc::new(Self { journal, store, workload, chance, actor, state: Mutex::default(), silent })
    }

    /// Whether nobody answers there at present.
    fn is_silent(&self) -> bool {
        *self.silent.lock() > Instant::now()
    }

    fn violate(&self, rule: &'static str, what: impl Into<String>) {
        self.journal.violate(Violation::new(rule, what));
    }

    /// I6: what is made here is made by an object that stays until it is gone.
    fn check_held(&self, kind: Kind, name: &str, finalizer: &str, what: &str) {
        if !self.store.get(kind, name).is_some_and(|object| finalizers(&object).contains(&finalizer)) {
            self.violate("I6", format!("{what} is made, and {} {name} has no finalizer", kind.kind));
        }
    }

    /// Begins a task; it ends later, well or not.
    fn begin(&self, state: &mut State, entity: &str, work: Work, fails: bool) -> v1::Task {
        let id = format!("task-{}", state.new_number());
        let shown = v1::Task {
            id: id.clone(),
            entity_urn: entity.to_owned(),
            progress: 0,
            state: TaskState::Running.into(),
            failure: None,
        };
        self.journal.note(&self.actor, format!("begins {id}: {work:?}"), "");
        let due = Instant::now() + self.chance.between(TAKES.0, TAKES.1);
        state.tasks.insert(id, Task { shown: shown.clone(), work, due, fails });
        self.journal.changed();
        shown
    }

    /// A task on this entity that is not over.
    fn is_busy(state: &State, entity: &str) -> bool {
        state.tasks.values().any(|task| task.shown.state() == TaskState::Running && task.shown.entity_urn == entity)
    }

    fn create(&self, request: v1::CreateMachineRequest, fails: bool) -> Answer<v1::Task> {
        let owner = request.owner.clone().unwrap_or_default();
        let state = &mut *self.state.lock();
        let known = state.vms.values().find(|vm| vm.attempt == request.attempt).map(|vm| vm.urn.clone());
        if let Some(urn) = known {
            let running = state
                .tasks
                .values()
                .find(|task| task.shown.entity_urn == urn && task.shown.state() == TaskState::Running);
            return Ok(running.map_or_else(|| done(&urn), |task| task.shown.clone()));
        }
        if let Some(other) = state.vms.values().find(|vm| vm.name == request.name) {
            let whose = other.owner.clone().unwrap_or_default().resource;
            let message = format!("VM {} is called {} too and belongs to {whose}", other.urn, request.name);
            return Err(MachineError::new(Reason::Conflict, message).about(FOREIGN_MACHINE, &request.name));
        }
        let name = owner.resource.rsplit('/').next().unwrap_or_default();
        self.check_held(DCS_MACHINE, name, MACHINE_FINALIZER, &format!("VM {}", request.name));
        let number = state.new_number();
        let urn = format!("urn:vms:{number}");
        // Some releases make VMs at the site, whatever folder is asked for.
        let folder = if number.is_multiple_of(2) { "urn:sites:1" } else { &request.folder_urn };
        let vm = v1::Machine {
            urn: urn.clone(),
            name: request.name.clone(),
            state: PowerState::Creating.into(),
            state_text: "creating".to_owned(),
            uuid: request.attempt.clone(),
            owner: Some(owner),
            attempt: request.attempt.clone(),
            compute_cluster_urn: request.compute_cluster_urn.clone(),
            host_urn: format!("urn:hosts:{}", self.chance.below(3)),
            cpus: request.cpus,
            memory_mib: request.memory_mib,
            boot_media: request.boot_media_path.clone(),
            folder_urn: Some(folder.to_owned()),
            ..v1::Machine::default()
        };
        let disk = |disk: &v1::DiskSpec| v1::Disk {
            volume_urn: format!("{urn}:disk-{}", disk.sequence),
            name: format!("{}-{}", request.name, disk.sequence),
            sequence: disk.sequence,
            // A template's disk is copied as large as it is.
            size_gib: if disk.system { 20 } else { disk.size_gib },
            datastore_urn: disk.datastore_urn.clone(),
            bus: "VIRTIO".to_owned(),
            ..v1::Disk::default()
        };
        let disks = request.disks.iter().map(disk).collect();
        state.vms.insert(urn.clone(), v1::Machine { disks, ..vm });
        Ok(self.begin(state, &urn.clone(), Work::Create(urn), fails))
    }

    /// A change of a VM that must be in this state, unless it is so already.
    fn change(&self, urn: &str, needed: PowerState, already: PowerState, work: Work, fails: bool) -> Answer<v1::Task> {
        let state = &mut *self.state.lock();
        let vm = state.vms.get(urn).ok_or_else(|| no_vm(urn))?;
        if vm.state() == already {
            return Ok(done(urn));
        }
        if vm.state() != needed || Self::is_busy(state, urn) {
            return Err(MachineError::new(Reason::Conflict, format!("VM {urn} is {}", vm.state_text)));
        }
        if already != PowerState::Unspecified {
            set_state(state, urn, PowerState::Transition);
        }
        Ok(self.begin(state, urn, work, fails))
    }

    fn delete(&self, request: &v1::DeleteMachineRequest, fails: bool) -> Answer<v1::Task> {
        let state = &mut *self.state.lock();
        let Some(vm) = state.vms.get(&request.urn) else { return Ok(done(&request.urn)) };
        let (owner, asking) = (vm.owner.clone().unwrap_or_default(), request.owner.clone().unwrap_or_default());
        if owner.uid != asking.uid && owner.resource != asking.resource {
            return Err(MachineError::new(Reason::Conflict, format!("{} belongs to {}", vm.name, owner.resource)));
        }
        let survives = |disk: &&v1::Disk| {
            disk.independent
                || request.surviving_volume_urns.contains(&disk.volume_urn)
                || request.surviving_volume_names.contains(&disk.name)
        };
        if let Some(disk) = vm.disks.iter().find(survives) {
            let message = format!("{} is still attached to {}: detach it first", disk.name, vm.name);
            return Err(MachineError::new(Reason::Conflict, message));
        }
        if vm.state() != PowerState::Stopped || Self::is_busy(state, &request.urn) {
            return Err(MachineError::new(Reason::Conflict, format!("VM {} is {}", request.urn, vm.state_text)));
        }
        set_state(state, &request.urn, PowerState::Transition);
        Ok(self.begin(state, &request.urn, Work::Delete(request.urn.clone()), fails))
    }

    /// Ends tasks that are due; answers when the next is.
    fn proceed(&self) -> Option<Duration> {
        let now = Instant::now();
        let state = &mut *self.state.lock();
        let due: Vec<_> = state
            .tasks
            .values()
            .filter(|task| task.shown.state() == TaskState::Running && task.due <= now)
            .map(|task| task.shown.id.clone())
            .collect();
        for id in due {
            let Some(task) = state.tasks.get_mut(&id) else { continue };
            let fails = task.fails;
            task.shown.state = if fails { TaskState::Failed } else { TaskState::Done }.into();
            task.shown.progress = if fails { 50 } else { 100 };
            task.shown.failure = fails.then(|| v1::Failure {
                reason: Reason::Capacity.into(),
                message: "failed on purpose".to_owned(),
                code: "10300097".to_owned(),
            });
            let (shown, work) = (task.shown.clone(), task.work.clone());
            self.journal.note(&self.actor, format!("ends {id}"), if fails { "failed" } else { "done" });
            self.finish(state, &work, !fails);
            state.watchers.retain(|watcher| watcher.try_send(Ok(shown.clone())).is_ok());
        }
        let running = state.tasks.values().filter(|task| task.shown.state() == TaskState::Running);
        running.map(|task| task.due - now).min()
    }

    fn finish(&self, state: &mut State, work: &Work, well: bool) {
        match work {
            Work::Create(urn) if well => set_state(state, urn, PowerState::Stopped),
            // What a failed clone leaves: nothing, or a VM without its disks.
            Work::Create(urn) => {
                if self.chance.once_in(2) {
                    state.vms.remove(urn);
                } else {
                    set_state(state, urn, PowerState::Stopped);
                    state.vms.entry(urn.clone()).and_modify(|vm| vm.disks.clear());
                }
            }
            Work::Start(urn) if well => {
                set_state(state, urn, PowerState::Running);
                self.boot(state, urn);
            }
            Work::Stop(urn) if well => set_state(state, urn, PowerState::Stopped),
            Work::Start(urn) | Work::Delete(urn) if !well => set_state(state, urn, PowerState::Stopped),
            Work::Stop(urn) => set_state(state, urn, PowerState::Running),
            Work::Delete(urn) => {
                state.networks.remove(urn);
                if let Some(vm) = state.vms.remove(urn) {
                    self.workload.power_off(&vm.name);
                }
            }
            Work::Insert { vm, path } if well => {
                if let Some(vm) = state.vms.get_mut(vm) {
                    vm.boot_media.clone_from(path);
                }
            }
            Work::Eject(vm) if well => {
                if let Some(vm) = state.vms.get_mut(vm) {
                    vm.boot_media.clear();
                }
            }
            Work::Grow { vm, volume, gib } if well => {
                let disks = state.vms.get_mut(vm).into_iter().flat_map(|vm| &mut vm.disks);
                disks.filter(|disk| disk.volume_urn == *volume).for_each(|disk| disk.size_gib = *gib);
            }
            Work::Start(_) | Work::Insert { .. } | Work::Eject(_) | Work::Grow { .. } => {}
            other => Self::finish_volume(state, other, well),
        }
    }

    /// A guest reads its medium and becomes a host of the workload cluster.
    fn boot(&self, state: &mut State, urn: &str) {
        let Some(vm) = state.vms.get(urn) else { return };
        let Some(medium) = state.media.get(&vm.boot_media) else {
            // A guest that has booted before needs none.
            if !self.workload.has_host(&vm.name) {
                self.violate("boots", format!("VM {} starts without its boot medium", vm.name));
            }
            return;
        };
        let resource = vm.owner.as_ref().map(|owner| owner.resource.as_str()).unwrap_or_default();
        let id = format!("dcs://{}", resource.rsplit('/').next().unwrap_or_default());
        self.workload.power_on(&vm.name, &id, &medium.user_data);
        state.networks.entry(urn.to_owned()).or_insert_with(|| medium.network_data.clone());
    }

    /// I3 and I4, over the whole site.
    pub fn check(&self, addresses: &[String]) -> Result<(), Violation> {
        let state = &*self.state.lock();
        let (mut by_owner, mut by_address): (BTreeMap<&str, &str>, BTreeMap<&str, &str>) = Default::default();
        for vm in state.vms.values() {
            let uid = vm.owner.as_ref().map(|owner| owner.uid.as_str()).unwrap_or_default();
            if let Some(other) = by_owner.insert(uid, &vm.urn) {
                let what = format!("{other} and {} are VMs of the same machine", vm.urn);
                return Err(Violation::new("I3", what));
            }
            if vm.state() != PowerState::Running {
                continue;
            }
            let Some(network) = state.networks.get(&vm.urn) else { continue };
            let shown = String::from_utf8_lossy(network);
            for address in addresses.iter().filter(|address| shown.contains(&format!("\"{address}\""))) {
                if let Some(other) = by_address.insert(address, &vm.urn) {
                    return Err(Violation::new("I3", format!("{other} and {} run with address {address}", vm.urn)));
                }
            }
        }
        Self::check_volumes(state)
    }

    /// A VM that runs and is not in the folder that all are asked to be in.
    pub fn misplaced(&self) -> Option<String> {
        let state = self.state.lock();
        let misplaced =
            |vm: &&v1::Machine| vm.state() == PowerState::Running && vm.folder_urn.as_deref() != Some(FOLDER);
        state.vms.values().find(misplaced).map(|vm| vm.name.clone())
    }

    /// What is left at the site.
    pub fn leftovers(&self) -> Vec<String> {
        let state = self.state.lock();
        let vms = state.vms.values().map(|vm| format!("VM {} ({})", vm.urn, vm.name));
        let media = state.media.keys().map(|path| format!("medium {path}"));
        let volumes = state.volumes.values().map(|volume| format!("volume {}", volume.name));
        let rules = state.rules.keys().map(|name| format!("rule {name}"));
        vms.chain(media).chain(volumes).chain(rules).collect()
    }
}

impl FarEnd for Site {
    /// The adapter starts again: it knows no session, and its streams break.
    fn restart(&self) {
        let state = &mut *self.state.lock();
        state.sessions.clear();
        state.watchers.clear();
    }

    fn fall_silent(&self, time: Duration) {
        *self.silent.lock() = Instant::now() + time;
    }
}

/// The site's own life.
pub struct Life(pub Arc<Site>);

impl Model for Life {
    fn step(&mut self) -> Option<Duration> {
        self.0.proceed()
    }
}

fn set_state(state: &mut State, urn: &str, power: PowerState) {
    if let Some(vm) = state.vms.get_mut(urn) {
        vm.state = power.into();
        vm.state_text = match power {
            PowerState::Running => "running",
            PowerState::Stopped => "stopped",
            PowerState::Creating => "creating",
            PowerState::Transition | PowerState::Unspecified => "in transition",
        }
        .to_owned();
    }
}

fn done(entity: &str) -> v1::Task {
    v1::Task { entity_urn: entity.to_owned(), progress: 100, state: TaskState::Done.into(), ..v1::Task::default() }
}

fn no_vm(urn: &str) -> MachineError {
    MachineError::new(Reason::NotFound, format!("there is no VM {urn}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        kinds::DCS_POOL,
        world::{World, trial},
    };

    /// The rule that is broken at a site at which this is done, if one is.
    fn broken(does: impl FnOnce(&World, &Site)) -> Option<&'static str> {
        trial::broken(Duration::from_secs(1), async |world| {
            let site = Site::new(world.store("site"), Arc::clone(&world.workload), world.chance.of("site"));
            for name in ["m", "n"] {
                let spec = json!({"vmTemplateName": "t", "ipHostPoolRef": {"name": "pool"}});
                let metadata = json!({"name": name, "finalizers": [MACHINE_FINALIZER]});
                world.user.create(DCS_MACHINE, json!({"metadata": metadata, "spec": spec}));
            }
            let claims = json!({dcs_controller::claims::ANNOTATION: "{\"10.0.0.5\": {}}"});
            let finalizers = [dcs_controller::api::POOL_FINALIZER];
            let metadata = json!({"name": "pool", "finalizers": finalizers, "annotations": claims});
            world.user.create(DCS_POOL, json!({"metadata": metadata, "spec": {"pool": []}}));
            does(world, &site);
            site.check(&["10.0.0.1".to_owned()]).unwrap_or_else(|violation| world.journal.violate(violation));
        })
    }

    /// Makes a VM that is switched off, for a machine of this name.
    fn vm(site: &Site, machine: &str, name: &str) -> String {
        let resource = format!("ns/{machine}");
        let owner = Some(v1::Owner { uid: machine.to_owned(), resource, ..v1::Owner::default() });
        let (name, attempt) = (name.to_owned(), name.to_owned());
        let request = v1::CreateMachineRequest { name, attempt, owner, ..v1::CreateMachineRequest::default() };
        let task = site.create(request, false).unwrap();
        let state = &mut *site.state.lock();
        state.tasks.clear();
        set_state(state, &task.entity_urn, PowerState::Stopped);
        task.entity_urn
    }

    /// Makes a volume.
    fn volume(site: &Site, name: &str) -> String {
        let request = v1::CreateVolumeRequest { name: name.to_owned(), ..v1::CreateVolumeRequest::default() };
        let urn = site.create_volume(request, false).entity_urn;
        site.state.lock().tasks.clear();
        urn
    }

    fn attach(site: &Site, volume_urn: &str, machine_urn: &str) {
        let (volume_urn, machine_urn) = (volume_urn.to_owned(), machine_urn.to_owned());
        let request = v1::AttachVolumeRequest { volume_urn, machine_urn, ..v1::AttachVolumeRequest::default() };
        drop(site.attach(&request, false));
    }

    fn delete_volume(site: &Site, urn: &str) {
        let request = v1::DeleteVolumeRequest { urn: urn.to_owned(), ..v1::DeleteVolumeRequest::default() };
        drop(site.delete_volume(&request, false));
    }

    /// Deletes a volume that is the disk of the pool entry with this address.
    fn delete_of_entry(world: &World, site: &Site, urn: &str, ip: &str) {
        let disk = json!([{"ip": ip, "slot": 0, "volumeUrn": urn}]);
        world.user.merge_status(DCS_POOL, "pool", json!({"persistentDiskStatus": disk}));
        delete_volume(site, urn);
    }

    /// Both VMs run, and each has read this of its network.
    fn run_with(site: &Site, networks: [(&str, &str); 2]) {
        let state = &mut *site.state.lock();
        for (urn, network) in networks {
            set_state(state, urn, PowerState::Running);
            state.networks.insert(urn.to_owned(), network.as_bytes().to_vec());
        }
    }

    #[test]
    fn a_second_vm_of_a_machine_or_an_address_is_noticed() {
        let vms = |site: &Site, machines: [&str; 2]| [vm(site, machines[0], "a"), vm(site, machines[1], "b")];
        assert_eq!(broken(|_, site| drop(vms(site, ["m", "n"]))), None);
        assert_eq!(broken(|_, site| drop(vms(site, ["m", "m"]))), Some("I3"));
        let run = |addresses: [&str; 2]| {
            broken(|_, site| {
                let [a, b] = vms(site, ["m", "n"]);
                run_with(site, [(&a, addresses[0]), (&b, addresses[1])]);
            })
        };
        assert_eq!(run(["\"10.0.0.1\"", "\"10.0.0.11\""]), None);
        assert_eq!(run(["\"10.0.0.1\"", "\"10.0.0.1\""]), Some("I3"));
    }

    #[test]
    fn a_volume_in_two_vms_or_deleted_while_it_is_needed_is_noticed() {
        let used = |does: fn(&World, &Site, [&str; 3])| {
            broken(|world, site| {
                let (a, b, data) = (vm(site, "m", "a"), vm(site, "n", "b"), volume(site, "data"));
                does(world, site, [&a, &b, &data]);
            })
        };
        assert_eq!(used(|_, site, [a, _, data]| attach(site, data, a)), None);
        let twice = |_: &World, site: &Site, [a, b, data]: [&str; 3]| {
            attach(site, data, a);
            attach(site, data, b);
        };
        assert_eq!(used(twice), Some("I4"));
        let bound = |_: &World, site: &Site, [a, _, data]: [&str; 3]| {
            attach(site, data, a);
            delete_volume(site, data);
        };
        assert_eq!(used(bound), Some("I4"));
        assert_eq!(used(|world, site, [_, _, data]| delete_of_entry(world, site, data, "10.0.0.6")), None);
        assert_eq!(used(|world, site, [_, _, data]| delete_of_entry(world, site, data, "10.0.0.5")), Some("I4"));
    }

    #[test]
    fn whoever_makes_something_without_a_finalizer_is_noticed() {
        let without = |kind, name: &'static str, make: fn(&Site)| {
            broken(|world, site| {
                world.user.merge(kind, name, json!({"metadata": {"finalizers": null}}));
                make(site);
            })
        };
        assert_eq!(without(DCS_MACHINE, "m", |site| drop(vm(site, "n", "a"))), None);
        assert_eq!(without(DCS_MACHINE, "m", |site| drop(vm(site, "m", "a"))), Some("I6"));
        assert_eq!(without(DCS_POOL, "pool", |site| drop(volume(site, "data"))), Some("I6"));
    }
}
