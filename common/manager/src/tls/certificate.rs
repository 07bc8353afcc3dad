//! The certificate that a server shows, and the files that it may come from.
//!
//! Secret mounts swap a symbolic link; watching the file system misses that easily, so the two small files are read and
//! compared every few seconds. New handshakes see the new certificate, open connections keep theirs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
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

/// A certificate and its key, which may be replaced while it is served. New handshakes see the new one.
#[derive(Debug, Default)]
pub(crate) struct Certificate {
    current: ArcSwapOption<CertifiedKey>,
}

impl Certificate {
    /// Serves this chain from now on, in PEM. What does not fit together is refused, and the old one stays.
    pub(crate) fn set(&self, chain: &[u8], key: &[u8]) -> Result<(), String> {
        self.current.store(Some(Arc::new(pair(chain, key)?)));
        Ok(())
    }

    /// Whether there is one to serve.
    pub(crate) fn is_set(&self) -> bool {
        self.current.load().is_some()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// The two files of a certificate.
#[derive(Debug)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    seen: Vec<u8>,
}

impl Files {
    /// Files that were not read yet.
    pub(crate) fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, seen: Vec::new() }
    }

    /// Reads both files; whether they hold another pair than before.
    pub(crate) fn read(&mut self, into: &Certificate) -> Result<bool, CertificateError> {
        let load =
            |path: &Path| fs::read(path).map_err(|source| CertificateError::Read { path: path.to_path_buf(), source });
        let (chain, key) = (load(&self.certificate)?, load(&self.key)?);
        let bytes = [chain.as_slice(), key.as_slice()].concat();
        if bytes == self.seen {
            return Ok(false);
        }
        into.set(&chain, &key)
            .map_err(|reason| CertificateError::Content { path: self.certificate.clone(), reason })?;
        self.seen = bytes;
        Ok(true)
    }

    /// Looks at the files every `interval` until `stop`; a pair that does not fit together is ignored, and said.
    pub(crate) async fn follow(mut self, into: Arc<Certificate>, interval: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => return,
            }
            match self.read(&into) {
                Ok(true) => tracing::info!("The webhook certificate was replaced."),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "Keeping the old webhook certificate."),
            }
        }
    }
}

fn pair(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("certificate: {error}"))?;
    if chain.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    let private = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key: {error}"))?;
    let signer = aws_lc_rs::sign::any_supported_type(&private).map_err(|error| format!("key: {error}"))?;
    let pair = CertifiedKey::new(chain, signer);
    pair.keys_match().map_err(|_| "the key does not belong to the certificate".to_owned())?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let mut files = Files::new("/nowhere/tls.crt".into(), "/nowhere/tls.key".into());
        let error = files.read(&Certificate::default()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/tls.crt"));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_and_the_old_pair_stays() {
        let made = |_| rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (one, other) = (made(1), made(2));
        let served = Certificate::default();
        served.set(one.cert.pem().as_bytes(), one.signing_key.serialize_pem().as_bytes()).unwrap();
        let before = served.current.load_full();
        let error = served.set(one.cert.pem().as_bytes(), other.signing_key.serialize_pem().as_bytes()).unwrap_err();
        assert!(error.contains("does not belong"));
        assert!(served.set(b"", b"").is_err());
        assert!(Arc::ptr_eq(&before.unwrap(), &served.current.load_full().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn new_files_are_taken_and_half_a_change_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let write = || {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            fs::write(&chain, made.cert.pem()).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        };
        write();
        let served = Arc::new(Certificate::default());
        let mut files = Files::new(chain.clone(), key.clone());
        assert!(files.read(&served).unwrap());
        let first = served.current.load_full().unwrap();
        // Changed between the first look and the beginning of the others.
        write();
        let (stop, interval) = (CancellationToken::new(), Duration::from_secs(10));
        let follower = tokio::spawn(files.follow(Arc::clone(&served), interval, stop.clone()));
        tokio::time::sleep(interval + Duration::from_millis(1)).await;
        let second = served.current.load_full().unwrap();
        assert!(!Arc::ptr_eq(&first, &second), "new handshakes see the new pair");
        fs::write(&key, "garbage").unwrap();
        tokio::time::sleep(interval * 3).await;
        assert!(Arc::ptr_eq(&second, &served.current.load_full().unwrap()), "the old pair stays");
        write();
        tokio::time::sleep(interval).await;
        assert!(!Arc::ptr_eq(&second, &served.current.load_full().unwrap()));
        stop.cancel();
        follower.await.unwrap();
    }
}
