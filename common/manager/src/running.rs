//! The process while it runs: servers at once, controllers while it leads, and the drain at its end.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Manager, StartError,
    client::OwnClient,
    drain::Drain,
    health::{self, Addresses, Diagnostics},
    leader::{Elector, LeaderConfig},
    manager::{Build, Cached, Parts, Pod},
    metrics::LeaseLabel,
    tls::{self, Certificate, Files},
    webhook::{Managed, Place},
};

/// Time between two looks at the files of the webhook certificate.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);
/// Time after which what is waited for at the start is told again.
const REMINDER: Duration = Duration::from_secs(15);

/// A process that runs.
pub struct Running {
    drain: Drain,
    /// Where it serves.
    pub addresses: Addresses,
    /// Where it serves webhooks; `None` where it serves none.
    pub webhooks: Option<SocketAddr>,
    done: JoinHandle<Result<(), StartError>>,
}

impl Running {
    /// By which it is told to end.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Waits until it has ended: because it was told to, or because it lost the lease.
    pub async fn ended(self) -> Result<(), StartError> {
        self.done.await.unwrap_or_else(|error| Err(StartError::Broken(error.to_string())))
    }
}

impl Manager {
    /// Runs until SIGTERM or SIGINT, or until the lease is lost.
    pub async fn run(self) -> Result<(), StartError> {
        let telemetry = self.telemetry.clone();
        let running = self.start().await?;
        let drain = running.drain();
        tokio::spawn(async move {
            process::terminated().await;
            tracing::info!("Stopping.");
            drain.begin();
        });
        let result = running.ended().await;
        if let Some(telemetry) = telemetry {
            telemetry.flush().await;
        }
        result
    }

    /// Opens the servers, starts the caches, and the controllers as soon as this process leads.
    pub async fn start(self) -> Result<Running, StartError> {
        let election = if self.args.leader_elect { Some(self.lease()?) } else { None };
        let drain = Drain::default();
        let stop = drain.stop.clone();
        let mut servers = JoinSet::new();
        let (webhooks, certificate) = self.serve_webhooks(&mut servers, &stop).await?;
        // Probes outlive the drain: a pod that ends its work is still alive.
        let probes = CancellationToken::new();
        let addresses = self.serve_probes(certificate, probes.clone())?;
        let Self { parts, identity, informers, controllers, caches, .. } = self;
        for informer in informers {
            servers.spawn(informer(stop.clone()));
        }
        tracing::info!(name = identity.name, version = identity.version, "Started.");
        let lease = LeaseLabel { name: identity.lease };
        let ending = drain.clone();
        let done = tokio::spawn(async move {
            let work = |drain| work(controllers, caches, parts.clone(), lease, drain);
            let result = if let Some(config) = election {
                lead(config, &parts, work, &ending, on_a_thread).await
            } else {
                work(ending.clone()).await;
                Ok(())
            };
            ending.begin();
            while servers.join_next().await.is_some() {}
            probes.cancel();
            result
        });
        Ok(Running { drain, addresses, webhooks, done })
    }

    /// Lives as a part of its caller, without servers, threads or signals, until it loses the lease: for who simulates
    /// many processes in one. To drop it is to kill it.
    pub async fn embedded(self) -> Result<(), StartError> {
        let election = if self.args.leader_elect { Some(self.lease()?) } else { None };
        let drain = Drain::default();
        let (mut informers, mut contention) = (JoinSet::new(), JoinSet::new());
        for informer in self.informers {
            informers.spawn(informer(drain.stop.clone()));
        }
        let (parts, lease) = (self.parts.clone(), LeaseLabel { name: self.identity.lease });
        let work = |drain| work(self.controllers, self.caches, parts.clone(), lease, drain);
        let Some(config) = election else {
            work(drain).await;
            return Ok(());
        };
        let beside = |contend| {
            contention.spawn(contend);
            Ok(())
        };
        lead(config, &parts, work, &drain, beside).await
    }

    async fn serve_webhooks(
        &self,
        servers: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Result<(Option<SocketAddr>, Option<Arc<Certificate>>), StartError> {
        let args = &self.args;
        if args.webhook_port == 0 || self.webhooks.is_empty() {
            return Ok((None, None));
        }
        let certificate = Arc::new(Certificate::default());
        if let (Some(secret), Some(service)) = (&args.webhook_cert_secret, &args.webhook_service_name) {
            let (secret, service) = (secret.clone(), service.clone());
            let place = Place {
                namespace: self.parts.pod.namespace.clone(),
                secret,
                service,
                provider: self.identity.provider,
            };
            let (clock, random) = (Arc::clone(&self.parts.clock), Arc::clone(&self.parts.random));
            let managed = Managed::new(self.parts.clients.call.clone(), place, clock, random);
            servers.spawn(managed.keep(Arc::clone(&certificate), stop.clone()));
        } else {
            let dir = &args.webhook_cert_dir;
            let mut files = Files::new(dir.join(&args.webhook_cert_name), dir.join(&args.webhook_key_name));
            files.read(&certificate)?;
            servers.spawn(files.follow(Arc::clone(&certificate), CERTIFICATE_INTERVAL, stop.clone()));
        }
        let listener = TcpListener::bind((args.webhook_bind_address.as_str(), args.webhook_port)).await?;
        let address = listener.local_addr()?;
        let router = self.webhooks.router(Arc::clone(&self.parts.metrics));
        servers.spawn(tls::serve(listener, router, certificate.clone(), stop.clone()));
        Ok((Some(address), Some(certificate)))
    }

    fn serve_probes(&self, certificate: Option<Arc<Certificate>>, stop: CancellationToken) -> io::Result<Addresses> {
        let caches = self.caches.clone();
        let waiting: health::Waiting = Arc::new(move || {
            let certificate = certificate.as_ref().filter(|certificate| !certificate.is_set());
            let lists = || caches.iter().find(|cache| !cache.is_ready()).map(|cache| first_list(cache.as_ref()));
            certificate.map(|_| "the webhook certificate".to_owned()).or_else(lists)
        });
        let (caches, queues, workload) = (self.caches.clone(), self.queues.clone(), self.workload.clone());
        let state = move || {
            let caches: serde_json::Map<_, _> = caches.iter().map(|cache| (cache.name(), cache.state())).collect();
            let queues: serde_json::Map<_, Value> =
                queues.iter().map(|(name, queue)| ((*name).to_owned(), queue.state())).collect();
            json!({"caches": caches, "controllers": queues, "workloadClusters": workload.state()})
        };
        let diagnostics = Diagnostics {
            metrics: Arc::clone(&self.parts.metrics),
            state: Arc::new(state),
            telemetry: self.telemetry.clone(),
            reviewer: (!self.args.insecure_diagnostics).then(|| Arc::clone(&self.parts.own_client)),
            clock: Arc::clone(&self.parts.clock),
        };
        health::serve(self.args.health_addr, self.args.diagnostics_address, waiting, diagnostics, stop)
    }

    fn lease(&self) -> Result<LeaderConfig, StartError> {
        let Pod { name, namespace } = &self.parts.pod;
        let config = LeaderConfig {
            namespace: namespace.clone(),
            name: self.identity.lease.to_owned(),
            identity: format!("{name}_{:016x}", self.parts.random.below(u64::MAX)),
            lease_duration: self.args.leader_elect_lease_duration,
            renew_deadline: self.args.leader_elect_renew_deadline,
            retry_period: self.args.leader_elect_retry_period,
        };
        config.check().map_err(StartError::Flags)?;
        Ok(config)
    }
}

fn first_list(cache: &dyn Cached) -> String {
    format!("the first list of {}", cache.name())
}

/// Works while this process holds the lease.
async fn lead<F: Future<Output = ()>>(
    config: LeaderConfig,
    parts: &Parts,
    work: impl FnOnce(Drain) -> F,
    drain: &Drain,
    beside: impl FnOnce(Contention) -> io::Result<()>,
) -> Result<(), StartError> {
    let working = Drain { stop: drain.stop.child_token(), abandon: drain.abandon.child_token() };
    // The lease is given up only after the last pass has ended.
    let released = CancellationToken::new();
    let (elected, kept) = elect(config, parts, &drain.stop, &working, &released, beside)?;
    // An end without a word is a client that could not be made.
    if !elected.await.unwrap_or(false) {
        return if drain.stop.is_cancelled() { Ok(()) } else { Err(StartError::LeaseLost) };
    }
    tracing::info!("Leading.");
    work(working).await;
    released.cancel();
    if kept.await.unwrap_or(false) { Ok(()) } else { Err(StartError::LeaseLost) }
}

type Told = oneshot::Receiver<bool>;
type Contention = BoxFuture<'static, ()>;

/// Contends for the lease beside the work. Tells when it is ours, and at the end whether it was kept; work is abandoned
/// the moment that it is lost.
fn elect(
    config: LeaderConfig,
    parts: &Parts,
    stop: &CancellationToken,
    working: &Drain,
    released: &CancellationToken,
    beside: impl FnOnce(Contention) -> io::Result<()>,
) -> io::Result<(Told, Told)> {
    let ((tell_elected, elected), (tell_kept, kept)) = (oneshot::channel(), oneshot::channel());
    let (own_client, clock, random): (OwnClient, _, _) =
        (Arc::clone(&parts.own_client), Arc::clone(&parts.clock), Arc::clone(&parts.random));
    let (stop, working, released) = (stop.clone(), working.clone(), released.clone());
    beside(Box::pin(async move {
        let client = match own_client() {
            Ok(client) => client,
            Err(error) => return tracing::error!(%error, "Cannot contend for the lease."),
        };
        let mut elector = Elector::new(client, config, clock, random);
        let ours = elector.acquire(&stop).await;
        // Nobody listens only where the process is ending already.
        let _ = tell_elected.send(ours);
        if ours {
            let held = elector.hold(&released).await;
            if !held {
                tracing::error!("The lease is lost; what is under way is abandoned.");
                working.abandon();
            }
            let _ = tell_kept.send(held);
        }
    }))?;
    Ok((elected, kept))
}

/// On a thread and runtime of its own no load on the workers keeps the lease from being renewed.
fn on_a_thread(contention: Contention) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("leader".to_owned()).spawn(move || runtime.block_on(contention))?;
    Ok(())
}

/// Runs the controllers, once all caches are complete, until the drain.
async fn work(
    controllers: Vec<Build<Drain>>,
    caches: Vec<Arc<dyn Cached>>,
    parts: Parts,
    lease: LeaseLabel,
    drain: Drain,
) {
    tokio::select! {
        biased;
        () = drain.stop.cancelled() => return,
        () = complete(&caches) => {}
    }
    let leading = parts.metrics.leading.get_or_create_owned(&lease);
    leading.set(1);
    let mut running = JoinSet::new();
    for controller in controllers {
        running.spawn(controller(drain.clone()));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "A controller broke down; this process ends.");
            drain.begin();
        }
    }
    drain.stop.cancelled().await;
    leading.set(0);
}

/// Waits for the first list of every cache, and tells now and then for which.
async fn complete(caches: &[Arc<dyn Cached>]) {
    for cache in caches {
        while tokio::time::timeout(REMINDER, cache.wait()).await.is_err() {
            tracing::warn!("Waiting for {}.", first_list(cache.as_ref()));
        }
    }
}
