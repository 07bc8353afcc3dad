//! VRM's REST API: one client per site and user, shared by all sessions of it.

pub mod codes;
mod http;
mod login;
pub mod wire;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use dcs_proto::{
    MachineError,
    error::{Reason, UPLOAD_HOST},
};
use parking_lot::Mutex;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::Instant,
};
use tracing::Instrument;
use url::Url;

pub use http::Trust;
pub use login::{Account, Login};

/// API version that is asked for first.
const VERSION: &str = "8.1";
/// Items of one page; more are refused.
const PAGE: usize = 100;
/// Calls of one site under way at once.
const CONCURRENT: usize = 10;
/// Seconds' worth of calls that may start at once after a pause.
const BURST: u32 = 2;

/// How long calls start at half the pace after the site asked for less.
const RELIEF: Duration = Duration::from_secs(60);
/// How long a reading of what the site offers serves everyone who asks for it: machines are made in groups.
const FRESH: Duration = Duration::from_secs(5);
/// Readings that are kept; more are forgotten, fresh or not.
const READINGS: usize = 256;
/// Readings of a list that changed while its pages were read, before the last one is taken as it is.
const READINGS_OF_A_LIST: u32 = 4;

/// What a call may do at the site, and so what a lost answer means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing: it may be repeated.
    Read,
    /// Something: a lost answer leaves its outcome open.
    Write,
}

/// How many calls of one site may start in a second.
#[derive(Clone, Copy, Debug)]
pub struct Rate(NonZeroU32);

impl Rate {
    /// So many calls a second.
    pub const fn a_second(calls: NonZeroU32) -> Self {
        Self(calls)
    }

    /// Least time between the starts of two calls.
    fn step(self) -> Duration {
        Duration::from_secs(1) / self.0.get()
    }
}

/// A client of one site as one user.
pub struct Vrm {
    http: reqwest::Client,
    base: Url,
    login: Login,
    version: Mutex<String>,
    calls: Semaphore,
    rate: Rate,
    pace: Mutex<Pace>,
    offers: Mutex<HashMap<String, Arc<AsyncMutex<Option<Reading>>>>>,
}

/// When the next call may start.
struct Pace {
    next: Instant,
    /// Until then calls start at half the pace.
    relief_until: Instant,
}

/// What the site offered, and when.
struct Reading {
    at: Instant,
    value: Value,
}

impl Vrm {
    /// A client; nothing is asked yet.
    pub fn new(account: Account, trust: &Trust, rate: Rate) -> Result<Arc<Self>, MachineError> {
        let base: Url = account.endpoint.parse().map_err(|error| {
            MachineError::new(Reason::Invalid, format!("endpoint: {:?} is no URL: {error}", account.endpoint))
        })?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(MachineError::new(Reason::Invalid, "endpoint: must begin with http:// or https://"));
        }
        let http = http::client(trust)?;
        let login = Login::new(account);
        let now = Instant::now();
        Ok(Arc::new(Self {
            http,
            base,
            login,
            version: Mutex::new(VERSION.to_owned()),
            calls: Semaphore::new(CONCURRENT),
            rate,
            pace: Mutex::new(Pace { next: now, relief_until: now }),
            offers: Mutex::default(),
        }))
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

    /// Reads every item of a list, page by page, each once. A list that changed meanwhile is read again: an item
    /// that another one's end moved to a page already read would be missed, and what exists taken for missing.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        items: &str,
    ) -> Result<Vec<T>, MachineError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (all, changed) = self.pages(path, query, items).await?;
            if !changed || tries >= READINGS_OF_A_LIST {
                return all.into_iter().map(|item| decode(path, item)).collect();
            }
        }
    }

    /// All items of a list, and whether their number changed while they were read.
    async fn pages(&self, path: &str, query: &[(&str, &str)], items: &str) -> Result<(Vec<Value>, bool), MachineError> {
        let (mut all, mut known) = (Vec::new(), HashSet::new());
        let (mut offset, mut first_total) = (0, None);
        let mut changed = false;
        loop {
            let (limit, from) = (PAGE.to_string(), offset.to_string());
            let mut query = query.to_vec();
            query.extend([("limit", limit.as_str()), ("offset", from.as_str())]);
            let mut page = self.call(Method::GET, path, &query, None, Effect::Read).await?;
            let total = page["total"].as_u64().and_then(|total| usize::try_from(total).ok());
            changed |= first_total.is_some_and(|first| first != total);
            first_total.get_or_insert(total);
            let found = match page.get_mut(items).map(Value::take) {
                Some(Value::Array(found)) => found,
                Some(Value::Null) => Vec::new(),
                _ if total == Some(0) => Vec::new(),
                _ => {
                    let message = format!("the answer of {path} is not understood: it has no list {items:?}");
                    return Err(MachineError::new(Reason::Unsupported, message));
                }
            };
            let (count, before) = (found.len(), all.len());
            for item in found {
                let urn = item["urn"].as_str().unwrap_or_default();
                if urn.is_empty() || known.insert(urn.to_owned()) {
                    all.push(item);
                }
            }
            offset += count;
            // Lists that know no pages give the same items again.
            let exhausted = count == 0 || all.len() == before;
            if exhausted || total.map_or(count < PAGE, |total| offset >= total) {
                return Ok((all, changed));
            }
        }
    }

    /// Reads a document of what the site offers, not of what it runs: one reading serves everyone for a few seconds.
    pub async fn offer<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, MachineError> {
        let read = self.call(Method::GET, path, query, None, Effect::Read);
        decode(path, self.shared(format!("{path}?{query:?}"), read).await?)
    }

    /// Like [`Vrm::list`], for what the site offers.
    pub async fn offers<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        items: &str,
    ) -> Result<Vec<T>, MachineError> {
        let read = async { self.list(path, query, items).await.map(Value::Array) };
        decode(path, self.shared(format!("{path}?{query:?}#{items}"), read).await?)
    }

    /// A reading that is fresh, or a new one; whoever comes while it is made waits for it.
    async fn shared(
        &self,
        name: String,
        read: impl Future<Output = Result<Value, MachineError>>,
    ) -> Result<Value, MachineError> {
        let slot = {
            let mut offers = self.offers.lock();
            if offers.len() >= READINGS {
                offers.clear();
            }
            Arc::clone(offers.entry(name).or_default())
        };
        let mut known = slot.lock().await;
        if let Some(reading) = known.as_ref().filter(|reading| reading.at.elapsed() < FRESH) {
            return Ok(reading.value.clone());
        }
        let value = read.await?;
        *known = Some(Reading { at: Instant::now(), value: value.clone() });
        Ok(value)
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
            .map_err(|error| http::unreachable(&format!("host {host}"), &error).about(UPLOAD_HOST, &host))?;
        let status = sent.status();
        if status.is_success() {
            return Ok(());
        }
        let text = sent.text().await.unwrap_or_default();
        let text: String = text.chars().take(200).collect::<String>().replace(token, "(secret)");
        let message = format!("host {host} refused the upload with {status}: {text}");
        Err(MachineError::new(Reason::Unreachable, message).about(UPLOAD_HOST, host))
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
            if error.reason == Reason::NotFound && !codes::has_code(&error) {
                return Err(self.not_found(path, error).await);
            }
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

    /// What a 404 without the site's own number means: where the site itself cannot be read either, nothing.
    async fn not_found(&self, path: &str, error: MachineError) -> MachineError {
        let site: Vec<&str> = path.split('/').take(4).collect();
        let site = site.join("/");
        if site == path {
            return error;
        }
        match self.call_once(&Method::GET, &site, &[], None, Effect::Read).await {
            Ok(_) => error,
            Err(_) => MachineError::new(
                Reason::Unreachable,
                format!("{site} cannot be read: that {path} is not, means nothing"),
            ),
        }
    }

    /// One call; in another version of the API where the site does not speak ours, which has no effect.
    async fn call_once(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        effect: Effect,
    ) -> Result<Value, MachineError> {
        let _permit = self.calls.acquire().await;
        let version = self.version.lock().clone();
        let answer = self.call_in(&version, method, path, query, body, effect).await;
        match answer {
            Err(error) if codes::is_version_refused(&error) => {
                let other = self.other_version(&version).await.ok_or(error)?;
                self.version.lock().clone_from(&other);
                self.call_in(&other, method, path, query, body, effect).await
            }
            answer => answer,
        }
    }

    /// The newest version that the site speaks, when it is another one than this.
    async fn other_version(&self, refused: &str) -> Option<String> {
        let request = http::request(&self.http, Method::GET, &self.base, "/service/versions", None).ok()?;
        let known = http::read(request.send().await.ok()?, Effect::Read).await.ok()?;
        let versions = known["versions"].as_array()?.iter().filter_map(|known| known["version"].as_str());
        let numbers = |text: &&str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
        let newest = versions.map(|text| text.trim_start_matches('v')).max_by_key(numbers)?;
        (newest != refused).then(|| newest.to_owned())
    }

    /// One call; logs in again once when the token has ended, which is certain not to have had an effect.
    async fn call_in(
        &self,
        version: &str,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        effect: Effect,
    ) -> Result<Value, MachineError> {
        let mut renewed = false;
        loop {
            let token = self.login.token(&self.http, &self.base, version).await?;
            self.pace().await;
            let mut request = http::request(&self.http, method.clone(), &self.base, path, Some(version))?.query(query);
            request = request.header("X-Auth-Token", token.expose_secret());
            if let Some(body) = body {
                request = request.json(body);
            }
            let sent = Instant::now();
            let answer = async {
                match request.send().await {
                    Ok(answer) => http::read(answer, effect).await.map_err(|error| in_doubt(error, effect)),
                    Err(error) => Err(lost(&error, effect)),
                }
            };
            let answer = answer.instrument(tracing::info_span!("vrm", %method, path)).await;
            let took = sent.elapsed();
            let error = match answer {
                Ok(value) => {
                    tracing::debug!(%method, path, ?took, "The site answered.");
                    return Ok(value);
                }
                Err(error) => self.login.without_secrets(error, Some(&token)),
            };
            tracing::debug!(%method, path, ?took, reason = error.reason.as_str_name(), %error, "The site refused.");
            match error.reason {
                _ if codes::is_session_end(&error) && !renewed => {
                    renewed = true;
                    self.login.forget(&token).await;
                }
                Reason::Throttled => {
                    self.pace.lock().relief_until = Instant::now() + RELIEF;
                    return Err(error);
                }
                _ => return Err(error),
            }
        }
    }

    /// Waits until the next call may start.
    async fn pace(&self) {
        let at = {
            let mut pace = self.pace.lock();
            let now = Instant::now();
            let step = self.rate.step() * if now < pace.relief_until { 2 } else { 1 };
            let burst = step * self.rate.0.get().saturating_mul(BURST);
            pace.next = pace.next.max(now.checked_sub(burst).unwrap_or(now)) + step;
            pace.next
        };
        tokio::time::sleep_until(at).await;
    }
}

/// An answer of something before the site: whether the site was asked, is open.
fn in_doubt(error: MachineError, effect: Effect) -> MachineError {
    if effect == Effect::Write && error.reason == Reason::Unreachable {
        return MachineError { reason: Reason::OutcomeUnknown, ..error };
    }
    error
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
