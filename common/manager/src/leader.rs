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
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

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

/// Contends for one lease.
pub struct Elector {
    api: Api<Lease>,
    config: LeaderConfig,
    clock: Arc<dyn Clock>,
    /// Holder, renewal and transitions as last seen, and when that was.
    observed: Option<(Observed, Duration)>,
}

type Observed = (Option<String>, Option<MicroTime>, Option<i32>);

impl Elector {
    /// A contender.
    pub fn new(client: Client, config: LeaderConfig, clock: Arc<dyn Clock>) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        Self { api, config, clock, observed: None }
    }

    /// Waits until the lease is ours; `false` when `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "Cannot get the lease."),
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.retry_period) => {}
                () = stop.cancelled() => return false,
            }
        }
    }

    /// Renews until the lease is lost (`false`) or `stop` (`true`, and the lease is given up).
    pub async fn hold(&mut self, stop: &CancellationToken) -> bool {
        let mut renewed = self.clock.monotonic();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.config.retry_period) => {}
                () = stop.cancelled() => {
                    self.release().await;
                    return true;
                }
            }
            match tokio::time::timeout(self.config.renew_deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = self.clock.monotonic(),
                Ok(Ok(false)) => return false,
                Ok(Err(error)) => tracing::warn!(%error, "Cannot renew the lease."),
                Err(_) => tracing::warn!("Renewing the lease takes too long."),
            }
            if self.clock.monotonic().saturating_sub(renewed) > self.config.renew_deadline {
                return false;
            }
        }
    }

    /// One try to get or renew the lease; whether it is ours.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(self.clock.now());
        let Some(mut lease) = self.api.get_opt(&self.config.name).await? else {
            return won(self.api.create(&PostParams::default(), &self.fresh(now)).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let seen: Observed = (spec.holder_identity.clone(), spec.renew_time.clone(), spec.lease_transitions);
        if self.observed.as_ref().is_none_or(|(known, _)| *known != seen) {
            self.observed = Some((seen, self.clock.monotonic()));
        }
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let ours = holder == self.config.identity;
        let age = self.observed.as_ref().map_or(Duration::ZERO, |(_, at)| self.clock.monotonic().saturating_sub(*at));
        if !ours && !holder.is_empty() && age < self.config.lease_duration {
            return Ok(false);
        }
        let transitions = spec.lease_transitions.unwrap_or(0);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs()).ok(),
            acquire_time: if ours { spec.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if ours { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        });
        won(self.api.replace(&self.config.name, &PostParams::default(), &lease).await)
    }

    fn fresh(&self, now: MicroTime) -> Lease {
        Lease {
            metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.config.identity.clone()),
                lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs()).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
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
        if !matches!(tokio::time::timeout(Duration::from_secs(5), give_up).await, Ok(Ok(()))) {
            tracing::warn!("The lease could not be given up; it expires by itself.");
        }
    }
}

/// A conflict means that someone else wrote first: not ours.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
