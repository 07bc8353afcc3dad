//! Certificates and keys on a machine: reading, checking, issuing.

use std::net::IpAddr;

use aws_lc_rs::digest;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::{
    extensions::GeneralName,
    parse_x509_certificate,
    pem::Pem,
    prelude::{ParsedExtension, X509Certificate},
};

use super::files::Files;

pub mod certificates;
mod keys;
pub mod request;

pub use keys::{Algorithm, KeyStore, LeafKey};

/// A certificate, with what is asked of it.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// DER.
    pub der: Vec<u8>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Begin of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Common name.
    pub name: String,
    /// DER of its public key with the algorithm.
    pub public_key: Vec<u8>,
}

impl Certificate {
    /// Reads DER.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = parse_x509_certificate(der).map_err(|error| format!("x509: {error}"))?;
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let (dns, addresses) = alternative_names(&parsed);
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            is_ca: parsed.is_ca(),
            not_before: at(parsed.validity().not_before.timestamp()),
            not_after: at(parsed.validity().not_after.timestamp()),
            dns,
            addresses,
            name: name.unwrap_or_default().to_owned(),
            public_key: parsed.public_key().raw.to_vec(),
            der: der.to_vec(),
        })
    }

    /// The pin that kubeadm takes of it: `sha256:` and the hash of its public key.
    pub fn pin(&self) -> String {
        format!("sha256:{}", hex::encode(digest::digest(&digest::SHA256, &self.public_key)))
    }

    /// Whether the other certificate's key signed this one, and its name says so.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let (Ok((_, this)), Ok((_, other))) = (parse_x509_certificate(&self.der), parse_x509_certificate(&issuer.der))
        else {
            return false;
        };
        this.issuer() == other.subject() && this.verify_signature(Some(other.public_key())).is_ok()
    }

    /// Whether this key belongs to it.
    pub fn fits(&self, key: &KeyPair) -> bool {
        key.subject_public_key_info() == self.public_key
    }

    /// What kubeadm warns of when it meets a certificate out of its time.
    pub fn period_warning(&self, now: Timestamp) -> Option<String> {
        let period = format!("NotBefore: {}, NotAfter: {}", self.not_before, self.not_after);
        if now < self.not_before {
            Some(format!("the certificate is not valid yet: {period}"))
        } else if now > self.not_after {
            Some(format!("the certificate has expired: {period}"))
        } else {
            None
        }
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut dns, mut addresses) = (Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    (dns, addresses)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// All certificates of a PEM text.
pub fn certificates_of(text: &[u8]) -> Result<Vec<Certificate>, String> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(text) {
        let block =
            block.map_err(|error| format!("data does not contain any valid RSA or ECDSA certificates: {error}"))?;
        if block.label == "CERTIFICATE" {
            found.push(Certificate::from_der(&block.contents)?);
        }
    }
    if found.is_empty() {
        return Err("data does not contain any valid RSA or ECDSA certificates".into());
    }
    Ok(found)
}

/// Reads a certificate of a machine; the first of the file.
pub fn load_certificate(files: &dyn Files, path: &str) -> Result<Certificate, String> {
    let why = |why: String| format!("couldn't load the certificate file {path}: {why}");
    let text = files.read(path).ok_or_else(|| why(format!("open {path}: no such file or directory")))?;
    let found = certificates_of(&text).map_err(|error| why(format!("error reading {path}: {error}")))?;
    found.into_iter().next().ok_or_else(|| why(String::new()))
}

/// Reads a private key of a machine.
pub fn load_key(files: &dyn Files, path: &str) -> Result<KeyPair, String> {
    let why = |why: String| format!("couldn't load the private key file {path}: {why}");
    let text = files
        .text(path)
        .ok_or_else(|| why(format!("error reading private key file {path}: open {path}: no such file or directory")))?;
    let begin = text.find("-----BEGIN").unwrap_or(0);
    KeyPair::from_pem(&text[begin..]).map_err(|_| {
        why(format!("error reading private key file {path}: data does not contain a valid RSA or ECDSA private key"))
    })
}

/// An authority that can sign.
pub struct Authority {
    /// Its certificate.
    pub certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Joins a certificate with its key.
    pub fn new(certificate: Certificate, key: KeyPair) -> Result<Self, String> {
        if !certificate.fits(&key) {
            return Err("unable to sign certificate: x509: provided PrivateKey doesn't match parent's PublicKey".into());
        }
        let der = certificate.der.clone().into();
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| format!("unable to sign certificate: {error}"))?;
        Ok(Self { certificate, issuer })
    }

    /// Issues a certificate; PEM.
    pub fn issue(&self, leaf: &Leaf, key: &impl PublicKeyData) -> Result<String, String> {
        let params = leaf.params(self.certificate.not_before).map_err(|error| error.to_string())?;
        let signed = params.signed_by(key, &self.issuer);
        signed.map(|certificate| certificate.pem()).map_err(|error| format!("unable to sign certificate: {error}"))
    }
}

/// What a certificate is issued for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Common name.
    pub name: String,
    /// Organisations: groups of a client.
    pub organisations: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it identifies a server.
    pub server: bool,
    /// Whether it identifies a client.
    pub client: bool,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Leaf {
    /// A client's.
    pub fn client(name: &str, organisations: &[&str], not_after: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            organisations: organisations.iter().map(|name| (*name).to_owned()).collect(),
            dns: Vec::new(),
            addresses: Vec::new(),
            server: false,
            client: true,
            not_after,
        }
    }

    fn params(&self, not_before: Timestamp) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        for organisation in &self.organisations {
            subject.push(DnType::OrganizationName, organisation.as_str());
        }
        subject.push(DnType::CommonName, self.name.as_str());
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        if self.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if self.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        for name in &self.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        let at = |moment: Timestamp| {
            OffsetDateTime::from_unix_timestamp(moment.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        params.not_before = at(not_before);
        params.not_after = at(self.not_after);
        // Keys are used again, and the default serial number is made of the key.
        let mut serial: [u8; 16] = rand::random();
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        Ok(params)
    }
}
