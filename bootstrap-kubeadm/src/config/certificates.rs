//! The cluster's certificates in Secrets `<cluster>-<purpose>`: looked up, or made where nobody else makes them.

use std::collections::BTreeMap;

use cluster_api::{labels, owner};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::Resource;
use kubeadm::{
    api::v1beta2::GROUP,
    pki::{self, Pair, Purpose},
};
use manager::{
    ObjectKey, Offload, ReconcileError, Writer, fault,
    secrets::{self, SecretCache},
};
use serde_json::json;

use super::observe::Facts;

/// The certificates that boot data needs, by purpose.
pub type Certificates = Vec<(Purpose, Pair)>;

/// What a machine does with the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It makes the cluster.
    Init,
    /// It joins the control plane.
    JoinControlPlane,
    /// It joins as a worker, which must only know the cluster CA.
    JoinWorker,
}

impl Use {
    /// The Secrets that are needed.
    pub fn purposes(self, facts: &Facts) -> Vec<Purpose> {
        match self {
            Self::JoinWorker => vec![Purpose::ClusterCa],
            Self::Init | Self::JoinControlPlane => Purpose::of_control_plane(facts.has_external_etcd()),
        }
    }

    /// Whether the key is needed as well. At init the authorities may be external ones, whose keys stay with the user: he
    /// then places the certificates that kubeadm would have signed.
    fn needs_key(self, purpose: Purpose, external_etcd: bool) -> bool {
        match (self, purpose) {
            (Self::JoinWorker, _) => false,
            (_, Purpose::EtcdCa) if external_etcd => false,
            (Self::Init, Purpose::ClusterCa | Purpose::EtcdCa | Purpose::FrontProxyCa) => false,
            (Self::Init | Self::JoinControlPlane, _) => true,
        }
    }
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
        /// The key that is missing, empty or no text.
        key: &'static str,
    },
    /// Making it failed.
    #[error("Secret {secret} cannot be made: {reason}")]
    Unmakeable {
        /// Its name.
        secret: String,
        /// Why, without key material.
        reason: String,
    },
    /// The management cluster did not answer.
    #[error(transparent)]
    Api(#[from] ReconcileError),
}

/// Looks all of them up; the error names the first that is missing or incomplete.
pub async fn find(facts: &Facts, role: Use, cache: &SecretCache) -> Result<Certificates, Missing> {
    let mut found = Vec::new();
    for purpose in role.purposes(facts) {
        let key = secret_key(facts, purpose);
        let Some(secret) = cache.get(&key).await? else { return Err(Missing::Absent(key.name)) };
        match pair(&secret, role.needs_key(purpose, facts.has_external_etcd())) {
            Ok(pair) => found.push((purpose, pair)),
            Err(missing) => {
                // What is completed meanwhile must be seen at the next look.
                cache.forget(&key);
                return Err(Missing::Incomplete { secret: key.name, key: missing });
            }
        }
    }
    Ok(found)
}

fn secret_key(facts: &Facts, purpose: Purpose) -> ObjectKey {
    let name = purpose.secret_name(&facts.owner.cluster_name);
    ObjectKey::of(facts.cluster.as_ref()).sibling(name)
}

/// Certificate and key in a Secret; the error is the key of the value that is missing.
fn pair(secret: &Secret, needs_key: bool) -> Result<Pair, &'static str> {
    let text = |key: &'static str| {
        let value = secrets::value(secret, key).filter(|value| !value.is_empty());
        value.and_then(|value| String::from_utf8(value.to_vec()).ok()).ok_or(key)
    };
    let certificate = text("tls.crt")?;
    let key = match text("tls.key") {
        Ok(key) => key,
        Err(_) if !needs_key => String::new(),
        Err(missing) => return Err(missing),
    };
    Ok(Pair { certificate, key: key.into() })
}

/// Looks up the certificates of a cluster that no control plane object looks after, and makes those that are missing.
/// What concerns an external etcd is the user's.
///
/// They are read as they are now. What an earlier machine's configuration made goes with it, and that machine may just be
/// going: this configuration, by which the cluster is made, becomes the owner.
pub async fn find_or_make(
    facts: &Facts,
    cache: &SecretCache,
    writer: &Writer,
    offload: Offload,
    now: Timestamp,
) -> Result<Certificates, Missing> {
    for purpose in Use::Init.purposes(facts) {
        let key = secret_key(facts, purpose);
        let is_users = facts.has_external_etcd() && matches!(purpose, Purpose::EtcdCa | Purpose::ApiServerEtcdClient);
        if is_users {
            continue;
        }
        if let Some(secret) = cache.get_live(&key).await? {
            take_over(facts, &secret, writer).await?;
            continue;
        }
        let settings = facts.cluster_configuration();
        let algorithm = settings.encryption_algorithm.unwrap_or_default();
        let days = settings.ca_certificate_validity_period_days;
        // Making an RSA key takes long.
        let made = offload.run(move || pki::generate(purpose, algorithm, days, now)).await?;
        let unmakeable =
            |error: pki::Error| Missing::Unmakeable { secret: key.name.clone(), reason: error.to_string() };
        let pair = made.map_err(unmakeable)?;
        let secret = secret(facts, purpose, &pair);
        // If one has appeared meanwhile, that one counts.
        fault::around("create-certificates", writer.create(&secret)).await?;
    }
    find(facts, Use::Init, cache).await
}

/// Becomes the owner of a Secret that another machine's configuration made.
async fn take_over(facts: &Facts, secret: &Secret, writer: &Writer) -> Result<(), ReconcileError> {
    let ours = owner::controller(facts.config.as_ref());
    let is_anothers = |owner: &OwnerReference| {
        owner.kind == ours.kind && owner.uid != ours.uid && owner::group_of(&owner.api_version) == GROUP
    };
    if owner::controller_of(&secret.metadata).is_some_and(is_anothers) {
        let patch = json!({"metadata": {"ownerReferences": [ours]}});
        fault::around("take-over-certificates", writer.merge(secret, patch)).await?;
    }
    Ok(())
}

fn secret(facts: &Facts, purpose: Purpose, pair: &Pair) -> Secret {
    let mut secret = Secret::default();
    let cluster = &facts.owner.cluster_name;
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::{super::decide::tests::facts, *};

    fn holding(certificate: &str, key: &str) -> Secret {
        let data = [("tls.crt", certificate), ("tls.key", key)];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[rstest]
    #[case::a_worker_needs_the_certificate_alone(Use::JoinWorker, Purpose::ClusterCa, false, false)]
    #[case::init_with_an_external_ca(Use::Init, Purpose::ClusterCa, false, false)]
    #[case::init_needs_the_service_account_key(Use::Init, Purpose::ServiceAccount, false, true)]
    #[case::init_needs_the_etcd_client_key(Use::Init, Purpose::ApiServerEtcdClient, true, true)]
    #[case::a_join_signs_with_the_ca(Use::JoinControlPlane, Purpose::ClusterCa, false, true)]
    #[case::a_join_signs_with_the_etcd_ca(Use::JoinControlPlane, Purpose::EtcdCa, false, true)]
    #[case::an_external_etcd_keeps_its_key(Use::JoinControlPlane, Purpose::EtcdCa, true, false)]
    fn a_key(#[case] role: Use, #[case] purpose: Purpose, #[case] external_etcd: bool, #[case] needed: bool) {
        assert_eq!(role.needs_key(purpose, external_etcd), needed);
    }

    #[test]
    fn what_is_missing_in_a_secret_is_named() {
        assert!(pair(&holding("C", "K"), true).is_ok_and(|pair| pair.key.as_str() == "K"));
        assert_eq!(pair(&holding("C", ""), true).unwrap_err(), "tls.key");
        assert!(pair(&holding("C", ""), false).is_ok_and(|pair| pair.key.is_empty()));
        assert_eq!(pair(&holding("", "K"), true).unwrap_err(), "tls.crt");
        assert_eq!(pair(&Secret::default(), false).unwrap_err(), "tls.crt");
    }

    #[test]
    fn an_external_etcd_adds_its_client_certificate() {
        let etcd = json!({"external": {"endpoints": ["https://e"], "caFile": "/a", "certFile": "/b", "keyFile": "/c"}});
        let external = facts(json!({"config": {"spec": {"clusterConfiguration": {"etcd": etcd}}}}));
        assert_eq!(Use::Init.purposes(&external).last(), Some(&Purpose::ApiServerEtcdClient));
        assert_eq!(Use::JoinControlPlane.purposes(&facts(json!({}))), Purpose::STACKED);
        assert_eq!(Use::JoinWorker.purposes(&external), [Purpose::ClusterCa]);
    }

    #[test]
    fn a_certificate_secret_belongs_to_the_config_and_is_found_by_its_cluster() {
        let pair = Pair { certificate: "C".into(), key: "K".to_owned().into() };
        insta::assert_json_snapshot!(secret(&facts(json!({})), Purpose::FrontProxyCa, &pair));
    }
}
