//! The PKI of a cluster: certificate authorities, the service account key pair, client and serving certificates.
//!
//! Shapes are kubeadm's and Cluster API's: `tls.crt` and `tls.key` in Secrets `<cluster>-<purpose>`. Making an RSA key
//! takes a good part of a second: call it off the async workers.

use std::net::IpAddr;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize, SanType,
    SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::{parse_x509_certificate, pem::Pem};
use zeroize::Zeroizing;

use crate::api::spec::EncryptionAlgorithm;

/// Clocks may differ by this much; certificates are valid that long before they are made.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Life of certificate authorities that say nothing of it, in days.
pub const CA_DAYS: i32 = 3650;
/// Life of client and serving certificates, in days.
pub const LEAF_DAYS: i32 = 365;

/// Why a certificate or key cannot be made or read. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Making it failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was given is not readable.
    #[error("{what} is not readable: {reason}")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why, without the content.
        reason: String,
    },
}

fn unreadable(what: &'static str, reason: impl ToString) -> Error {
    Error::Read { what, reason: reason.to_string() }
}

/// What a Secret of the cluster's PKI is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// The cluster's certificate authority.
    ClusterCa,
    /// etcd's certificate authority.
    EtcdCa,
    /// The front proxy's certificate authority.
    FrontProxyCa,
    /// The key pair that signs service account tokens; its `tls.crt` is the public key.
    ServiceAccount,
    /// The API server's client certificate for an external etcd; users make it.
    ApiServerEtcdClient,
}

impl Purpose {
    /// The purposes of a cluster with stacked etcd, in the order in which their files are written.
    pub const STACKED: [Self; 4] = [Self::ClusterCa, Self::EtcdCa, Self::FrontProxyCa, Self::ServiceAccount];

    /// What a control plane machine needs, in the order in which the files are written.
    pub fn of_control_plane(has_external_etcd: bool) -> Vec<Self> {
        let mut all = Self::STACKED.to_vec();
        if has_external_etcd {
            all.push(Self::ApiServerEtcdClient);
        }
        all
    }

    /// End of the Secret's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::ClusterCa => "ca",
            Self::EtcdCa => "etcd",
            Self::FrontProxyCa => "proxy",
            Self::ServiceAccount => "sa",
            Self::ApiServerEtcdClient => "apiserver-etcd-client",
        }
    }

    /// Name of the Secret.
    pub fn secret_name(self, cluster: &str) -> String {
        format!("{cluster}-{}", self.suffix())
    }

    /// Files of certificate and key below the folder of certificates; none for what users place themselves.
    pub fn files(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::ClusterCa => Some(("ca.crt", "ca.key")),
            Self::EtcdCa => Some(("etcd/ca.crt", "etcd/ca.key")),
            Self::FrontProxyCa => Some(("front-proxy-ca.crt", "front-proxy-ca.key")),
            Self::ServiceAccount => Some(("sa.pub", "sa.key")),
            Self::ApiServerEtcdClient => None,
        }
    }
}

/// A certificate (or public key) and its private key, in PEM.
#[derive(Clone)]
pub struct Pair {
    /// `tls.crt`.
    pub certificate: String,
    /// `tls.key`.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// Makes what a cluster's Secret of this purpose holds. `days` is the life of a certificate authority.
pub fn generate(
    purpose: Purpose,
    algorithm: EncryptionAlgorithm,
    days: Option<i32>,
    now: Timestamp,
) -> Result<Pair, Error> {
    match purpose {
        Purpose::ServiceAccount => {
            let key = key_pair(algorithm)?;
            Ok(Pair { certificate: key.public_key_pem(), key: private_pem(&key)? })
        }
        _ => authority("kubernetes", algorithm, days.unwrap_or(CA_DAYS), now),
    }
}

/// A self-signed authority as kubeadm makes it: path length 0. `name` is its common name.
pub fn authority(name: &str, algorithm: EncryptionAlgorithm, days: i32, now: Timestamp) -> Result<Pair, Error> {
    let key = key_pair(algorithm)?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.distinguished_name = subject(name, &[]);
    ca.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    validity(&mut ca, days, now);
    Ok(Pair { certificate: ca.self_signed(&key)?.pem(), key: private_pem(&key)? })
}

/// What a certificate is issued for.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// Common name.
    pub name: &'a str,
    /// Organisations: groups of a client.
    pub organisations: &'a [&'a str],
    /// DNS names.
    pub dns: &'a [&'a str],
    /// Addresses.
    pub addresses: &'a [IpAddr],
    /// Whether it identifies a server.
    pub server: bool,
    /// Whether it identifies a client.
    pub client: bool,
}

/// Issues a certificate with a key of its own.
pub fn issue(ca: &Pair, leaf: &Leaf<'_>, algorithm: EncryptionAlgorithm, now: Timestamp) -> Result<Pair, Error> {
    let key = key_pair(algorithm)?;
    let issuer_key = read_key(&ca.key)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, issuer_key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(leaf.name, leaf.organisations);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.use_authority_key_identifier_extension = true;
    if leaf.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if leaf.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    for name in leaf.dns {
        params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
    }
    params.subject_alt_names.extend(leaf.addresses.iter().copied().map(SanType::IpAddress));
    validity(&mut params, LEAF_DAYS, now);
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pair { certificate, key: private_pem(&key)? })
}

fn subject(name: &str, organisations: &[&str]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for organisation in organisations {
        subject.push(DnType::OrganizationName, *organisation);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// Validity and a random serial number: the default one repeats when a key is used again.
fn validity(params: &mut CertificateParams, days: i32, now: Timestamp) {
    let at = |moment: Timestamp| {
        OffsetDateTime::from_unix_timestamp(moment.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(now.checked_sub(SKEW).unwrap_or(now));
    params.not_after = at(now.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).unwrap_or(Timestamp::MAX));
    let mut serial: [u8; 16] = rand::random();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

fn key_pair(algorithm: EncryptionAlgorithm) -> Result<KeyPair, Error> {
    Ok(match algorithm {
        EncryptionAlgorithm::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        EncryptionAlgorithm::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
        EncryptionAlgorithm::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        EncryptionAlgorithm::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?,
        EncryptionAlgorithm::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
    })
}

/// Reads a private key in any of the three forms in use: PKCS#1, PKCS#8, SEC1.
fn read_key(text: &str) -> Result<KeyPair, Error> {
    KeyPair::from_pem(text).map_err(|error| unreadable("the private key", error))
}

/// A private key in PEM: PKCS#1 for RSA, as Go's tools write it, PKCS#8 for elliptic curves (bare SEC1 would lack the
/// curve that only PKCS#8 names here; every consumer reads both).
fn private_pem(key: &KeyPair) -> Result<Zeroizing<String>, Error> {
    let der = Zeroizing::new(key.serialize_der());
    let text = if key.algorithm() == &PKCS_RSA_SHA256 {
        let pkcs1 = pkcs8_content(&der).ok_or_else(|| unreadable("the new private key", "it is no PKCS#8"))?;
        armour("RSA PRIVATE KEY", pkcs1)
    } else {
        armour("PRIVATE KEY", &der)
    };
    Ok(Zeroizing::new(text))
}

fn armour(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der.to_vec()), config)
}

/// The third element of a PKCS#8 sequence, without its header.
fn pkcs8_content(der: &[u8]) -> Option<&[u8]> {
    let (body, _) = element(der, 0x30)?;
    let (_, rest) = element(body, 0x02)?;
    let (_, rest) = element(rest, 0x30)?;
    element(rest, 0x04).map(|(content, _)| content)
}

/// A DER element of this tag: its content and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let (bytes, rest) = rest.split_at_checked(count)?;
        (bytes.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte)), rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// The pins of every certificate in a PEM bundle: `sha256:` and the hash of its public key, as kubeadm checks it.
pub fn pins(bundle: &str) -> Result<Vec<String>, Error> {
    let mut pins = Vec::new();
    for block in Pem::iter_from_buffer(bundle.as_bytes()) {
        let block = block.map_err(|error| unreadable("the CA bundle", error))?;
        let (_, certificate) = parse_x509_certificate(&block.contents)
            .map_err(|error| unreadable("a certificate of the CA bundle", error))?;
        let hash = digest::digest(&digest::SHA256, certificate.public_key().raw);
        pins.push(format!("sha256:{}", hex::encode(hash)));
    }
    if pins.is_empty() {
        return Err(unreadable("the CA bundle", "no certificate in it"));
    }
    Ok(pins)
}

/// When the first certificate of a PEM text expires.
pub fn expiry(certificate: &str) -> Result<Timestamp, Error> {
    let block = Pem::iter_from_buffer(certificate.as_bytes()).next();
    let block = block.ok_or_else(|| unreadable("the certificate", "nothing in it"))?;
    let block = block.map_err(|error| unreadable("the certificate", error))?;
    let (_, parsed) = parse_x509_certificate(&block.contents).map_err(|error| unreadable("the certificate", error))?;
    Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|error| unreadable("the certificate", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_rsa_authority_has_kubeadms_form_and_issues() {
        let ca = generate(Purpose::ClusterCa, EncryptionAlgorithm::Rsa2048, Some(10), now()).unwrap();
        assert!(ca.key.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
        assert_eq!(expiry(&ca.certificate).unwrap(), now() + SignedDuration::from_hours(240));
        let leaf = Leaf {
            name: "admin",
            organisations: &["system:masters"],
            dns: &[],
            addresses: &[],
            server: false,
            client: true,
        };
        let client = issue(&ca, &leaf, EncryptionAlgorithm::EcdsaP256, now()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(client.certificate.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let (_, issuer) = x509_parser::pem::parse_x509_pem(ca.certificate.as_bytes()).unwrap();
        certificate.verify_signature(Some(issuer.parse_x509().unwrap().public_key())).unwrap();
        assert_eq!(certificate.subject().to_string(), "O=system:masters, CN=admin");
    }

    #[test]
    fn a_service_account_pair_holds_a_public_key() {
        let pair = generate(Purpose::ServiceAccount, EncryptionAlgorithm::EcdsaP256, None, now()).unwrap();
        assert!(pair.certificate.starts_with("-----BEGIN PUBLIC KEY-----"));
        assert!(!format!("{pair:?}").contains("KEY"), "keys never reach logs");
    }

    #[test]
    fn every_certificate_of_a_bundle_is_pinned() {
        let one = generate(Purpose::ClusterCa, EncryptionAlgorithm::EcdsaP256, None, now()).unwrap();
        let two = generate(Purpose::ClusterCa, EncryptionAlgorithm::EcdsaP384, None, now()).unwrap();
        let found = pins(&format!("{}{}", one.certificate, two.certificate)).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|pin| pin.len() == "sha256:".len() + 64) && found[0] != found[1]);
        assert!(pins("nothing").is_err());
    }

    #[test]
    fn two_certificates_of_one_authority_have_two_serial_numbers() {
        let ca = generate(Purpose::EtcdCa, EncryptionAlgorithm::EcdsaP256, None, now()).unwrap();
        let leaf = Leaf { name: "x", organisations: &[], dns: &["h"], addresses: &[], server: true, client: false };
        let serial = || {
            let made = issue(&ca, &leaf, EncryptionAlgorithm::EcdsaP256, now()).unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(made.certificate.as_bytes()).unwrap();
            pem.parse_x509().unwrap().serial.to_string()
        };
        assert_ne!(serial(), serial());
    }
}
