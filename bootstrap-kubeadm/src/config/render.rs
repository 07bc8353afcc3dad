//! From facts to boot data. Pure: everything that is kept elsewhere has been read before.

use std::collections::BTreeMap;

use cluster_api::{labels, owner, v1beta2::NetworkRanges, version::Version};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, Taint},
};
use kube::ResourceExt;
use kubeadm::{
    api::{
        files::{ContentFormat, File, User},
        spec::{BootstrapTokenDiscovery, JoinConfiguration, KubeadmConfigSpec},
    },
    config::{self, ClusterFacts, KubeadmApi},
    pki::{self, Pair, Purpose},
    userdata::{self, Input, Run},
};

use super::{certificates::Certificates, observe::Facts};

/// Workers register with this taint; core removes it once it has synced their labels.
const UNINITIALIZED: &str = "node.cluster.x-k8s.io/uninitialized";

/// Why boot data cannot be made from an object; the message names the field.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine's version is unusable.
    #[error("Machine spec.version: {0}")]
    Version(String),
    /// A file or user asks for what is not there or not possible.
    #[error("{0}")]
    Field(String),
    /// kubeadm's documents cannot be written.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The boot data cannot be written.
    #[error(transparent)]
    UserData(#[from] userdata::Error),
    /// The cluster CA cannot be read.
    #[error(transparent)]
    Pki(#[from] pki::Error),
}

/// A value of a Secret that a file or user refers to: where it is asked for, Secret, key.
pub type Reference<'a> = (String, &'a str, &'a str);

/// Every value of a Secret that a spec refers to.
pub fn references(spec: &KubeadmConfigSpec) -> Vec<Reference<'_>> {
    let files = spec.files.iter().enumerate().filter_map(|(index, file)| {
        let secret = &file.content_from.as_ref()?.secret;
        Some((format!("files[{index}].contentFrom"), secret.name.as_str(), secret.key.as_str()))
    });
    let users = spec.users.iter().enumerate().filter_map(|(index, user)| {
        let secret = &user.passwd_from.as_ref()?.secret;
        Some((format!("users[{index}].passwdFrom"), secret.name.as_str(), secret.key.as_str()))
    });
    files.chain(users).collect()
}

/// Values of Secrets, by Secret and key.
pub type Resolved = BTreeMap<(String, String), Vec<u8>>;

/// Boot data of the machine that makes the cluster.
pub fn init(facts: &Facts, certificates: &Certificates, resolved: &Resolved) -> Result<Vec<u8>, Error> {
    let spec = &facts.config.spec.0;
    let api = KubeadmApi::for_version(&version(facts)?)?;
    let cluster = spec.cluster_configuration.clone().unwrap_or_default();
    let settings = spec.init_configuration.clone().unwrap_or_default();
    let (documents, init) = config::init(api, &cluster, &settings, &cluster_facts(facts))?;
    render(facts, certificates, resolved, Run::Init { cluster: documents, init })
}

/// Boot data of a machine that joins.
pub fn join(
    facts: &Facts,
    certificates: &Certificates,
    resolved: &Resolved,
    control_plane: bool,
) -> Result<Vec<u8>, Error> {
    let api = KubeadmApi::for_version(&version(facts)?)?;
    let mut settings = facts.config.spec.0.join_configuration.clone().unwrap_or_default();
    if control_plane {
        settings.control_plane.get_or_insert_default();
    } else {
        if settings.control_plane.is_some() {
            return Err(Error::Field("joinConfiguration.controlPlane: must not be set on a worker".to_owned()));
        }
        taint(&mut settings);
    }
    let join = config::join(api, &settings)?;
    // Only control plane machines get keys; a worker needs nothing but the pin in its discovery.
    let none = Vec::new();
    let written = if control_plane { certificates } else { &none };
    render(facts, written, resolved, Run::Join { join, control_plane })
}

fn taint(settings: &mut JoinConfiguration) {
    let node = settings.node_registration.get_or_insert_default();
    let taints = node.taints.get_or_insert_default();
    if !taints.iter().any(|taint| taint.key == UNINITIALIZED && taint.effect == "NoSchedule") {
        taints.push(Taint { key: UNINITIALIZED.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
    }
}

fn render(facts: &Facts, certificates: &Certificates, resolved: &Resolved, run: Run) -> Result<Vec<u8>, Error> {
    let spec = &facts.config.spec.0;
    let folder =
        spec.cluster_configuration.as_ref().map(|cluster| cluster.certificates_dir.clone()).unwrap_or_default();
    let certificates = certificates
        .iter()
        .flat_map(|(purpose, pair): &(Purpose, Pair)| userdata::certificate_files(*purpose, pair, &folder));
    let input = Input {
        spec,
        certificates: certificates.collect(),
        files: files(spec, resolved)?,
        users: users(spec, resolved)?,
        run,
    };
    Ok(userdata::render(&input)?)
}

fn files(spec: &KubeadmConfigSpec, resolved: &Resolved) -> Result<Vec<File>, Error> {
    let file = |(index, file): (usize, &File)| {
        let mut file = file.clone();
        if file.content_format == Some(ContentFormat::Template) {
            return Err(Error::Field(format!("files[{index}].contentFormat: Template is not supported; use Raw")));
        }
        if let Some(source) = file.content_from.take() {
            file.content =
                text(resolved, &source.secret.name, &source.secret.key, &format!("files[{index}].contentFrom"))?;
        }
        Ok(file)
    };
    spec.files.iter().enumerate().map(file).collect()
}

fn users(spec: &KubeadmConfigSpec, resolved: &Resolved) -> Result<Vec<User>, Error> {
    let user = |(index, user): (usize, &User)| {
        let mut user = user.clone();
        if let Some(source) = user.passwd_from.take() {
            user.passwd =
                text(resolved, &source.secret.name, &source.secret.key, &format!("users[{index}].passwdFrom"))?;
        }
        Ok(user)
    };
    spec.users.iter().enumerate().map(user).collect()
}

fn text(resolved: &Resolved, secret: &str, key: &str, field: &str) -> Result<String, Error> {
    let value = resolved.get(&(secret.to_owned(), key.to_owned()));
    let value = value.ok_or_else(|| Error::Field(format!("{field}: Secret {secret} has no key {key}")))?;
    String::from_utf8(value.clone())
        .map_err(|_| Error::Field(format!("{field}: key {key} of Secret {secret} is not UTF-8")))
}

fn version(facts: &Facts) -> Result<Version, Error> {
    facts
        .machine
        .spec
        .version
        .parse()
        .map_err(|error: cluster_api::version::InvalidVersion| Error::Version(error.to_string()))
}

fn cluster_facts(facts: &Facts) -> ClusterFacts {
    let cluster = &facts.cluster.spec;
    let network = cluster.cluster_network.clone().unwrap_or_default();
    let joined = |ranges: Option<NetworkRanges>| ranges.map(|ranges| ranges.joined()).unwrap_or_default();
    ClusterFacts {
        name: facts.cluster.name_any(),
        version: facts.machine.spec.version.clone(),
        endpoint: endpoint(facts).unwrap_or_default(),
        dns_domain: network.service_domain.unwrap_or_default(),
        service_subnet: joined(network.services),
        pod_subnet: joined(network.pods),
    }
}

/// `host:port` of the cluster's API server, once it is known.
pub fn endpoint(facts: &Facts) -> Option<String> {
    let endpoint = &facts.cluster.spec.control_plane_endpoint;
    endpoint.is_valid().then(|| endpoint.to_string())
}

/// How a joining machine finds the cluster by a token: what the user left open is filled in. `token` is taken where the
/// user gave none.
pub fn token_discovery(
    facts: &Facts,
    ca: &str,
    endpoint: &str,
    token: String,
) -> Result<BootstrapTokenDiscovery, Error> {
    let given = facts
        .config
        .spec
        .0
        .join_configuration
        .as_ref()
        .and_then(|join| join.discovery.as_ref()?.bootstrap_token.clone());
    let mut discovery = given.unwrap_or_default();
    if discovery.ca_cert_hashes.is_empty() && discovery.unsafe_skip_ca_verification != Some(true) {
        discovery.ca_cert_hashes = pki::pins(ca)?;
    }
    if discovery.api_server_endpoint.is_empty() {
        endpoint.clone_into(&mut discovery.api_server_endpoint);
    }
    if discovery.token.is_empty() {
        discovery.token = token;
    }
    Ok(discovery)
}

/// The Secret that holds boot data.
pub fn data_secret(facts: &Facts, value: Vec<u8>) -> Secret {
    let format = facts.config.spec.0.format.unwrap_or_default();
    let mut secret = Secret::default();
    secret.metadata.name = Some(facts.config.name_any());
    secret.metadata.namespace = facts.config.namespace();
    secret.metadata.labels = Some([(labels::CLUSTER_NAME.to_owned(), facts.cluster.name_any())].into());
    secret.metadata.owner_references = Some(vec![owner::controller(facts.config.as_ref())]);
    secret.type_ = Some(labels::SECRET_TYPE.to_owned());
    secret.data = Some(BTreeMap::from([
        ("value".to_owned(), ByteString(value)),
        ("format".to_owned(), ByteString(format.as_str().as_bytes().to_vec())),
    ]));
    secret
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kubeadm::api::spec::EncryptionAlgorithm;
    use serde_json::{Value, json};

    use super::{super::decide::tests::facts, *};

    fn certificates() -> Certificates {
        let make = |purpose| pki::generate(purpose, EncryptionAlgorithm::EcdsaP256, None, Timestamp::now()).unwrap();
        Purpose::STACKED.iter().map(|purpose| (*purpose, make(*purpose))).collect()
    }

    fn cloud_config(bytes: &[u8]) -> Value {
        serde_saphyr::from_str(std::str::from_utf8(bytes).unwrap()).unwrap()
    }

    #[test]
    fn init_carries_all_certificates_and_the_clusters_facts() {
        let facts = facts(json!({"cluster": {"spec": {"clusterNetwork": {"pods": {"cidrBlocks": ["10.1.0.0/16"]}}}}}));
        let document = cloud_config(&init(&facts, &certificates(), &Resolved::new()).unwrap());
        let files = document["write_files"].as_array().unwrap();
        assert_eq!(files.len(), 8 + 2);
        let cluster: Value = serde_saphyr::from_multiple(files[8]["content"].as_str().unwrap())
            .map(|all: Vec<Value>| all[0].clone())
            .unwrap();
        assert_eq!(cluster["controlPlaneEndpoint"], "10.0.0.1:6443");
        assert_eq!(cluster["networking"]["podSubnet"], "10.1.0.0/16");
    }

    #[test]
    fn a_worker_gets_a_taint_and_no_keys() {
        let facts = facts(json!({"machine": {"metadata": {"labels": null}}}));
        let bytes = join(&facts, &certificates(), &Resolved::new(), false).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"));
        let document = cloud_config(&bytes);
        let join: Value = serde_saphyr::from_str(document["write_files"][0]["content"].as_str().unwrap()).unwrap();
        assert_eq!(join["nodeRegistration"]["taints"][0]["key"], UNINITIALIZED);
    }

    #[test]
    fn what_a_user_says_of_discovery_is_kept() {
        let given = json!({"config": {"spec": {"joinConfiguration": {"discovery": {"bootstrapToken": {"apiServerEndpoint": "other:1", "caCertHashes": ["sha256:mine"]}}}}}});
        let discovery = token_discovery(&facts(given), "unused", "10.0.0.1:6443", "t".into()).unwrap();
        assert_eq!(
            (discovery.api_server_endpoint.as_str(), discovery.ca_cert_hashes[0].as_str()),
            ("other:1", "sha256:mine")
        );
        let certificates = certificates();
        let filled =
            token_discovery(&facts(json!({})), &certificates[0].1.certificate, "10.0.0.1:6443", "t".into()).unwrap();
        assert_eq!(
            (filled.token.as_str(), filled.ca_cert_hashes.len(), filled.unsafe_skip_ca_verification),
            ("t", 1, None)
        );
    }

    #[test]
    fn a_missing_value_and_a_bad_version_are_named() {
        let missing = facts(
            json!({"config": {"spec": {"files": [{"path": "/a", "contentFrom": {"secret": {"name": "s", "key": "k"}}}]}}}),
        );
        assert_eq!(references(&missing.config.spec.0), [("files[0].contentFrom".to_owned(), "s", "k")]);
        let error = init(&missing, &certificates(), &Resolved::new()).unwrap_err();
        assert_eq!(error.to_string(), "files[0].contentFrom: Secret s has no key k");
        let bad = facts(json!({"machine": {"spec": {"version": "latest"}}}));
        assert!(init(&bad, &certificates(), &Resolved::new()).unwrap_err().to_string().contains("latest"));
    }
}
