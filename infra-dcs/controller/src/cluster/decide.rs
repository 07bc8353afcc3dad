//! What the outcome of a login means. Pure.

use std::time::Duration;

use cluster_api::{
    conditions::{Claim, Status, types as common},
    labels,
};
use dcs_proto::{
    MachineError,
    error::{Reason, STALE_PASSWORD},
    v1,
};

use kube::ResourceExt;

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
                let reason = match error.reason {
                    _ if error.is_about(STALE_PASSWORD) => "PasswordChangeRequired",
                    Reason::LockedOut => "LockedOut",
                    _ => "CredentialsInvalid",
                };
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

/// Whether another system manages the infrastructure: then nothing of the object is touched. What was ours before it was
/// marked so is still let go.
pub(super) fn is_external(infra: &DCSCluster) -> bool {
    infra.metadata.deletion_timestamp.is_none() && infra.annotations().contains_key(labels::MANAGED_BY)
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

    #[test]
    fn infrastructure_of_another_system_is_left_alone_until_it_goes() {
        let mut infra = DCSCluster::new("c", crate::api::DCSClusterSpec::default());
        assert!(!is_external(&infra));
        infra.metadata.annotations = Some([(labels::MANAGED_BY.to_owned(), String::new())].into());
        assert!(is_external(&infra));
        infra.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().unwrap()));
        assert!(!is_external(&infra));
    }

    fn stale() -> Login {
        let error = MachineError::new(Reason::Credentials, "no").about(STALE_PASSWORD, "");
        Login::Refused { error, secret: "login".into() }
    }

    #[rstest]
    #[case(Login::SecretMissing("login".into()), Status::False, "CredentialsMissing")]
    #[case(Login::Accepted(v1::Site { status: "normal".into(), ..v1::Site::default() }), Status::True, "Accepted")]
    #[case(Login::Accepted(v1::Site { status: "fault".into(), ..v1::Site::default() }), Status::Unknown, "SiteNotNormal")]
    #[case(no(Reason::Credentials), Status::False, "CredentialsInvalid")]
    #[case(no(Reason::LockedOut), Status::False, "LockedOut")]
    #[case(stale(), Status::False, "PasswordChangeRequired")]
    #[case(no(Reason::Unreachable), Status::Unknown, "SiteUnreachable")]
    fn logins(#[case] login: Login, #[case] status: Status, #[case] reason: &str) {
        let (claim, _) = judge(&login);
        assert_eq!((claim.status, claim.reason.as_str()), (status, reason));
    }
}
