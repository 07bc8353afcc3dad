//! Effects on the tokens by which machines join, in their workload cluster.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use kubeadm::token::{self, Token, Upkeep};
use manager::{
    Category, ObjectKey, ReconcileError, fault,
    workload::{ConnectError, WorkloadClient},
};
use serde_json::json;

use super::{
    act::{Actor, WAIT_FOR_INPUT},
    observe::Facts,
    status::Report,
};

/// Time until a workload cluster that does not answer is asked again: it is most likely starting.
const WAIT_FOR_CLUSTER: std::time::Duration = std::time::Duration::from_secs(3);

const GONE: &str = "the bootstrap token is gone from the workload cluster, and the machine has its boot data already; replace the machine";

/// What became of a token.
pub(super) enum Kept {
    /// It lasts until the next look.
    Lasts,
    /// Another one is recorded in its place.
    Replaced,
}

impl Actor {
    /// Makes a token. One that is not recorded afterwards is used by nobody and expires.
    pub(super) async fn make_token(&self, facts: &Facts, report: &mut Report) -> Result<Token, ReconcileError> {
        let tokens = self.tokens(facts).await.inspect_err(|error| {
            report.waits(format!("Waiting for the workload cluster: {error}"));
        })?;
        let token = Token::generate(|bytes| self.random.secret(bytes))
            .map_err(|error| ReconcileError::transient(error.to_string()))?;
        let secret = token.secret(self.settings.token_ttl, self.clock.now());
        let created = fault::around("create-token", tokens.create(&PostParams::default(), &secret)).await;
        created.map_err(|error| self.failed(facts, error)).inspect_err(|error| {
            report.waits(format!("Waiting for the workload cluster to take a bootstrap token: {error}"));
        })?;
        Ok(token)
    }

    /// Extends the token of machines that have not joined, and replaces the one of a pool.
    pub(super) async fn keep_token(&self, facts: &Facts, report: &mut Report) -> Result<Kept, ReconcileError> {
        // A token that the user changed after the machine got it: its own word, and final.
        let token = Token::parse(facts.discovery_token().unwrap_or_default())
            .map_err(|error| useless(&format!("joinConfiguration.discovery.bootstrapToken.token: {error}"), report))?;
        let tokens = self.tokens(facts).await?;
        let name = token.secret_name();
        let found = tokens.get_opt(&name).await.map_err(|error| self.failed(facts, error))?;
        let Some(mut secret) = found else { return self.replace_lost(facts, report).await };
        let data = secret.data.get_or_insert_default();
        let expiration = data.get("expiration").map(|value| value.0.as_slice());
        let (ttl, now) = (self.settings.token_ttl, self.clock.now());
        let upkeep = if facts.owner.has_joined {
            token::rotation(expiration, ttl, now)
        } else {
            token::upkeep(expiration, ttl, now)
        };
        match upkeep {
            Upkeep::Fresh => {
                report.data_secret_available();
                Ok(Kept::Lasts)
            }
            Upkeep::Unreadable => {
                let cure = "expiration is no time such as 2026-01-01T00:00:00Z";
                Err(useless(&format!("Secret {name} of the workload cluster: {cure}"), report))
            }
            Upkeep::Replace => self.replace_token(facts, report).await,
            Upkeep::Extend => {
                let end = token::expiration(ttl, now);
                data.insert("expiration".to_owned(), ByteString(end.into_bytes()));
                // Under the version that was read: a token that was deleted meanwhile does not come back.
                let extended = async { tokens.replace(&name, &PostParams::default(), &secret).await };
                match fault::around("extend-token", extended).await {
                    Ok(_) => {
                        report.data_secret_available();
                        Ok(Kept::Lasts)
                    }
                    Err(kube::Error::Api(status)) if status.code == 404 => self.replace_lost(facts, report).await,
                    Err(error) => Err(self.failed(facts, error)),
                }
            }
        }
    }

    /// The token is gone. A machine has its boot data already, and a new token would not help it; a pool reads again.
    async fn replace_lost(&self, facts: &Facts, report: &mut Report) -> Result<Kept, ReconcileError> {
        if facts.owner.is_pool { self.replace_token(facts, report).await } else { Err(useless(GONE, report)) }
    }

    /// Gives a pool a new token; the old one is left to expire. The next pass writes the boot data with it.
    async fn replace_token(&self, facts: &Facts, report: &mut Report) -> Result<Kept, ReconcileError> {
        let token = self.make_token(facts, report).await?;
        self.record_join(facts, json!({"discovery": {"bootstrapToken": {"token": token.expose()}}})).await?;
        Ok(Kept::Replaced)
    }

    async fn tokens(&self, facts: &Facts) -> Result<Api<Secret>, ReconcileError> {
        let client = self.connect(facts).await?;
        Ok(Api::namespaced(client.client().clone(), token::NAMESPACE))
    }

    async fn connect(&self, facts: &Facts) -> Result<WorkloadClient, ReconcileError> {
        match self.workload.connect(&ObjectKey::of(facts.cluster.as_ref())).await {
            Ok(client) => Ok(client),
            Err(ConnectError::Unreachable(reason)) => {
                Err(ReconcileError::new(Category::Waiting(WAIT_FOR_CLUSTER), reason.to_string()))
            }
            Err(ConnectError::Management(error)) => Err(error),
        }
    }

    /// A call to the workload cluster failed. Where there was no answer the next one dials anew.
    fn failed(&self, facts: &Facts, error: kube::Error) -> ReconcileError {
        if matches!(error, kube::Error::Api(_)) {
            return error.into();
        }
        self.workload.report_down(&ObjectKey::of(facts.cluster.as_ref()), &error.to_string());
        ReconcileError::new(Category::Waiting(WAIT_FOR_CLUSTER), error.to_string())
    }
}

/// The machine cannot join with the data it has. A token may be put back, so it is looked for again, now and then.
fn useless(message: &str, report: &mut Report) -> ReconcileError {
    report.data_is_useless(message);
    ReconcileError::new(Category::Waiting(3 * WAIT_FOR_INPUT), message)
}
