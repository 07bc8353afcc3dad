//! TLS towards etcd: our certificate from the cluster's etcd CA, theirs checked against it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Why certificates cannot be used. Says nothing of their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key does not parse.
    #[error("the {0} is not valid PEM")]
    Pem(&'static str),
    /// rustls refuses the combination.
    #[error("the etcd certificates cannot be used: {0}")]
    Refused(#[from] rustls::Error),
    /// No cryptography is installed in this process.
    #[error("no TLS provider is installed")]
    NoProvider,
    /// The server broke off.
    #[error("TLS handshake: {0}")]
    Handshake(String),
}

/// A configuration that trusts only `ca` and shows `certificate`; all in PEM.
pub fn client_config(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca, "etcd CA certificate")? {
        roots.add(authority)?;
    }
    let chain = certificates(certificate, "etcd client certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem("etcd client key"))?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    parsed.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Pem(what))
}

/// The certificate that a server shows, in PEM, whoever signed it: only its dates are read, nothing is sent.
pub async fn peer_certificate<S>(stream: S, name: &str) -> Result<String, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let provider = Arc::clone(CryptoProvider::get_default().ok_or(TlsError::NoProvider)?);
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Pem("server name"))?;
    let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let connected = connected.map_err(|error| TlsError::Handshake(error.to_string()))?;
    let shown = connected.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.ok_or_else(|| TlsError::Handshake("the server showed no certificate".to_owned()))?;
    Ok(armoured(shown))
}

fn armoured(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Believes any certificate; signatures of the handshake are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
