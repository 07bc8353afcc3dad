//! The loop of a controller: takes keys off its queue and runs passes, a bounded number at a time.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Category, ObjectKey, Outcome, ReconcileError,
    clock::Clock,
    floor::{self, Floor},
    metrics::{ControllerLabel, Metrics, ResultLabels},
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
/// Longest time of one pass: every await in it has a limit of its own, this one bounds their sum.
const PASS_LIMIT: Duration = Duration::from_secs(180);

/// Puts keys into a controller's queue from anywhere.
#[derive(Clone)]
pub struct Requeue {
    queue: Arc<Mutex<Queue>>,
    wake: Arc<Notify>,
}

impl Requeue {
    pub(crate) fn new() -> Self {
        Self { queue: Arc::default(), wake: Arc::default() }
    }

    /// The object, or something it depends on, changed.
    pub fn changed(&self, key: ObjectKey) {
        self.queue.lock().add(key, Priority::Changed);
        self.wake.notify_one();
    }

    /// The object is to be looked at again, when there is nothing more urgent.
    pub fn resync(&self, key: ObjectKey) {
        self.queue.lock().add(key, Priority::Resync);
        self.wake.notify_one();
    }
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
    /// Keys that exist, for the resync.
    pub(crate) known: Box<dyn Fn(&ObjectKey) -> bool + Send + Sync>,
}

type Ended = (ObjectKey, Result<Outcome, ReconcileError>);

impl<R: Reconciler> Worker<R> {
    /// Runs until `stop`, then waits for the passes that are under way.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut passes: JoinSet<Ended> = JoinSet::new();
        let mut keys: HashMap<Id, ObjectKey> = HashMap::new();
        while !stop.is_cancelled() {
            while passes.len() < self.concurrency {
                let Some(key) = self.next() else { break };
                let handle = passes.spawn(self.pass(key.clone()));
                keys.insert(handle.id(), key);
            }
            let label = ControllerLabel { controller: self.name };
            self.metrics.active_workers.get_or_create(&label).set(i64::try_from(passes.len()).unwrap_or(i64::MAX));
            let due = self.requeue.queue.lock().next_due();
            let timer = due.map_or(Duration::from_secs(3600), |due| due.saturating_sub(self.clock.monotonic()));
            tokio::select! {
                () = self.requeue.wake.notified() => {}
                () = tokio::time::sleep(timer), if passes.len() < self.concurrency => {}
                Some(ended) = passes.join_next_with_id() => match ended {
                    Ok((id, (key, result))) => { keys.remove(&id); self.settle(&key, result); }
                    // Panics are caught inside the pass; only an aborted task ends here.
                    Err(error) => if let Some(key) = keys.remove(&error.id()) {
                        self.settle(&key, Err(ReconcileError::new(Category::Bug, error.to_string())));
                    }
                },
                () = stop.cancelled() => {}
            }
        }
        while passes.join_next().await.is_some() {}
    }

    /// The next key whose earlier writes the caches show.
    fn next(&self) -> Option<ObjectKey> {
        let now = self.clock.monotonic();
        let mut queue = self.requeue.queue.lock();
        let mut lagging = Vec::new();
        let found = loop {
            let Some(key) = queue.take(now) else { break None };
            if self.floor.is_reached(self.name, &key, now) {
                break Some(key);
            }
            lagging.push(key);
        };
        for key in lagging {
            queue.add_at(key.clone(), now + LAG);
            queue.done(&key);
        }
        let depth = i64::try_from(queue.depth()).unwrap_or(i64::MAX);
        self.metrics.queue_depth.get_or_create(&ControllerLabel { controller: self.name }).set(depth);
        found
    }

    fn pass(&self, key: ObjectKey) -> impl Future<Output = Ended> + Send + 'static {
        let (name, reconciler, metrics) = (self.name, Arc::clone(&self.reconciler), Arc::clone(&self.metrics));
        let span = tracing::info_span!("reconcile", controller = name, namespace = %key.namespace, name = %key.name);
        let started = std::time::Instant::now();
        async move {
            let work = floor::in_pass(name, key.clone(), reconciler.reconcile(&key));
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
            metrics.reconcile_seconds.get_or_create(&label).observe(started.elapsed().as_secs_f64());
            report(&result);
            (key, result)
        }
        .instrument(span)
    }

    fn settle(&self, key: &ObjectKey, result: Result<Outcome, ReconcileError>) {
        let now = self.clock.monotonic();
        let mut queue = self.requeue.queue.lock();
        let (after, label) = match &result {
            Ok(Outcome::Settled) => (self.random.jittered(self.resync), "success"),
            Ok(Outcome::Requeue(after)) => (*after, "requeue_after"),
            Err(error) => {
                self.metrics.retries.get_or_create(&ControllerLabel { controller: self.name }).inc();
                let after = match error.category {
                    Category::Transient => self.random.jittered(queue.fail(key)),
                    Category::Conflict => Duration::from_millis(100),
                    Category::Throttled(after) | Category::Waiting(after) => self.random.jittered(after),
                    Category::Terminal => self.random.jittered(self.resync),
                    Category::Bug => self.random.jittered(AFTER_BUG),
                };
                (after, error.category.name())
            }
        };
        if result.is_ok() {
            queue.succeed(key);
        }
        self.metrics.reconciles.get_or_create(&ResultLabels { controller: self.name, result: label }).inc();
        // What is gone needs no resync; its deletion has been worked on by then.
        if (self.known)(key) {
            queue.add_at(key.clone(), now + after);
        }
        queue.done(key);
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
}
