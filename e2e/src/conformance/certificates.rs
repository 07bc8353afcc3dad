//! Certificates as whoever connects sees them.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use x509_parser::{extensions::GeneralName, prelude::*, public_key::PublicKey};

use super::{Corner, checks, subject::ClientPair};

checks! {
    Look: api_servers, etcd_members, etcd_wants_a_certificate, authorities;
}

const HANDSHAKE: Duration = Duration::from_secs(20);

/// What each API server shows on its own machine's address.
async fn api_servers(c: &Corner) -> Result<Value> {
    let mut kinds = BTreeSet::new();
    for node in c.subject.control_plane() {
        let stream = TcpStream::connect((node.address, 6443)).await?;
        let tls = trusting(c.subject.authority(), None)?;
        let name = ServerName::IpAddress(node.address.into());
        let chain = handshake(stream, tls, name).await.with_context(|| format!("API server of {}", node.name))?;
        kinds.insert(chain_shown(c, &chain)?);
    }
    distinct(kinds)
}

/// What each member of etcd shows, through a port-forward to its pod.
async fn etcd_members(c: &Corner) -> Result<Value> {
    let mut kinds = BTreeSet::new();
    for node in c.subject.control_plane() {
        let tls = trusting(c.subject.etcd_authority(), Some(&c.subject.etcd_client()?))?;
        let pods: Api<Pod> = Api::namespaced(c.subject.client.clone(), "kube-system");
        let mut forward = pods.portforward(&format!("etcd-{}", node.name), &[2379]).await?;
        let stream = forward.take_stream(2379).context("the port-forward has no stream")?;
        let chain = handshake(stream, tls, ServerName::try_from(node.name.clone())?).await;
        forward.abort();
        let chain = chain.with_context(|| format!("etcd of {}", node.name))?;
        kinds.insert(chain_shown(c, &chain)?);
    }
    distinct(kinds)
}

/// etcd lets in nobody without a certificate: TLS 1.3 says so with the first byte that is read.
async fn etcd_wants_a_certificate(c: &Corner) -> Result<Value> {
    let node = c.subject.control_plane().next().context("no control plane")?;
    let tls = trusting(c.subject.etcd_authority(), None)?;
    let pods: Api<Pod> = Api::namespaced(c.subject.client.clone(), "kube-system");
    let mut forward = pods.portforward(&format!("etcd-{}", node.name), &[2379]).await?;
    let stream = forward.take_stream(2379).context("the port-forward has no stream")?;
    let name = ServerName::try_from(node.name.clone())?;
    let talk = async {
        use tokio::io::AsyncReadExt;
        let mut stream = TlsConnector::from(tls).connect(name, stream).await?;
        stream.read_u8().await
    };
    let outcome = tokio::time::timeout(HANDSHAKE, talk).await.context("etcd says nothing")?;
    forward.abort();
    let why = outcome.err().context("etcd lets in who has no certificate")?.to_string();
    ensure!(why.contains("alert"), "etcd did not refuse by an alert: {why}");
    Ok(json!(why))
}

/// The authorities themselves.
async fn authorities(c: &Corner) -> Result<Value> {
    let shown = |pem: &str| -> Result<Value> {
        let (_, pem) = parse_x509_pem(pem.as_bytes())?;
        certificate(&pem.contents)
    };
    Ok(json!({"cluster": shown(c.subject.authority())?, "etcd": shown(c.subject.etcd_authority())?}))
}

fn distinct(kinds: BTreeSet<String>) -> Result<Value> {
    let kinds: Result<Vec<Value>, _> = kinds.iter().map(|kind| serde_json::from_str(kind)).collect();
    Ok(json!(kinds?))
}

/// TLS that trusts one authority, with or without a certificate of one's own.
pub(super) fn trusting(authority: &str, own: Option<&ClientPair>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).collect();
            builder.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(own.key.as_bytes())?)?
        }
    };
    Ok(Arc::new(config))
}

/// The chain that the other side shows; fails where it is not the authority's or for another name.
async fn handshake<S>(stream: S, tls: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Vec<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = tokio::time::timeout(HANDSHAKE, TlsConnector::from(tls).connect(name, stream)).await;
    let stream = stream.context("the TLS handshake does not end")??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain.iter().map(|certificate| certificate.as_ref().to_vec()).collect())
}

/// A chain as the text of its canonical record.
fn chain_shown(c: &Corner, chain: &[Vec<u8>]) -> Result<String> {
    let leaf = certificate(chain.first().context("no certificate is shown")?)?;
    let mut shown = c.subject.canonical(&json!({"chain": chain.len(), "certificate": leaf}));
    // Addresses have another order than the words for them.
    let names = shown["certificate"]["names"].as_array_mut();
    if let Some(names) = names {
        names.sort_by_key(ToString::to_string);
    }
    Ok(shown.to_string())
}

/// What a certificate says, but for serial number, key and moments.
pub(super) fn certificate(der: &[u8]) -> Result<Value> {
    let (_, certificate) = X509Certificate::from_der(der)?;
    let validity = certificate.validity();
    let hours = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 3600;
    let mut names: Vec<String> = Vec::new();
    if let Some(extension) = certificate.subject_alternative_name()? {
        names.extend(extension.value.general_names.iter().map(|name| match name {
            GeneralName::DNSName(name) => format!("DNS:{name}"),
            GeneralName::IPAddress(bytes) => format!("IP:{}", address(bytes)),
            other => format!("{other:?}"),
        }));
    }
    let usages = certificate.extended_key_usage()?.map(|usages| {
        let usages = usages.value;
        let all = [(usages.server_auth, "server"), (usages.client_auth, "client"), (usages.any, "any")];
        all.into_iter().filter(|(is_set, _)| *is_set).map(|(_, usage)| usage).collect::<Vec<_>>().join(" ")
    });
    let constraints = certificate.basic_constraints()?.map(
        |found| json!({"critical": found.critical, "ca": found.value.ca, "path": found.value.path_len_constraint}),
    );
    let key = match certificate.public_key().parsed()? {
        PublicKey::RSA(key) => format!("RSA {}", key.key_size()),
        PublicKey::EC(point) => format!("EC {}", point.key_size()),
        _ => "another".to_owned(),
    };
    Ok(json!({
        "version": certificate.version().0 + 1,
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "names": names,
        "usage": certificate.key_usage()?.map(|usage| usage.value.to_string()),
        "extendedUsage": usages,
        "constraints": constraints,
        // A day more or less is rounding: a certificate may begin with its authority.
        "days": (hours + 12) / 24,
        "key": key,
        "signature": certificate.signature_algorithm.algorithm.to_id_string(),
    }))
}

fn address(bytes: &[u8]) -> String {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_or_else(|_| STANDARD.encode(bytes), |address| address.to_string())
}
