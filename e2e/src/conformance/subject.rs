//! The cluster that is asked: who can speak to it, and what is its own about it.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    answer::{Speaker, items, name},
    canonical::Canon,
};
use crate::{ground::Guests, process};

/// Where a cluster and what belongs to it are found.
pub struct Source<'a> {
    /// The management cluster.
    pub management: &'a Client,
    /// Namespace of the cluster's objects there.
    pub namespace: &'a str,
    /// Name of the cluster.
    pub cluster: &'a str,
    /// What its machines are.
    pub guests: Guests,
    /// Folder of the Go-built peers.
    pub toolchain: &'a Path,
    /// Folder for what the checks write down.
    pub dir: &'a Path,
}

/// An authority of the cluster, in PEM.
struct Authority {
    certificate: String,
    key: String,
}

/// A client certificate and its key, in PEM.
pub struct ClientPair {
    /// Certificate.
    pub certificate: String,
    /// Key.
    pub key: String,
}

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its first internal address.
    pub address: IpAddr,
    /// Whether it is of the control plane.
    pub is_control_plane: bool,
}

/// The cluster that is asked.
pub struct Subject {
    /// What its machines are.
    pub guests: Guests,
    /// The administrator.
    pub admin: Speaker,
    /// The administrator's client, for what takes more than one answer.
    pub client: Client,
    /// Nodes, those of the control plane first, by name.
    pub nodes: Vec<Node>,
    /// Kubernetes version with its `v`.
    pub version: String,
    /// Folder for what the checks write down.
    pub dir: PathBuf,
    canon: Canon,
    kubeconfig: Kubeconfig,
    toolchain: PathBuf,
    authority: Authority,
    etcd_authority: Authority,
}

impl Subject {
    /// Finds the cluster and reads what is its own.
    pub async fn find(source: &Source<'_>) -> Result<Arc<Self>> {
        fs::create_dir_all(source.dir).with_context(|| format!("cannot make {}", source.dir.display()))?;
        let secrets: Api<Secret> = Api::namespaced(source.management.clone(), source.namespace);
        let secret = async |suffix: &str| -> Result<BTreeMap<String, String>> {
            let secret = secrets.get(&format!("{}-{suffix}", source.cluster)).await?;
            let data = secret.data.unwrap_or_default().into_iter();
            Ok(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
        };
        let authority = async |suffix: &str| -> Result<Authority> {
            let mut pair = secret(suffix).await?;
            let mut part = |key: &str| pair.remove(key).with_context(|| format!("the Secret {suffix} has no {key}"));
            Ok(Authority { certificate: part("tls.crt")?, key: part("tls.key")? })
        };
        let kubeconfig = secret("kubeconfig").await?.remove("value").context("the kubeconfig Secret has no `value`")?;
        let (cluster_authority, etcd_authority) = (authority("ca").await?, authority("etcd").await?);
        fs::write(source.dir.join("kubeconfig"), &kubeconfig)?;
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig)?;
        let client = client(&kubeconfig).await?;
        let admin = Speaker::new(client.clone());
        let nodes = nodes(&admin).await?;
        let configuration = cluster_configuration(&admin).await?;
        let canon = canon(source.cluster, &nodes, &configuration, &cluster_authority)?;
        let version = configuration["kubernetesVersion"].as_str().context("kubeadm-config has no version")?;
        Ok(Arc::new(Self {
            guests: source.guests,
            admin,
            client,
            nodes,
            version: version.to_owned(),
            dir: source.dir.to_path_buf(),
            canon,
            kubeconfig,
            toolchain: source.toolchain.to_path_buf(),
            authority: cluster_authority,
            etcd_authority,
        }))
    }

    /// An answer without what is this cluster's own.
    pub fn canonical(&self, value: &Value) -> Value {
        self.canon.value(value)
    }

    /// Somebody without credentials.
    pub async fn anonymous(&self) -> Result<Speaker> {
        self.speaker(AuthInfo::default()).await
    }

    /// Somebody with a bearer token.
    pub async fn with_token(&self, token: &str) -> Result<Speaker> {
        self.speaker(serde_json::from_value(json!({"token": token}))?).await
    }

    /// Somebody with a certificate of the cluster's authority, in a group or in none.
    pub async fn user(&self, user: &str, group: Option<&str>) -> Result<Speaker> {
        let pair = issue(&self.authority, user, group)?;
        let encoded = |pem: &str| STANDARD.encode(pem);
        let identity = json!({
            "client-certificate-data": encoded(&pair.certificate), "client-key-data": encoded(&pair.key),
        });
        self.speaker(serde_json::from_value(identity)?).await
    }

    async fn speaker(&self, identity: AuthInfo) -> Result<Speaker> {
        let mut kubeconfig = self.kubeconfig.clone();
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(identity.clone());
        }
        Ok(Speaker::new(client(&kubeconfig).await?))
    }

    /// A certificate with which etcd lets a client in.
    pub fn etcd_client(&self) -> Result<ClientPair> {
        issue(&self.etcd_authority, "conformance", None)
    }

    /// Certificate of the cluster's authority, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority.certificate
    }

    /// Certificate of etcd's authority, in PEM.
    pub fn etcd_authority(&self) -> &str {
        &self.etcd_authority.certificate
    }

    /// Nodes of the control plane.
    pub fn control_plane(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_control_plane)
    }

    /// A node that is not of the control plane.
    pub fn worker(&self) -> Result<&Node> {
        self.nodes.iter().find(|node| !node.is_control_plane).context("the cluster has no workers")
    }

    /// One of the Go-built peers.
    pub fn program(&self, program: &str) -> Command {
        Command::new(self.toolchain.join(program))
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = self.program("kubectl");
        // Its cache of discovery is no other run's.
        kubectl.arg("--kubeconfig").arg(self.dir.join("kubeconfig")).env("HOME", &self.dir);
        kubectl
    }

    /// What kubectl prints; `input` goes to its standard input.
    pub async fn kubectl_says(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        process::output(self.kubectl().args(arguments), input.map(str::as_bytes)).await
    }
}

async fn client(kubeconfig: &Kubeconfig) -> Result<Client> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
    config.read_timeout = Some(Duration::from_secs(60));
    // A refusal is an answer, also one that says when to come again.
    config.default_retry = false;
    Client::try_from(config).context("cannot make a client of the workload cluster")
}

async fn nodes(admin: &Speaker) -> Result<Vec<Node>> {
    let listed = admin.get("/api/v1/nodes").await?.ok()?;
    let mut nodes = Vec::new();
    for node in items(&listed) {
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let internal = addresses.into_iter().find(|address| address["type"] == "InternalIP");
        let address = internal.and_then(|address| address["address"].as_str()?.parse().ok());
        nodes.push(Node {
            address: address.with_context(|| format!("node {} has no internal address", name(&node)))?,
            is_control_plane: node["metadata"]["labels"].get("node-role.kubernetes.io/control-plane").is_some(),
            name: name(&node).to_owned(),
        });
    }
    nodes.sort_by_key(|node| (!node.is_control_plane, node.name.clone()));
    ensure!(nodes.iter().any(|node| node.is_control_plane), "no node is of the control plane");
    Ok(nodes)
}

/// kubeadm's `ClusterConfiguration`, as it lies in the cluster.
async fn cluster_configuration(admin: &Speaker) -> Result<Value> {
    let map = admin.get("/api/v1/namespaces/kube-system/configmaps/kubeadm-config").await?.ok()?;
    let text = map["data"]["ClusterConfiguration"].as_str().context("kubeadm-config holds no ClusterConfiguration")?;
    Ok(serde_saphyr::from_str(text)?)
}

/// Words for the names, addresses and keys of a cluster.
fn canon(cluster: &str, nodes: &[Node], configuration: &Value, authority: &Authority) -> Result<Canon> {
    let mut exact = Vec::new();
    for node in nodes {
        let role = if node.is_control_plane { "control-plane" } else { "worker" };
        exact.push((node.name.clone(), format!("{{{role}}}")));
        exact.push((node.address.to_string(), format!("{{{role}-address}}")));
    }
    let text = |pointer: &str| configuration.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let endpoint = text("/controlPlaneEndpoint").rsplit_once(':').map_or("", |(host, _)| host);
    exact.push((endpoint.to_owned(), "{endpoint}".to_owned()));
    exact.push((text("/kubernetesVersion").to_owned(), "{version}".to_owned()));
    for (pointer, word) in [("/networking/serviceSubnet", "{services}"), ("/networking/podSubnet", "{pods}")] {
        exact.push((network(text(pointer))?, format!("{word}.")));
    }
    exact.push((STANDARD.encode(&authority.certificate), "{authority}".to_owned()));
    // Where the authority stands in a document of its own, it is indented no more.
    exact.push((authority.certificate.trim().to_owned(), "{authority}".to_owned()));
    Canon::new(exact, &[(cluster.to_owned(), "{cluster}")])
}

/// What the addresses of a network of 16 bits begin with.
fn network(cidr: &str) -> Result<String> {
    let (address, bits) = cidr.split_once('/').with_context(|| format!("{cidr:?} is no network"))?;
    ensure!(bits == "16", "the checks tell addresses of networks of 16 bits apart, not of {cidr}");
    let [first, second, ..] = address.parse::<Ipv4Addr>()?.octets();
    Ok(format!("{first}.{second}."))
}

/// A client certificate of an authority, good for an hour.
fn issue(authority: &Authority, user: &str, group: Option<&str>) -> Result<ClientPair> {
    let key = KeyPair::from_pem(&authority.key).context("an authority's key cannot be used")?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, key)?;
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, user);
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = subject;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = time::OffsetDateTime::now_utc();
    // The machines' clocks are this one's.
    (leaf.not_before, leaf.not_after) = (now - time::Duration::minutes(5), now + time::Duration::hours(1));
    let own = KeyPair::generate()?;
    Ok(ClientPair { certificate: leaf.signed_by(&own, &issuer)?.pem(), key: own.serialize_pem() })
}
