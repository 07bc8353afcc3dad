//! TLS bootstrap: a kubelet with a bootstrap token gets a certificate of its own
//! (`pkg/kubelet/certificate/bootstrap/bootstrap.go`).

use std::sync::Arc;

use rcgen::KeyPair;

use super::{
    Cluster, Clusters,
    certificates::{self, Answer, CLIENT_USAGES, KUBELET_CLIENT, Wanted},
    kubelet::Kubelet,
    kubelet_settings::KUBECONFIG,
    reach::Contact,
};
use crate::guest::memory::{
    api_server::bootstrap_user,
    host::Names,
    kubeadm::{
        config,
        files::Files,
        kubeconfig::{self, Identity, Kubeconfig},
        pki::{self, Algorithm, Authority, Leaf},
    },
    root::Root,
};

const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
/// Where kubelet keeps its certificate and key.
const CURRENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// Where kubelet keeps its key until it has a certificate.
const KEY: &str = "/var/lib/kubelet/pki/kubelet-client.key.tmp";

/// Why there is no certificate yet, and the cluster that has to do something about it, where one has been asked.
pub struct NotYet {
    /// Why.
    pub why: String,
    /// The cluster.
    pub cluster: Option<Arc<Cluster>>,
}

impl From<String> for NotYet {
    fn from(why: String) -> Self {
        Self { why, cluster: None }
    }
}

impl From<&str> for NotYet {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

/// Asks for a certificate or looks after the request, whose name is kept, and writes the kubeconfig that names the
/// certificate.
pub fn run(
    root: &mut Root,
    kubelet: &Kubelet,
    clusters: &Clusters,
    node: &str,
    request: &mut Option<String>,
) -> Result<(), NotYet> {
    let asks = Kubeconfig::read(root, BOOTSTRAP_KUBECONFIG)?;
    let Identity::Token(token) = &asks.identity else { return Err("the bootstrap kubeconfig has no token".into()) };
    let pins: Vec<String> = pki::certificates_of(&asks.authority)?.iter().map(pki::Certificate::pin).collect();
    let cluster = pins.iter().find_map(|pin| clusters.by_authority(pin)).ok_or("no cluster has this authority")?;
    if !cluster.reaches(kubelet, &Contact::of(&asks, &Names::of(root))) {
        return Err(format!("{} does not answer", asks.server).into());
    }
    let user = bootstrap_user(token, &cluster.server, cluster.now().as_second()).ok_or("Unauthorized")?;
    let key = key(root)?;
    let leaf = Leaf::client(&format!("system:node:{node}"), &["system:nodes"], cluster.now());
    let answer = request.as_deref().map_or(Answer::Missing, |name| certificates::answer(&cluster, name));
    let certificate = match answer {
        Answer::Issued(certificate) => certificate,
        Answer::Refused(why) => return Err(NotYet { why, cluster: Some(cluster) }),
        Answer::Waiting => {
            let why = "the request waits to be approved and signed".to_owned();
            return Err(NotYet { why, cluster: Some(cluster) });
        }
        Answer::Missing => {
            let wanted = Wanted { signer: KUBELET_CLIENT, leaf: &leaf, usages: &CLIENT_USAGES, key: &key };
            let name = certificates::ask(&cluster, &user, &wanted)?;
            let why = format!("the request {name} is made");
            *request = Some(name);
            return Err(NotYet { why, cluster: Some(cluster) });
        }
    };
    *request = None;
    Files::write(root, CURRENT, 0o600, format!("{certificate}{}", key.serialize_pem()).as_bytes());
    Files::remove(root, KEY);
    let mut document =
        kubeconfig::document(&asks.server, "default-cluster", "default-auth", &asks.authority, &Identity::Anonymous);
    document["users"][0]["user"] = serde_json::json!({"client-certificate": CURRENT, "client-key": CURRENT});
    let text = config::yaml(&document).map_err(|error| error.to_string())?;
    Files::write(root, KUBECONFIG, 0o600, text.as_bytes());
    Ok(())
}

/// The key that an earlier try has left, or a new one.
fn key(root: &mut Root) -> Result<KeyPair, String> {
    if let Ok(key) = pki::load_key(root, KEY) {
        return Ok(key);
    }
    let key = Algorithm::EcdsaP256.generate()?;
    Files::write(root, KEY, 0o600, key.serialize_pem().as_bytes());
    Ok(key)
}

/// The authority that a controller manager signs with, from the files that its flags name.
pub fn signer(root: &Root, certificate: &str, key: &str) -> Option<Authority> {
    let certificate = pki::load_certificate(root, certificate).ok()?;
    Authority::new(certificate, pki::load_key(root, key).ok()?).ok()
}
