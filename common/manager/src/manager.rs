//! The process: built from flags, wired, run, drained.

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use process::telemetry::{self, Telemetry};

use crate::{
    ObjectKey,
    cli::{FeatureGates, ManagerArgs},
    client::{self, ClientError, Clients, Dial, OwnClient},
    clock::{Clock, SystemClock},
    drain::Drain,
    floor::Floor,
    informer::{Change, Informer, Watched},
    leader::CALL_LIMIT,
    metrics::{Metrics, QueueLabels},
    offload::Offload,
    queue::Priority,
    random::{Random, SystemRandom},
    secrets::SecretCache,
    tls::CertificateError,
    webhook::Webhooks,
    worker::{Reconciler, Requeue, Standing, Worker},
    workload::WorkloadClusters,
    writer::Writer,
};

/// Who this process is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Name of the process, as its binary is called.
    pub name: &'static str,
    /// Name of the provider: value of the label `cluster.x-k8s.io/provider` on what it is installed with.
    pub provider: &'static str,
    /// Version of the provider.
    pub version: &'static str,
    /// Name of its Lease.
    pub lease: &'static str,
    /// Field manager of its writes.
    pub field_manager: &'static str,
}

/// Why a manager does not start. Each is a sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The management cluster cannot be addressed.
    #[error("cannot address the management cluster: {0}")]
    Client(#[from] ClientError),
    /// A listener cannot be opened.
    #[error("cannot start a server: {0}")]
    Listen(#[from] std::io::Error),
    /// The webhook certificate cannot be read.
    #[error("webhook certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// A flag, or two together, make no sense.
    #[error("{0}")]
    Flags(String),
    /// A part of this process ended in a panic.
    #[error("a part of this process broke down: {0}")]
    Broken(String),
    /// The lease was lost to another process.
    #[error("the lease was lost; another process leads")]
    LeaseLost,
}

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, by which people find the holder of a lease.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Pod {
    /// As its environment says; a process of this name where that says nothing.
    fn of_environment(process: &str) -> Self {
        let name = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
        Self {
            name: name.unwrap_or_else(|_| process.to_owned()),
            namespace: std::env::var("POD_NAMESPACE").unwrap_or_else(|_| "default".to_owned()),
        }
    }
}

/// What a process goes by: its clients, its time, its chance. A test brings its own.
#[derive(Clone)]
pub struct Parts {
    /// Where it runs.
    pub pod: Pod,
    /// Clients of the management cluster.
    pub clients: Clients,
    /// Makes clients for servers that have a runtime of their own.
    pub own_client: OwnClient,
    /// Its time.
    pub clock: Arc<dyn Clock>,
    /// Its randomness.
    pub random: Arc<dyn Random>,
    /// Its way to workload clusters.
    pub dial: Dial,
    /// Where it computes what takes long.
    pub offload: Offload,
    /// Decides about crashes, where this process is simulated.
    pub crashes: Option<Arc<dyn fault::Hook>>,
    /// Its metrics, in which the clients count already.
    pub metrics: Arc<Metrics>,
}

/// Builds a task once it is known when it must stop.
pub(crate) type Build<Stop> = Box<dyn FnOnce(Stop) -> BoxFuture<'static, ()> + Send>;

/// A cache as the process sees it.
pub(crate) trait Cached: Send + Sync {
    /// Plural of its kind.
    fn name(&self) -> String;
    fn is_ready(&self) -> bool;
    fn wait(&self) -> BoxFuture<'_, ()>;
    fn state(&self) -> Value;
}

impl<K: Watched> Cached for Informer<K> {
    fn name(&self) -> String {
        K::plural(&()).into_owned()
    }

    fn is_ready(&self) -> bool {
        Informer::is_ready(self)
    }

    fn wait(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ready())
    }

    fn state(&self) -> Value {
        let invalid: std::collections::BTreeMap<_, _> =
            self.invalid().into_iter().map(|(key, reason)| (key.to_string(), reason)).collect();
        json!({"ready": Informer::is_ready(self), "objects": self.all().len(), "undecodable": invalid})
    }
}

/// A provider's process, wired but idle until [`Manager::start`].
pub struct Manager {
    pub(crate) args: ManagerArgs,
    pub(crate) identity: Identity,
    pub(crate) parts: Parts,
    pub(crate) telemetry: Option<Telemetry>,
    floor: Arc<Floor>,
    writer: Writer,
    secrets: SecretCache,
    pub(crate) workload: WorkloadClusters,
    pub(crate) informers: Vec<Build<CancellationToken>>,
    pub(crate) caches: Vec<Arc<dyn Cached>>,
    pub(crate) controllers: Vec<Build<Drain>>,
    pub(crate) queues: Vec<(&'static str, Requeue)>,
    pub(crate) webhooks: Webhooks,
}

impl Manager {
    /// Reads the configuration and makes the clients; nothing is asked of the API server yet.
    pub async fn new(args: ManagerArgs, identity: Identity) -> Result<Self, StartError> {
        let telemetry = telemetry::init(&args.telemetry, identity.name, identity.version).map_err(StartError::Flags)?;
        // A second installation is impossible in one process; tests may have made the first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let metrics = Arc::new(Metrics::default());
        let user_agent = user_agent(identity);
        let config = client::config(args.kubeconfig.as_deref()).await?;
        let parts = Parts {
            pod: Pod::of_environment(identity.name),
            own_client: client::own_client(config.clone(), &user_agent, CALL_LIMIT, &metrics),
            clients: client::clients(config, &user_agent, Some(&metrics))?,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            dial: client::dial(&user_agent),
            offload: Offload::default(),
            crashes: None,
            metrics,
        };
        Ok(Self { telemetry: Some(telemetry), ..Self::with_parts(args, identity, parts) })
    }

    /// A process of these parts, which leaves log and traces to its caller.
    pub fn with_parts(args: ManagerArgs, identity: Identity, parts: Parts) -> Self {
        let floor = Arc::new(Floor::default());
        let (call, clock) = (&parts.clients.call, &parts.clock);
        let writer = Writer::new(call.clone(), identity.field_manager, Arc::clone(&floor), Arc::clone(clock));
        let secrets = SecretCache::new(call.clone(), Arc::clone(clock));
        let workload = WorkloadClusters::new(secrets.clone(), Arc::clone(clock), Arc::clone(&parts.dial));
        Self {
            args,
            identity,
            parts,
            telemetry: None,
            floor,
            writer,
            secrets,
            workload,
            informers: Vec::new(),
            caches: Vec::new(),
            controllers: Vec::new(),
            queues: Vec::new(),
            webhooks: Webhooks::default(),
        }
    }

    /// Client for live reads; every call has a limit.
    pub fn client(&self) -> Client {
        self.parts.clients.call.clone()
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.parts.clock)
    }

    /// The randomness that everything here uses.
    pub fn random(&self) -> Arc<dyn Random> {
        Arc::clone(&self.parts.random)
    }

    /// Where this process computes what takes long.
    pub fn offload(&self) -> Offload {
        self.parts.offload
    }

    /// All writes go through this.
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Secrets by name.
    pub fn secrets(&self) -> SecretCache {
        self.secrets.clone()
    }

    /// Workload clusters.
    pub fn workload(&self) -> WorkloadClusters {
        self.workload.clone()
    }

    /// This process's metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.parts.metrics)
    }

    /// Feature gates as given by flag.
    pub fn feature_gates(&self) -> &FeatureGates {
        &self.args.feature_gates
    }

    /// Keeps a kind in a cache, with the indexes that the informer was given.
    pub fn informer<K: Watched>(&mut self, informer: Informer<K>) -> Informer<K> {
        self.floor.watch::<K>(Arc::new(informer.clone()));
        let (client, namespace) = (self.parts.clients.stream.clone(), self.args.namespace.clone());
        let (run, random) = (informer.clone(), Arc::clone(&self.parts.random));
        self.informers.push(Box::new(move |stop| Box::pin(run.run(client, namespace, None, random, stop))));
        self.caches.push(Arc::new(informer.clone()));
        informer
    }

    /// A controller over the objects of one kind.
    pub fn controller<K: Watched, R: Reconciler>(
        &mut self,
        name: &'static str,
        primary: &Informer<K>,
        reconciler: R,
        concurrency: usize,
    ) -> ControllerBuilder {
        let adds = self.parts.metrics.queue_adds.get_or_create_owned(&QueueLabels::of(name));
        let requeue = Requeue::new(adds);
        let wake = requeue.clone();
        primary.subscribe(move |change| wake.add(change.key.clone(), priority(change)));
        let (cache, filter) = (primary.clone(), self.args.watch_filter.clone());
        let standing = move |key: &ObjectKey| match cache.get(key) {
            Some(object) if passes_filter(object.as_ref(), &filter) => Standing::Ours,
            Some(_) => Standing::Others,
            None => Standing::Absent,
        };
        let worker = Worker {
            name,
            reconciler: Arc::new(reconciler),
            requeue: requeue.clone(),
            concurrency: concurrency.max(1),
            resync: self.args.sync_period,
            floor: Arc::clone(&self.floor),
            metrics: Arc::clone(&self.parts.metrics),
            clock: Arc::clone(&self.parts.clock),
            random: Arc::clone(&self.parts.random),
            crashes: self.parts.crashes.clone(),
            standing: Box::new(standing),
        };
        self.controllers.push(Box::new(move |drain| Box::pin(worker.run(drain))));
        self.queues.push((name, requeue.clone()));
        ControllerBuilder { requeue }
    }

    /// Serves these webhooks.
    pub fn webhooks(&mut self, webhooks: Webhooks) {
        self.webhooks = webhooks;
    }
}

/// Adds what else wakes a controller.
pub struct ControllerBuilder {
    requeue: Requeue,
}

impl ControllerBuilder {
    /// Objects of another kind wake the keys that `keys` gives for what they were and are.
    #[allow(clippy::return_self_not_must_use)] // It is built already; the rest of the chain is optional.
    pub fn watches<K: Watched>(
        self,
        informer: &Informer<K>,
        keys: impl Fn(Option<&K>, Option<&K>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        let wake = self.requeue.clone();
        informer.subscribe(move |change: &Change<K>| {
            for key in keys(change.old.as_deref(), change.new.as_deref()) {
                wake.add(key, priority(change));
            }
        });
        self
    }

    /// Wakes keys from elsewhere, e.g. when a task outside has ended.
    pub fn requeue(&self) -> Requeue {
        self.requeue.clone()
    }
}

/// What a user just did comes before what a start found: the first list wakes everything.
fn priority<K>(change: &Change<K>) -> Priority {
    if change.initial { Priority::Resync } else { Priority::Changed }
}

fn user_agent(identity: Identity) -> String {
    format!("{}/{}", identity.name, identity.version)
}

fn passes_filter<K: Resource>(object: &K, filter: &str) -> bool {
    filter.is_empty() || object.labels().get(cluster_api::labels::WATCH_FILTER).is_some_and(|value| value == filter)
}
