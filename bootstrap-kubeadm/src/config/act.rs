//! All effects of the `KubeadmConfig` controller.

use std::{sync::Arc, time::Duration};

use cluster_api::v1beta2::Machine;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt,
    api::{PostParams, PropagationPolicy},
};
use kubeadm::{
    pki::Purpose,
    token::{self, Token, Upkeep},
};
use manager::{
    Category, Informer, Manager, ObjectKey, Outcome, ReconcileError, Writer,
    clock::Clock,
    fault,
    secrets::SecretCache,
    workload::{ConnectError, WorkloadClient, WorkloadClusters},
};
use serde_json::json;

use super::{
    Settings,
    certificates::{self, Missing},
    decide::Step,
    lock::{self, Holder},
    observe::Facts,
    render::{self, Resolved},
    status::Report,
};

/// Every effect, by the name of its crash point.
pub const EFFECTS: &[&str] = &[
    "take-init-lock",
    "create-certificates",
    "create-token",
    "record-token",
    "create-data-secret",
    "extend-token",
    "write-status",
];

/// Time until the lock or the control plane is looked at again.
const WAIT_FOR_INIT: Duration = Duration::from_secs(15);
/// Time until the endpoint, a Secret or a value of one is looked for again.
const WAIT_FOR_INPUT: Duration = Duration::from_secs(10);

/// Performs steps.
pub struct Actor {
    writer: Writer,
    secrets: SecretCache,
    workload: WorkloadClusters,
    machines: Informer<Machine>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

impl Actor {
    /// An actor of this process.
    pub fn new(manager: &Manager, machines: Informer<Machine>, settings: Settings) -> Self {
        Self {
            writer: manager.writer(),
            secrets: manager.secrets(),
            workload: manager.workload(),
            machines,
            clock: manager.clock(),
            settings,
        }
    }

    /// Performs one step and reports what it found.
    pub async fn act(&self, facts: &Facts, step: Step, report: &mut Report) -> Result<Outcome, ReconcileError> {
        match step {
            Step::Deleting | Step::Paused => Ok(Outcome::Settled),
            Step::WaitForInfrastructure => {
                report.waits("Waiting for Cluster status.infrastructureReady to be true");
                Ok(Outcome::Settled)
            }
            Step::Adopt { secret } => {
                report.data_secret(secret);
                report.certificates_available();
                Ok(Outcome::Settled)
            }
            Step::Settled => {
                report.certificates_available();
                Ok(Outcome::Settled)
            }
            Step::KeepToken => self.keep_token(facts).await,
            Step::WaitForControlPlane => {
                report.waits("Waiting for Cluster control plane to be initialized");
                Ok(Outcome::Requeue(WAIT_FOR_INIT))
            }
            Step::Init => self.init(facts, report).await,
            Step::Join { control_plane } => self.join(facts, control_plane, report).await,
        }
    }

    /// Writes the status that a report comes to.
    pub async fn write_status(&self, facts: &Facts, report: &Report, complete: bool) -> Result<(), ReconcileError> {
        let status = report.settle(facts, complete, self.clock.now());
        fault::around("write-status", self.writer.apply_status(facts.config.as_ref(), &status)).await
    }

    async fn init(&self, facts: &Facts, report: &mut Report) -> Result<Outcome, ReconcileError> {
        if !self.take_lock(facts).await? {
            report.waits("Waiting for another machine to initialize the control plane");
            return Ok(Outcome::Requeue(WAIT_FOR_INIT));
        }
        let managed = facts.cluster.spec.control_plane_ref.is_some();
        let found = if managed {
            certificates::find(facts, &Purpose::STACKED, &self.secrets).await
        } else {
            certificates::find_or_make(facts, &Purpose::STACKED, &self.secrets, &self.writer, self.clock.now()).await
        };
        let certificates = match found {
            Ok(found) => found,
            Err(missing) => return missing_certificates(missing, report),
        };
        report.certificates_available();
        let Some(resolved) = self.resolve(facts, report).await? else { return Ok(Outcome::Requeue(WAIT_FOR_INPUT)) };
        let rendered = render::init(facts, &certificates, &resolved);
        self.store(facts, rendered, report).await?;
        Ok(Outcome::Settled)
    }

    async fn join(&self, facts: &Facts, control_plane: bool, report: &mut Report) -> Result<Outcome, ReconcileError> {
        self.release_lock(facts).await;
        let wanted: &[Purpose] = if control_plane { &Purpose::STACKED } else { &[Purpose::ClusterCa] };
        let certificates = match certificates::find(facts, wanted, &self.secrets).await {
            Ok(found) => found,
            Err(missing) => return missing_certificates(missing, report),
        };
        report.certificates_available();
        let ca = certificates.first().map(|(_, pair)| pair.certificate.clone()).unwrap_or_default();
        let Some(endpoint) = render::endpoint(facts) else {
            report.waits("Waiting for Cluster spec.controlPlaneEndpoint to be set");
            return Ok(Outcome::Requeue(WAIT_FOR_INPUT));
        };
        if !self.is_discovery_complete(facts, &ca, &endpoint, report).await? {
            // The record is read back before the token is handed out: a stale cache must not make a second one.
            return Ok(Outcome::Requeue(Duration::from_millis(50)));
        }
        let Some(resolved) = self.resolve(facts, report).await? else { return Ok(Outcome::Requeue(WAIT_FOR_INPUT)) };
        let rendered = render::join(facts, &certificates, &resolved, control_plane);
        self.store(facts, rendered, report).await?;
        Ok(Outcome::Requeue(self.settings.token_ttl / 3))
    }

    /// Whether the config says how its machine finds the cluster. If not, a token is made and recorded in its spec.
    async fn is_discovery_complete(
        &self,
        facts: &Facts,
        ca: &str,
        endpoint: &str,
        report: &mut Report,
    ) -> Result<bool, ReconcileError> {
        let join = facts.config.spec.0.join_configuration.clone().unwrap_or_default();
        let discovery = join.discovery.unwrap_or_default();
        if discovery.file.is_some() {
            return Ok(true);
        }
        let given = discovery.bootstrap_token.unwrap_or_default();
        let trusts = !given.ca_cert_hashes.is_empty() || given.unsafe_skip_ca_verification == Some(true);
        if !given.token.is_empty() && !given.api_server_endpoint.is_empty() && trusts {
            return Ok(true);
        }
        let token = if given.token.is_empty() {
            let client = self.connect(facts, report).await?;
            self.make_token(&client).await?
        } else {
            given.token
        };
        let filled = render::token_discovery(facts, ca, endpoint, token).map_err(|error| terminal(&error, report))?;
        let patch = json!({"spec": {"joinConfiguration": {"discovery": {"bootstrapToken": filled}}}});
        fault::around("record-token", self.writer.merge(facts.config.as_ref(), patch)).await?;
        report.waits("Waiting for the bootstrap token to be recorded");
        Ok(false)
    }

    async fn make_token(&self, client: &WorkloadClient) -> Result<String, ReconcileError> {
        let token = Token::generate().map_err(|error| ReconcileError::transient(error.to_string()))?;
        let secret = token.secret(self.settings.token_ttl, self.clock.now());
        let api: Api<Secret> = Api::namespaced(client.client().clone(), token::NAMESPACE);
        fault::around("create-token", api.create(&PostParams::default(), &secret)).await?;
        Ok(token.expose())
    }

    /// Extends the token of a machine that has not joined.
    async fn keep_token(&self, facts: &Facts) -> Result<Outcome, ReconcileError> {
        let look_again = Outcome::Requeue(self.settings.token_ttl / 3);
        let text = facts.discovery_token().unwrap_or_default();
        let token = Token::parse(text).map_err(|error| ReconcileError::new(Category::Terminal, error.to_string()))?;
        let client = match self.workload.connect(&ObjectKey::of(facts.cluster.as_ref())).await {
            Ok(client) => client,
            Err(ConnectError::Unreachable(reason)) => {
                return Err(ReconcileError::new(Category::Waiting(WAIT_FOR_INPUT), reason.to_string()));
            }
            Err(ConnectError::Management(error)) => return Err(error),
        };
        let api: Api<Secret> = Api::namespaced(client.client().clone(), token::NAMESPACE);
        let Some(mut secret) = api.get_opt(&token.secret_name()).await? else {
            let message = "the bootstrap token is gone from the workload cluster, and the machine has already read it; replace the machine";
            return Err(ReconcileError::new(Category::Terminal, message));
        };
        let data = secret.data.get_or_insert_default();
        let expiration = data.get("expiration").map(|value| value.0.as_slice());
        match token::upkeep(expiration, self.settings.token_ttl, self.clock.now()) {
            Upkeep::Fresh => return Ok(look_again),
            Upkeep::Unreadable => {
                let message = format!("Secret {} of the workload cluster: expiration is no time", token.secret_name());
                return Err(ReconcileError::new(Category::Terminal, message));
            }
            Upkeep::Extend => {}
        }
        let end = token::expiration(self.settings.token_ttl, self.clock.now());
        data.insert("expiration".to_owned(), k8s_openapi::ByteString(end.into_bytes()));
        fault::around("extend-token", async {
            api.replace(&token.secret_name(), &PostParams::default(), &secret).await
        })
        .await?;
        Ok(look_again)
    }

    async fn connect(&self, facts: &Facts, report: &mut Report) -> Result<WorkloadClient, ReconcileError> {
        match self.workload.connect(&ObjectKey::of(facts.cluster.as_ref())).await {
            Ok(client) => Ok(client),
            Err(ConnectError::Unreachable(reason)) => {
                report.waits(format!("Waiting for the workload cluster: {reason}"));
                Err(ReconcileError::new(Category::Waiting(Duration::from_secs(3)), reason.to_string()))
            }
            Err(ConnectError::Management(error)) => Err(error),
        }
    }

    /// Reads every Secret that the spec refers to; `None` where one is missing, which is then in the report.
    async fn resolve(&self, facts: &Facts, report: &mut Report) -> Result<Option<Resolved>, ReconcileError> {
        let mut resolved = Resolved::new();
        for (field, name, key) in render::references(&facts.config.spec.0) {
            let secret = self.secrets.get_live(&ObjectKey::of(facts.config.as_ref()).sibling(name)).await?;
            let value = secret.as_ref().and_then(|secret| manager::secrets::value(secret, key));
            match (value, &secret) {
                (Some(value), _) => {
                    resolved.insert((name.to_owned(), key.to_owned()), value.to_vec());
                }
                (None, Some(_)) => {
                    report.waits(format!("{field}: Secret {name} has no key {key}"));
                    return Ok(None);
                }
                (None, None) => {
                    report.waits(format!("{field}: Secret {name} does not exist"));
                    return Ok(None);
                }
            }
        }
        Ok(Some(resolved))
    }

    async fn store(
        &self,
        facts: &Facts,
        rendered: Result<Vec<u8>, render::Error>,
        report: &mut Report,
    ) -> Result<(), ReconcileError> {
        let value = rendered.map_err(|error| terminal(&error, report))?;
        let mut secret = render::data_secret(facts, value);
        let owner = facts.config.uid().unwrap_or_default();
        let stored = fault::around("create-data-secret", self.writer.create_secret(&secret, &owner)).await?;
        // A Secret from an earlier pass may hold data of an older spec: nobody has read it yet.
        if stored.data != secret.data {
            secret.metadata.resource_version = stored.metadata.resource_version;
            self.writer.replace_secret(&secret).await?;
        }
        report.data_secret(facts.config.name_any());
        Ok(())
    }

    /// Whether this machine may make the cluster. A lock whose holder is gone is removed; the next pass may take it.
    async fn take_lock(&self, facts: &Facts) -> Result<bool, ReconcileError> {
        let machine = facts.machine.name_any();
        let locks = self.writer.api::<ConfigMap>(&facts.cluster.namespace().unwrap_or_default());
        let Some(present) = locks.get_opt(&lock::name(&facts.cluster)).await? else {
            let lock = lock::held_by(&facts.cluster, &machine);
            return Ok(fault::around("take-init-lock", self.writer.create(&lock)).await?.is_some());
        };
        match lock::holder(&present, &machine) {
            Holder::Ours => Ok(true),
            Holder::Unreadable => Ok(false),
            Holder::Other(name) => {
                if self.machines.get(&ObjectKey::of(facts.machine.as_ref()).sibling(name)).is_none() {
                    self.writer.delete(&present).await?;
                }
                Ok(false)
            }
        }
    }

    /// The cluster is made: nobody needs the lock any more. A failure is of no consequence.
    async fn release_lock(&self, facts: &Facts) {
        let locks = self.writer.api::<ConfigMap>(&facts.cluster.namespace().unwrap_or_default());
        let mut parameters = kube::api::DeleteParams::default();
        parameters.propagation_policy = Some(PropagationPolicy::Background);
        if let Err(error) = locks.delete(&lock::name(&facts.cluster), &parameters).await
            && !matches!(&error, kube::Error::Api(status) if status.code == 404)
        {
            tracing::debug!(%error, "The init lock could not be released.");
        }
    }
}

fn missing_certificates(missing: Missing, report: &mut Report) -> Result<Outcome, ReconcileError> {
    match missing {
        Missing::Api(error) => Err(error),
        missing => {
            report.certificates_missing(missing.to_string());
            Ok(Outcome::Requeue(WAIT_FOR_INPUT))
        }
    }
}

/// Nothing but a change of the object helps: say so in its condition.
fn terminal(error: &render::Error, report: &mut Report) -> ReconcileError {
    report.waits(error.to_string());
    ReconcileError::new(Category::Terminal, error.to_string())
}
