//! The phases of a fleet's life, one after another, each measured.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};
use xtask::{
    fleet::Options,
    progress::{Count, Progress},
};

use super::{
    census::{Census, Role},
    orders,
    plan::Plan,
    record::{ForeignSecrets, Phase, Run, Sample, used},
    requests::Counters,
    watch::Watch,
};
use crate::{
    cluster::{NAMESPACE, Shape},
    environment::Environment,
    measure::{self, ByProvider, Requests, Usage},
    providers::CORE,
    scenarios::steps,
};

/// Names of the phases, by which reports find them.
pub mod phase {
    pub const CREATE: &str = "create";
    pub const IDLE: &str = "idle";
    pub const SCALE_UP: &str = "scale up";
    pub const SCALE_DOWN: &str = "scale down";
    pub const UPGRADE_CONTROL_PLANES: &str = "upgrade control planes";
    pub const UPGRADE_WORKERS: &str = "upgrade workers";
    pub const REMEDIATION: &str = "bad machines replaced";
    pub const SILENCE: &str = "silent nodes noticed";
    pub const RECOVERY: &str = "nodes speak again";
    pub const DELETE: &str = "delete";

    /// Those that end when every cluster has come to something, in their order.
    pub const WAITED_FOR: [&str; 9] =
        [CREATE, SCALE_UP, SCALE_DOWN, UPGRADE_CONTROL_PLANES, UPGRADE_WORKERS, REMEDIATION, SILENCE, RECOVERY, DELETE];
}

/// Orders that are carried out at a time, as by a user with a busy pipeline.
const ORDERS: usize = 8;
/// Secrets of others that are made at a time.
const SECRETS: usize = 32;
/// How often is looked.
const TICK: Duration = Duration::from_millis(100);
/// How often is written down what is seen.
const SAMPLES: Duration = Duration::from_secs(2);
/// Managers under test that have not written for so long have settled: details of a status wait for up to 20 s.
const QUIET: Duration = Duration::from_secs(25);
/// How long is waited for that.
const SETTLE: Duration = Duration::from_secs(120);
/// How long memory is given to show what Secrets do to it.
const MEMORY_SHOWS: Duration = Duration::from_secs(10);
/// One cluster in so many has a machine that is bad, and a worker that falls silent.
const AFFLICTED: usize = 10;
/// How long a phase may take, whatever the number of clusters, on a busy machine with two cores; and for each cluster.
const LIMIT: Duration = Duration::from_secs(420);
const LIMIT_A_CLUSTER: Duration = Duration::from_secs(12);

/// Does everything; `record` holds what was measured, also where this fails.
pub async fn run(
    environment: &mut Environment,
    plan: &Plan,
    options: &Options,
    record: &mut Run,
    progress: &Progress,
) -> Result<()> {
    let client = environment.management.client.clone();
    record.command_lines = command_lines(environment);
    orders::namespace(&client, NAMESPACE).await?;
    let watch = Watch::start(&client, NAMESPACE);
    let requests = Mutex::new((0, ByProvider::new()));
    let log = environment.logs().join("audit.log");
    let now = Instant::now();
    let mut fleet =
        Fleet { environment, plan, record, progress, client, watch, log, requests, begun: now, sampled: now };
    if options.foreign_secrets > 0 {
        fleet.foreign_secrets(options.foreign_secrets).await?;
    }
    let all = plan.names();
    let complete = |workers: u32| {
        let machines = plan.machines(workers);
        move |census: &Census| census.complete(machines)
    };
    fleet.carry_out(phase::CREATE, &all, orders::create, complete(plan.workers)).await?;
    fleet.settle().await?;
    fleet.idle(Duration::from_secs(u64::from(options.idle))).await?;
    if options.short {
        return Ok(());
    }
    for (name, workers) in [(phase::SCALE_UP, plan.workers + 1), (phase::SCALE_DOWN, plan.workers)] {
        let order = move |client, shape| orders::scale(client, shape, workers);
        fleet.carry_out(name, &all, order, complete(workers)).await?;
    }
    let machines = plan.machines(plan.workers);
    let upgrades = [(phase::UPGRADE_CONTROL_PLANES, Role::ControlPlane), (phase::UPGRADE_WORKERS, Role::Worker)];
    for (name, role) in upgrades {
        let order = |client, shape| orders::upgrade(client, shape, role, plan.next_version.clone());
        let done = |census: &Census| census.upgraded(machines, role, &plan.next_version);
        fleet.carry_out(name, &all, order, done).await?;
    }
    fleet.remediate().await?;
    fleet.silence(complete(plan.workers)).await?;
    let names = all.clone();
    fleet.carry_out(phase::DELETE, &all, orders::delete, move |census: &Census| census.gone(&names)).await?;
    fleet.clear().await
}

/// A fleet at work.
struct Fleet<'a> {
    environment: &'a mut Environment,
    plan: &'a Plan,
    record: &'a mut Run,
    progress: &'a Progress,
    client: Client,
    watch: Watch,
    log: PathBuf,
    /// How far the audit log was read, and what it told.
    requests: Mutex<(u64, ByProvider)>,
    begun: Instant,
    sampled: Instant,
}

/// Everything that is measured, at one moment.
struct Snapshot {
    at: Instant,
    processes: Vec<Usage>,
    requests: ByProvider,
    server: Counters,
}

/// When the order for each cluster was given.
type Given = Arc<Mutex<HashMap<String, Instant>>>;

impl Fleet<'_> {
    /// Gives an order for each of these clusters, a few at a time, and waits until `done` names all of them.
    async fn carry_out<F>(
        &mut self,
        phase: &str,
        clusters: &[String],
        order: impl Fn(Client, Shape) -> F,
        done: impl Fn(&Census) -> BTreeSet<String>,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (given, free) = (Given::default(), Arc::new(Semaphore::new(ORDERS)));
        let mut orders = JoinSet::new();
        for shape in self.plan.shapes.iter().filter(|shape| clusters.contains(&shape.name)) {
            let (name, order) = (shape.name.clone(), order(self.client.clone(), shape.clone()));
            let (given, free) = (Arc::clone(&given), Arc::clone(&free));
            orders.spawn(async move {
                let _permit = free.acquire_owned().await?;
                given.lock().insert(name, Instant::now());
                order.await
            });
        }
        self.until(phase, clusters, &given, orders, done).await
    }

    /// Waits until `done` names all of these clusters; records how long each took since its order was given, and what
    /// all of it cost.
    async fn until(
        &mut self,
        phase: &str,
        clusters: &[String],
        given: &Given,
        mut orders: JoinSet<Result<()>>,
        done: impl Fn(&Census) -> BTreeSet<String>,
    ) -> Result<()> {
        let clusters_wanted = u32::try_from(clusters.len())?;
        let limit = LIMIT + LIMIT_A_CLUSTER * clusters_wanted;
        let stage = self.progress.stage(phase);
        let mut view = self.progress.count(format!("{phase}: clusters"), u64::from(clusters_wanted));
        let before = self.snapshot().await?;
        let mut took = BTreeMap::new();
        let mut result = Ok(());
        while took.len() < clusters.len() {
            if let Err(error) = self.tick().await {
                result = Err(error);
                break;
            }
            while let Some(order) = orders.try_join_next() {
                order.context("an order was not carried out")??;
            }
            let now = Instant::now();
            let finished = done(&self.watch.census());
            for name in clusters.iter().filter(|name| finished.contains(*name)) {
                if let Some(start) = given.lock().get(name)
                    && !took.contains_key(name)
                {
                    took.insert(name.clone(), now.duration_since(*start).as_secs_f64());
                }
            }
            self.show(&mut view, took.len());
            if before.at.elapsed() > limit {
                let missing: Vec<&String> = clusters.iter().filter(|name| !took.contains_key(*name)).collect();
                result = Err(self.overdue(phase, &missing, limit).await);
                break;
            }
        }
        drop(view);
        let mut each: Vec<f64> = took.into_values().collect();
        each.sort_by(f64::total_cmp);
        self.measured(phase, &before, each, clusters.len()).await?;
        result?;
        stage.done(format!("{} clusters", clusters.len()));
        Ok(())
    }

    /// Writes down a phase that ends now.
    async fn measured(&mut self, phase: &str, before: &Snapshot, each: Vec<f64>, wanted: usize) -> Result<()> {
        let after = self.snapshot().await?;
        let none = Requests::default();
        let requests = after
            .requests
            .iter()
            .map(|(name, requests)| ((*name).to_owned(), requests.since(before.requests.get(name).unwrap_or(&none))));
        self.record.phases.push(Phase {
            name: phase.to_owned(),
            from: before.at.duration_since(self.begun).as_secs_f64(),
            seconds: after.at.duration_since(before.at).as_secs_f64(),
            wanted,
            each,
            processes: used(&before.processes, &after.processes),
            requests: requests.collect(),
            server: after.server.since(&before.server),
        });
        Ok(())
    }

    /// What is missing when time is up; the objects of the first are written down.
    async fn overdue(&self, phase: &str, missing: &[&String], limit: Duration) -> anyhow::Error {
        let first: Vec<Shape> =
            self.plan.shapes.iter().filter(|shape| Some(&&shape.name) == missing.first()).cloned().collect();
        steps::dump(self.environment, phase, &first).await;
        let names: Vec<&str> = missing.iter().take(5).map(|name| name.as_str()).collect();
        let seconds = limit.as_secs();
        anyhow::anyhow!("{phase}: {} clusters are not done after {seconds} s: {} …", missing.len(), names.join(", "))
    }

    /// Passes a moment: looks whether everybody is alive, and writes down what is seen now and then.
    async fn tick(&mut self) -> Result<()> {
        tokio::time::sleep(TICK).await;
        self.environment.keep_up()?;
        if self.sampled.elapsed() >= SAMPLES {
            self.sampled = Instant::now();
            let (processes, requests) = (self.processes()?, self.requests()?);
            let counts = |requests: &Requests| [requests.reads(), requests.writes(), requests.conflicts];
            let (available, machines_available) = {
                let sums = self.watch.census().sums();
                (sums.available, sums.machines_available)
            };
            self.record.samples.push(Sample {
                at: self.begun.elapsed().as_secs_f64(),
                available,
                machines_available,
                processes: processes.into_iter().map(|usage| (usage.name, [usage.cpu, usage.rss])).collect(),
                requests: requests.iter().map(|(name, requests)| ((*name).to_owned(), counts(requests))).collect(),
            });
        }
        Ok(())
    }

    /// Shows how far all clusters are and who is busy.
    fn show(&self, view: &mut Count, finished: usize) {
        let sums = self.watch.census().sums();
        let busy = match self.record.samples.as_slice() {
            [.., before, after] => busy(before, after),
            _ => String::new(),
        };
        let detail = format!(
            "infrastructure {}, API {}, Available {}; machines {}/{}; {busy}",
            sums.infrastructure, sums.initialized, sums.available, sums.machines_available, sums.machines
        );
        view.set(u64::try_from(finished).unwrap_or_default(), &detail);
    }

    fn processes(&self) -> Result<Vec<Usage>> {
        let own = [("fleet bench".to_owned(), std::process::id())];
        let all = self.environment.all_pids().into_iter().chain(own);
        all.map(|(name, pid)| measure::usage(name, pid)).collect()
    }

    fn requests(&self) -> Result<ByProvider> {
        let mut state = self.requests.lock();
        let (at, all) = &mut *state;
        *at = measure::read(&self.log, *at, all)?;
        Ok(all.clone())
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let metrics = self.client.request_text(http::Request::get("/metrics").body(Vec::new())?).await;
        let server = Counters::parse(&metrics.context("the API server's metrics")?);
        Ok(Snapshot { at: Instant::now(), processes: self.processes()?, requests: self.requests()?, server })
    }

    /// Waits until none of the managers under test has written for [`QUIET`], but not for ever: then that is their way.
    async fn settle(&mut self) -> Result<()> {
        let writes = |all: &ByProvider| -> usize {
            all.iter().filter(|(name, _)| **name != CORE.name).map(|(_, requests)| requests.writes()).sum()
        };
        let begun = Instant::now();
        let (mut known, mut since) = (0, Instant::now());
        while since.elapsed() < QUIET && begun.elapsed() < SETTLE {
            self.tick().await?;
            let now = writes(&self.requests()?);
            if now != known {
                (known, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Leaves the fleet alone.
    async fn idle(&mut self, span: Duration) -> Result<()> {
        let stage = self.progress.stage(phase::IDLE);
        let before = self.snapshot().await?;
        while before.at.elapsed() < span {
            self.tick().await?;
            stage.detail(format!("{} of {} s", before.at.elapsed().as_secs(), span.as_secs()));
        }
        self.measured(phase::IDLE, &before, Vec::new(), 0).await?;
        stage.done("");
        Ok(())
    }

    /// A machine of one cluster in [`AFFLICTED`] is called bad: of the control plane where others stay, else a worker.
    async fn remediate(&mut self) -> Result<()> {
        let role = if self.plan.control_plane >= 3 { Role::ControlPlane } else { Role::Worker };
        let names: Vec<String> = self.plan.names().into_iter().step_by(AFFLICTED).collect();
        let mut bad = BTreeMap::new();
        for name in &names {
            let machine = self.watch.census().machine_of(name, role);
            bad.insert(name.clone(), machine.with_context(|| format!("no Machine of {name} is a {role:?}"))?);
        }
        let machines = self.plan.machines(self.plan.workers);
        let lost: Vec<String> = bad.values().cloned().collect();
        let order = |client, shape: Shape| {
            let machine = bad.get(&shape.name).cloned().unwrap_or_default();
            orders::remediate(client, shape, machine)
        };
        let done = |census: &Census| census.replaced(machines, &lost);
        self.carry_out(phase::REMEDIATION, &names, order, done).await
    }

    /// A worker of one cluster in [`AFFLICTED`] is cut off from the network until core has noticed, and then no longer.
    async fn silence(&mut self, complete: impl Fn(&Census) -> BTreeSet<String>) -> Result<()> {
        let names: Vec<String> = self.plan.names().into_iter().step_by(AFFLICTED).collect();
        let vms = self.environment.site.control("vms").await?;
        let mut workers = Vec::new();
        for name in &names {
            let prefix = format!("{name}-worker-");
            let mut found = vms.as_array().into_iter().flatten().filter_map(|vm| vm["name"].as_str());
            let worker = found.find(|name| name.starts_with(&prefix));
            workers.push(worker.with_context(|| format!("no VM of a worker of {name}"))?.to_owned());
        }
        let given = self.afflict(&workers, &names, true).await?;
        self.until(phase::SILENCE, &names, &given, JoinSet::new(), Census::impaired).await?;
        let given = self.afflict(&workers, &names, false).await?;
        self.until(phase::RECOVERY, &names, &given, JoinSet::new(), complete).await
    }

    async fn afflict(&self, workers: &[String], clusters: &[String], partitioned: bool) -> Result<Given> {
        let given = Given::default();
        for (worker, cluster) in workers.iter().zip(clusters) {
            let (path, body) = (format!("vms/{worker}/guest"), json!({"partitioned": partitioned}));
            self.environment.site.stage(reqwest::Method::PUT, &path, &body).await?;
            given.lock().insert(cluster.clone(), Instant::now());
        }
        Ok(given)
    }

    /// Takes away what the deletion of clusters leaves and looks whether the site is empty.
    async fn clear(&mut self) -> Result<()> {
        let stage = self.progress.stage("clear");
        orders::clear(&self.client, NAMESPACE, LIMIT).await?;
        let is_ours = |object: &&Value| object["name"].as_str().is_some_and(|name| name.contains("fleet-"));
        for what in ["vms", "volumes"] {
            let document = self.environment.site.control(what).await?;
            let left: Vec<&str> = document
                .as_array()
                .into_iter()
                .flatten()
                .filter(is_ours)
                .filter_map(|object| object["name"].as_str())
                .collect();
            if !left.is_empty() {
                bail!("{} {what} are left on the site, such as {}", left.len(), left[0]);
            }
        }
        stage.done("nothing left on the site");
        Ok(())
    }

    /// Fills the management cluster with Secrets of others and records what that does to the managers' memory.
    async fn foreign_secrets(&mut self, number: u32) -> Result<()> {
        const OTHERS: &str = "others";
        let stage = self.progress.stage(format!("{number} Secrets of others"));
        let resident = |processes: Vec<Usage>| processes.into_iter().map(|usage| (usage.name, usage.rss));
        tokio::time::sleep(MEMORY_SHOWS).await;
        let before: BTreeMap<String, f64> = resident(self.processes()?).collect();
        orders::namespace(&self.client, OTHERS).await?;
        let (free, mut making) = (Arc::new(Semaphore::new(SECRETS)), JoinSet::new());
        for index in 0..number {
            // Here, so that no more tasks are made than can work.
            let permit = Arc::clone(&free).acquire_owned().await?;
            let secret = orders::foreign_secret(self.client.clone(), OTHERS.to_owned(), index);
            making.spawn(async move {
                let _permit = permit;
                secret.await
            });
            while let Some(made) = making.try_join_next() {
                made??;
            }
            stage.detail(format!("{index}"));
        }
        while let Some(made) = making.join_next().await {
            made??;
        }
        tokio::time::sleep(MEMORY_SHOWS).await;
        let after = resident(self.processes()?);
        let resident_mib =
            after.filter_map(|(name, after)| Some((name.clone(), [*before.get(&name)?, after]))).collect();
        self.record.foreign_secrets = Some(ForeignSecrets { number, resident_mib });
        stage.done("");
        Ok(())
    }
}

/// Processors that each process kept busy between two samples, the busiest first.
fn busy(before: &Sample, after: &Sample) -> String {
    let span = (after.at - before.at).max(f64::EPSILON);
    let cores = |name: &String, cpu: f64| (cpu - before.processes.get(name).map_or(cpu, |old| old[0])) / span;
    let mut all: Vec<(&String, f64)> =
        after.processes.iter().map(|(name, values)| (name, cores(name, values[0]))).collect();
    all.sort_by(|one, other| other.1.total_cmp(&one.1));
    let shown: Vec<String> = all.iter().take(4).map(|(name, cores)| format!("{name} {cores:.2}")).collect();
    format!("cores: {}", shown.join(", "))
}

/// How each process was started.
fn command_lines(environment: &Environment) -> BTreeMap<String, Vec<String>> {
    let line = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = |line: Vec<u8>| {
        String::from_utf8_lossy(&line).split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    environment.all_pids().into_iter().map(|(name, pid)| (name, words(line(pid)))).collect()
}
