//! What the outcome of a login means. Pure.

use std::time::Duration;

use cluster_api::conditions::{Claim, Status, types as common};
use dcs_proto::{MachineError, error::Reason, v1};

use super::MISSING;
use crate::{api::DCSCluster, machine::types::CREDENTIALS};

/// How a login went.
#[derive(Clone, Debug)]
pub(super) enum Login {
    /// The Secret does not exist.
    SecretMissing(String),
    /// The Secret is not usable.
    SecretInvalid(String),
    /// The site answered.
    Accepted(v1::Site),
    /// The site, or the way to it, refused.
    Refused {
        /// How.
        error: MachineError,
        /// Name of the Secret.
        secret: String,
    },
}

/// The condition, and when to try again. A refused login is tried again by the adapter alone, which knows when that
/// locks nobody out; asking it costs nothing.
pub(super) fn judge(login: &Login) -> (Claim, Duration) {
    let refused = |reason: &str, message: String| Claim::new(CREDENTIALS, Status::False, reason, message);
    match login {
        Login::SecretMissing(name) => (
            refused("CredentialsMissing", format!("Secret {name} with the site's credentials does not exist")),
            MISSING,
        ),
        Login::SecretInvalid(message) => (refused("CredentialsInvalid", message.clone()), MISSING),
        Login::Accepted(site) if !site.status.is_empty() && site.status != "normal" => {
            let message = format!("site {} is {}", site.name, site.status);
            (Claim::new(CREDENTIALS, Status::Unknown, "SiteNotNormal", message), MISSING)
        }
        Login::Accepted(_) => (Claim::holds(CREDENTIALS, "Accepted"), Duration::ZERO),
        Login::Refused { error, secret } => match error.reason {
            Reason::Credentials | Reason::LockedOut => {
                let reason = if error.reason == Reason::LockedOut { "LockedOut" } else { "CredentialsInvalid" };
                let message = format!(
                    "the site refuses the login of Secret {secret}: {error}; it is tried again sparingly, so that the \
                     user is not locked, and at once when the Secret changes"
                );
                (refused(reason, message), MISSING)
            }
            Reason::NotFound => (refused("SiteNotFound", error.to_string()), MISSING),
            // Not the login's fault: machines go on.
            _ => (Claim::new(CREDENTIALS, Status::Unknown, "SiteUnreachable", error.to_string()), MISSING / 2),
        },
    }
}

/// The conditions that a paused cluster keeps.
pub(super) fn kept(infra: &DCSCluster) -> Vec<Claim> {
    let ours = [CREDENTIALS, super::rule::CONDITION, common::READY];
    let conditions = infra.status.iter().flat_map(|status| &status.conditions);
    conditions
        .filter(|condition| ours.contains(&condition.type_.as_str()))
        .map(|condition| {
            let status = match condition.status.as_str() {
                "True" => Status::True,
                "False" => Status::False,
                _ => Status::Unknown,
            };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            Claim::new(condition.type_.clone(), status, text(&condition.reason), text(&condition.message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn no(reason: Reason) -> Login {
        Login::Refused { error: MachineError::new(reason, "no"), secret: "login".into() }
    }

    #[rstest]
    #[case(Login::SecretMissing("login".into()), Status::False, "CredentialsMissing")]
    #[case(Login::Accepted(v1::Site { status: "normal".into(), ..v1::Site::default() }), Status::True, "Accepted")]
    #[case(Login::Accepted(v1::Site { status: "fault".into(), ..v1::Site::default() }), Status::Unknown, "SiteNotNormal")]
    #[case(no(Reason::Credentials), Status::False, "CredentialsInvalid")]
    #[case(no(Reason::LockedOut), Status::False, "LockedOut")]
    #[case(no(Reason::Unreachable), Status::Unknown, "SiteUnreachable")]
    fn logins(#[case] login: Login, #[case] status: Status, #[case] reason: &str) {
        let (claim, _) = judge(&login);
        assert_eq!((claim.status, claim.reason.as_str()), (status, reason));
    }
}
