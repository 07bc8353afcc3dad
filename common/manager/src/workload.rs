//! Connections to workload clusters.
//!
//! One pair of clients per cluster, made from its kubeconfig Secret when first asked for, dropped when that changes. A
//! cluster that does not answer is asked again only after a backoff; meanwhile it costs callers nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Api, Client, Config,
    api::Portforwarder,
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;
use tokio::io::DuplexStream;

use crate::{
    ObjectKey, ReconcileError,
    client::{self, Clients},
    clock::Clock,
    secrets::{self, SecretCache},
};

/// Limit of the probe of a new connection.
const PROBE: Duration = Duration::from_secs(5);
/// Shortest and longest time in which a cluster that does not answer is left alone.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Longest time in which a cluster is left alone that refuses at once: it costs next to nothing to ask, and most likely it
/// is only starting.
const REFUSED: Duration = Duration::from_secs(3);
/// A dial that fails within this time was refused.
const AT_ONCE: Duration = Duration::from_secs(1);
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
    user_agent: String,
    known: Arc<Mutex<HashMap<ObjectKey, Known>>>,
}

struct Known {
    kubeconfig: Vec<u8>,
    state: State,
}

enum State {
    Connected(WorkloadClient),
    Down { until: Duration, backoff: Duration, reason: Unreachable },
}

/// Clients of one workload cluster; cheap to clone.
#[derive(Clone)]
pub struct WorkloadClient {
    clients: Clients,
}

impl WorkloadClusters {
    pub(crate) fn new(secrets: SecretCache, clock: Arc<dyn Clock>, user_agent: String) -> Self {
        Self { secrets, clock, user_agent, known: Arc::default() }
    }

    /// The connection to a cluster, by the key of its Cluster.
    pub async fn connect(&self, cluster: &ObjectKey) -> Result<WorkloadClient, ConnectError> {
        let name = format!("{}-kubeconfig", cluster.name);
        let Some(secret) = self.secrets.get(&cluster.sibling(&name)).await? else {
            self.known.lock().remove(cluster);
            return Err(Unreachable::NoKubeconfig(name).into());
        };
        let kubeconfig = secrets::value(&secret, "value").unwrap_or_default();
        let now = self.clock.monotonic();
        let mut before = None;
        if let Some(known) = self.known.lock().get(cluster)
            && known.kubeconfig == kubeconfig
        {
            match &known.state {
                State::Connected(client) => return Ok(client.clone()),
                State::Down { until, reason, .. } if now < *until => return Err(reason.clone().into()),
                State::Down { backoff, .. } => before = Some(*backoff),
            }
        }
        let dialled = self.clock.monotonic();
        let state = match self.dial(&name, kubeconfig).await {
            Ok(client) => State::Connected(client),
            Err(reason) => {
                let took = self.clock.monotonic().saturating_sub(dialled);
                let limit = if took < AT_ONCE { REFUSED } else { BACKOFF.1 };
                let backoff = before.map_or(BACKOFF.0, |backoff| (backoff * 2).min(limit));
                State::Down { until: self.clock.monotonic() + backoff, backoff, reason }
            }
        };
        let answer = match &state {
            State::Connected(client) => Ok(client.clone()),
            State::Down { reason, .. } => Err(reason.clone().into()),
        };
        self.known.lock().insert(cluster.clone(), Known { kubeconfig: kubeconfig.to_vec(), state });
        answer
    }

    /// A call to the cluster failed for want of an answer: the next one dials anew, after a backoff.
    pub fn report_down(&self, cluster: &ObjectKey, reason: &str) {
        if let Some(known) = self.known.lock().get_mut(cluster) {
            let until = self.clock.monotonic() + BACKOFF.0;
            known.state = State::Down { until, backoff: BACKOFF.0, reason: Unreachable::Down(reason.to_owned()) };
        }
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
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(parsed, &options).await.map_err(|error| bad(error.to_string()))?;
        let clients = client::clients(config, &self.user_agent, None).map_err(|error| bad(error.to_string()))?;
        let probe = tokio::time::timeout(PROBE, clients.call.apiserver_version()).await;
        match probe {
            Ok(Ok(_)) => Ok(WorkloadClient { clients }),
            // It answered: that it refuses is for the caller to see.
            Ok(Err(kube::Error::Api(_))) => Ok(WorkloadClient { clients }),
            Ok(Err(error)) => Err(Unreachable::Down(error.to_string())),
            Err(_) => Err(Unreachable::Down(format!("no answer within {} s", PROBE.as_secs()))),
        }
    }
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
