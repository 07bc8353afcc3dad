//! The cluster's certificates in Secrets `<cluster>-<purpose>`: looked up, or made where nobody else makes them.

use std::collections::BTreeMap;

use cluster_api::{labels, owner};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Resource, ResourceExt};
use kubeadm::{
    api::spec::ClusterConfiguration,
    pki::{self, Pair, Purpose},
};
use manager::{
    Category, ObjectKey, ReconcileError, Writer, fault,
    secrets::{self, SecretCache},
};

use super::observe::Facts;

/// The certificates that boot data needs, by purpose.
pub type Certificates = Vec<(Purpose, Pair)>;

/// Looks all of them up; the error names the first that is missing or incomplete.
pub async fn find(facts: &Facts, wanted: &[Purpose], secrets: &SecretCache) -> Result<Certificates, Missing> {
    let mut found = Vec::new();
    for purpose in wanted {
        match look_up(facts, *purpose, secrets).await? {
            Some(pair) => found.push((*purpose, pair)),
            None => return Err(Missing::Absent(purpose.secret_name(&facts.machine.spec.cluster_name))),
        }
    }
    Ok(found)
}

/// Why a cluster's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// A Secret is not there.
    #[error("Secret {0} does not exist")]
    Absent(String),
    /// A Secret lacks a value.
    #[error("Secret {secret} has no {key}")]
    Incomplete {
        /// Its name.
        secret: String,
        /// The key that is missing or empty.
        key: &'static str,
    },
    /// The management cluster did not answer.
    #[error(transparent)]
    Api(#[from] ReconcileError),
}

async fn look_up(facts: &Facts, purpose: Purpose, cache: &SecretCache) -> Result<Option<Pair>, Missing> {
    let name = purpose.secret_name(&facts.machine.spec.cluster_name);
    let key = ObjectKey::of(facts.cluster.as_ref()).sibling(&name);
    let Some(secret) = cache.get(&key).await? else { return Ok(None) };
    let text = |key: &'static str| {
        let value = secrets::value(&secret, key).filter(|value| !value.is_empty());
        let text = value.and_then(|value| String::from_utf8(value.to_vec()).ok());
        text.ok_or_else(|| Missing::Incomplete { secret: name.clone(), key })
    };
    Ok(Some(Pair { certificate: text("tls.crt")?, key: text("tls.key")?.into() }))
}

/// Looks up the certificates of a cluster that no control plane object looks after, and makes those that are missing.
pub async fn find_or_make(
    facts: &Facts,
    wanted: &[Purpose],
    cache: &SecretCache,
    writer: &Writer,
    now: Timestamp,
) -> Result<Certificates, Missing> {
    for purpose in wanted {
        if look_up(facts, *purpose, cache).await?.is_some() {
            continue;
        }
        let settings = facts.config.spec.0.cluster_configuration.clone().unwrap_or_default();
        let pair = make(*purpose, &settings, now).await?;
        let secret = secret(facts, *purpose, &pair);
        let owner = facts.config.uid().unwrap_or_default();
        fault::around("create-certificates", writer.create_secret(&secret, &owner)).await?;
    }
    find(facts, wanted, cache).await
}

/// Making an RSA key takes long: off the async workers.
async fn make(purpose: Purpose, settings: &ClusterConfiguration, now: Timestamp) -> Result<Pair, ReconcileError> {
    let (algorithm, days) =
        (settings.encryption_algorithm.unwrap_or_default(), settings.ca_certificate_validity_period_days);
    let made = tokio::task::spawn_blocking(move || pki::generate(purpose, algorithm, days, now)).await;
    match made {
        Ok(Ok(pair)) => Ok(pair),
        Ok(Err(error)) => Err(ReconcileError::transient(error.to_string())),
        Err(error) => Err(ReconcileError::new(Category::Bug, error.to_string())),
    }
}

fn secret(facts: &Facts, purpose: Purpose, pair: &Pair) -> Secret {
    let mut secret = Secret::default();
    let cluster = &facts.machine.spec.cluster_name;
    secret.metadata.name = Some(purpose.secret_name(cluster));
    secret.metadata.namespace = facts.cluster.meta().namespace.clone();
    secret.metadata.labels = Some([(labels::CLUSTER_NAME.to_owned(), cluster.clone())].into());
    secret.metadata.owner_references = Some(vec![owner::controller(facts.config.as_ref())]);
    secret.type_ = Some(labels::SECRET_TYPE.to_owned());
    secret.data = Some(BTreeMap::from([
        ("tls.crt".to_owned(), ByteString(pair.certificate.clone().into_bytes())),
        ("tls.key".to_owned(), ByteString(pair.key.as_bytes().to_vec())),
    ]));
    secret
}
