//! TLS of a machine's servers: certificates and keys as files of the machine have them, judged by the machine's own time.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::time::TimeSource;

/// Why certificates cannot be used. Says nothing of their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key does not parse.
    #[error("the {0} is not valid PEM")]
    Pem(&'static str),
    /// Certificate and key do not belong together, or are of a kind that TLS does not know.
    #[error("the server certificate and its key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
    /// The certificate authority of clients cannot be used.
    #[error("the certificate authority of clients cannot be used: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// The files of a server, in PEM.
#[derive(Clone, Copy)]
pub struct ServerFiles<'a> {
    /// Its certificate, with those between it and the authority if there are any.
    pub certificate: &'a [u8],
    /// Its key.
    pub key: &'a [u8],
    /// Authorities of its clients.
    pub client_ca: &'a [u8],
}

/// TLS that demands a certificate of every client, as etcd with `--client-cert-auth`.
pub fn mutual(files: ServerFiles<'_>, time: &TimeSource) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = config(files, client_verifier(files)?, time)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Judges the certificates of clients.
pub(super) fn client_verifier(files: ServerFiles<'_>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(files.client_ca, "certificate authority of clients")? {
        roots.add(authority)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?)
}

/// TLS with one certificate, which leaves the choice of protocols open.
pub(super) fn config(
    files: ServerFiles<'_>,
    clients: Arc<dyn ClientCertVerifier>,
    time: &TimeSource,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(files.certificate, "server certificate")?;
    let key = PrivateKeyDer::from_pem_slice(files.key).map_err(|_| TlsError::Pem("server key"))?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(time.clone()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    // Nobody comes back to a machine often enough for sessions to be worth their memory.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    parsed.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Pem(what))
}
