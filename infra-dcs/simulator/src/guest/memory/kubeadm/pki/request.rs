//! Certificate signing requests (PKCS#10), as those who ask write them and those who sign read them.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, SubjectPublicKeyInfo};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::GeneralName,
    pem::Pem,
    prelude::{FromDer, ParsedExtension},
};

use super::{Leaf, address};

const LABEL: &str = "CERTIFICATE REQUEST";

/// What somebody asks for, and the key that it is for.
pub struct SigningRequest {
    /// Common name.
    pub name: String,
    /// Organisations.
    pub organisations: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// The key.
    pub key: SubjectPublicKeyInfo,
}

impl SigningRequest {
    /// Reads PEM. The request must be signed by the key in it.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let block = Pem::iter_from_buffer(text).next().and_then(Result::ok).filter(|block| block.label == LABEL);
        let block = block.ok_or_else(|| format!("PEM block type must be {LABEL}"))?;
        let (_, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|error| format!("x509: {error}"))?;
        request.verify_signature().map_err(|error| format!("x509: the signature is wrong: {error}"))?;
        let info = &request.certification_request_info;
        let text = |value: Result<&str, _>| value.map(str::to_owned).map_err(|_: x509_parser::error::X509Error| ());
        let mut read = Self {
            name: info.subject.iter_common_name().find_map(|name| text(name.as_str()).ok()).unwrap_or_default(),
            organisations: info.subject.iter_organization().filter_map(|name| text(name.as_str()).ok()).collect(),
            dns: Vec::new(),
            addresses: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            key: SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|error| error.to_string())?,
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(name) => read.dns.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => read.addresses.extend(address(bytes)),
                    GeneralName::RFC822Name(name) => read.emails.push((*name).to_owned()),
                    GeneralName::URI(uri) => read.uris.push((*uri).to_owned()),
                    _ => {}
                }
            }
        }
        Ok(read)
    }
}

/// Writes a request for what a certificate would say, signed by its key; PEM.
pub fn sign(leaf: &Leaf, key: &KeyPair) -> Result<String, String> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    for organisation in &leaf.organisations {
        subject.push(DnType::OrganizationName, organisation.as_str());
    }
    subject.push(DnType::CommonName, leaf.name.as_str());
    params.distinguished_name = subject;
    for name in &leaf.dns {
        let name = name.as_str().try_into().map_err(|error: rcgen::Error| error.to_string())?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(leaf.addresses.iter().copied().map(SanType::IpAddress));
    let request = params.serialize_request(key).map_err(|error| error.to_string())?;
    request.pem().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::guest::memory::kubeadm::pki::Algorithm;

    #[test]
    fn what_is_asked_for_is_read() {
        let key = Algorithm::EcdsaP256.generate().unwrap();
        let mut leaf = Leaf::client("system:node:m", &["system:nodes"], jiff::Timestamp::UNIX_EPOCH);
        leaf.dns = vec!["m".into()];
        leaf.addresses = vec![[127, 0, 0, 9].into()];
        let text = sign(&leaf, &key).unwrap();
        let read = SigningRequest::from_pem(text.as_bytes()).unwrap();
        assert_eq!((read.name, read.organisations), (leaf.name, leaf.organisations));
        assert_eq!((read.dns, read.addresses), (leaf.dns, leaf.addresses));
        let broken = text.replace(LABEL, "CERTIFICATE");
        assert_eq!(
            SigningRequest::from_pem(broken.as_bytes()).err().unwrap(),
            "PEM block type must be CERTIFICATE REQUEST"
        );
    }
}
