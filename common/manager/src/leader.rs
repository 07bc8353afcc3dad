//! Leader election over a Lease, with client-go's rules.
//!
//! Expiry is judged by the own clock since the lease was last seen to change, never by comparing its times with the
//! local ones. A write that meets another's fails by its resource version. On loss the process ends: another leads.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, random::Random};

/// Limit of one call of a client that is made for this.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Limit of giving the lease up at the end.
const RELEASE: Duration = Duration::from_secs(3);

/// The lease and its times.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are: unique for each process.
    pub identity: String,
    /// Time after which an unrenewed lease is free.
    pub lease_duration: Duration,
    /// Time within which the lease must be renewed.
    pub renew_deadline: Duration,
    /// Time between tries.
    pub retry_period: Duration,
}

impl LeaderConfig {
    /// Whether the times are such that two processes never lead at once; otherwise which flags to change.
    pub fn check(&self) -> Result<(), String> {
        let text = |duration: Duration| format!("{} s", duration.as_secs_f64());
        if self.lease_duration < Duration::from_secs(1) {
            return Err(format!("--leader-elect-lease-duration is {}, a second at least", text(self.lease_duration)));
        }
        if self.lease_duration <= self.renew_deadline {
            return Err(format!(
                "--leader-elect-lease-duration ({}) must be longer than --leader-elect-renew-deadline ({})",
                text(self.lease_duration),
                text(self.renew_deadline)
            ));
        }
        if self.renew_deadline <= self.retry_period.mul_f64(1.2) {
            return Err(format!(
                "--leader-elect-renew-deadline ({}) must be longer than 1.2 times --leader-elect-retry-period ({})",
                text(self.renew_deadline),
                text(self.retry_period)
            ));
        }
        if self.retry_period.is_zero() {
            return Err("--leader-elect-retry-period must not be zero".to_owned());
        }
        Ok(())
    }
}

/// How a try for the lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    /// It is ours.
    Ours,
    /// Another holds it, and it has not run out.
    Others,
    /// Someone wrote it between our read and our write: it may be either's.
    Contended,
}

/// Contends for one lease.
pub struct Elector {
    api: Api<Lease>,
    config: LeaderConfig,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// The lease as last seen to change, and when that was.
    observed: Option<(LeaseSpec, Duration)>,
}

impl Elector {
    /// A contender. The client should be its own, with calls that fail soon.
    pub fn new(client: Client, config: LeaderConfig, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        Self { api, config, clock, random, observed: None }
    }

    /// Waits until the lease is ours; `false` when `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt(self.config.renew_deadline).await {
                Ok(Try::Ours) => return true,
                Ok(Try::Others | Try::Contended) => {}
                Err(reason) => tracing::warn!(reason, "Cannot get the lease."),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(self.random.jittered(self.config.retry_period)) => {}
            }
        }
    }

    /// Renews until the lease is lost (`false`) or `stop` (`true`, and the lease is given up). Loss is known at the renew
    /// deadline at the latest, which is before the lease runs out.
    pub async fn hold(&mut self, stop: &CancellationToken) -> bool {
        let mut renewed = self.clock.monotonic();
        let mut pause = self.config.retry_period;
        loop {
            let left = self.left(renewed);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.release().await;
                    return true;
                }
                () = tokio::time::sleep(pause.min(left)) => {}
            }
            let left = self.left(renewed);
            if left.is_zero() {
                return false;
            }
            let begun = self.clock.monotonic();
            pause = self.config.retry_period;
            // Half of the deadline for one try: a hanging call must leave time for another.
            match self.attempt(left.min(self.config.renew_deadline / 2)).await {
                // The lease runs from before the call: that is what others see at the earliest.
                Ok(Try::Ours) => renewed = begun,
                Ok(Try::Others) => return false,
                Ok(Try::Contended) => pause = Duration::from_millis(50),
                Err(reason) => tracing::warn!(reason, "Cannot renew the lease."),
            }
        }
    }

    fn left(&self, renewed: Duration) -> Duration {
        (renewed + self.config.renew_deadline).saturating_sub(self.clock.monotonic())
    }

    async fn attempt(&mut self, limit: Duration) -> Result<Try, String> {
        match timeout(limit, self.try_once()).await {
            Ok(tried) => tried.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
        }
    }

    /// One try to get or renew the lease.
    async fn try_once(&mut self) -> Result<Try, kube::Error> {
        let now = MicroTime(self.clock.now());
        let Some(mut lease) = self.api.get_opt(&self.config.name).await? else {
            return written(self.api.create(&PostParams::default(), &self.fresh(now)).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let at = match &self.observed {
            Some((known, at)) if *known == spec => *at,
            _ => self.clock.monotonic(),
        };
        self.observed = Some((spec.clone(), at));
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let ours = holder == self.config.identity;
        if !ours && !holder.is_empty() && self.clock.monotonic().saturating_sub(at) < self.life(&spec) {
            return Ok(Try::Others);
        }
        let transitions = spec.lease_transitions.unwrap_or(0);
        lease.spec = Some(LeaseSpec {
            acquire_time: if ours { spec.acquire_time } else { Some(now.clone()) },
            lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
            ..self.claim(now)
        });
        written(self.api.replace(&self.config.name, &PostParams::default(), &lease).await)
    }

    /// How long a lease stands unrenewed: as its holder wrote, who may run with other flags.
    fn life(&self, spec: &LeaseSpec) -> Duration {
        let told = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        told.map_or(self.config.lease_duration, Duration::from_secs)
    }

    fn claim(&self, now: MicroTime) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs()).ok(),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    fn fresh(&self, now: MicroTime) -> Lease {
        Lease {
            metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec { acquire_time: Some(now.clone()), lease_transitions: Some(0), ..self.claim(now) }),
        }
    }

    /// Empties the holder, so that the next process need not wait for the expiry.
    async fn release(&self) {
        let give_up = async {
            let mut lease = self.api.get(&self.config.name).await?;
            if let Some(spec) = &mut lease.spec
                && spec.holder_identity.as_deref() == Some(&self.config.identity)
            {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(&self.config.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if !matches!(timeout(RELEASE, give_up).await, Ok(Ok(()))) {
            tracing::warn!("The lease could not be given up; it runs out by itself.");
        }
    }
}

/// A conflict means that someone else wrote first.
fn written(answer: Result<Lease, kube::Error>) -> Result<Try, kube::Error> {
    match answer {
        Ok(_) => Ok(Try::Ours),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Try::Contended),
        Err(error) => Err(error),
    }
}
