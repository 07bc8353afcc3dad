//! Who is asking: client certificates, bootstrap tokens, or nobody.

use std::{fmt, sync::Arc};

use aws_lc_rs::{constant_time, digest};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, header};
use kube_model::{Server, Target};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::guest::memory::time::TimeSource;

/// Group of all who proved who they are.
pub(super) const AUTHENTICATED: &str = "system:authenticated";
/// Group of all who did not try.
pub(super) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group whose members may do anything, whatever the cluster's rules are.
pub(super) const MASTERS: &str = "system:masters";
/// Group of all kubelets.
pub(super) const NODES: &str = "system:nodes";
/// Before the node's name in a kubelet's.
pub(super) const NODE_PREFIX: &str = "system:node:";
const ANONYMOUS: &str = "system:anonymous";
const BOOTSTRAPPERS: &str = "system:bootstrappers";
const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Which certificate was shown.
    pub credential: Option<String>,
}

impl User {
    /// Somebody of that name, in these groups and no other.
    pub fn named(name: &str, groups: Vec<String>) -> Self {
        Self { name: name.into(), groups, credential: None }
    }

    fn anonymous() -> Self {
        Self::named(ANONYMOUS, vec![UNAUTHENTICATED.into()])
    }

    /// The kubelet of a node, once it has a certificate.
    pub fn node(name: &str) -> Self {
        Self::named(&format!("{NODE_PREFIX}{name}"), vec![NODES.into()]).authenticated()
    }

    /// Whether somebody belongs to a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|known| known == group)
    }

    fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.into());
        }
        self
    }
}

/// Accepts whatever certificate a client shows, so that a request with a wrong one is answered with 401 and not with a
/// broken connection; the real server asks for certificates in this way too. Signatures of the handshake are checked.
pub(super) struct AnyClient(Arc<dyn ClientCertVerifier>);

impl AnyClient {
    pub fn new(judge: Arc<dyn ClientCertVerifier>) -> Self {
        Self(judge)
    }
}

impl fmt::Debug for AnyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyClient")
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What the certificate of a connection says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClientCertificate {
    /// There is none.
    Missing,
    /// The cluster's authority did not sign it, it is no client's, or it is out of date.
    Refused,
    /// It is somebody's, until then, in seconds since the epoch.
    Valid(User, i64),
}

impl ClientCertificate {
    /// Judges the chain that a client has shown.
    pub fn read(chain: &[CertificateDer<'_>], judge: &dyn ClientCertVerifier, time: &TimeSource) -> Self {
        let Some((leaf, rest)) = chain.split_first() else { return Self::Missing };
        if judge.verify_client_cert(leaf, rest, time.unix_time()).is_err() {
            return Self::Refused;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Self::Refused };
        let subject = certificate.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().map(str::to_owned);
        let Some(name) = subject.iter_common_name().find_map(|name| text(name).ok()) else { return Self::Refused };
        let groups = subject.iter_organization().filter_map(|group| text(group).ok()).collect();
        let end = certificate.validity().not_after.timestamp();
        let digest = hex::encode(digest::digest(&digest::SHA256, leaf).as_ref());
        let user = User { credential: Some(format!("X509SHA256={digest}")), ..User::named(&name, groups) };
        Self::Valid(user.authenticated(), end)
    }
}

/// Who is asking; none is answered with 401.
pub(super) fn authenticate(
    certificate: &ClientCertificate,
    headers: &HeaderMap,
    server: &Server,
    time: &TimeSource,
) -> Option<User> {
    let now = i64::try_from(time.now() / 1_000).unwrap_or(i64::MAX);
    if let ClientCertificate::Valid(user, end) = certificate
        && now <= *end
    {
        return Some(user.clone());
    }
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    match (token, certificate) {
        (Some(token), _) => bootstrap_user(token, server, now),
        (None, ClientCertificate::Missing) => Some(User::anonymous()),
        (None, _) => None,
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// The user of a bootstrap token (`plugin/pkg/auth/authenticator/token/bootstrap`); `now` in seconds since the epoch.
pub fn bootstrap_user(token: &str, server: &Server, now: i64) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let is_part = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if !is_part(id, 6) || !is_part(secret, 16) {
        return None;
    }
    let target = Target {
        version: "v1".into(),
        plural: "secrets".into(),
        namespace: "kube-system".into(),
        name: format!("bootstrap-token-{id}"),
        ..Target::default()
    };
    let object = server.get(&target, false).ok()?;
    let is_deleted = object.pointer("/metadata/deletionTimestamp").is_some();
    if is_deleted || object.get("type").and_then(Value::as_str) != Some(TOKEN_TYPE) {
        return None;
    }
    let field = |name: &str| -> Option<String> {
        let encoded = object.get("data")?.get(name)?.as_str()?;
        String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
    };
    let is_secret =
        constant_time::verify_slices_are_equal(field("token-secret")?.as_bytes(), secret.as_bytes()).is_ok();
    if !is_secret || field("token-id")? != id || field("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    if let Some(end) = field("expiration").filter(|end| !end.is_empty()) {
        let end: jiff::Timestamp = end.parse().ok()?;
        if end.as_second() < now {
            return None;
        }
    }
    let mut groups = vec![BOOTSTRAPPERS.to_owned()];
    for group in field("auth-extra-groups").iter().flat_map(|text| text.split(',')).filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(User::named(&format!("system:bootstrap:{id}"), groups).authenticated())
}

/// `system:bootstrappers:` and more, in the letters of a label.
fn is_bootstrap_group(group: &str) -> bool {
    let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default();
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '-';
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    rest.chars().all(is_inner) && rest.ends_with(is_end)
}
