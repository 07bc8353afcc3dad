//! How a machine that joins comes to trust a cluster: by a token and pins of the cluster's CA, or by a file.

use std::{collections::HashSet, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{
    Retry,
    client::{Client, ClientError},
    config::{
        self,
        types::{Discovery, TokenDiscovery},
    },
    files::Files,
    host::Host,
    kubeconfig::{Identity, Kubeconfig},
    pki, tokens,
};

const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// Finds the cluster: where it is, whom to trust, and as whom to ask for a certificate.
pub async fn discover(
    host: &dyn Host,
    files: &dyn Files,
    discovery: &Discovery,
    timeout: Duration,
) -> Result<Kubeconfig, String> {
    let wrong = |why: String| format!("couldn't validate the identity of the API Server: {why}");
    let mut found = match (&discovery.bootstrap_token, &discovery.file) {
        (Some(token), _) => by_token(host, files, token, timeout).await.map_err(wrong)?,
        (None, Some(file)) => by_file(host, files, &file.kube_config_path, timeout).await.map_err(wrong)?,
        (None, None) => return Err("couldn't find a valid discovery configuration".into()),
    };
    if !discovery.tls_bootstrap_token.is_empty() {
        found.identity = Identity::Token(discovery.tls_bootstrap_token.clone());
    }
    if found.identity == Identity::Anonymous {
        return Err("could not find authentication credentials for the TLS bootstrap process. Please use Token discovery, \
                    a discovery file with embedded authentication credentials or a discovery file without authentication \
                    credentials but with the TLSBootstrapToken flag"
            .into());
    }
    Ok(found)
}

async fn by_token(
    host: &dyn Host,
    files: &dyn Files,
    discovery: &TokenDiscovery,
    timeout: Duration,
) -> Result<Kubeconfig, String> {
    let pins =
        pins(&discovery.ca_cert_hashes).map_err(|why| format!("invalid discovery token CA certificate hash: {why}"))?;
    let (id, secret) = tokens::parts(&discovery.token).ok_or("the bootstrap token is invalid")?;
    let server = format!("https://{}", discovery.api_server_endpoint);
    let stranger = Kubeconfig { server: server.clone(), authority: Vec::new(), identity: Identity::Anonymous };
    let mut client = Client::new(host, &stranger, true)?;
    let told = cluster_info(host, &mut client, id, timeout).await?;
    let text = signed_kubeconfig(&told, id, secret)?;
    let insecure = Kubeconfig::parse(files, &text)
        .map_err(|why| format!("couldn't parse the kubeconfig file in the cluster-info ConfigMap: {why}"))?;
    if pins.is_empty() {
        return Ok(insecure);
    }
    let authorities = pki::certificates_of(&insecure.authority)
        .map_err(|why| format!("failed to parse cluster CA from the cluster-info ConfigMap: {why}"))?;
    if !authorities.iter().any(|certificate| pins.contains(&certificate.pin())) {
        let hashes: Vec<String> = authorities.iter().map(pki::Certificate::pin).collect();
        return Err(format!(
            "cluster CA found in cluster-info ConfigMap is invalid: none of the public keys {:?} are pinned",
            hashes.join(":")
        ));
    }
    // Now that the authority is known, the same must be told over a connection that it vouches for.
    let known = Kubeconfig { server, authority: insecure.authority.clone(), identity: Identity::Anonymous };
    let mut client = Client::new(host, &known, false)?;
    let told = cluster_info(host, &mut client, id, timeout).await?;
    if told["data"]["kubeconfig"].as_str() != Some(text.as_str()) {
        return Err(
            "the second kubeconfig from the cluster-info ConfigMap (using validated TLS) was different from the \
                    first"
                .into(),
        );
    }
    Ok(insecure)
}

/// Canonical pins.
fn pins(given: &[String]) -> Result<HashSet<String>, String> {
    given
        .iter()
        .map(|pin| {
            let (format, value) = pin
                .split_once(':')
                .filter(|(_, value)| !value.contains(':'))
                .ok_or("invalid hash, expected \"format:hex-value\". Known format(s) are: sha256")?;
            if !format.eq_ignore_ascii_case("sha256") {
                return Err(format!("unknown hash format {format:?}. Known format(s) are: sha256"));
            }
            match hex::decode(value) {
                Ok(bytes) if bytes.len() == 32 => Ok(format!("sha256:{}", value.to_ascii_lowercase())),
                Ok(bytes) => {
                    Err(format!("invalid hash {pin:?}, expected a 32 byte SHA-256 hash, found {} bytes", bytes.len()))
                }
                Err(error) => Err(format!("invalid hash {pin:?}, could not decode SHA-256 from hex: {error}")),
            }
        })
        .collect()
}

/// Asks until the `ConfigMap` is there and signed with this token.
async fn cluster_info(host: &dyn Host, client: &mut Client<'_>, id: &str, timeout: Duration) -> Result<Value, String> {
    let key = format!("{}{id}", tokens::SIGNATURE_PREFIX);
    let mut retry = Retry::new(host, timeout);
    loop {
        let why = match client.get(CLUSTER_INFO).await {
            Ok(map) if map["data"][&key].is_string() => return Ok(map),
            Ok(_) => format!("could not find a JWS signature in the cluster-info ConfigMap for token ID {id:?}"),
            Err(error) => format!("failed to request the cluster-info ConfigMap: {error}"),
        };
        if !retry.again().await {
            return Err(why);
        }
    }
}

fn signed_kubeconfig(map: &Value, id: &str, secret: &str) -> Result<String, String> {
    let text = map["data"]["kubeconfig"].as_str().filter(|text| !text.is_empty()).ok_or(
        "there is no kubeconfig key in the cluster-info ConfigMap. This API Server isn't set up for token bootstrapping, \
         can't connect",
    )?;
    let signature = map["data"][format!("{}{id}", tokens::SIGNATURE_PREFIX)].as_str().unwrap_or_default();
    if signature.is_empty() {
        return Err(format!(
            "token id {id:?} is invalid for this cluster or it has expired. Use \"kubeadm token create\" on the \
             control-plane node to create a new valid token"
        ));
    }
    if signature != tokens::signature(text, id, secret) {
        return Err(
            "failed to verify JWS signature of received cluster info object, can't trust this API Server".into()
        );
    }
    Ok(text.to_owned())
}

/// Reads the cluster from a kubeconfig of the machine, and what the cluster says of itself.
async fn by_file(host: &dyn Host, files: &dyn Files, path: &str, timeout: Duration) -> Result<Kubeconfig, String> {
    if path.starts_with("https://") {
        return Err(format!("{path}: discovery files are not fetched from the network here"));
    }
    let mut found = Kubeconfig::read(files, path)?;
    if found.identity != Identity::Anonymous {
        return Ok(found);
    }
    let mut client = Client::new(host, &found, found.authority.is_empty())?;
    let mut retry = Retry::new(host, timeout);
    let told = loop {
        let why = match client.get(CLUSTER_INFO).await {
            Ok(map) => break Some(map),
            // Without the right to read it, the file is all there is.
            Err(ClientError::Status { code: 401 | 403, .. }) => break None,
            Err(error) => error.to_string(),
        };
        if !retry.again().await {
            return Err(why);
        }
    };
    if let Some(map) = told {
        let text = map["data"]["kubeconfig"].as_str().unwrap_or_default();
        let document = config::from_yaml(text).map_err(|error| error.to_string())?;
        let data = document["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap_or_default();
        if let Ok(authority) = BASE64_STANDARD.decode(data) {
            found.authority = authority;
        }
    }
    Ok(found)
}
