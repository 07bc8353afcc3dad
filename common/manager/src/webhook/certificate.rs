//! The webhook server's certificate, read again when its files change.
//!
//! Secret mounts swap a symbolic link; watching the file system misses that easily, so the two small files are read and
//! compared every few seconds. New handshakes see the new certificate, open connections keep theirs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_util::sync::CancellationToken;

/// The files hold no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is unusable.
    #[error("{path}: {reason}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why, without the content.
        reason: String,
    },
}

/// A certificate and its key, replaced when their files change.
#[derive(Debug)]
pub struct Certificate {
    current: ArcSwap<CertifiedKey>,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Reads both files.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Arc<Self>, CertificateError> {
        let (pair, _) = read(&certificate, &key)?;
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(pair), certificate, key }))
    }

    /// Looks at the files every `interval` until `stop`; a pair that does not fit together is ignored, and said.
    pub async fn follow(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        let mut seen = read(&self.certificate, &self.key).map(|(_, bytes)| bytes).unwrap_or_default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => return,
            }
            match read(&self.certificate, &self.key) {
                Ok((pair, bytes)) if bytes != seen => {
                    self.current.store(Arc::new(pair));
                    seen = bytes;
                    tracing::info!("The webhook certificate was replaced.");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "Keeping the old webhook certificate."),
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<(CertifiedKey, Vec<u8>), CertificateError> {
    let content = |path: &Path, reason: String| CertificateError::Content { path: path.to_path_buf(), reason };
    let load =
        |path: &Path| fs::read(path).map_err(|source| CertificateError::Read { path: path.to_path_buf(), source });
    let (chain_pem, key_pem) = (load(certificate)?, load(key)?);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| content(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(content(certificate, "no certificate in it".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| content(key, error.to_string()))?;
    let signer = aws_lc_rs::sign::any_supported_type(&private).map_err(|error| content(key, error.to_string()))?;
    let pair = CertifiedKey::new(chain, signer);
    pair.keys_match().map_err(|_| content(key, "the key does not belong to the certificate".to_owned()))?;
    Ok((pair, [chain_pem, key_pem].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(dir: &Path) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
        fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test]
    async fn a_new_pair_is_taken_and_a_wrong_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path());
        let served = Certificate::load(dir.path().join("tls.crt"), dir.path().join("tls.key")).unwrap();
        let stop = CancellationToken::new();
        let interval = Duration::from_millis(5);
        let follower = tokio::spawn(Arc::clone(&served).follow(interval, stop.clone()));
        tokio::time::sleep(interval * 10).await;
        let first = served.current.load_full();
        fs::write(dir.path().join("tls.key"), "garbage").unwrap();
        tokio::time::sleep(interval * 20).await;
        assert!(Arc::ptr_eq(&first, &served.current.load_full()), "the old pair stays");
        write_pair(dir.path());
        let replaced = async {
            while Arc::ptr_eq(&first, &served.current.load_full()) {
                tokio::time::sleep(interval).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), replaced).await.expect("the new pair is served");
        stop.cancel();
        follower.await.unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Certificate::load("/nowhere/tls.crt".into(), "/nowhere/tls.key".into()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/tls.crt"));
    }
}
