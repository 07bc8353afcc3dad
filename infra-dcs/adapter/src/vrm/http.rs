//! HTTP to VRM and its hosts: trust, headers, answers.

use std::{error::Error as _, time::Duration};

use dcs_proto::{MachineError, error::Reason};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use url::Url;

use super::{Effect, codes};

/// Limit of connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// Limit of one call and its answer.
const CALL: Duration = Duration::from_secs(30);

/// Whom an endpoint's certificate may be issued by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// PEM certificates; none trusts what the system trusts.
    pub ca_bundle: String,
    /// Trusts anyone. Only by explicit wish.
    pub insecure: bool,
}

pub(super) fn client(trust: &Trust) -> Result<Client, MachineError> {
    let invalid = |error: reqwest::Error| MachineError::new(Reason::Invalid, format!("caBundle: {error}"));
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .timeout(CALL)
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none());
    if trust.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if !trust.ca_bundle.trim().is_empty() {
        let bundle = Certificate::from_pem_bundle(trust.ca_bundle.as_bytes()).map_err(invalid)?;
        builder = builder.tls_certs_only(bundle);
    }
    builder.build().map_err(invalid)
}

/// A request in a version of the API; without one the site answers as it likes.
pub(super) fn request(
    http: &Client,
    method: Method,
    base: &Url,
    path: &str,
    version: Option<&str>,
) -> Result<RequestBuilder, MachineError> {
    let url = base.join(path).map_err(|error| MachineError::new(Reason::Invalid, format!("{path}: {error}")))?;
    let request = http.request(method, url).header("Accept-Language", "en_US");
    Ok(match version {
        None => request.header("Accept", "application/json;charset=UTF-8"),
        // Some releases read the version from the media type, others from a header of that name.
        Some(version) => request
            .header("Accept", format!("application/json;version={version};charset=UTF-8"))
            .header("version", version),
    })
}

/// The body of an answer, or the error that it is. VRM refuses with an error number, under any status.
///
/// A read must be answered by a document: a gateway's page with status 200 would otherwise read as an empty list, and
/// what exists as missing. For what has an effect any 2xx means accepted, whatever its body is.
pub(super) async fn read(answer: Response, effect: Effect) -> Result<Value, MachineError> {
    let status = answer.status();
    let retry_after = answer.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = answer.text().await.map_err(|error| unreachable("the site", &error))?;
    let document = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
    let value = document.clone().unwrap_or_else(|| json!({}));
    // Gateways in front of VRM wrap the error into an object of its own.
    let (code, says) = match &value["error"] {
        Value::Object(error) => (error.get("code"), error.get("message")),
        _ => (value.get("errorCode"), value.get("errorDes")),
    };
    let code = match code {
        Some(Value::String(code)) => code.clone(),
        Some(Value::Number(code)) => code.to_string(),
        _ => String::new(),
    };
    let refused = !code.is_empty() && !code.trim_start_matches('0').is_empty();
    if status.is_success() && !refused {
        return match (effect, document) {
            (Effect::Read, None) => Err(MachineError::new(
                Reason::Unreachable,
                format!("HTTP {status} without a document: something before the site answers in its place"),
            )),
            _ => Ok(value),
        };
    }
    let says = says.and_then(Value::as_str).unwrap_or_default();
    let says = if says.is_empty() { format!("HTTP {status}") } else { says.to_owned() };
    let mut error = codes::error(&code, status.as_u16(), &says);
    if let Some(seconds) = retry_after {
        error.retry_after = Some(Duration::from_secs(seconds));
    }
    Err(error)
}

/// A connection that failed, with the innermost cause: a wrong certificate must be told from a closed port.
pub(super) fn unreachable(whom: &str, error: &reqwest::Error) -> MachineError {
    let mut cause = error.source();
    let mut says = error.without_url_text();
    while let Some(inner) = cause {
        says = inner.to_string();
        cause = inner.source();
    }
    MachineError::new(Reason::Unreachable, format!("{whom} cannot be reached: {says}"))
}

trait WithoutUrl {
    /// What an error says, without the address, which may carry a ticket.
    fn without_url_text(&self) -> String;
}

impl WithoutUrl for reqwest::Error {
    fn without_url_text(&self) -> String {
        if self.is_timeout() { "no answer in time".to_owned() } else { "the request failed".to_owned() }
    }
}
