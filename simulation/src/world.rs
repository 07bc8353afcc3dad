//! A world: API servers, instances of ours, models of everybody else, and what goes wrong between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use kube_model::{Options, Server, Sources, transport::HttpServer};
use manager::{Identity, clock::Clock, random::Random};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    chance::Chance,
    clock::SimClock,
    journal::{Journal, Violation},
    kinds::{self, CLUSTER, DEFINITION, LEASE, SIM_CLUSTER, SIM_MACHINE, SIM_TEMPLATE},
    models::{
        self, Model,
        core::Core,
        workload::{Life, WorkloadCluster},
    },
    plan::{Plan, TimedFault},
    process::{Instance, Program, Surroundings},
    store::{Store, text},
    wire::Far,
};

/// Namespace of everything that a scenario makes.
pub const NAMESPACE: &str = "ns";
/// Namespace of the leases.
const LEASES: &str = "default";
/// Version that the API servers call themselves by.
const VERSION: &str = "v1.36.3";
/// How often those who wait for the end of a rest look.
const RESTS: Duration = Duration::from_secs(20);
/// How soon models of controllers look after a change.
const PACE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(900));

/// Time and names of an API server, from the world's clock and seed.
struct ServerSources {
    clock: SimClock,
    chance: Chance,
    made: AtomicU64,
}

impl Sources for ServerSources {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn uid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    fn name_suffix(&self) -> String {
        self.chance.name_suffix()
    }
}

/// Something at the far end that can be begun anew, or fall silent.
pub trait FarEnd: Send + Sync {
    /// It starts anew: what it only remembered is forgotten.
    fn restart(&self);
    /// It does not answer for this long.
    fn fall_silent(&self, time: Duration);
}

/// A world.
pub struct World {
    /// What happens.
    pub journal: Arc<Journal>,
    /// What goes wrong.
    pub plan: Arc<Plan>,
    /// Its chance.
    pub chance: Arc<Chance>,
    /// The management cluster's objects, for the scenario's user.
    pub user: Store,
    /// The workload cluster.
    pub workload: Arc<WorkloadCluster>,
    /// Where instances live.
    around: Surroundings,
    instances: Vec<Arc<Instance>>,
    far_end: Option<Arc<dyn FarEnd>>,
}

impl World {
    /// A world of a seed, empty but for its servers. To be made within its runtime.
    pub fn new(seed: u64, plan: Arc<Plan>) -> Self {
        let (clock, chance) = (SimClock::new(), Arc::new(Chance::new(seed)));
        let journal = Journal::new(clock);
        let management = server(clock, &chance, "management", true);
        let workload_server = server(clock, &chance, "workload", false);
        let user = Store::new("user", Arc::clone(&management), Arc::clone(&journal), NAMESPACE);
        let workload =
            WorkloadCluster::new(Arc::clone(&workload_server), Arc::clone(&journal), chance.of("workload cluster"));
        let around = Surroundings {
            journal: Arc::clone(&journal),
            plan: Arc::clone(&plan),
            chance: Arc::clone(&chance),
            management: far(&management, "", Arc::default()),
            workload: far(&workload_server, "workload", workload.silence()),
            paused: Arc::default(),
        };
        let world = Self { journal, plan, chance, user, workload, around, instances: Vec::new(), far_end: None };
        let cluster_wide = world.user.within("");
        cluster_wide.create(kinds::NAMESPACE, json!({"metadata": {"name": NAMESPACE}}));
        for kind in [SIM_CLUSTER, SIM_MACHINE, SIM_TEMPLATE] {
            cluster_wide.create(DEFINITION, kinds::definition(&kind));
        }
        let core = Core::new(world.store("core"), Arc::clone(&world.workload));
        world.model("core", core);
        let life = models::live(
            Life(Arc::clone(&world.workload)),
            Arc::clone(&world.journal),
            world.chance.of("life"),
            (Duration::ZERO, Duration::ZERO),
        );
        tokio::spawn(life);
        world
    }

    /// The management cluster's objects, as an actor of this name.
    pub fn store(&self, actor: &str) -> Store {
        Store::new(actor, Arc::clone(self.user.server()), Arc::clone(&self.journal), NAMESPACE)
    }

    /// Lets a model of a controller live.
    pub fn model(&self, name: &str, model: impl Model + 'static) {
        tokio::spawn(models::live(model, Arc::clone(&self.journal), self.chance.of(&format!("pace of {name}")), PACE));
    }

    /// What starts anew and falls silent by a fault, beside the workload cluster.
    pub fn far_end(&mut self, far_end: Arc<dyn FarEnd>) {
        self.far_end = Some(far_end);
    }

    /// Begins instances of a process. In some worlds they are two, of which the one that holds the lease leads.
    pub fn run(&mut self, identity: Identity, program: Program) {
        let is_pair = self.chance.of("instances").once_in(4);
        for number in 0..if is_pair { 2 } else { 1 } {
            let instance = Instance::new(identity, number, Arc::clone(&program), &self.around, is_pair);
            tokio::spawn(Arc::clone(&instance).live());
            self.instances.push(instance);
        }
        tokio::spawn(Self::afflict(
            Arc::clone(&self.plan),
            self.instances.clone(),
            Arc::clone(&self.workload),
            self.far_end.clone(),
            self.user.clone(),
        ));
    }

    /// Brings about what happens at a time.
    async fn afflict(
        plan: Arc<Plan>,
        instances: Vec<Arc<Instance>>,
        workload: Arc<WorkloadCluster>,
        far_end: Option<Arc<dyn FarEnd>>,
        user: Store,
    ) {
        let (begun, actor) = (Instant::now(), Arc::from("fate"));
        for (at, fault) in plan.timed() {
            sleep_until(begun + at).await;
            while plan.is_resting() {
                sleep(RESTS).await;
            }
            user.journal().fault(&actor, format!("{fault:?}"));
            let instance = |number: usize| &instances[number % instances.len()];
            match fault {
                TimedFault::Kill(number) => instance(number).kill(),
                TimedFault::Isolate(number, time) => instance(number).link().isolate(time),
                TimedFault::Lag(number, time) => instance(number).link().lag(time),
                TimedFault::Depose(time) => Self::leader(&instances, &user).link().isolate(time),
                TimedFault::CutWatches => user.server().close_watches(),
                TimedFault::Compact => {
                    user.server().compact();
                    user.server().close_watches();
                }
                TimedFault::RestartFarEnd => {
                    workload.store().server().close_watches();
                    if let Some(far_end) = &far_end {
                        far_end.restart();
                    }
                }
                TimedFault::SilenceFarEnd(time) => match &far_end {
                    Some(far_end) => far_end.fall_silent(time),
                    None => workload.fall_silent(time),
                },
            }
        }
    }

    /// The instance that holds the lease; the first where there is none.
    fn leader<'a>(instances: &'a [Arc<Instance>], user: &Store) -> &'a Arc<Instance> {
        let leases = user.within(LEASES).list(LEASE);
        let holders: Vec<_> = leases.iter().map(|lease| text(lease, "/spec/holderIdentity")).collect();
        let leads = |instance: &&Arc<Instance>| holders.iter().any(|holder| holder.starts_with(&*instance.link().name));
        instances.iter().find(leads).unwrap_or(&instances[0])
    }

    /// Pauses the cluster for a while. Whoever has heard of it may no more than say so (I5).
    pub async fn pause(&self, time: Duration) {
        self.user.merge(CLUSTER, "c", json!({"spec": {"paused": true}}));
        self.around.paused.store(true, Ordering::Relaxed);
        sleep(time).await;
        self.around.paused.store(false, Ordering::Relaxed);
        self.user.merge(CLUSTER, "c", json!({"spec": {"paused": false}}));
    }

    /// Waits until something is so; it must be so within `limit`.
    pub async fn until(
        &self,
        rule: &'static str,
        limit: Duration,
        goal: impl Fn() -> Result<(), String>,
    ) -> Result<(), Violation> {
        let changes = self.journal.changes();
        let deadline = Instant::now() + limit;
        loop {
            let Err(missing) = goal() else { return Ok(()) };
            let now = Instant::now();
            if now >= deadline {
                return Err(Violation::new(rule, format!("not within {} s: {missing}", limit.as_secs())));
            }
            // What is waited for may be a matter of time alone.
            let pause = (deadline - now).min(Duration::from_secs(30));
            drop(timeout(pause, changes.notified()).await);
        }
    }
}

fn server(clock: SimClock, chance: &Chance, name: &str, is_management: bool) -> Arc<Server> {
    let sources = ServerSources { clock, chance: chance.of(name), made: AtomicU64::new(0) };
    let sources = Arc::new(sources);
    Arc::new(if is_management {
        Server::with_registry(sources, Options::default(), kinds::registry())
    } else {
        Server::new(sources, Options::default())
    })
}

fn far(server: &Arc<Server>, label: &'static str, silent: Arc<Mutex<Option<Instant>>>) -> Far {
    let other = Arc::clone(server);
    Far {
        server: HttpServer::new(Arc::clone(server), VERSION),
        label,
        silent,
        overtake: Arc::new(move |path| overtake(&other, path)),
    }
}

/// Writes the object of a path as somebody who has nothing to do with it: whoever read it before meets a conflict.
fn overtake(server: &Server, path: &str) {
    use kube_model::{Patch, Target, WriteParams};
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return,
    };
    let ["namespaces", namespace, plural, name, ..] = rest else { return };
    let target = Target {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: (*plural).to_owned(),
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
        subresource: String::new(),
    };
    let note = json!({"metadata": {"annotations": {"example.com/seen": server.version().to_string()}}});
    // An object that is not there yet cannot be written first.
    drop(server.patch(
        &target,
        &Patch::Merge(note),
        &WriteParams { manager: "other".into(), ..WriteParams::default() },
    ));
}

/// What tests of what is noticed share.
#[cfg(test)]
pub(crate) mod trial {
    use super::*;

    /// What comes of this in a world without faults.
    pub fn within<T>(does: impl AsyncFnOnce(&World) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { does(&World::new(1, Arc::default())).await })
    }

    /// The rule that is broken by this, or within `limit` after it, if one is.
    pub fn broken<T>(limit: Duration, does: impl AsyncFnOnce(&World) -> T) -> Option<&'static str> {
        within(async |world| {
            does(world).await;
            world.journal.check();
            timeout(limit, world.journal.violated()).await.ok().map(|violation| violation.rule)
        })
    }
}
