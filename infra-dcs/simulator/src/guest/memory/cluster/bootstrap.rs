//! TLS bootstrap: a kubelet with a bootstrap token gets a certificate of its own.
//!
//! The real one posts a `CertificateSigningRequest`, which the controller manager approves and signs. Here the same is
//! decided without the object: the token must be good for authentication and of the nodes' group, and a controller
//! manager with the authority's key must run.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::SignedDuration;

use super::{
    Clusters,
    api::{Api, SECRETS},
    kubelet::Kubelet,
};
use crate::guest::memory::{
    kubeadm::{
        config,
        files::Files,
        kubeconfig::{self, Identity, Kubeconfig},
        pki::{self, Algorithm, Authority, Leaf},
        tokens,
    },
    root::Root,
};

/// kubeadm's.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
/// Where kubelet keeps its certificate and key.
const CURRENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// Life of a certificate that the controller manager signs: its default.
const LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Gets a certificate, and writes the kubeconfig that names it. The error says why not yet.
pub fn run(root: &mut Root, kubelet: &Kubelet, clusters: &Clusters, node: &str) -> Result<(), String> {
    let asks = Kubeconfig::read(root, BOOTSTRAP_KUBECONFIG)?;
    let Identity::Token(token) = &asks.identity else { return Err("the bootstrap kubeconfig has no token".into()) };
    let pins: Vec<String> = pki::certificates_of(&asks.authority)?.iter().map(pki::Certificate::pin).collect();
    let cluster = pins.iter().find_map(|pin| clusters.by_authority(pin)).ok_or("no cluster has this authority")?;
    if !cluster.reaches(kubelet, &asks.server) {
        return Err(format!("{} does not answer", asks.server));
    }
    let (id, secret) = tokens::parts(token).ok_or("the token is malformed")?;
    let api = Api::new(&cluster.server, "kubelet");
    let found = api.get(SECRETS, "kube-system", &format!("bootstrap-token-{id}")).ok_or("Unauthorized")?;
    let field = |name: &str| {
        let bytes = BASE64_STANDARD.decode(found["data"][name].as_str().unwrap_or_default()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let is_good = field("token-secret") == secret && field("usage-bootstrap-authentication") == "true";
    if !is_good || !field("auth-extra-groups").split(',').any(|group| group == GROUP) {
        return Err("Unauthorized".into());
    }
    let authority = cluster.signer().ok_or("no controller manager signs certificates")?;
    let now = kubelet.clock.now();
    let key = Algorithm::EcdsaP256.generate()?;
    let leaf = Leaf::client(&format!("system:node:{node}"), &["system:nodes"], now.checked_add(LIFE).unwrap_or(now));
    let certificate = authority.issue(&leaf, &key)?;
    Files::write(root, CURRENT, 0o600, format!("{certificate}{}", key.serialize_pem()).as_bytes());
    let mut document =
        kubeconfig::document(&asks.server, "default-cluster", "default-auth", &asks.authority, &Identity::Anonymous);
    document["users"][0]["user"] = serde_json::json!({"client-certificate": CURRENT, "client-key": CURRENT});
    let text = config::yaml(&document).map_err(|error| error.to_string())?;
    Files::write(root, KUBECONFIG, 0o600, text.as_bytes());
    Ok(())
}

/// The authority that a controller manager signs with, from the files that its flags name.
pub fn signer(root: &Root, certificate: &str, key: &str) -> Option<Authority> {
    let certificate = pki::load_certificate(root, certificate).ok()?;
    Authority::new(certificate, pki::load_key(root, key).ok()?).ok()
}
