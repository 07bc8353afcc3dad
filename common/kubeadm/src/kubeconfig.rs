//! The kubeconfig of a cluster's administrator, in Secret `<cluster>-kubeconfig` (contract rule CP-11).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    api::spec::EncryptionAlgorithm,
    pki::{self, Leaf, Pair},
};

/// The client certificate is made anew when less than this is left of it.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(365 * 24 / 2);

/// Name of the Secret.
pub fn secret_name(cluster: &str) -> String {
    format!("{cluster}-kubeconfig")
}

/// A kubeconfig with a new client certificate of an administrator.
pub fn generate(
    cluster: &str,
    server: &str,
    ca: &Pair,
    algorithm: EncryptionAlgorithm,
    now: Timestamp,
) -> Result<String, pki::Error> {
    let leaf = Leaf {
        name: "kubernetes-admin",
        organisations: &["system:masters"],
        dns: &[],
        addresses: &[],
        server: false,
        client: true,
    };
    let client = pki::issue(ca, &leaf, algorithm, now)?;
    let user = format!("{cluster}-admin");
    let context = format!("{user}@{cluster}");
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(&ca.certificate),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&client.certificate),
            "client-key-data": STANDARD.encode(client.key.as_bytes()),
        }}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
        "current-context": context,
    });
    // JSON is YAML; every reader of kubeconfigs reads it.
    Ok(config.to_string())
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    users: Vec<NamedUser>,
    clusters: Vec<NamedCluster>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct NamedUser {
    user: User,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate_data: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: String,
}

/// Whether a kubeconfig is to be made anew: it cannot be read, expires before long, or leads elsewhere.
pub fn is_outdated(kubeconfig: &str, server: &str, ca_certificate: &str, now: Timestamp) -> bool {
    let Ok(config) = serde_saphyr::from_str::<Config>(kubeconfig) else { return true };
    let decode =
        |text: &str| STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let fits = config.clusters.iter().any(|named| {
        named.cluster.server == server && decode(&named.cluster.certificate_authority_data) == ca_certificate
    });
    let lasts = config.users.iter().any(|named| {
        pki::expiry(&decode(&named.user.client_certificate_data)).is_ok_and(|expiry| expiry - RENEW_BEFORE > now)
    });
    !fits || !lasts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Purpose;

    #[test]
    fn a_kubeconfig_is_renewed_in_time_and_when_it_leads_elsewhere() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ca = pki::generate(Purpose::ClusterCa, EncryptionAlgorithm::EcdsaP256, None, now).unwrap();
        let made = generate("c", "https://10.0.0.1:6443", &ca, EncryptionAlgorithm::EcdsaP256, now).unwrap();
        let outdated = |server: &str, now| is_outdated(&made, server, &ca.certificate, now);
        assert!(!outdated("https://10.0.0.1:6443", now));
        assert!(!outdated("https://10.0.0.1:6443", now + SignedDuration::from_hours(180 * 24)));
        assert!(outdated("https://10.0.0.1:6443", now + SignedDuration::from_hours(190 * 24)));
        assert!(outdated("https://10.0.0.2:6443", now));
        assert!(is_outdated("{", "https://10.0.0.1:6443", &ca.certificate, now));
    }
}
