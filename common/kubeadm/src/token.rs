//! Bootstrap tokens: Secrets of the workload cluster by which a machine proves that it may join.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};

/// Namespace of token Secrets.
pub const NAMESPACE: &str = "kube-system";
/// Type of token Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUPS: &str = "system:bootstrappers:kubeadm:default-node-token";

/// A token in its two parts. Its text is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

/// The text is no token. It is not repeated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bootstrap token is not of the form [a-z0-9]{{6}}.[a-z0-9]{{16}}")]
pub struct Malformed;

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("no randomness: {0}")]
pub struct NoRandomness(pub String);

impl Token {
    /// A new token, of bytes that nobody can guess, with which `fill` fills what it is given.
    pub fn generate(fill: impl Fn(&mut [u8]) -> Result<(), NoRandomness>) -> Result<Self, NoRandomness> {
        Ok(Self { id: letters(6, &fill)?, secret: letters(16, &fill)? })
    }

    /// Reads `id.secret`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let is_part = |part: &str, length| {
            part.len() == length && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        match text.split_once('.') {
            Some((id, secret)) if is_part(id, 6) && is_part(secret, 16) => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(Malformed),
        }
    }

    /// `id.secret`, for the document that kubeadm reads and nothing else.
    pub fn expose(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// Name of its Secret.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// Its Secret, valid for `ttl`.
    pub fn secret(&self, ttl: Duration, now: Timestamp) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(self.secret_name());
        secret.metadata.namespace = Some(NAMESPACE.to_owned());
        secret.type_ = Some(SECRET_TYPE.to_owned());
        let data = [
            ("token-id", self.id.clone()),
            ("token-secret", self.secret.clone()),
            ("expiration", expiration(ttl, now)),
            ("usage-bootstrap-signing", "true".to_owned()),
            ("usage-bootstrap-authentication", "true".to_owned()),
            ("auth-extra-groups", GROUPS.to_owned()),
            ("description", "token made by the Cluster API bootstrap provider for kubeadm".to_owned()),
        ];
        let data: BTreeMap<_, _> =
            data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect();
        secret.data = Some(data);
        secret
    }
}

impl std::fmt::Debug for Token {
    /// Without the secret part.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Letters and digits, each as likely as the other.
fn letters(count: usize, fill: impl Fn(&mut [u8]) -> Result<(), NoRandomness>) -> Result<String, NoRandomness> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0_u8; 32];
        fill(&mut bytes)?;
        // 252 is the largest multiple of 36 below 256: what is above would make some letters likelier.
        let fair = bytes.iter().filter(|byte| **byte < 252).map(|byte| char::from(ALPHABET[usize::from(byte % 36)]));
        text.extend(fair.take(count - text.len()));
    }
    Ok(text)
}

/// The `expiration` of a token that is to last `ttl`.
pub fn expiration(ttl: Duration, now: Timestamp) -> String {
    let end = SignedDuration::try_from(ttl).ok().and_then(|ttl| now.checked_add(ttl).ok()).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(end.as_second()).unwrap_or(end).to_string()
}

/// What is to be done about a token that waits to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// It lasts; look again after a third of its life.
    Fresh,
    /// Its life is to be extended.
    Extend,
    /// Another one is to take its place.
    Replace,
    /// Its expiration cannot be read.
    Unreadable,
}

/// Judges a token whose machine has not joined: it is extended once a sixth of its life has passed.
pub fn upkeep(expiration: Option<&[u8]>, ttl: Duration, now: Timestamp) -> Upkeep {
    judge(expiration, ttl * 5 / 6, now, Upkeep::Extend)
}

/// Judges a token of a pool whose machines have all joined: it is replaced once half of its life has passed, so that what
/// leaked with a machine's boot data is of no use for long.
pub fn rotation(expiration: Option<&[u8]>, ttl: Duration, now: Timestamp) -> Upkeep {
    judge(expiration, ttl / 2, now, Upkeep::Replace)
}

fn judge(expiration: Option<&[u8]>, enough: Duration, now: Timestamp, otherwise: Upkeep) -> Upkeep {
    let Some(expiration) = expiration else { return otherwise };
    let parsed = std::str::from_utf8(expiration).ok().and_then(|text| text.trim().parse::<Timestamp>().ok());
    match parsed {
        None => Upkeep::Unreadable,
        Some(end) if remaining(end, now) > enough => Upkeep::Fresh,
        Some(_) => otherwise,
    }
}

fn remaining(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(900);

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn new_token() -> Token {
        let fill = |bytes: &mut [u8]| {
            rand::fill(bytes);
            Ok(())
        };
        Token::generate(fill).unwrap()
    }

    #[test]
    fn a_token_reads_back_and_hides_its_secret() {
        let token = new_token();
        assert_eq!(Token::parse(&token.expose()).unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret));
        for bad in ["abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef\n"] {
            assert_eq!(Token::parse(bad), Err(Malformed));
        }
    }

    #[test]
    fn a_waiting_token_is_extended_in_time() {
        let secret = new_token().secret(TTL, now());
        let expiration = secret.data.unwrap()["expiration"].0.clone();
        let after = |seconds| upkeep(Some(&expiration), TTL, now() + SignedDuration::from_secs(seconds));
        assert_eq!(after(100), Upkeep::Fresh);
        assert_eq!(after(151), Upkeep::Extend);
        assert_eq!(after(2000), Upkeep::Extend);
        assert_eq!(upkeep(None, TTL, now()), Upkeep::Extend);
        assert_eq!(upkeep(Some(b"soon"), TTL, now()), Upkeep::Unreadable);
    }

    #[test]
    fn a_used_token_is_replaced_at_half_of_its_life() {
        let end = now() + SignedDuration::from_secs(900);
        let text = end.to_string();
        let after = |seconds| rotation(Some(text.as_bytes()), TTL, now() + SignedDuration::from_secs(seconds));
        assert_eq!(after(449), Upkeep::Fresh);
        assert_eq!(after(451), Upkeep::Replace);
        assert_eq!(after(2000), Upkeep::Replace);
        assert_eq!(rotation(None, TTL, now()), Upkeep::Replace);
        assert_eq!(rotation(Some(b"soon"), TTL, now()), Upkeep::Unreadable);
    }
}
