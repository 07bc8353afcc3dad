//! Requests as they go over the wire, and what comes back, refusals included.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Map, Value, json};

/// How long one answer may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(30);
/// How long an effect of a controller may take there.
const EFFECT: Duration = Duration::from_secs(60);
/// How often is looked whether it has come about.
const LOOK: Duration = Duration::from_millis(100);

const JSON: &str = "application/json";

/// Somebody who speaks to the API server.
#[derive(Clone)]
pub struct Speaker {
    client: Client,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// The value of each `Warning` header.
    pub warnings: Vec<String>,
    /// The document, or the text that is none.
    pub body: Value,
}

impl Answer {
    /// The document of a request that must have worked.
    pub fn ok(self) -> Result<Value> {
        ensure!(self.code < 300, "refused with {}: {}", self.code, self.body);
        Ok(self.body)
    }

    /// Checks code and reason of a refusal.
    pub fn refused(&self, code: u16, reason: &str) -> Result<&Self> {
        ensure!(
            self.code == code && self.body["reason"] == reason && self.body["kind"] == "Status",
            "answered {} instead of {code} {reason}: {}",
            self.code,
            self.body
        );
        Ok(self)
    }

    /// Checks a refusal with its message.
    pub fn refused_saying(&self, code: u16, reason: &str, message: &str) -> Result<&Self> {
        self.refused(code, reason)?;
        ensure!(self.body["message"] == message, "says {} instead of {message:?}", self.body["message"]);
        Ok(self)
    }

    /// Code, warnings and document, for a record.
    pub fn said(&self) -> Value {
        let mut said = json!({"code": self.code, "body": self.body});
        if !self.warnings.is_empty() {
            said["warnings"] = json!(self.warnings);
        }
        said
    }
}

/// Several answers, each under a label.
#[derive(Default)]
pub struct Transcript(Map<String, Value>);

impl Transcript {
    /// Adds an answer as a whole.
    pub fn add(&mut self, label: &str, answer: &Answer) {
        self.note(label, answer.said());
    }

    /// Adds what was read out of an answer.
    pub fn note(&mut self, label: &str, value: Value) {
        self.0.insert(label.to_owned(), value);
    }

    /// The record of a check.
    #[allow(clippy::unnecessary_wraps, reason = "it is what a check returns")]
    pub fn finish(self) -> Result<Value> {
        Ok(Value::Object(self.0))
    }
}

impl Speaker {
    /// Speaks through a client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Any request; `headers` come beside content type and accept.
    pub async fn send(&self, request: Request<Body>) -> Result<Answer> {
        let shown = format!("{} {}", request.method(), request.uri());
        let asked = async {
            let response = self.client.send(request).await?;
            let code = response.status().as_u16();
            let warnings = response.headers().get_all("warning").iter();
            let warnings = warnings.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
            // What was upgraded has no body that ends.
            let bytes = match code {
                101 => Default::default(),
                _ => response.into_body().collect().await?.to_bytes(),
            };
            let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
            Ok::<_, kube::Error>(Answer { code, warnings, body })
        };
        let answer = tokio::time::timeout(ANSWER, asked).await;
        let answer = answer.with_context(|| format!("{shown}: no answer within {} s", ANSWER.as_secs()))?;
        answer.with_context(|| format!("{shown} failed"))
    }

    async fn ask(&self, method: Method, path: &str, kind: &str, accept: &str, body: Vec<u8>) -> Result<Answer> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", kind).header("accept", accept);
        self.send(request.header("user-agent", "conformance/1.0").body(Body::from(body))?).await
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.get_as(path, JSON).await
    }

    /// Reads in another form.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Answer> {
        self.ask(Method::GET, path, JSON, accept, Vec::new()).await
    }

    /// Creates.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.post_raw(path, JSON, body.to_string().as_bytes()).await
    }

    /// Creates, with a body of any form.
    pub async fn post_raw(&self, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        self.ask(Method::POST, path, kind, JSON, body.to_vec()).await
    }

    /// Replaces.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.ask(Method::PUT, path, JSON, JSON, body.to_string().into_bytes()).await
    }

    /// Deletes, with options.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Answer> {
        self.ask(Method::DELETE, path, JSON, JSON, options.to_string().into_bytes()).await
    }

    /// Patches; `kind` is `merge-patch`, `strategic-merge-patch` or `json-patch`.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Result<Answer> {
        let kind = format!("application/{kind}+json");
        self.ask(Method::PATCH, path, &kind, JSON, body.to_string().into_bytes()).await
    }

    /// Applies as a field manager; `more` is appended to the query.
    pub async fn apply(&self, path: &str, manager: &str, more: &str, body: &Value) -> Result<Answer> {
        let path = format!("{path}?fieldManager={manager}{more}");
        self.ask(Method::PATCH, &path, "application/apply-patch+yaml", JSON, body.to_string().into_bytes()).await
    }

    /// Code of a watch and its first events, as many as come before `seconds` are over.
    pub async fn watch(&self, path: &str, events: usize, seconds: u64) -> Result<(u16, Vec<Value>)> {
        let request = Request::builder().uri(path).header("accept", JSON).body(Body::from(Vec::new()))?;
        let mut heard = Vec::new();
        let mut code = 0;
        let listening = async {
            let response = self.client.send(request).await?;
            code = response.status().as_u16();
            let mut body = response.into_body();
            let mut line = Vec::new();
            while heard.len() < events
                && let Some(frame) = body.frame().await
            {
                for byte in frame?.into_data().unwrap_or_default() {
                    if byte == b'\n' {
                        heard.extend(serde_json::from_slice::<Value>(&line).ok());
                        line.clear();
                    } else {
                        line.push(byte);
                    }
                }
            }
            heard.extend(serde_json::from_slice::<Value>(&line).ok());
            Ok::<_, kube::Error>(())
        };
        if let Ok(outcome) = tokio::time::timeout(Duration::from_secs(seconds), listening).await {
            outcome.with_context(|| format!("watch of {path} failed"))?;
        }
        heard.truncate(events);
        Ok((code, heard))
    }

    /// Reads an object until it is as wanted; returns it then.
    pub async fn until(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + EFFECT;
        loop {
            let answer = self.get(path).await?;
            if answer.code < 300 && holds(&answer.body) {
                return Ok(answer.body);
            }
            if Instant::now() > deadline {
                bail!("{path} is not {what} after {} s: {}", EFFECT.as_secs(), answer.body);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, path: &str) -> Result<()> {
        let deadline = Instant::now() + EFFECT;
        loop {
            let answer = self.get(path).await?;
            if answer.code == 404 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{path} is not gone after {} s: {}", EFFECT.as_secs(), answer.body);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Items of a list.
pub fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Status of a condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|one| one["type"] == kind).and_then(|one| one["status"].as_str()).unwrap_or_default()
}
