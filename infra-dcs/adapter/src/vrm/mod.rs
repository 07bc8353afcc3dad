//! VRM's REST API: one client per site and user, shared by all sessions of it.

pub mod codes;
mod http;
mod login;
pub mod wire;

use std::{sync::Arc, time::Duration};

use dcs_proto::{MachineError, error::Reason};
use parking_lot::Mutex;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::Semaphore, time::Instant};
use url::Url;

pub use http::Trust;
pub use login::{Account, Login};

/// API version that is asked for.
const ACCEPT: &str = "application/json;version=8.1;charset=UTF-8";
/// Items of one page; more are refused.
const PAGE: usize = 100;
/// Calls of one site under way at once.
const CONCURRENT: usize = 10;
/// Least time between the starts of two calls of one site: ten a second.
const PACE: Duration = Duration::from_millis(100);
/// Calls that may start at once after a pause.
const BURST: u32 = 20;

/// What a call may do at the site, and so what a lost answer means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing: it may be repeated.
    Read,
    /// Something: a lost answer leaves its outcome open.
    Write,
}

/// A client of one site as one user.
pub struct Vrm {
    http: reqwest::Client,
    base: Url,
    login: Login,
    calls: Semaphore,
    next: Mutex<Instant>,
}

impl Vrm {
    /// A client; nothing is asked yet.
    pub fn new(account: Account, trust: &Trust) -> Result<Arc<Self>, MachineError> {
        let base: Url = account.endpoint.parse().map_err(|error| {
            MachineError::new(Reason::Invalid, format!("endpoint: {:?} is no URL: {error}", account.endpoint))
        })?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(MachineError::new(Reason::Invalid, "endpoint: must begin with http:// or https://"));
        }
        let http = http::client(trust)?;
        let login = Login::new(account);
        Ok(Arc::new(Self { http, base, login, calls: Semaphore::new(CONCURRENT), next: Mutex::new(Instant::now()) }))
    }

    /// The account's own time before which no login may be tried.
    pub async fn not_before(&self, at: i64) {
        self.login.not_before(at).await;
    }

    /// Reads a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, MachineError> {
        let value = self.call(Method::GET, path, query, None, Effect::Read).await?;
        decode(path, value)
    }

    /// Reads every item of a list, page by page, each once.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        items: &str,
    ) -> Result<Vec<T>, MachineError> {
        let mut all: Vec<(String, T)> = Vec::new();
        let mut offset = 0;
        loop {
            let (limit, from) = (PAGE.to_string(), offset.to_string());
            let mut query = query.to_vec();
            query.extend([("limit", limit.as_str()), ("offset", from.as_str())]);
            let mut page = self.call(Method::GET, path, &query, None, Effect::Read).await?;
            let total = page["total"].as_u64().and_then(|total| usize::try_from(total).ok());
            let Value::Array(found) = page[items].take() else { break };
            let count = found.len();
            for item in found {
                // The list may shift between two pages.
                let urn = item["urn"].as_str().unwrap_or_default().to_owned();
                if urn.is_empty() || !all.iter().any(|(known, _)| *known == urn) {
                    all.push((urn, decode(path, item)?));
                }
            }
            offset += count;
            if count == 0 || total.is_none_or(|total| offset >= total) {
                break;
            }
        }
        Ok(all.into_iter().map(|(_, item)| item).collect())
    }

    /// Sends something that has an effect.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, MachineError> {
        let value = self.call(method, path, query, body, Effect::Write).await?;
        decode(path, value)
    }

    /// Asks for something by a POST that has no effect.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str, body: Option<&Value>) -> Result<T, MachineError> {
        let value = self.call(Method::POST, path, &[], body, Effect::Read).await?;
        decode(path, value)
    }

    /// Streams bytes to a host of the site, at the URL that the site named. The token is that of the upload alone.
    pub async fn upload(&self, url: &str, token: &str, content: Vec<u8>) -> Result<(), MachineError> {
        const LIMIT: Duration = Duration::from_secs(300);
        let url = self.base.join(url).map_err(|error| {
            MachineError::new(Reason::Unsupported, format!("the site named an upload address that is no URL: {error}"))
        })?;
        let host =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let sent = self
            .http
            .put(url)
            .timeout(LIMIT)
            .header("X-Auth-Token", token)
            .header("Content-Type", "application/octet-stream")
            .body(content)
            .send()
            .await
            .map_err(|error| http::unreachable(&format!("host {host}"), &error))?;
        let status = sent.status();
        if status.is_success() {
            return Ok(());
        }
        let text = sent.text().await.unwrap_or_default();
        let text: String = text.chars().take(200).collect();
        Err(MachineError::new(Reason::Unreachable, format!("host {host} refused the upload with {status}: {text}")))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        effect: Effect,
    ) -> Result<Value, MachineError> {
        const READS: u32 = 3;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let result = self.call_once(&method, path, query, body, effect).await;
            let Err(error) = result else { return result };
            let passes = matches!(error.reason, Reason::Unreachable | Reason::Busy | Reason::Throttled);
            if effect == Effect::Write || attempt >= READS || !passes {
                return Err(error);
            }
            let wait = error
                .retry_after
                .unwrap_or(Duration::from_millis(250) * 2_u32.pow(attempt))
                .min(Duration::from_secs(3));
            tokio::time::sleep(wait).await;
        }
    }

    /// One call; logs in again once when the token has ended, which is certain not to have had an effect.
    async fn call_once(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        effect: Effect,
    ) -> Result<Value, MachineError> {
        let _permit = self.calls.acquire().await;
        let mut renewed = false;
        loop {
            let token = self.login.token(&self.http, &self.base).await?;
            self.pace().await;
            let mut request = http::request(&self.http, method.clone(), &self.base, path)?.query(query);
            request = request.header("X-Auth-Token", token.expose_secret());
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(|error| lost(&error, effect))?;
            match http::read(answer).await {
                Err(error) if codes::is_session_end(&error) && !renewed => {
                    renewed = true;
                    self.login.forget(&token).await;
                }
                Err(error) if error.reason == Reason::Unreachable && effect == Effect::Write => {
                    return Err(MachineError { reason: Reason::OutcomeUnknown, ..error });
                }
                result => return result,
            }
        }
    }

    /// Waits until the next call may start.
    async fn pace(&self) {
        let at = {
            let mut next = self.next.lock();
            let earliest = Instant::now().checked_sub(PACE * BURST).unwrap_or_else(Instant::now);
            *next = (*next).max(earliest) + PACE;
            *next
        };
        tokio::time::sleep_until(at).await;
    }
}

/// An answer that did not come: where the request may have arrived, its outcome is open.
fn lost(error: &reqwest::Error, effect: Effect) -> MachineError {
    let unreachable = http::unreachable("the site", error);
    if effect == Effect::Write && !error.is_connect() {
        return MachineError { reason: Reason::OutcomeUnknown, ..unreachable };
    }
    unreachable
}

fn decode<T: DeserializeOwned>(path: &str, value: Value) -> Result<T, MachineError> {
    serde_json::from_value(value).map_err(|error| {
        MachineError::new(Reason::Unsupported, format!("the answer of {path} is not understood: {error}"))
    })
}

/// URN to path: `urn:sites:5A1C0D3E:vms:i-1` is `/service/sites/5A1C0D3E/vms/i-1`.
pub fn path_of(urn: &str) -> Result<String, MachineError> {
    match urn.strip_prefix("urn:") {
        // Folders are the exception: their URN says folders, their path folder.
        Some(rest) if !rest.contains(['/', '?', '#', '.']) => {
            Ok(format!("/service/{}", rest.replace(':', "/").replace("/folders/", "/folder/")))
        }
        _ => Err(MachineError::new(Reason::Invalid, format!("{urn:?} is no URN of the site"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_urn_is_a_path() {
        assert_eq!(path_of("urn:sites:5A:vms:i-0A").unwrap(), "/service/sites/5A/vms/i-0A");
        assert_eq!(path_of("urn:sites:5A:folders:391").unwrap(), "/service/sites/5A/folder/391");
        for bad in ["", "vms", "urn:sites:5A/../x", "urn:sites:5A?x"] {
            assert_eq!(path_of(bad).unwrap_err().reason, Reason::Invalid);
        }
    }
}
