//! The loop of a controller: takes keys off its queue and runs passes, a bounded number at a time.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
};
use tracing::Instrument;

use crate::{
    Category, ObjectKey, Outcome, ReconcileError,
    clock::Clock,
    drain::Drain,
    floor::{self, Floor},
    metrics::{ControllerLabel, Metrics, QueueLabels},
    queue::{Priority, Queue},
    random::Random,
};

/// One controller's work: brings one object a step nearer to what it shall be.
pub trait Reconciler: Send + Sync + 'static {
    /// One pass over one object. It must be safe to repeat, and it writes nothing where nothing is to do.
    fn reconcile(&self, key: &ObjectKey) -> impl Future<Output = Result<Outcome, ReconcileError>> + Send;
}

/// How long a pass whose writes the caches do not show yet is put off.
const LAG: Duration = Duration::from_millis(50);
/// Backoff after a panic or a broken invariant.
const AFTER_BUG: Duration = Duration::from_secs(60);
/// How long passes under way may take to end at a stop; a pod is killed two seconds later.
const DRAIN: Duration = Duration::from_secs(8);
/// Pause before a pass that met another's write is repeated: the cache will know it by then.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
/// Longest time of one pass: every await in it has a limit of its own, this one bounds their sum.
const PASS_LIMIT: Duration = Duration::from_secs(180);

/// Puts keys into a controller's queue from anywhere.
#[derive(Clone)]
pub struct Requeue {
    queue: Arc<Mutex<Queue>>,
    wake: Arc<Notify>,
    adds: Counter,
}

impl Requeue {
    pub(crate) fn new(adds: Counter) -> Self {
        Self { queue: Arc::default(), wake: Arc::default(), adds }
    }

    /// What waits and what fails, for diagnostics.
    pub(crate) fn state(&self) -> Value {
        let queue = self.queue.lock();
        let (running, failing) = queue.troubles();
        let running: Vec<_> = running.iter().map(ToString::to_string).collect();
        let failing: BTreeMap<_, _> = failing.iter().map(|(key, failures)| (key.to_string(), failures)).collect();
        json!({"ready": queue.depth(), "running": running, "failing": failing})
    }

    /// The object, or something it depends on, changed.
    pub fn changed(&self, key: ObjectKey) {
        self.add(key, Priority::Changed);
    }

    /// The object is to be looked at again, when there is nothing more urgent.
    pub fn resync(&self, key: ObjectKey) {
        self.add(key, Priority::Resync);
    }

    pub(crate) fn add(&self, key: ObjectKey, priority: Priority) {
        self.adds.inc();
        self.queue.lock().add(key, priority);
        self.wake.notify_one();
    }
}

/// What a controller is to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is ours to work on.
    Ours,
    /// It carries another watch filter: another instance's.
    Others,
    /// The cache has none such: what it left behind may still have to be seen to.
    Absent,
}

/// What a controller's loop needs.
pub(crate) struct Worker<R> {
    pub(crate) name: &'static str,
    pub(crate) reconciler: Arc<R>,
    pub(crate) requeue: Requeue,
    pub(crate) concurrency: usize,
    pub(crate) resync: Duration,
    pub(crate) floor: Arc<Floor>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) crashes: Option<Arc<dyn fault::Hook>>,
    pub(crate) standing: Box<dyn Fn(&ObjectKey) -> Standing + Send + Sync>,
}

type Ended = (ObjectKey, Priority, Result<Outcome, ReconcileError>);

impl<R: Reconciler> Worker<R> {
    /// Runs until the drain begins, then gives the passes that are under way some time to end.
    pub(crate) async fn run(self, drain: Drain) {
        let mut passes: JoinSet<Ended> = JoinSet::new();
        let mut keys: HashMap<Id, (ObjectKey, Priority)> = HashMap::new();
        let label = ControllerLabel { controller: self.name };
        self.metrics.max_workers.get_or_create(&label).set(i64::try_from(self.concurrency).unwrap_or(i64::MAX));
        while !drain.stop.is_cancelled() {
            while passes.len() < self.concurrency {
                let Some((key, priority)) = self.next() else { break };
                let handle = passes.spawn(self.pass(key.clone(), priority));
                keys.insert(handle.id(), (key, priority));
            }
            self.metrics.active_workers.get_or_create(&label).set(i64::try_from(passes.len()).unwrap_or(i64::MAX));
            let due = self.requeue.queue.lock().next_due();
            let timer = due.map_or(Duration::from_secs(3600), |due| due.saturating_sub(self.clock.monotonic()));
            // In a fixed order, so that a simulation repeats itself; no branch can starve another, for each loop takes
            // what is ready.
            tokio::select! {
                biased;
                () = drain.stop.cancelled() => {}
                Some(ended) = passes.join_next_with_id() => match ended {
                    Ok((id, (key, priority, result))) => { keys.remove(&id); self.settle(&key, priority, result); }
                    // Panics are caught inside the pass; only an aborted task ends here.
                    Err(error) => if let Some((key, priority)) = keys.remove(&error.id()) {
                        self.settle(&key, priority, Err(ReconcileError::new(Category::Bug, error.to_string())));
                    }
                },
                () = self.requeue.wake.notified() => {}
                () = tokio::time::sleep(timer), if passes.len() < self.concurrency => {}
            }
        }
        tokio::select! {
            biased;
            () = async { while passes.join_next().await.is_some() {} } => {}
            () = drain.abandon.cancelled() => {}
            () = tokio::time::sleep(DRAIN) => tracing::warn!(controller = self.name, "Passes did not end in time."),
        }
        // Every pass can be repeated from any point: that is what the next process does.
        passes.shutdown().await;
        self.metrics.active_workers.get_or_create(&label).set(0);
    }

    /// The next key that is ours and whose earlier writes the caches show.
    fn next(&self) -> Option<(ObjectKey, Priority)> {
        let now = self.clock.monotonic();
        let mut queue = self.requeue.queue.lock();
        let mut lagging = Vec::new();
        let found = loop {
            let Some((key, priority)) = queue.take(now) else { break None };
            if (self.standing)(&key) == Standing::Others {
                queue.succeed(&key);
                queue.done(&key);
            } else if self.floor.is_reached(self.name, &key, now) {
                break Some((key, priority));
            } else {
                lagging.push((key, priority));
            }
        };
        for (key, priority) in lagging {
            queue.add_at(key.clone(), now + LAG, priority);
            queue.done(&key);
        }
        let depth = i64::try_from(queue.depth()).unwrap_or(i64::MAX);
        self.metrics.queue_depth.get_or_create(&QueueLabels::of(self.name)).set(depth);
        found
    }

    fn pass(&self, key: ObjectKey, priority: Priority) -> impl Future<Output = Ended> + Send + 'static {
        let (name, reconciler, metrics) = (self.name, Arc::clone(&self.reconciler), Arc::clone(&self.metrics));
        let (clock, crashes) = (Arc::clone(&self.clock), self.crashes.clone());
        let id = format!("{:016x}", self.random.below(u64::MAX));
        let span = tracing::info_span!(
            "reconcile", controller = name, namespace = %key.namespace, name = %key.name, reconcile_id = id,
            otel.name = format!("reconcile {name}"), otel.status_code = tracing::field::Empty,
        );
        let started = clock.monotonic();
        async move {
            // A pass is large, and each layer around it would hold and move a copy of it.
            let work = Box::pin(reconciler.reconcile(&key));
            let work = fault::within(crashes, floor::in_pass(name, key.clone(), work));
            let work = AssertUnwindSafe(tokio::time::timeout(PASS_LIMIT, work)).catch_unwind();
            let label = ControllerLabel { controller: name };
            let result = match work.await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(ReconcileError::transient(format!("not done after {} s", PASS_LIMIT.as_secs()))),
                Err(_) => {
                    metrics.panics.get_or_create(&label).inc();
                    Err(ReconcileError::new(Category::Bug, "panicked"))
                }
            };
            let took = clock.monotonic().saturating_sub(started).as_secs_f64();
            metrics.reconcile_seconds.get_or_create(&label).observe(took);
            metrics.work_seconds.get_or_create(&QueueLabels::of(name)).observe(took);
            report(&result);
            (key, priority, result)
        }
        .instrument(span)
    }

    fn settle(&self, key: &ObjectKey, priority: Priority, result: Result<Outcome, ReconcileError>) {
        let now = self.clock.monotonic();
        let mut queue = self.requeue.queue.lock();
        let after = match &result {
            Ok(Outcome::Settled) => None,
            Ok(Outcome::Requeue(after)) => Some(*after),
            Err(error) => match error.category {
                Category::Transient => Some(self.random.jittered(queue.fail(key))),
                Category::Conflict => Some(AFTER_CONFLICT),
                Category::Throttled(after) | Category::Waiting(after) => Some(self.random.jittered(after)),
                Category::Terminal => None,
                Category::Bug => Some(self.random.jittered(AFTER_BUG)),
            },
        };
        if result.is_ok() {
            queue.succeed(key);
        }
        match after {
            Some(after) => queue.add_at(key.clone(), now + after, priority),
            // What is gone needs no resync once its end has been worked on.
            None if (self.standing)(key) == Standing::Ours => {
                queue.add_at(key.clone(), now + self.random.jittered(self.resync), Priority::Resync);
            }
            None => queue.succeed(key),
        }
        queue.done(key);
        drop(queue);
        self.metrics.settled(self.name, &result);
    }
}

fn report(result: &Result<Outcome, ReconcileError>) {
    match result {
        Ok(outcome) => tracing::debug!(?outcome, "Pass done."),
        Err(error) => match error.category {
            Category::Conflict | Category::Waiting(_) => tracing::debug!(%error, "Pass put off."),
            Category::Bug => tracing::error!(%error, "Pass broke an invariant."),
            Category::Transient | Category::Throttled(_) | Category::Terminal => {
                tracing::warn!(%error, category = error.category.name(), "Pass failed.");
            }
        },
    }
    if result.as_ref().is_err_and(|error| error.category.is_failure()) {
        tracing::Span::current().record("otel.status_code", "ERROR");
    }
}
