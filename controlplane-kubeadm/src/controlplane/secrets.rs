//! The cluster's Secrets: certificate authorities, the administrator's kubeconfig, and our own way to etcd.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cluster_api::{
    conditions::{Claim, Status},
    labels::{CLUSTER_NAME, SECRET_TYPE},
    owner,
};
use futures::future::{join, try_join_all};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kubeadm::{
    api::spec::EncryptionAlgorithm,
    kubeconfig,
    pki::{self, Leaf, Pair, Purpose},
};
use manager::{
    Category, Manager, ObjectKey, Offload, ReconcileError, Writer,
    clock::Clock,
    fault,
    secrets::{KEYS, SecretCache, value},
};
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde_json::json;

use super::{
    names::{condition, reason},
    wanted::Wanted,
};
use crate::{
    etcd::{self, Limits, Manner},
    workload::EtcdAccess,
};

/// Life of our certificate for etcd in memory: making keys is dear.
const ETCD_CLIENT_LIFE: Duration = Duration::from_secs(24 * 3600);
/// When a Secret that users must bring is looked for again.
const MISSING: Duration = Duration::from_secs(20);

/// Makes, finds and owns the Secrets of clusters.
pub struct Secrets {
    cache: SecretCache,
    writer: Writer,
    clock: Arc<dyn Clock>,
    offload: Offload,
    limits: Limits,
    etcd: Mutex<HashMap<ObjectKey, EtcdClient>>,
}

struct EtcdClient {
    made: Duration,
    ca: Vec<u8>,
    config: Arc<ClientConfig>,
}

impl Secrets {
    /// Over the process's cache of Secrets and its writer.
    pub fn new(manager: &Manager, limits: Limits) -> Self {
        Self {
            cache: manager.secrets(),
            writer: manager.writer(),
            clock: manager.clock(),
            offload: manager.offload(),
            limits,
            etcd: Mutex::default(),
        }
    }

    /// Sees that the certificate Secrets exist, made while nothing depends on them yet, and the administrator's kubeconfig
    /// once the `server` is known. The first answer is the condition `CertificatesAvailable`.
    ///
    /// The kubeconfig waits for the authority that signs it alone: core connects with it as soon as the infrastructure is
    /// provisioned, and tries again only after half a minute.
    pub async fn provide(
        &self,
        wanted: &Wanted,
        initialized: bool,
        server: Option<&str>,
    ) -> (Result<Claim, ReconcileError>, Result<(), ReconcileError>) {
        let access = async {
            let authority = self.certificate(wanted, Purpose::ClusterCa, initialized).await;
            let kubeconfig = match server {
                Some(server) if authority.is_ok() => self.kubeconfig(wanted, server).await,
                _ => Ok(()),
            };
            (authority, kubeconfig)
        };
        // Side by side: each takes a read, or a key that is dear to make.
        let others = purposes(wanted).into_iter().filter(|purpose| *purpose != Purpose::ClusterCa);
        let others = try_join_all(others.map(|purpose| self.certificate(wanted, purpose, initialized)));
        let ((authority, kubeconfig), others) = join(access, others).await;
        let certificates = authority.and_then(|authority| {
            let missing: Vec<_> = [authority].into_iter().chain(others?).flatten().collect();
            if missing.is_empty() {
                return Ok(Claim::holds(condition::CERTIFICATES, "Available"));
            }
            let message = format!("Secrets do not exist: {}", missing.join(", "));
            Ok(Claim::new(condition::CERTIFICATES, Status::False, "NotAvailable", message))
        });
        (certificates, kubeconfig)
    }

    /// Sees that one certificate Secret exists; returns its name where it is missing and not for us to make.
    async fn certificate(
        &self,
        wanted: &Wanted,
        purpose: Purpose,
        initialized: bool,
    ) -> Result<Option<String>, ReconcileError> {
        let name = purpose.secret_name(&wanted.cluster);
        let key = ObjectKey::new(&wanted.namespace, &name);
        let users = purpose == Purpose::ApiServerEtcdClient || purpose == Purpose::EtcdCa && !wanted.has_managed_etcd();
        match self.cache.get_within(KEYS, &key).await? {
            Some(secret) => self.own(wanted, &secret).await?,
            None if initialized || users => return Ok(Some(name)),
            None => self.make(wanted, purpose, &key).await?,
        }
        Ok(None)
    }

    async fn make(&self, wanted: &Wanted, purpose: Purpose, key: &ObjectKey) -> Result<(), ReconcileError> {
        let algorithm = wanted.algorithm();
        let days = wanted.cluster_configuration().and_then(|cluster| cluster.ca_certificate_validity_period_days);
        let now = self.clock.now();
        let pair = self.make_keys(move || pki::generate(purpose, algorithm, days, now)).await?;
        let data = [("tls.crt", pair.certificate.as_bytes()), ("tls.key", pair.key.as_bytes())];
        let secret = secret(wanted, key, &data);
        let made = fault::around("create-certificate", self.writer.create_secret(&secret, &wanted.uid)).await?;
        self.cache.keep(key, made);
        Ok(())
    }

    /// Makes the control plane the controller of a Secret of the cluster; what users brought stays theirs.
    async fn own(&self, wanted: &Wanted, secret: &Secret) -> Result<(), ReconcileError> {
        let ours = wanted.controller_reference();
        // Owned through an API version that is on its way out counts as not owned.
        let is_owned = owner::controller_of(&secret.metadata) == Some(&ours);
        if secret.type_.as_deref() != Some(SECRET_TYPE) || is_owned {
            return Ok(());
        }
        let others = secret.metadata.owner_references.iter().flatten();
        let others = others.filter(|owner| owner.controller != Some(true) && owner.uid != ours.uid);
        let owners: Vec<_> = others.chain([&ours]).collect();
        let patch = json!({"metadata": {"ownerReferences": owners}});
        fault::around("own-secret", self.writer.merge(secret, patch)).await?;
        self.cache.forget(&ObjectKey::of(secret));
        Ok(())
    }

    /// Sees that the administrator's kubeconfig exists and lasts.
    async fn kubeconfig(&self, wanted: &Wanted, server: &str) -> Result<(), ReconcileError> {
        let key = ObjectKey::new(&wanted.namespace, kubeconfig::secret_name(&wanted.cluster));
        let Some(found) = self.cache.get_within(KEYS, &key).await? else {
            let text = self.new_kubeconfig(wanted, server).await?;
            let secret = secret(wanted, &key, &[("value", text.as_bytes())]);
            let made = fault::around("create-kubeconfig", self.writer.create_secret(&secret, &wanted.uid)).await?;
            self.cache.keep(&key, made);
            return Ok(());
        };
        self.own(wanted, &found).await?;
        if !owner::is_controlled_by(&found.metadata, &wanted.uid) {
            // What users brought is theirs to renew; one just taken over is looked at in the next pass.
            return Ok(());
        }
        let ca = self.pair(wanted, Purpose::ClusterCa).await?;
        let stored = value(&found, "value").and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        if !kubeconfig::is_outdated(stored, server, &ca.certificate, self.clock.now()) || ca.key.is_empty() {
            return Ok(());
        }
        let text = self.new_kubeconfig(wanted, server).await?;
        let mut renewed = (*found).clone();
        renewed.data.get_or_insert_default().insert("value".to_owned(), ByteString(text.into_bytes()));
        fault::around("renew-kubeconfig", self.writer.replace_secret(&renewed)).await?;
        self.cache.forget(&key);
        Ok(())
    }

    async fn new_kubeconfig(&self, wanted: &Wanted, server: &str) -> Result<String, ReconcileError> {
        let ca = self.pair(wanted, Purpose::ClusterCa).await?;
        if ca.key.is_empty() {
            let name = Purpose::ClusterCa.secret_name(&wanted.cluster);
            let message = format!(
                "Secret {name} has no tls.key: create Secret {} with a kubeconfig of your own, or add the key",
                kubeconfig::secret_name(&wanted.cluster)
            );
            return Err(ReconcileError::new(Category::Waiting(MISSING), message));
        }
        let (cluster, server, algorithm, now) =
            (wanted.cluster.clone(), server.to_owned(), wanted.client_algorithm(), self.clock.now());
        self.make_keys(move || kubeconfig::generate(&cluster, &server, &ca, algorithm, now)).await
    }

    async fn pair(&self, wanted: &Wanted, purpose: Purpose) -> Result<Pair, ReconcileError> {
        let name = purpose.secret_name(&wanted.cluster);
        let found = self.cache.get_within(KEYS, &ObjectKey::new(&wanted.namespace, &name)).await?;
        let found = found
            .ok_or_else(|| ReconcileError::new(Category::Waiting(MISSING), format!("Secret {name} does not exist")))?;
        let text =
            |key: &str| value(&found, key).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        Ok(Pair { certificate: text("tls.crt"), key: text("tls.key").into() })
    }

    /// How etcd is reached.
    pub async fn etcd(&self, wanted: &Wanted, cluster: &ObjectKey) -> Result<EtcdAccess, ReconcileError> {
        if !wanted.has_managed_etcd() {
            return Ok(EtcdAccess::External);
        }
        let now = self.clock.monotonic();
        let authority = match self.pair(wanted, Purpose::EtcdCa).await {
            Ok(pair) => pair,
            Err(error) if matches!(error.category, Category::Waiting(_)) => {
                return Ok(EtcdAccess::Broken(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if let Some(known) = self.etcd.lock().get(cluster)
            && known.ca == authority.certificate.as_bytes()
            && now.saturating_sub(known.made) < ETCD_CLIENT_LIFE
        {
            return Ok(self.pods(&known.config));
        }
        let client = if authority.key.is_empty() {
            self.pair(wanted, Purpose::ApiServerEtcdClient).await
        } else {
            self.issue(authority.clone()).await
        };
        let client = match client {
            Ok(client) => client,
            Err(error) => return Ok(EtcdAccess::Broken(error.to_string())),
        };
        let ca = authority.certificate.into_bytes();
        match etcd::client_config(&ca, client.certificate.as_bytes(), client.key.as_bytes()) {
            Ok(config) => {
                let known = EtcdClient { made: now, ca, config: Arc::clone(&config) };
                self.etcd.lock().insert(cluster.clone(), known);
                Ok(self.pods(&config))
            }
            Err(error) => Ok(EtcdAccess::Broken(error.to_string())),
        }
    }

    fn pods(&self, config: &Arc<ClientConfig>) -> EtcdAccess {
        EtcdAccess::Pods(Manner { tls: Arc::clone(config), limits: self.limits })
    }

    /// Our certificate for etcd. Its key never leaves this process, so it is of the kind that costs next to nothing to make.
    async fn issue(&self, authority: Pair) -> Result<Pair, ReconcileError> {
        let now = self.clock.now();
        let make = move || {
            let leaf = Leaf {
                name: "cluster-api.x-k8s.io",
                organisations: &[],
                dns: &[],
                addresses: &[],
                server: false,
                client: true,
            };
            pki::issue(&authority, &leaf, EncryptionAlgorithm::EcdsaP256, now)
        };
        self.make_keys(make).await
    }

    /// Keys take long to make.
    async fn make_keys<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, pki::Error> + Send + 'static,
    ) -> Result<T, ReconcileError> {
        let made = self.offload.run(work).await?;
        made.map_err(|error| ReconcileError::new(Category::Waiting(MISSING), error.to_string()))
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, cluster: &ObjectKey) {
        self.etcd.lock().remove(cluster);
    }
}

fn purposes(wanted: &Wanted) -> Vec<Purpose> {
    let mut purposes = Purpose::STACKED.to_vec();
    if !wanted.has_managed_etcd() {
        purposes.push(Purpose::ApiServerEtcdClient);
    }
    purposes
}

fn secret(wanted: &Wanted, key: &ObjectKey, data: &[(&str, &[u8])]) -> Secret {
    let data = data.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.to_vec())));
    Secret {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            labels: Some([(CLUSTER_NAME.to_owned(), wanted.cluster.clone())].into()),
            owner_references: Some(vec![wanted.controller_reference()]),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    }
}

/// What is said when the Secrets could not be looked at.
pub fn unknown(error: &ReconcileError) -> Claim {
    Claim::new(condition::CERTIFICATES, Status::Unknown, reason::INTERNAL_ERROR, error.to_string())
}
