//! The kubeconfig of a cluster's administrator, in Secret `<cluster>-kubeconfig` (contract rule CP-11).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
    let config = json!({
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

/// The kubeconfig by which a machine finds the cluster it joins (`joinConfiguration.discovery.file.kubeConfig`), in YAML.
/// `discovery` is that field: a cluster, and a user who is known by an auth provider or by a command.
pub fn of_discovery(discovery: &Value) -> Result<String, pki::Error> {
    let given = |path: &str| discovery.pointer(path).filter(|value| !value.is_null()).cloned();
    let mut cluster = Map::new();
    for (name, path) in [
        ("server", "/cluster/server"),
        ("tls-server-name", "/cluster/tlsServerName"),
        ("insecure-skip-tls-verify", "/cluster/insecureSkipTLSVerify"),
        ("certificate-authority-data", "/cluster/certificateAuthorityData"),
        ("proxy-url", "/cluster/proxyURL"),
    ] {
        if let Some(value) = given(path) {
            cluster.insert(name.to_owned(), value);
        }
    }
    let mut user = Map::new();
    if let Some(name) = given("/user/authProvider/name") {
        let config = given("/user/authProvider/config").unwrap_or_default();
        user.insert("auth-provider".to_owned(), json!({"name": name, "config": config}));
    }
    if let Some(command) = given("/user/exec/command") {
        let version = given("/user/exec/apiVersion").unwrap_or_else(|| json!("client.authentication.k8s.io/v1"));
        let exec = json!({
            "apiVersion": version,
            "command": command,
            "args": given("/user/exec/args"),
            "env": given("/user/exec/env"),
            "provideClusterInfo": given("/user/exec/provideClusterInfo").unwrap_or(json!(false)),
            // Nobody sits at a machine that boots.
            "interactiveMode": "Never",
        });
        user.insert("exec".to_owned(), exec);
    }
    let config = json!({
        "clusters": [{"name": "default", "cluster": cluster}],
        "users": [{"name": "default", "user": user}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
    });
    serde_saphyr::to_string(&config)
        .map_err(|error| pki::Error::Read { what: "the discovery kubeconfig", reason: error.to_string() })
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
    // Each pass asks, and ours are JSON, which is read far quicker than YAML.
    let config: Option<Config> =
        serde_json::from_str(kubeconfig).ok().or_else(|| serde_saphyr::from_str(kubeconfig).ok());
    let Some(config) = config else { return true };
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
    fn a_discovery_kubeconfig_has_one_of_each_called_default() {
        let text = of_discovery(&json!({
            "cluster": {"server": "https://10.0.0.1:6443", "certificateAuthorityData": "Q0E=", "proxyURL": "http://p"},
            "user": {"exec": {"command": "/usr/bin/credentials", "env": [{"name": "A", "value": "yes"}]}},
        }))
        .unwrap();
        insta::assert_snapshot!(text);
        let text = of_discovery(&json!({
            "cluster": {"insecureSkipTLSVerify": true, "tlsServerName": "api"},
            "user": {"authProvider": {"name": "oidc", "config": {"k": "v"}}},
        }));
        insta::assert_snapshot!(text.unwrap());
    }

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
        let yaml = serde_saphyr::to_string(&serde_json::from_str::<Value>(&made).unwrap()).unwrap();
        assert!(!is_outdated(&yaml, "https://10.0.0.1:6443", &ca.certificate, now), "others write YAML");
    }
}
