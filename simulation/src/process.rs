//! Instances of our processes: begun, killed wherever they are, begun again.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::SignedDuration;
use kube::Client;
use manager::{
    Identity, Manager, Offload, Parts, Pod,
    cli::{FeatureGates, ManagerArgs},
    client::{ClientError, Clients, Dial},
    fault::{Hook, Moment},
    metrics::Metrics,
    telemetry::{LoggingFormat, TelemetryArgs},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    chance::Chance,
    journal::{Journal, Violation},
    plan::Plan,
    wire::{Far, Link, Wire},
};

/// What the journal says of a death at a crash point, before its name.
pub const DIES_AT: &str = "dies at ";
/// Shortest and longest time until a process that ended is begun again.
const RESTART: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// Time in which whoever hears of a pause ends what it is about: a pass, with all of its calls.
const HEEDS: Duration = Duration::from_secs(45);
/// Largest error of a wall clock, in seconds.
const SKEW: u64 = 40;

/// What an instance is: it adds its controllers to a process.
pub type Program = Arc<dyn Fn(&mut Manager, &Arc<Link>) + Send + Sync>;

/// Where an instance lives.
#[derive(Clone)]
pub struct Surroundings {
    /// The journal of its world.
    pub journal: Arc<Journal>,
    /// What goes wrong there.
    pub plan: Arc<Plan>,
    /// Chance of its world.
    pub chance: Arc<Chance>,
    /// The management cluster.
    pub management: Far,
    /// The workload cluster, which every kubeconfig leads to.
    pub workload: Far,
    /// Whether the cluster is paused.
    pub paused: Arc<AtomicBool>,
}

/// An instance of a process, through all its lives.
pub struct Instance {
    identity: Identity,
    program: Program,
    around: Surroundings,
    /// Whether it contends for a lease.
    elects: bool,
    link: Mutex<Arc<Link>>,
    death: Arc<Notify>,
}

impl Instance {
    /// An instance that has not begun. `number` tells it from others of its kind.
    pub fn new(identity: Identity, number: usize, program: Program, around: &Surroundings, elects: bool) -> Arc<Self> {
        let name = format!("{}-{number}", identity.provider);
        let link = Link::new(&name, &around.journal, &around.plan, &around.chance);
        Arc::new(Self {
            identity,
            program,
            around: around.clone(),
            elects,
            link: Mutex::new(link),
            death: Arc::default(),
        })
    }

    /// Its network in its present life.
    pub fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link.lock())
    }

    /// Kills it.
    pub fn kill(&self) {
        let link = self.link();
        if !link.is_cut() {
            self.around.journal.fault(&link.name, "is killed");
            link.cut();
            self.death.notify_one();
        }
    }

    /// Lives one life after the other.
    pub async fn live(self: Arc<Self>) {
        let name = self.link().name.to_string();
        let chance = self.around.chance.of(&format!("lives of {name}"));
        for life in 0_u64.. {
            let begun = Link::new(&name, &self.around.journal, &self.around.plan, &chance.of(&life.to_string()));
            *self.link.lock() = Arc::clone(&begun);
            // A wall clock is wrong for as long as its machine is up, and our processes move.
            let skew = i64::try_from(chance.below(2 * SKEW)).unwrap_or_default() - SKEW.cast_signed();
            let skew = if chance.once_in(2) { SignedDuration::ZERO } else { SignedDuration::from_secs(skew) };
            let manager = self.process(&begun, skew, &chance.of(&format!("inner {life}")));
            let life = tokio::spawn(manager.embedded());
            let abort = life.abort_handle();
            tokio::select! {
                biased;
                () = self.death.notified() => {}
                ended = life => {
                    let why = match ended {
                        Ok(Ok(())) => "by itself".to_owned(),
                        Ok(Err(error)) => error.to_string(),
                        Err(error) => error.to_string(),
                    };
                    self.around.journal.note(&begun.name, "ends", why);
                }
            }
            begun.cut();
            abort.abort();
            sleep(chance.between(RESTART.0, RESTART.1)).await;
            self.around.journal.note(&begun.name, "starts again", "");
        }
    }

    fn process(&self, link: &Arc<Link>, skew: SignedDuration, chance: &Chance) -> Manager {
        let call = Client::new(Wire::new(Arc::clone(link), self.around.management.clone()), "default");
        let own = call.clone();
        let (workload, to_workload) = (self.around.workload.clone(), Arc::clone(link));
        let dial: Dial = Arc::new(move |_| {
            let client = Client::new(Wire::new(Arc::clone(&to_workload), workload.clone()), "default");
            Ok::<_, ClientError>(Clients { call: client.clone(), stream: client })
        });
        let parts = Parts {
            pod: Pod { name: link.name.to_string(), namespace: "default".to_owned() },
            clients: Clients { call: call.clone(), stream: call },
            own_client: Arc::new(move || Ok(own.clone())),
            clock: Arc::new(self.around.journal.clock().skewed(skew)),
            random: Arc::new(chance.of("random")),
            dial,
            offload: Offload::InPlace,
            crashes: Some(Arc::new(Points {
                link: Arc::clone(link),
                death: Arc::clone(&self.death),
                paused: Arc::clone(&self.around.paused),
            })),
            metrics: Arc::new(Metrics::default()),
        };
        let mut manager = Manager::with_parts(arguments(self.elects), self.identity, parts);
        (self.program)(&mut manager, link);
        manager
    }
}

/// The crash points of one life.
struct Points {
    link: Arc<Link>,
    death: Arc<Notify>,
    paused: Arc<AtomicBool>,
}

impl Points {
    /// I5: nothing is done to what is paused, once that is known.
    fn check(&self, effect: &str) {
        let is_known = || self.link.knows_of_pause().is_some_and(|since| since + HEEDS < Instant::now());
        if self.paused.load(Ordering::Relaxed) && is_known() && !effect.ends_with("status") {
            let what = format!("{} is at {effect}, and the cluster is paused", self.link.name);
            self.link.journal.violate(Violation::new("I5", what));
        }
    }
}

impl Hook for Points {
    fn reach(&self, effect: &'static str, moment: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if self.link.is_cut() {
            return Box::pin(std::future::pending());
        }
        if moment == Moment::Before {
            self.check(effect);
        }
        if self.link.plan.next_point(effect, moment) {
            self.link.journal.fault(&self.link.name, format!("{DIES_AT}{}", moment.file_name(effect)));
            self.link.cut();
            self.death.notify_one();
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(()))
    }
}

/// The flags of a simulated process: leases and resyncs that cost few requests, no servers.
fn arguments(elects: bool) -> ManagerArgs {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    ManagerArgs {
        kubeconfig: None,
        namespace: None,
        watch_filter: String::new(),
        leader_elect: elects,
        leader_elect_lease_duration: Duration::from_secs(120),
        leader_elect_renew_deadline: Duration::from_secs(80),
        leader_elect_retry_period: Duration::from_secs(20),
        webhook_port: 0,
        webhook_bind_address: String::new(),
        webhook_cert_dir: std::path::PathBuf::new(),
        webhook_cert_name: String::new(),
        webhook_key_name: String::new(),
        webhook_cert_secret: None,
        webhook_service_name: None,
        health_addr: nowhere,
        diagnostics_address: nowhere,
        insecure_diagnostics: true,
        feature_gates: FeatureGates::default(),
        sync_period: Duration::from_secs(300),
        telemetry: TelemetryArgs { v: 0, logging_format: LoggingFormat::Text, otlp_endpoint: None, trace_ratio: 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{wire::PAUSED, world::trial};

    /// The rule that is broken where an effect is reached this long after the process heard of a pause.
    fn reached(effect: &'static str, after: Duration) -> Option<&'static str> {
        trial::broken(Duration::from_secs(1), async |world| {
            let link = Link::new("ours", &world.journal, &world.plan, &world.chance);
            link.hear_of_cluster(PAUSED);
            sleep(after).await;
            let points = Points { link, death: Arc::default(), paused: Arc::new(AtomicBool::new(true)) };
            points.reach(effect, Moment::Before).await;
        })
    }

    #[test]
    fn whoever_acts_on_what_is_paused_is_noticed() {
        assert_eq!(reached("create-machine", HEEDS / 2), None, "a pass may end");
        assert_eq!(reached("create-machine", HEEDS * 2), Some("I5"));
        assert_eq!(reached("write-status", HEEDS * 2), None, "it may be said");
    }
}
