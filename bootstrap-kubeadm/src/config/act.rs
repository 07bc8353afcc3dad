//! All effects of the `KubeadmConfig` controller, but for those on tokens (`tokens`) and certificates (`certificates`).

use std::{sync::Arc, time::Duration};

use cluster_api::v1beta2::{Cluster, Machine};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, PropagationPolicy},
};
use manager::{
    Category, Manager, ObjectKey, Offload, Outcome, ReconcileError, Writer,
    clock::Clock,
    fault,
    random::Random,
    remembered::{OBJECTS, Remembered},
    secrets::SecretCache,
    workload::WorkloadClusters,
};
use serde_json::{Value, json};

use super::{
    Settings,
    certificates::{self, Certificates, Missing, Use},
    data_secret::{self, Existing},
    decide::Step,
    discovery::{self, Next},
    lock::{self, Move},
    observe::{DataSecret, Facts},
    render::{self, Resolved},
    status::Report,
    tokens::Kept,
};

/// Every effect, by the name of its crash point.
pub const EFFECTS: &[&str] = &[
    "take-init-lock",
    "remove-stale-lock",
    "release-init-lock",
    "create-certificates",
    "take-over-certificates",
    "record-endpoint",
    "create-token",
    "record-discovery",
    "create-data-secret",
    "replace-data-secret",
    "own-data-secret",
    "extend-token",
    "write-status",
];

/// Time until the lock or the control plane is looked at again.
const WAIT_FOR_INIT: Duration = Duration::from_secs(15);
/// Time until the endpoint, a Secret or a value of one is looked for again.
pub(super) const WAIT_FOR_INPUT: Duration = Duration::from_secs(10);
/// Time until the caches show what was recorded.
const WAIT_FOR_RECORD: Duration = Duration::from_millis(50);

/// Performs steps.
pub struct Actor {
    pub(super) writer: Writer,
    pub(super) secrets: SecretCache,
    pub(super) workload: WorkloadClusters,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) offload: Offload,
    pub(super) settings: Settings,
    /// Clusters whose init lock is known to be released.
    unlocked: Remembered<String>,
    /// Configs whose Secret with the boot data was there and theirs.
    owning: Remembered<String>,
}

impl Actor {
    /// An actor of this process.
    pub fn new(manager: &Manager, settings: Settings) -> Self {
        Self {
            writer: manager.writer(),
            secrets: manager.secrets(),
            workload: manager.workload(),
            clock: manager.clock(),
            random: manager.random(),
            offload: manager.offload(),
            settings,
            unlocked: Remembered::new(OBJECTS),
            owning: Remembered::new(OBJECTS),
        }
    }

    /// Performs one step and reports what it found.
    pub async fn act(&self, facts: &Facts, step: Step, report: &mut Report) -> Result<Outcome, ReconcileError> {
        match step {
            Step::Deleting | Step::Paused => Ok(Outcome::Settled),
            Step::WaitForInfrastructure => {
                report.waits_for_infrastructure();
                Ok(Outcome::Settled)
            }
            Step::Adopt { secret } => {
                report.data_secret(secret);
                report.certificates_available();
                Ok(Outcome::Settled)
            }
            Step::Settled => {
                report.data_secret_available();
                report.certificates_available();
                Ok(Outcome::Settled)
            }
            Step::KeepToken => {
                report.certificates_available();
                match self.keep_token(facts, report).await? {
                    // What a pool reads follows its token and its spec: more machines may come.
                    Kept::Lasts if facts.owner.is_pool => self.join(facts, false, report).await,
                    Kept::Lasts => Ok(Outcome::Requeue(self.settings.token_ttl / 3)),
                    Kept::Replaced => Ok(Outcome::Requeue(WAIT_FOR_RECORD)),
                }
            }
            Step::WaitForControlPlane => {
                report.waits_for_control_plane("Waiting for Cluster control plane to be initialized");
                Ok(Outcome::Requeue(WAIT_FOR_INIT))
            }
            Step::Init => self.init(facts, report).await,
            Step::Join { control_plane } => self.join(facts, control_plane, report).await,
        }
    }

    /// Writes the status that a report comes to; nothing where the next pass comes at once and knows more.
    pub async fn write_status(&self, facts: &Facts, report: &Report, complete: bool) -> Result<(), ReconcileError> {
        if complete && report.is_to_go_on() {
            return Ok(());
        }
        let status = report.settle(facts, complete, self.clock.now());
        fault::around("write-status", self.writer.apply_status(facts.config.as_ref(), &status)).await
    }

    /// What became of the Secret with the boot data, whose owner is mended on the way. Only its metadata is read, and once
    /// its machine has read it, it is looked at no more.
    pub async fn look_at_data_secret(&self, facts: &Facts) -> Result<DataSecret, ReconcileError> {
        let config = facts.config.uid().unwrap_or_default();
        if facts.owner.is_provisioned && self.owning.get(&config).is_some() {
            return Ok(DataSecret::Present);
        }
        let secrets = self.writer.api::<Secret>(&facts.config.namespace().unwrap_or_default());
        let Some(found) = secrets.get_metadata_opt(&facts.config.name_any()).await? else {
            return Ok(DataSecret::Lost);
        };
        match data_secret::owners(&found.metadata, facts) {
            Ok(None) => self.owning.insert(config, ()),
            Ok(Some(owners)) => {
                let secret = Secret { metadata: found.metadata, ..Secret::default() };
                let patch = json!({"metadata": {"ownerReferences": owners}});
                fault::around("own-data-secret", self.writer.merge(&secret, patch)).await?;
                self.owning.insert(config, ());
            }
            // The data serves its machine all the same.
            Err(reason) => tracing::warn!(reason, "The Secret with the boot data has another controller."),
        }
        Ok(DataSecret::Present)
    }

    async fn init(&self, facts: &Facts, report: &mut Report) -> Result<Outcome, ReconcileError> {
        let Some(resolved) = self.resolve(facts, report).await? else { return Ok(Outcome::Requeue(WAIT_FOR_INPUT)) };
        // What cannot be rendered never takes the lock: another machine may make the cluster then.
        render::init(facts, &[], &resolved).map_err(|error| refuse(&error, report))?;
        let is_managed = facts.cluster.spec.control_plane_ref.is_some();
        let found = if is_managed { Some(certificates::find(facts, Use::Init, &self.secrets).await) } else { None };
        if let Some(Err(missing)) = found {
            return missing_certificates(missing, is_managed, report);
        }
        if let Some(holder) = self.take_lock(facts).await? {
            report.waits_for_control_plane(holder);
            return Ok(Outcome::Requeue(WAIT_FOR_INIT));
        }
        if self.is_made(facts).await? {
            self.give_lock_back(facts).await;
            report.waits_for_control_plane("Waiting for the cache to show that the control plane is initialized");
            return Ok(Outcome::Requeue(WAIT_FOR_RECORD));
        }
        let found = match found {
            Some(found) => found,
            None => {
                certificates::find_or_make(facts, &self.secrets, &self.writer, self.offload, self.clock.now()).await
            }
        };
        let certificates = match found {
            Ok(found) => found,
            Err(missing) => return missing_certificates(missing, is_managed, report),
        };
        report.certificates_available();
        let rendered = render::init(facts, &certificates, &resolved);
        self.record_endpoint(facts, report).await?;
        self.store(facts, rendered, report).await?;
        Ok(Outcome::Settled)
    }

    /// The endpoint that a cluster was made with is kept in the spec, where users and other providers look for it.
    async fn record_endpoint(&self, facts: &Facts, report: &mut Report) -> Result<(), ReconcileError> {
        let Some(endpoint) = facts.endpoint() else { return Ok(()) };
        if facts.cluster_configuration().control_plane_endpoint.is_empty() {
            let spec = json!({"clusterConfiguration": {"controlPlaneEndpoint": endpoint}});
            let record = self.writer.merge_spec(facts.config.as_ref(), &spec);
            let recorded = fault::around("record-endpoint", record).await?;
            report.reports_on(recorded.metadata.generation);
        }
        Ok(())
    }

    async fn join(&self, facts: &Facts, control_plane: bool, report: &mut Report) -> Result<Outcome, ReconcileError> {
        let Some(resolved) = self.resolve(facts, report).await? else { return Ok(Outcome::Requeue(WAIT_FOR_INPUT)) };
        // No token is made for what cannot be rendered.
        render::join(facts, &[], &resolved, control_plane).map_err(|error| refuse(&error, report))?;
        let role = if control_plane { Use::JoinControlPlane } else { Use::JoinWorker };
        let certificates = match certificates::find(facts, role, &self.secrets).await {
            Ok(found) => found,
            Err(missing) => return missing_certificates(missing, true, report),
        };
        report.certificates_available();
        if let Some(again) = self.complete_discovery(facts, &certificates, control_plane, report).await? {
            return Ok(Outcome::Requeue(again));
        }
        let rendered = render::join(facts, &certificates, &resolved, control_plane);
        self.store(facts, rendered, report).await?;
        self.release_lock(facts).await;
        Ok(Outcome::Requeue(self.settings.token_ttl / 3))
    }

    /// Fills in how the machine finds its cluster. Once something was recorded the pass ends, for the time that is
    /// returned: the record is read back before it is handed out, so that a stale cache cannot make a second token.
    async fn complete_discovery(
        &self,
        facts: &Facts,
        certificates: &Certificates,
        control_plane: bool,
        report: &mut Report,
    ) -> Result<Option<Duration>, ReconcileError> {
        let ca = certificates.first().map(|(_, pair)| pair.certificate.as_str()).unwrap_or_default();
        let discovery = match discovery::next(facts, ca).map_err(|error| refuse(&error, report))? {
            Next::Complete => return Ok(None),
            Next::WaitForEndpoint => {
                report.waits("Waiting for Cluster spec.controlPlaneEndpoint to be set");
                return Ok(Some(WAIT_FOR_INPUT));
            }
            Next::Record(discovery) => discovery,
            Next::MakeToken => {
                // First what can fail for good: a token that nobody uses shall not be made.
                discovery::with_token(facts, ca, "").map_err(|error| refuse(&error, report))?;
                let token = self.make_token(facts, report).await?;
                discovery::with_token(facts, ca, &token.expose()).map_err(|error| refuse(&error, report))?
            }
        };
        let mut join = json!({"discovery": discovery});
        if control_plane {
            join["controlPlane"] = json!({});
        }
        self.record_join(facts, join).await?;
        report.goes_on();
        Ok(Some(WAIT_FOR_RECORD))
    }

    /// Records a part of the join configuration in the spec.
    pub(super) async fn record_join(&self, facts: &Facts, join: Value) -> Result<(), ReconcileError> {
        let spec = json!({"joinConfiguration": join});
        fault::around("record-discovery", self.writer.merge_spec(facts.config.as_ref(), &spec)).await.map(drop)
    }

    /// Reads everything that the spec refers to; `None` where something is missing, which is then in the report.
    async fn resolve(&self, facts: &Facts, report: &mut Report) -> Result<Option<Resolved>, ReconcileError> {
        let spec = &facts.config.spec.0;
        let mut resolved = Resolved::default();
        let mut read: Option<(&str, Option<Arc<Secret>>)> = None;
        for (field, name, key) in render::references(spec) {
            let secret = match read {
                Some((known, ref secret)) if known == name => secret.clone(),
                _ => self.secrets.get_live(&ObjectKey::of(facts.config.as_ref()).sibling(name)).await?,
            };
            let Some(found) = &secret else {
                report.waits(format!("{field}: Secret {name} does not exist"));
                return Ok(None);
            };
            let Some(value) = manager::secrets::value(found, key) else {
                report.waits(format!("{field}: Secret {name} has no key {key}"));
                return Ok(None);
            };
            resolved.values.insert((name.to_owned(), key.to_owned()), value.to_vec());
            read = Some((name, secret));
        }
        if let Some(field) = render::first_template(spec) {
            match self.control_plane_version(facts).await? {
                Ok(version) => resolved.control_plane_version = version,
                Err(reason) => {
                    report.waits(format!("{field}: {reason}"));
                    return Ok(None);
                }
            }
        }
        Ok(Some(resolved))
    }

    /// Kubernetes version that the control plane object names; `None` where there is no such object, or it names none. The
    /// inner error says what is missing.
    async fn control_plane_version(&self, facts: &Facts) -> Result<Result<Option<String>, String>, ReconcileError> {
        let Some(reference) = &facts.cluster.spec.control_plane_ref else { return Ok(Ok(None)) };
        let (kind, name) = (&reference.kind, &reference.name);
        let group = match kube::discovery::group(self.writer.client(), &reference.api_group).await {
            Ok(group) => group,
            Err(kube::Error::Discovery(_)) => {
                return Ok(Err(format!("API group {} is not served", reference.api_group)));
            }
            Err(error) => return Err(error.into()),
        };
        let Some((resource, _)) = group.recommended_kind(kind) else {
            return Ok(Err(format!("kind {kind} is not served")));
        };
        let Some(object) = self.read_object(facts, &resource, name).await? else {
            return Ok(Err(format!("{kind} {name} does not exist")));
        };
        let Some(version) = object.data.pointer("/spec/version").and_then(|version| version.as_str()) else {
            return Ok(Ok(None));
        };
        let parsed: Result<cluster_api::version::Version, _> = version.parse();
        Ok(parsed
            .map(|version| Some(version.to_string()))
            .map_err(|error| format!("{kind} {name}: spec.version: {error}")))
    }

    async fn read_object(
        &self,
        facts: &Facts,
        resource: &ApiResource,
        name: &str,
    ) -> Result<Option<DynamicObject>, ReconcileError> {
        let namespace = facts.cluster.namespace().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(self.writer.client().clone(), &namespace, resource);
        Ok(api.get_opt(name).await?)
    }

    async fn store(
        &self,
        facts: &Facts,
        rendered: Result<Vec<u8>, render::Error>,
        report: &mut Report,
    ) -> Result<(), ReconcileError> {
        let held = rendered.and_then(|value| data_secret::holding(facts, value));
        let mut secret = held.map_err(|error| refuse(&error, report))?;
        if fault::around("create-data-secret", self.writer.create(&secret)).await?.is_none() {
            let secrets = self.writer.api::<Secret>(&facts.config.namespace().unwrap_or_default());
            let existing = secrets.get(&secret.name_any()).await?;
            match data_secret::judge(&existing, &secret) {
                Existing::Same => {}
                Existing::Outdated => {
                    secret.metadata.resource_version = existing.metadata.resource_version;
                    fault::around("replace-data-secret", self.writer.replace_secret(&secret)).await?;
                }
                Existing::Foreign(reason) => {
                    report.waits(&reason);
                    return Err(ReconcileError::new(Category::Waiting(WAIT_FOR_INPUT), reason));
                }
            }
        }
        report.data_secret(facts.config.name_any());
        Ok(())
    }

    /// `None` once this machine may make the cluster; otherwise what it waits for. A lock whose holder is gone is removed,
    /// and the next pass may take it.
    async fn take_lock(&self, facts: &Facts) -> Result<Option<String>, ReconcileError> {
        let machine = facts.owner.name.clone();
        let namespace = facts.cluster.namespace().unwrap_or_default();
        let name = lock::name(&facts.cluster);
        let present = self.writer.api::<ConfigMap>(&namespace).get_opt(&name).await?;
        let waits = |holder: &str| format!("Waiting for Machine {holder} to initialize the control plane");
        match lock::next(present.as_ref(), &machine) {
            Move::GoOn => Ok(None),
            Move::Take => {
                let lock = lock::held_by(&facts.cluster, &machine);
                let taken = fault::around("take-init-lock", self.writer.create(&lock)).await?;
                Ok(taken.is_none().then(|| "Waiting for another Machine to initialize the control plane".to_owned()))
            }
            Move::Unreadable => Ok(Some(format!(
                "ConfigMap {name} does not say which Machine initializes the control plane; delete it if none does"
            ))),
            Move::AskFor(holder) => {
                // Live: on the word of a stale cache two machines would make two clusters.
                let is_gone = self.writer.api::<Machine>(&namespace).get_metadata_opt(&holder).await?.is_none();
                if let (true, Some(stale)) = (is_gone, &present) {
                    fault::around("remove-stale-lock", self.writer.delete(stale)).await?;
                }
                Ok(Some(waits(&holder)))
            }
        }
    }

    /// Whether the cluster is made by now. Live, and by whoever holds the lock: it is free before anybody makes the cluster
    /// and again afterwards, and a pass that was slow to come to it may still go by what it saw before.
    async fn is_made(&self, facts: &Facts) -> Result<bool, ReconcileError> {
        let clusters = self.writer.api::<Cluster>(&facts.cluster.namespace().unwrap_or_default());
        let cluster = clusters.get_opt(&facts.cluster.name_any()).await?;
        let seen_now = |cluster: Cluster| Facts { cluster: cluster.into(), ..facts.clone() };
        Ok(cluster.is_some_and(|cluster| seen_now(cluster).is_control_plane_initialized()))
    }

    /// Releases a lock that was taken after the one of the machine that made the cluster.
    async fn give_lock_back(&self, facts: &Facts) {
        self.unlocked.remove(&facts.cluster.uid().unwrap_or_default());
        self.release_lock(facts).await;
    }

    /// The cluster is made: nobody needs the lock any more. A failure is of no consequence: it goes with the cluster.
    async fn release_lock(&self, facts: &Facts) {
        let cluster = facts.cluster.uid().unwrap_or_default();
        if self.unlocked.get(&cluster).is_some() {
            return;
        }
        let locks = self.writer.api::<ConfigMap>(&facts.cluster.namespace().unwrap_or_default());
        let mut parameters = kube::api::DeleteParams::default();
        parameters.propagation_policy = Some(PropagationPolicy::Background);
        let name = lock::name(&facts.cluster);
        match fault::around("release-init-lock", locks.delete(&name, &parameters)).await {
            Err(error) if !matches!(&error, kube::Error::Api(status) if status.code == 404) => {
                tracing::debug!(%error, "The init lock could not be released.");
            }
            _ => self.unlocked.insert(cluster, ()),
        }
    }
}

fn missing_certificates(missing: Missing, is_managed: bool, report: &mut Report) -> Result<Outcome, ReconcileError> {
    match missing {
        Missing::Api(error) => Err(error),
        missing => {
            report.certificates_missing(missing.to_string(), !is_managed);
            Ok(Outcome::Requeue(WAIT_FOR_INPUT))
        }
    }
}

/// Says in the condition why boot data cannot be made. What lies in the object is final until that changes; what lies in a
/// Secret may be mended without anyone telling us.
pub(super) fn refuse(error: &render::Error, report: &mut Report) -> ReconcileError {
    report.waits(error.to_string());
    let category = match error {
        render::Error::Secret(_) => Category::Waiting(WAIT_FOR_INPUT),
        _ => Category::Terminal,
    };
    ReconcileError::new(category, error.to_string())
}

#[cfg(test)]
mod tests;
