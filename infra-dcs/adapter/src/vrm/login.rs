//! Logging in: one token for all calls of a user, renewed in single flight; a breaker keeps a wrong password from locking
//! the account.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dcs_proto::{MachineError, error::Reason, v1::UserType};
use reqwest::{Client, Method};
use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::{Effect, codes, http};
use crate::fault;

/// Life of a token that the site says nothing of.
const LIFE: Duration = Duration::from_secs(600);
/// Shortest and longest time without a login after the site refused the credentials.
const SILENCE: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3600));

/// Who logs in where.
#[derive(Clone)]
pub struct Account {
    /// URL of the site.
    pub endpoint: String,
    /// User.
    pub user: String,
    /// Password.
    pub key: SecretString,
    /// Where the user is known.
    pub user_type: UserType,
}

/// The login of one user.
pub struct Login {
    account: Account,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    breaker: Option<Breaker>,
}

struct Token {
    value: SecretString,
    renew_at: Instant,
}

struct Breaker {
    until: Instant,
    silence: Duration,
    error: MachineError,
}

impl Login {
    pub(super) fn new(account: Account) -> Self {
        Self { account, state: Mutex::default() }
    }

    /// A token. Whoever comes while one is fetched waits for that one.
    pub(super) async fn token(&self, http: &Client, base: &Url, version: &str) -> Result<SecretString, MachineError> {
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && Instant::now() < token.renew_at
        {
            return Ok(token.value.clone());
        }
        let mut silence = SILENCE.0;
        if let Some(breaker) = &state.breaker {
            let left = breaker.until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(MachineError { retry_after: Some(left), ..breaker.error.clone() });
            }
            silence = (breaker.silence * 2).min(SILENCE.1);
        }
        match fault::around("vrm-login", self.log_in(http, base, version)).await {
            Ok(token) => {
                let value = token.value.clone();
                *state = State { token: Some(token), breaker: None };
                Ok(value)
            }
            Err(error) => {
                state.token = None;
                let error = self.without_secrets(error, None);
                if matches!(error.reason, Reason::Credentials | Reason::LockedOut) {
                    let error = MachineError { retry_after: Some(silence), ..error };
                    state.breaker = Some(Breaker { until: Instant::now() + silence, silence, error: error.clone() });
                    return Err(error);
                }
                Err(error)
            }
        }
    }

    /// The site no longer takes this token.
    pub(super) async fn forget(&self, token: &SecretString) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|known| known.value.expose_secret() == token.expose_secret()) {
            state.token = None;
        }
    }

    /// No login before this time (seconds since 1970): an earlier process was told so.
    pub(super) async fn not_before(&self, at: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(left) = u64::try_from(at).ok().map(Duration::from_secs).and_then(|at| at.checked_sub(now)) else {
            return;
        };
        let left = left.min(SILENCE.1);
        let mut state = self.state.lock().await;
        if state.token.is_none() && state.breaker.is_none() {
            let error =
                MachineError::new(Reason::LockedOut, "the site refused the credentials before; the next login waits");
            state.breaker = Some(Breaker { until: Instant::now() + left, silence: SILENCE.0, error });
        }
    }

    /// The same error without the password and the token, should a site repeat what it was sent.
    pub(super) fn without_secrets(&self, mut error: MachineError, token: Option<&SecretString>) -> MachineError {
        let token = token.map(ExposeSecret::expose_secret);
        for secret in [Some(self.account.key.expose_secret()), token].into_iter().flatten() {
            if !secret.is_empty() && error.message.contains(secret) {
                error.message = error.message.replace(secret, "(secret)");
            }
        }
        error
    }

    async fn log_in(&self, http: &Client, base: &Url, version: &str) -> Result<Token, MachineError> {
        let kind = if self.account.user_type == UserType::Domain { "1" } else { "2" };
        let answer = http::request(http, Method::POST, base, "/service/session", Some(version))?
            .header("X-Auth-User", &self.account.user)
            .header("X-Auth-Key", self.account.key.expose_secret())
            .header("X-Auth-UserType", kind)
            // Both spellings: releases know one or the other. 1 = the key is plain.
            .header("X-ENCRYPT-ALGORITHM", "1")
            .header("X-ENCRIPT-ALGORITHM", "1")
            .header("Content-Type", "application/json;charset=UTF-8")
            .send()
            .await
            .map_err(|error| http::unreachable("the site", &error))?;
        let token = answer.headers().get("X-Auth-Token").and_then(|value| value.to_str().ok()).map(SecretString::from);
        let body = match http::read(answer, Effect::Write).await {
            Ok(body) => body,
            // "Expires soon" is a warning that comes with a token.
            Err(error) if codes::is_expiry_warning(&error) && token.is_some() => serde_json::Value::Null,
            Err(error) => return Err(error),
        };
        let value = token.ok_or_else(|| MachineError::new(Reason::Unsupported, "the site's login gave no token"))?;
        let life = body["validity"].as_u64().map_or(LIFE, Duration::from_millis);
        Ok(Token { value, renew_at: Instant::now() + life / 2 })
    }
}
