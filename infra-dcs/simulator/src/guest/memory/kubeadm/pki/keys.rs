//! Keys of leaf certificates, from a small stock that all clusters of the process share.
//!
//! An RSA key takes a good part of a second to make, and a fleet would need ten thousand of them. So leaf keys are used
//! again over clusters and machines; the certificates are real, and authorities' keys are never from here.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};

/// Keys of one kind in stock: the first machines make them, all others take turns.
const STOCK: usize = 4;

/// Kinds of keys that kubeadm makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `ECDSA-P256`
    EcdsaP256,
    /// `ECDSA-P384`
    EcdsaP384,
    /// `RSA-2048`
    Rsa2048,
    /// `RSA-3072`
    Rsa3072,
    /// `RSA-4096`
    Rsa4096,
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "ECDSA-P256" => Self::EcdsaP256,
            "ECDSA-P384" => Self::EcdsaP384,
            "RSA-2048" => Self::Rsa2048,
            "RSA-3072" => Self::Rsa3072,
            "RSA-4096" => Self::Rsa4096,
            _ => return Err(format!("unknown encryption algorithm {text:?}")),
        })
    }
}

impl Algorithm {
    /// Makes a key.
    pub fn generate(self) -> Result<KeyPair, String> {
        let made = match self {
            Self::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
            Self::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        };
        made.map_err(|error| format!("unable to create private key: {error}"))
    }
}

/// A key and its PEM text. No `Debug`: it is a secret.
pub struct LeafKey {
    /// The key.
    pub pair: KeyPair,
    /// PKCS#8, PEM.
    pub pem: String,
}

/// The stock.
#[derive(Default)]
pub struct KeyStore {
    kept: Mutex<HashMap<Algorithm, Vec<Arc<LeafKey>>>>,
    turn: AtomicUsize,
}

impl KeyStore {
    /// The next key of a kind. The first calls make one, which takes time: call it where blocking is allowed.
    pub fn take(&self, algorithm: Algorithm) -> Result<Arc<LeafKey>, String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % STOCK;
        if let Some(key) = self.kept.lock().get(&algorithm).and_then(|keys| keys.get(turn)) {
            return Ok(Arc::clone(key));
        }
        let pair = algorithm.generate()?;
        let key = Arc::new(LeafKey { pem: pair.serialize_pem(), pair });
        let mut kept = self.kept.lock();
        let keys = kept.entry(algorithm).or_default();
        if keys.len() < STOCK {
            keys.push(Arc::clone(&key));
        }
        Ok(key)
    }
}
