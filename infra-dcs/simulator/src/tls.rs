//! Certificates of the listeners: given ones, or ones of an own authority kept in the data directory.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

/// Certificate and key for the listeners, as files.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// Chain, PEM.
    pub cert: PathBuf,
    /// Key, PEM.
    pub key: PathBuf,
}

/// TLS for the listeners. Without files an authority of the site's own signs a certificate for these addresses; its
/// certificate is `ca.crt` in the data directory and stays the same over restarts.
pub fn server_config(
    data_dir: &Path,
    files: Option<&CertificateFiles>,
    addresses: &[IpAddr],
) -> Result<Arc<ServerConfig>> {
    let (chain, key) = match files {
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.cert)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(|| format!("cannot read the certificate {}", files.cert.display()))?;
            let key = PrivateKeyDer::from_pem_file(&files.key)
                .with_context(|| format!("cannot read the key {}", files.key.display()))?;
            (chain, key)
        }
        None => own_certificate(data_dir, addresses)?,
    };
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).context("certificate and key")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn own_certificate(
    data_dir: &Path,
    addresses: &[IpAddr],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let (ca_file, key_file) = (data_dir.join("ca.crt"), data_dir.join("ca.key"));
    if !ca_file.exists() || !key_file.exists() {
        let key = KeyPair::generate()?;
        let mut params = lasting(3_650)?;
        params.distinguished_name.push(DnType::CommonName, "simulated DCS site");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = params.self_signed(&key)?;
        write_private(&key_file, &key.serialize_pem())?;
        fs::write(&ca_file, authority.pem())?;
    }
    let ca_pem = fs::read_to_string(&ca_file)?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, KeyPair::from_pem(&fs::read_to_string(&key_file)?)?)
        .context("the authority in the data directory")?;
    let key = KeyPair::generate()?;
    let mut names: Vec<String> = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(addresses.iter().filter(|address| !address.is_unspecified()).map(ToString::to_string));
    names.sort();
    names.dedup();
    let mut params = lasting(825)?;
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.distinguished_name.push(DnType::CommonName, "vrm");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&key, &issuer)?;
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| anyhow::anyhow!("key of the listeners: {why}"))?;
    Ok((vec![leaf.der().clone()], key))
}

fn lasting(days: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(5);
    params.not_after = now + Duration::days(days);
    Ok(params)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
