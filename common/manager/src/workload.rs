//! Connections to workload clusters.
//!
//! One pair of clients per cluster, made from its kubeconfig Secret when first asked for, dropped when that changes. A
//! cluster is probed before it is used after a while of silence, beside the passes: one that hangs costs a pass two
//! seconds at most, and is asked again only after a backoff; meanwhile it costs callers nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use kube::{
    Api, Client, Config,
    api::Portforwarder,
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    ObjectKey, ReconcileError,
    client::{Clients, Dial},
    clock::Clock,
    secrets::{self, SecretCache},
};

/// Limit of a probe.
const PROBE: Duration = Duration::from_secs(5);
/// How long a pass waits for a probe; it goes on beside it.
const WAIT: Duration = Duration::from_secs(2);
/// How long a cluster that answered is believed to answer.
const FRESH: Duration = Duration::from_secs(10);
/// Shortest and longest time in which a cluster that does not answer is left alone.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Longest time in which a cluster is left alone that refuses at once: it costs next to nothing to ask, and most likely it
/// is only starting.
const REFUSED: Duration = Duration::from_secs(3);
/// What fails within this time was refused.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A cluster that answered for this long starts with the shortest backoff again.
const STEADY: Duration = Duration::from_secs(60);
/// Limit of opening a port-forward.
const FORWARD: Duration = Duration::from_secs(8);

/// Why a workload cluster cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The kubeconfig Secret is not there yet.
    #[error("Secret {0} does not exist yet")]
    NoKubeconfig(String),
    /// The kubeconfig Secret is unusable.
    #[error("Secret {secret}: {reason}")]
    BadKubeconfig {
        /// Its name.
        secret: String,
        /// What is wrong, without its content.
        reason: String,
    },
    /// The API server does not answer.
    #[error("the API server of the workload cluster does not answer: {0}")]
    Down(String),
}

/// Connections to all workload clusters of a process; cheap to clone.
#[derive(Clone)]
pub struct WorkloadClusters {
    secrets: SecretCache,
    clock: Arc<dyn Clock>,
    dial: Dial,
    known: Arc<Mutex<HashMap<ObjectKey, Known>>>,
}

struct Known {
    kubeconfig: Vec<u8>,
    state: State,
    /// The last backoff.
    backoff: Option<Duration>,
    /// When it was last handed out.
    used: Duration,
}

enum State {
    /// A probe is under way; cancelled when it has ended. Who waits is woken in the order of waiting.
    Probing(CancellationToken),
    /// It answered: first at `since` without a failure in between, last at `checked`.
    Up { client: WorkloadClient, since: Duration, checked: Duration },
    /// It is left alone for a while.
    Down { until: Duration, reason: Unreachable },
}

/// Clients of one workload cluster; cheap to clone.
#[derive(Clone)]
pub struct WorkloadClient {
    clients: Clients,
}

impl WorkloadClusters {
    pub(crate) fn new(secrets: SecretCache, clock: Arc<dyn Clock>, dial: Dial) -> Self {
        Self { secrets, clock, dial, known: Arc::default() }
    }

    /// The connection to a cluster, by the key of its Cluster.
    pub async fn connect(&self, cluster: &ObjectKey) -> Result<WorkloadClient, ConnectError> {
        let name = format!("{}-kubeconfig", cluster.name);
        let Some(secret) = self.secrets.get_within(secrets::KEYS, &cluster.sibling(&name)).await? else {
            self.known.lock().remove(cluster);
            return Err(Unreachable::NoKubeconfig(name).into());
        };
        let kubeconfig = secrets::value(&secret, "value").unwrap_or_default();
        let probed = match self.look(cluster, &name, kubeconfig) {
            Look::Up(client) => return Ok(client),
            Look::Down(reason) => return Err(reason.into()),
            Look::Probing(probed) => probed,
        };
        // An error says that it takes longer, which the state tells then.
        let _ = tokio::time::timeout(WAIT, probed.cancelled()).await;
        let now = self.clock.monotonic();
        let mut known = self.known.lock();
        match known.get_mut(cluster) {
            Some(Known { state: State::Up { client, .. }, used, .. }) => {
                *used = now;
                Ok(client.clone())
            }
            Some(Known { state: State::Down { reason, .. }, .. }) => Err(reason.clone().into()),
            _ => Err(Unreachable::Down(format!("no answer within {} s", WAIT.as_secs())).into()),
        }
    }

    /// What is known of a cluster now; begins a probe where that is too little.
    fn look(&self, cluster: &ObjectKey, secret: &str, kubeconfig: &[u8]) -> Look {
        let now = self.clock.monotonic();
        let mut all = self.known.lock();
        let known = all.remove(cluster).filter(|known| known.kubeconfig == kubeconfig);
        let probed = CancellationToken::new();
        let tell = probed.clone().drop_guard();
        let (look, known) = match known {
            Some(Known { state: State::Up { client, since, checked }, kubeconfig, backoff, .. })
                if now.saturating_sub(checked) < FRESH =>
            {
                let look = Look::Up(client.clone());
                (look, Known { state: State::Up { client, since, checked }, kubeconfig, backoff, used: now })
            }
            Some(known) => match &known.state {
                State::Down { until, reason } if now < *until => (Look::Down(reason.clone()), known),
                State::Probing(probed) if !probed.is_cancelled() => (Look::Probing(probed.clone()), known),
                State::Up { client, since, .. } => {
                    self.probe(cluster, secret, kubeconfig, Some((client.clone(), *since)), tell);
                    (Look::Probing(probed.clone()), Known { state: State::Probing(probed), ..known })
                }
                State::Down { .. } | State::Probing(_) => {
                    self.probe(cluster, secret, kubeconfig, None, tell);
                    (Look::Probing(probed.clone()), Known { state: State::Probing(probed), ..known })
                }
            },
            None => {
                self.probe(cluster, secret, kubeconfig, None, tell);
                let state = State::Probing(probed.clone());
                (Look::Probing(probed), Known { kubeconfig: kubeconfig.to_vec(), state, backoff: None, used: now })
            }
        };
        all.insert(cluster.clone(), known);
        look
    }

    /// Asks a cluster for a sign of life, beside the caller.
    fn probe(
        &self,
        cluster: &ObjectKey,
        secret: &str,
        kubeconfig: &[u8],
        up: Option<(WorkloadClient, Duration)>,
        tell: DropGuard,
    ) {
        let (clusters, cluster) = (self.clone(), cluster.clone());
        let (secret, kubeconfig) = (secret.to_owned(), kubeconfig.to_vec());
        tokio::spawn(async move {
            let begun = clusters.clock.monotonic();
            let since = up.as_ref().map_or(begun, |(_, since)| *since);
            let dialled = match up {
                Some((client, _)) => client.probe().await.map(|()| client),
                None => clusters.dial(&secret, &kubeconfig).await,
            };
            let now = clusters.clock.monotonic();
            if let Some(known) = clusters.known.lock().get_mut(&cluster)
                && known.kubeconfig == kubeconfig
            {
                match dialled {
                    Ok(client) => known.state = State::Up { client, since, checked: now },
                    Err(reason) => known.fall(reason, now, now.saturating_sub(begun), since),
                }
            }
            drop(tell);
        });
    }

    /// A call to the cluster failed for want of an answer: the next one dials anew, after a backoff.
    pub fn report_down(&self, cluster: &ObjectKey, reason: &str) {
        let now = self.clock.monotonic();
        if let Some(known) = self.known.lock().get_mut(cluster)
            && let State::Up { since, .. } = known.state
        {
            let took = now.saturating_sub(known.used);
            known.fall(Unreachable::Down(reason.to_owned()), now, took, since);
        }
    }

    /// How each cluster stands, for diagnostics.
    pub(crate) fn state(&self) -> BTreeMap<String, String> {
        let told = |known: &Known| match &known.state {
            State::Probing(_) => "being asked".to_owned(),
            State::Up { .. } => "answers".to_owned(),
            State::Down { reason, .. } => reason.to_string(),
        };
        self.known.lock().iter().map(|(cluster, known)| (cluster.to_string(), told(known))).collect()
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, cluster: &ObjectKey) {
        self.known.lock().remove(cluster);
        self.secrets.forget(&cluster.sibling(format!("{}-kubeconfig", cluster.name)));
    }

    async fn dial(&self, secret: &str, kubeconfig: &[u8]) -> Result<WorkloadClient, Unreachable> {
        let bad = |reason: String| Unreachable::BadKubeconfig { secret: secret.to_owned(), reason };
        let text = std::str::from_utf8(kubeconfig).map_err(|error| bad(error.to_string()))?;
        let parsed = Kubeconfig::from_yaml(text).map_err(|_| bad("its `value` is no kubeconfig".to_owned()))?;
        if let Some(field) = outward(&parsed) {
            return Err(bad(format!("`{field}` is not allowed: credentials must be in the kubeconfig itself")));
        }
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(parsed, &options).await.map_err(|error| bad(error.to_string()))?;
        let clients = (self.dial)(config).map_err(|error| bad(error.to_string()))?;
        let client = WorkloadClient { clients };
        client.probe().await?;
        Ok(client)
    }
}

enum Look {
    Up(WorkloadClient),
    Down(Unreachable),
    Probing(CancellationToken),
}

impl Known {
    /// Leaves the cluster alone for a while: longer each time, unless it had answered for long; not for long where it
    /// refused at once.
    fn fall(&mut self, reason: Unreachable, now: Duration, took: Duration, since: Duration) {
        let limit = if took < AT_ONCE { REFUSED } else { BACKOFF.1 };
        let before = self.backoff.filter(|_| now.saturating_sub(since) < STEADY);
        let backoff = before.map_or(BACKOFF.0, |before| (before * 2).min(limit));
        self.backoff = Some(backoff);
        self.state = State::Down { until: now + backoff, reason };
    }
}

/// A field by which a kubeconfig reaches out of itself: whoever writes the Secret would run programs or read files as us.
fn outward(kubeconfig: &Kubeconfig) -> Option<&'static str> {
    let users = kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
    for user in users {
        let fields = [
            (user.exec.is_some(), "exec"),
            (user.auth_provider.is_some(), "auth-provider"),
            (user.token_file.is_some(), "tokenFile"),
            (user.client_certificate.is_some(), "client-certificate"),
            (user.client_key.is_some(), "client-key"),
        ];
        if let Some((_, field)) = fields.into_iter().find(|(set, _)| *set) {
            return Some(field);
        }
    }
    let mut clusters = kubeconfig.clusters.iter().filter_map(|cluster| cluster.cluster.as_ref());
    clusters.any(|cluster| cluster.certificate_authority.is_some()).then_some("certificate-authority")
}

/// Why [`WorkloadClusters::connect`] gives no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The workload cluster cannot be asked.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The management cluster cannot be asked for the kubeconfig.
    #[error(transparent)]
    Management(#[from] ReconcileError),
}

impl WorkloadClient {
    /// Whether the API server gives a sign of life.
    async fn probe(&self) -> Result<(), Unreachable> {
        match tokio::time::timeout(PROBE, self.clients.call.apiserver_version()).await {
            // It answered: that it refuses is for the caller to see.
            Ok(Ok(_) | Err(kube::Error::Api(_))) => Ok(()),
            Ok(Err(error)) => Err(Unreachable::Down(error.to_string())),
            Err(_) => Err(Unreachable::Down(format!("no answer within {} s", PROBE.as_secs()))),
        }
    }

    /// For requests with one answer, each with a limit.
    pub fn client(&self) -> &Client {
        &self.clients.call
    }

    /// For watches, which last.
    pub fn stream(&self) -> &Client {
        &self.clients.stream
    }

    /// Opens a connection to a port of a pod through the API server.
    pub async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Forward, kube::Error> {
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.clients.stream.clone(), namespace);
        let opening = async {
            let mut forwarder = pods.portforward(pod, &[port]).await?;
            let stream = forwarder.take_stream(port);
            Ok((forwarder, stream))
        };
        match tokio::time::timeout(FORWARD, opening).await {
            Ok(Ok((forwarder, Some(stream)))) => Ok(Forward { stream: Some(stream), forwarder }),
            Ok(Ok((forwarder, None))) => {
                forwarder.abort();
                Err(late("the API server opened no stream"))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(late("the port-forward did not open in time")),
        }
    }
}

fn late(reason: &str) -> kube::Error {
    kube::Error::Service(std::io::Error::new(std::io::ErrorKind::TimedOut, reason.to_owned()).into())
}

/// An open port-forward. Its background task ends with it: kube's own type would leave it running.
pub struct Forward {
    stream: Option<DuplexStream>,
    forwarder: Portforwarder,
}

impl Forward {
    /// The connection; `None` when it was taken before. Keep the [`Forward`] alive while it is used.
    pub fn take_stream(&mut self) -> Option<DuplexStream> {
        self.stream.take()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_that_reaches_out_of_itself_is_refused() {
        let kubeconfig = |user: &str| {
            Kubeconfig::from_yaml(&format!(
                "{{apiVersion: v1, kind: Config, clusters: [{{name: c, cluster: {{server: 'https://h'}}}}], \
                 users: [{{name: u, user: {{{user}}}}}]}}"
            ))
            .unwrap()
        };
        assert_eq!(outward(&kubeconfig("token: secret")), None);
        assert_eq!(outward(&kubeconfig("tokenFile: /var/run/secrets/token")), Some("tokenFile"));
        assert_eq!(outward(&kubeconfig("exec: {command: sh, apiVersion: v1}")), Some("exec"));
    }

    #[test]
    fn a_cluster_that_hangs_is_left_alone_longer_than_one_that_refuses() {
        let down = || Unreachable::Down("no".to_owned());
        let second = Duration::from_secs(1);
        let waits = |took: Duration| {
            let state = State::Down { until: Duration::ZERO, reason: down() };
            let mut known = Known { kubeconfig: Vec::new(), state, backoff: None, used: Duration::ZERO };
            let wait = |_| {
                known.fall(down(), second * 100, took, second * 100);
                known.backoff.unwrap_or_default()
            };
            (0..7).map(wait).collect::<Vec<_>>()
        };
        assert_eq!(waits(Duration::from_millis(5))[5], REFUSED);
        let hanging = waits(PROBE);
        assert_eq!((hanging[0], hanging[1], hanging[6]), (BACKOFF.0, BACKOFF.0 * 2, BACKOFF.1));
        let state = State::Down { until: Duration::ZERO, reason: down() };
        let mut steady = Known { kubeconfig: Vec::new(), state, backoff: Some(BACKOFF.1), used: Duration::ZERO };
        steady.fall(down(), second * 100, PROBE, second * 40);
        assert_eq!(steady.backoff, Some(BACKOFF.0), "one that had answered for a minute begins anew");
    }
}
