//! Bootstrap tokens: their Secrets, and the signature that lets a machine trust what a stranger tells it of a cluster.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{config::types::BootstrapToken, pki::certificates::after};

/// Prefix of the keys of signatures in the `ConfigMap` `cluster-info`.
pub const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";
/// Type of the tokens' Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

/// Id and secret of a token.
pub fn parts(token: &str) -> Option<(&str, &str)> {
    super::config::is_token(token).then(|| token.split_once('.')).flatten()
}

/// A JSON Web Signature (HS256, RFC 7515) of `content` without the content.
pub fn signature(content: &str, id: &str, secret: &str) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}").as_bytes());
    let signed = format!("{header}.{}", encode(content.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{header}..{}", encode(tag.as_ref()))
}

/// The Secret of a token in `kube-system`.
pub fn secret(token: &BootstrapToken, now: Timestamp) -> Option<Value> {
    let (id, secret) = parts(&token.token)?;
    let mut data = json!({"token-id": id, "token-secret": secret});
    if !token.description.is_empty() {
        data["description"] = token.description.as_str().into();
    }
    let expires = token.expires.clone().or_else(|| {
        let life = token.ttl.filter(|ttl| !ttl.is_zero())?;
        Some(after(now, life).strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    });
    if let Some(expires) = expires {
        data["expiration"] = expires.into();
    }
    for usage in &token.usages {
        data[format!("usage-bootstrap-{usage}")] = "true".into();
    }
    if !token.groups.is_empty() {
        let mut groups = token.groups.clone();
        groups.sort();
        data["auth-extra-groups"] = groups.join(",").into();
    }
    Some(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": SECRET_TYPE,
        "stringData": data,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_content_and_token() {
        let one = signature("content", "abcdef", "0123456789abcdef");
        assert!(one.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."), "{one}");
        assert_ne!(one, signature("content.", "abcdef", "0123456789abcdef"));
        assert_ne!(one, signature("content", "abcdef", "0123456789abcdeg"));
    }

    #[test]
    fn a_tokens_secret_ends_with_its_time() {
        let token = BootstrapToken {
            token: "abcdef.0123456789abcdef".into(),
            ttl: Some(std::time::Duration::from_secs(3600)),
            usages: vec!["signing".into()],
            ..BootstrapToken::default()
        };
        let secret = secret(&token, Timestamp::UNIX_EPOCH).unwrap_or_default();
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(secret["stringData"]["expiration"], "1970-01-01T01:00:00Z");
        assert_eq!(secret["stringData"]["usage-bootstrap-signing"], "true");
    }
}
