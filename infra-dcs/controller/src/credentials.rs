//! A site's login from its Secret. Pure.

use dcs_proto::v1::UserType;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    api::{DCSCluster, DCSClusterSpec},
    site::Credentials,
};

/// Annotation of a `DCSCluster`: until when no login is tried, as JSON. It outlives the adapter, which may restart.
pub const SILENCE: &str = "infrastructure.cluster.x-k8s.io/dcs-login-silence";
/// Ends of a silence that are this near to each other are the same.
const SAME: SignedDuration = SignedDuration::from_secs(30);

/// No login is tried with a Secret until a time, because the site refused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Resource version of the Secret: another one may be tried at once.
    secret: String,
    /// Its end.
    until: Timestamp,
}

impl Silence {
    /// The silence about a Secret.
    pub fn new(secret: &Secret, until: Timestamp) -> Self {
        Self { secret: secret.resource_version().unwrap_or_default(), until }
    }

    /// The one that a cluster records.
    pub fn of(infra: &DCSCluster) -> Option<Self> {
        serde_json::from_str(infra.annotations().get(SILENCE)?).ok()
    }

    /// Whether two say the same; how long is left is never told twice alike.
    pub fn is_like(&self, other: &Self) -> bool {
        self.secret == other.secret && self.until.duration_since(other.until).abs() < SAME
    }
}

/// The login that a cluster names, with the silence that it records.
pub fn of(secret: &Secret, infra: &DCSCluster) -> Result<Credentials, CredentialsError> {
    let silence =
        Silence::of(infra).filter(|silence| Some(&silence.secret) == secret.metadata.resource_version.as_ref());
    let not_before = silence.map_or(0, |silence| silence.until.as_second());
    Ok(Credentials { not_before, ..read(secret, &infra.spec)? })
}

/// What is wrong with a credentials Secret. Never holds a value of a secret key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A key is missing or empty.
    #[error("Secret {secret} lacks the key {key}")]
    Missing {
        /// Name of the Secret.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// A value is not usable.
    #[error("Secret {secret}, key {key}: {reason}")]
    Invalid {
        /// Name of the Secret.
        secret: String,
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a Secret with the documented keys.
pub fn read(secret: &Secret, spec: &DCSClusterSpec) -> Result<Credentials, CredentialsError> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    let text = |key: &'static str| -> Result<Option<Zeroizing<String>>, CredentialsError> {
        let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(key)) else { return Ok(None) };
        let reason = "is not UTF-8".to_owned();
        let text = String::from_utf8(bytes.0.clone()).map_err(|_| CredentialsError::Invalid {
            secret: name.clone(),
            key,
            reason,
        })?;
        // Secrets made from files end in a newline.
        Ok(Some(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())).filter(|text| !text.is_empty()))
    };
    let required = |key: &'static str| text(key)?.ok_or(CredentialsError::Missing { secret: name.clone(), key });
    let invalid = |key: &'static str, reason: String| CredentialsError::Invalid { secret: name.clone(), key, reason };
    let endpoint = required("endpoint")?;
    let url = Url::parse(&endpoint).map_err(|error| invalid("endpoint", format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(invalid("endpoint", "must be an http:// or https:// URL with a host".to_owned()));
    }
    let user_type = match text("userType")?.map(|text| text.to_lowercase()).as_deref() {
        None | Some("interconnect") => UserType::Interconnect,
        Some("domain") => UserType::Domain,
        // A domain user must never be tried as an interconnect user: that would lock it.
        Some(_) => return Err(invalid("userType", "must be \"interconnect\" or \"domain\"".to_owned())),
    };
    let of_secret = text("site")?.map(|text| text.to_string());
    let of_spec = spec.site.clone().filter(|site| !site.is_empty());
    let site = match (of_spec, of_secret) {
        (Some(spec), Some(secret)) if spec != secret => {
            return Err(invalid("site", format!("says {secret}, but spec.site says {spec}; they must agree")));
        }
        (spec, secret) => spec.or(secret).unwrap_or_default(),
    };
    Ok(Credentials {
        endpoint: endpoint.to_string(),
        user: required("authUser")?.to_string(),
        key: required("authKey")?,
        user_type,
        site,
        ca_bundle: text("caBundle")?.map(|text| text.to_string()).unwrap_or_default(),
        insecure_skip_tls_verify: text("insecureSkipTLSVerify")?.is_some_and(|text| text.as_str() == "true"),
        not_before: 0,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rstest::rstest;

    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let base = [("authUser", "u"), ("authKey", "p\n"), ("endpoint", "https://10.0.0.1:7443")];
        let data =
            base.iter().chain(pairs).map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        let mut secret = Secret { data: Some(data.collect()), ..Secret::default() };
        secret.metadata.name = Some("login".into());
        secret
    }

    #[test]
    fn a_silence_counts_for_the_secret_that_was_refused_alone() {
        let mut refused = secret(&[]);
        refused.metadata.resource_version = Some("7".into());
        let until = Timestamp::from_second(1_800_000_000).unwrap();
        let silence = Silence::new(&refused, until);
        let mut infra = DCSCluster::new("c", DCSClusterSpec::default());
        assert_eq!(of(&refused, &infra).unwrap().not_before, 0);
        let json = serde_json::to_string(&silence).unwrap();
        infra.metadata.annotations = Some([(SILENCE.to_owned(), json)].into());
        assert_eq!(of(&refused, &infra).unwrap().not_before, until.as_second());
        let mut changed = refused.clone();
        changed.metadata.resource_version = Some("8".into());
        assert_eq!(of(&changed, &infra).unwrap().not_before, 0);
        let later = until.checked_add(SignedDuration::from_secs(2)).unwrap();
        assert!(silence.is_like(&Silence::new(&refused, later)) && !silence.is_like(&Silence::new(&changed, until)));
    }

    #[rstest]
    #[case(&[], "S1", Ok((UserType::Interconnect, "S1")))]
    #[case(&[("userType", "Domain"), ("site", "S1")], "S1", Ok((UserType::Domain, "S1")))]
    #[case(&[("userType", ""), ("site", "S2")], "", Ok((UserType::Interconnect, "S2")))]
    #[case(&[("userType", "1")], "S1", Err("key userType: must be"))]
    #[case(&[("site", "S2")], "S1", Err("they must agree"))]
    #[case(&[("authKey", "")], "S1", Err("lacks the key authKey"))]
    #[case(&[("endpoint", "10.0.0.1")], "S1", Err("key endpoint: is no URL"))]
    #[case(&[("endpoint", "ftp://a")], "S1", Err("must be an http"))]
    fn secrets(#[case] pairs: &[(&str, &str)], #[case] site: &str, #[case] expected: Result<(UserType, &str), &str>) {
        let spec = DCSClusterSpec { site: Some(site.to_owned()), ..DCSClusterSpec::default() };
        match (read(&secret(pairs), &spec), expected) {
            (Ok(read), Ok((user_type, site))) => {
                assert_eq!((read.user_type, read.site.as_str(), read.key.as_str()), (user_type, site, "p"));
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (Ok(_), Err(expected)) => panic!("expected {expected}"),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
    }
}
