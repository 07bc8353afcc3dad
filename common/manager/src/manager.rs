//! The process: built from flags, wired, run, drained.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use kube::{Client, Resource, ResourceExt};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    ObjectKey,
    cli::{FeatureGates, ManagerArgs},
    client::{self, ClientError, Clients},
    clock::{Clock, SystemClock},
    floor::Floor,
    health,
    informer::{Change, Informer, Watched},
    leader::{Elector, LeaderConfig},
    metrics::Metrics,
    random::{Random, SystemRandom},
    secrets::SecretCache,
    telemetry,
    webhook::{self, Certificate, CertificateError, Webhooks},
    worker::{Reconciler, Requeue, Worker},
    workload::WorkloadClusters,
    writer::Writer,
};

/// Time between two looks at the webhook certificate.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);

/// Who this process is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Name of the provider, as its binary is called.
    pub name: &'static str,
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
    /// The lease was lost to another process.
    #[error("the lease was lost; another process leads")]
    LeaseLost,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Builds a task once it is known when it must stop.
type Build = Box<dyn FnOnce(CancellationToken) -> Task + Send>;
type ReadyCheck = Box<dyn Fn() -> bool + Send + Sync>;

/// A provider's process, wired but idle until [`Manager::run`].
pub struct Manager {
    args: ManagerArgs,
    identity: Identity,
    clients: Clients,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    floor: Arc<Floor>,
    metrics: Arc<Metrics>,
    writer: Writer,
    secrets: SecretCache,
    workload: WorkloadClusters,
    informers: Vec<Build>,
    ready: Vec<(String, ReadyCheck)>,
    controllers: Vec<Build>,
    webhooks: Webhooks,
}

impl Manager {
    /// Reads the configuration and makes the clients; nothing is asked of the API server yet.
    pub async fn new(args: ManagerArgs, identity: Identity) -> Result<Self, StartError> {
        telemetry::init(args.logging_format, args.v);
        // A second installation is impossible in one process; tests may have made the first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let metrics = Arc::new(Metrics::default());
        let user_agent = format!("{}/{}", identity.name, identity.version);
        let config = client::config(args.kubeconfig.as_deref()).await?;
        let clients = client::clients(config, &user_agent, Some(&metrics))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let floor = Arc::new(Floor::default());
        let writer = Writer::new(clients.call.clone(), identity.field_manager, Arc::clone(&floor), Arc::clone(&clock));
        let secrets = SecretCache::new(clients.call.clone(), Arc::clone(&clock));
        let workload = WorkloadClusters::new(secrets.clone(), Arc::clone(&clock), user_agent);
        Ok(Self {
            args,
            identity,
            clients,
            clock,
            random: Arc::new(SystemRandom),
            floor,
            metrics,
            writer,
            secrets,
            workload,
            informers: Vec::new(),
            ready: Vec::new(),
            controllers: Vec::new(),
            webhooks: Webhooks::default(),
        })
    }

    /// Client for live reads; every call has a limit.
    pub fn client(&self) -> Client {
        self.clients.call.clone()
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The randomness that everything here uses.
    pub fn random(&self) -> Arc<dyn Random> {
        Arc::clone(&self.random)
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
        Arc::clone(&self.metrics)
    }

    /// Feature gates as given by flag.
    pub fn feature_gates(&self) -> &FeatureGates {
        &self.args.feature_gates
    }

    /// Keeps a kind in a cache, with the indexes that the informer was given.
    pub fn informer<K: Watched>(&mut self, informer: Informer<K>) -> Informer<K> {
        self.floor.watch::<K>(Arc::new(informer.clone()));
        let (client, namespace, run) = (self.clients.stream.clone(), self.args.namespace.clone(), informer.clone());
        self.informers.push(Box::new(move |stop| Box::pin(run.run(client, namespace, None, stop))));
        let ready = informer.clone();
        self.ready.push((K::plural(&()).into_owned(), Box::new(move || ready.is_ready())));
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
        let requeue = Requeue::new();
        let filter = self.args.watch_filter.clone();
        let wake = requeue.clone();
        primary.subscribe(move |change| {
            let Some(object) = change.new.as_ref().or(change.old.as_ref()) else { return };
            if !passes_filter(object.as_ref(), &filter) {
                return;
            }
            // A list after a start or an interruption wakes everything; what a user just did comes first.
            match &change.old {
                None => wake.resync(change.key.clone()),
                Some(_) => wake.changed(change.key.clone()),
            }
        });
        let known = primary.clone();
        let worker = Worker {
            name,
            reconciler: Arc::new(reconciler),
            requeue: requeue.clone(),
            concurrency: concurrency.max(1),
            resync: self.args.sync_period,
            floor: Arc::clone(&self.floor),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            known: Box::new(move |key| known.get(key).is_some()),
        };
        self.controllers.push(Box::new(move |stop| Box::pin(worker.run(stop))));
        ControllerBuilder { requeue }
    }

    /// Serves these webhooks.
    pub fn webhooks(&mut self, webhooks: Webhooks) {
        self.webhooks = webhooks;
    }

    /// Runs until SIGTERM or SIGINT, or until the lease is lost.
    pub async fn run(self) -> Result<(), StartError> {
        let stop = CancellationToken::new();
        let signals = stop.clone();
        tokio::spawn(async move {
            terminated().await;
            tracing::info!("Stopping.");
            signals.cancel();
        });
        let mut servers = JoinSet::new();
        // Probes outlive the drain: a pod that ends its work is still alive.
        let probes = CancellationToken::new();
        let ready = Arc::new(self.ready);
        let checks = Arc::clone(&ready);
        let waiting: health::Waiting = Arc::new(move || {
            checks.iter().find(|(_, is_ready)| !is_ready()).map(|(name, _)| format!("the first list of {name}"))
        });
        let diagnostics = self.args.insecure_diagnostics.then_some(self.args.diagnostics_address);
        health::serve(self.args.health_addr, diagnostics, waiting, Arc::clone(&self.metrics), probes.clone())?;
        if self.args.webhook_port != 0 && !self.webhooks.is_empty() {
            let dir = &self.args.webhook_cert_dir;
            let pair = (dir.join(&self.args.webhook_cert_name), dir.join(&self.args.webhook_key_name));
            let certificate = Certificate::load(pair.0, pair.1)?;
            let listener = TcpListener::bind((self.args.webhook_bind_address.as_str(), self.args.webhook_port)).await?;
            servers.spawn(Arc::clone(&certificate).follow(CERTIFICATE_INTERVAL, stop.clone()));
            servers.spawn(webhook::serve(listener, self.webhooks.into_router(), certificate, stop.clone()));
        }
        for informer in self.informers {
            servers.spawn(informer(stop.clone()));
        }
        tracing::info!(name = self.identity.name, version = self.identity.version, "Started.");
        let result = if self.args.leader_elect {
            let config = lease(&self.args, self.identity);
            let elector = Elector::new(self.clients.call.clone(), config, Arc::clone(&self.clock));
            lead(elector, self.controllers, &ready, &self.metrics, &stop).await
        } else {
            work(self.controllers, &ready, &self.metrics, &stop).await;
            Ok(())
        };
        stop.cancel();
        while servers.join_next().await.is_some() {}
        probes.cancel();
        result
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
                wake.changed(key);
            }
        });
        self
    }

    /// Wakes keys from elsewhere, e.g. when a task outside has ended.
    pub fn requeue(&self) -> Requeue {
        self.requeue.clone()
    }
}

fn passes_filter<K: Resource>(object: &K, filter: &str) -> bool {
    filter.is_empty() || object.labels().get(cluster_api::labels::WATCH_FILTER).is_some_and(|value| value == filter)
}

fn lease(args: &ManagerArgs, identity: Identity) -> LeaderConfig {
    let namespace = std::env::var("POD_NAMESPACE").unwrap_or_else(|_| "default".to_owned());
    let host =
        std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| identity.name.to_owned());
    LeaderConfig {
        namespace,
        name: identity.lease.to_owned(),
        identity: format!("{host}_{:016x}", rand::random::<u64>()),
        lease_duration: args.leader_elect_lease_duration,
        renew_deadline: args.leader_elect_renew_deadline,
        retry_period: args.leader_elect_retry_period,
    }
}

async fn lead(
    mut elector: Elector,
    controllers: Vec<Build>,
    ready: &[(String, ReadyCheck)],
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    if !elector.acquire(stop).await {
        return Ok(());
    }
    tracing::info!("Leading.");
    let working = stop.child_token();
    // The lease is given up only after the last pass has ended.
    let released = CancellationToken::new();
    let hold = tokio::spawn({
        let (released, working) = (released.clone(), working.clone());
        async move {
            let kept = elector.hold(&released).await;
            working.cancel();
            kept
        }
    });
    work(controllers, ready, metrics, &working).await;
    released.cancel();
    match hold.await {
        Ok(true) => Ok(()),
        _ => Err(StartError::LeaseLost),
    }
}

/// Runs the controllers, once all caches are complete, until `stop`.
async fn work(controllers: Vec<Build>, ready: &[(String, ReadyCheck)], metrics: &Metrics, stop: &CancellationToken) {
    while !stop.is_cancelled() && ready.iter().any(|(_, is_ready)| !is_ready()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    metrics.leading.set(1);
    let mut running = JoinSet::new();
    for controller in controllers {
        running.spawn(controller(stop.clone()));
    }
    stop.cancelled().await;
    while running.join_next().await.is_some() {}
    metrics.leading.set(0);
}

async fn terminated() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
