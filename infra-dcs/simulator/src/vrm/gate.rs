//! What every call passes: injected faults, the version check, the token, the audit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::Caller;
use crate::{
    audit::Record,
    engine::Engine,
    faults::Fault,
    site::{Code, Result, codes},
};

/// Versions of the interface that this site speaks.
const VERSIONS: &[&str] = &["5.1", "6.0", "6.3", "6.5", "8.0", "8.0.1", "8.1"];

/// In a response's extensions: cut the connection instead of sending it.
#[derive(Clone, Copy, Debug)]
pub struct Dropped;

/// See the [module](self). The state says which listener it guards.
pub async fn gate(
    State((engine, listener)): State<(Arc<Engine>, &'static str)>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let time = engine.clock.now();
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let shown = request.uri().path_and_query().map_or_else(|| path.clone(), ToString::to_string);
    let effects = Arc::new(AtomicU64::new(0));
    let task = Arc::new(AtomicU64::new(0));

    let random = || engine.with(|site, _| site.random());
    let fault = engine.faults.lock().strike(time, listener, &method, &path, random);
    let mut user = String::new();
    let mut response = match before(&engine, fault.as_ref()).await {
        Some(response) => response,
        None => match admit(&engine, listener, &path, request.headers()) {
            Ok(known) => {
                user.clone_from(&known);
                request.extensions_mut().insert(Caller {
                    engine: engine.clone(),
                    user: known,
                    effects: effects.clone(),
                    task: task.clone(),
                });
                if let Some(fault) = &fault {
                    request.extensions_mut().insert(fault.clone());
                }
                after(fault.as_ref(), next.run(request).await)
            }
            Err(error) => error.into_response(),
        },
    };
    if let Some(name) = response.extensions_mut().remove::<auth_name::LoginName>() {
        user = name.0;
    }
    let dropped = response.extensions().get::<Dropped>().is_some();
    engine.audit.write(Record {
        seq: 0,
        time,
        listener,
        user,
        method,
        path: if listener == "host" { "/fileupload/…".to_owned() } else { shown },
        status: if dropped { 0 } else { response.status().as_u16() },
        code: response.extensions().get::<Code>().map(ToString::to_string),
        effects: effects.load(Ordering::Relaxed),
        task: Some(task.load(Ordering::Relaxed)).filter(|task| *task != 0),
        fault: fault.map(|fault| format!("{fault:?}")),
        took: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    let date = jiff::Timestamp::from_millisecond(i64::try_from(time).unwrap_or(i64::MAX)).unwrap_or_default();
    // The date is the site's, which a test may have moved.
    if let Ok(date) = HeaderValue::from_str(&date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

pub(super) mod auth_name {
    /// In a response's extensions: who tried to log in, for the audit.
    #[derive(Clone, Debug)]
    pub struct LoginName(pub String);
}

/// Trouble before the call reaches the site.
async fn before(engine: &Engine, fault: Option<&Fault>) -> Option<Response> {
    match fault? {
        Fault::Refuse { status, code } => {
            let code = Code(*code);
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST);
            let body = Json(json!({"errorCode": code.to_string(), "errorDes": codes::text(code)}));
            let mut response = (status, body).into_response();
            response.extensions_mut().insert(code);
            Some(response)
        }
        Fault::Html { status } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            let page = "<html><head><title>Error</title></head><body><h1>The gateway failed</h1></body></html>";
            Some((status, [(header::CONTENT_TYPE, "text/html")], page).into_response())
        }
        Fault::Throttle { after } => {
            let body = Json(json!({"errorCode": codes::BUSY.to_string(), "errorDes": codes::text(codes::BUSY)}));
            Some((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, after.to_string())], body).into_response())
        }
        Fault::DropBefore => {
            let mut response = StatusCode::OK.into_response();
            response.extensions_mut().insert(Dropped);
            Some(response)
        }
        Fault::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            None
        }
        Fault::ExpireToken => {
            engine.with(|site, _| site.sessions.clear());
            None
        }
        Fault::DropAfter | Fault::Garbage | Fault::Truncate { .. } => None,
    }
}

/// Trouble after the site has done its part.
fn after(fault: Option<&Fault>, mut response: Response) -> Response {
    match fault {
        Some(Fault::DropAfter) => {
            response.extensions_mut().insert(Dropped);
            response
        }
        Some(Fault::Garbage) => {
            *response.body_mut() = Body::from("{\"urn\": \"urn:sites:");
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response
        }
        _ => response,
    }
}

/// Version and token; tells the user, who is nobody where none is needed.
fn admit(engine: &Engine, listener: &str, path: &str, headers: &HeaderMap) -> Result<String> {
    if listener == "host" || path == "/service/versions" {
        return Ok(String::new());
    }
    version(headers)?;
    content_type(headers)?;
    if path == "/service/session" {
        return Ok(String::new());
    }
    let token = headers.get("X-Auth-Token").and_then(|token| token.to_str().ok()).unwrap_or_default();
    engine.with(|site, now| {
        let user = site.authenticate(now, token)?;
        let of_site = path.strip_prefix("/service/sites/").and_then(|rest| rest.split('/').next());
        match of_site {
            Some(id) if id != site.id => Err(codes::SITE_NOT_FOUND.because(id)),
            _ => Ok(user),
        }
    })
}

/// A body is JSON, and says so.
fn content_type(headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let has_body = text("Content-Length").is_some_and(|length| length != "0") || text("Transfer-Encoding").is_some();
    let is_json = text("Content-Type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/json"));
    if has_body && !is_json {
        return Err(codes::BAD_PARAMETER.because("Content-Type: a body is application/json"));
    }
    Ok(())
}

fn version(headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let accepted = text("Accept").and_then(|accept| {
        accept.split(';').find_map(|part| part.trim().to_ascii_lowercase().strip_prefix("version=").map(str::to_owned))
    });
    let wanted = accepted.or_else(|| text("version").map(str::to_owned)).ok_or(codes::VERSION)?;
    let wanted = wanted.trim_start_matches(['v', 'V']);
    if VERSIONS.contains(&wanted) { Ok(()) } else { Err(codes::VERSION.because(wanted)) }
}
