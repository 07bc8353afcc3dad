//! `pods/portforward`: streams to ports of a pod, over a WebSocket or over SPDY/3.1.
//!
//! The real API server hands both to the kubelet; what is refused, and how, is what clients see of the two together.
//! The tunnel protocol (`SPDY/3.1+portforward.k8s.io` over a WebSocket) is refused as by servers before 1.30, upon which
//! clients turn to SPDY.

mod pump;
pub(in crate::guest::memory::api_server) mod spdy;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use kube_model::{ApiError, Target, transport::refuse};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use self::pump::Pod;
use super::front::{Answer, Parts, plain};

/// Subprotocol of port-forwards over SPDY.
const PROTOCOL: &str = "portforward.k8s.io";
/// Subprotocol of port-forwards over a WebSocket.
const CHANNELS: &str = "v4.channel.k8s.io";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

type Io = TokioIo<Upgraded>;

/// Answers a port-forward, and goes on with it after the answer where it is let through.
pub(super) fn serve(parts: &Parts, namespace: &str, pod: &str, request: Request<Incoming>) -> Answer {
    match begin(parts, namespace, pod, request) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn begin(parts: &Parts, namespace: &str, pod: &str, request: Request<Incoming>) -> Result<Answer, Answer> {
    let pod = find(parts, namespace, pod).map_err(|error| refuse(&error))?;
    let headers = request.headers();
    let wants = |name: HeaderName, word: &str| values(headers, &name).any(|value| value.eq_ignore_ascii_case(word));
    if !wants(header::CONNECTION, "upgrade") {
        return Err(refuse(&ApiError::bad_request("Upgrade request required")));
    }
    // Connections that have been handed over are none of the listener's any more.
    let permit = Arc::clone(&parts.forwards).try_acquire_owned();
    let busy = "Too many requests, please try again later.";
    let permit = permit.map_err(|_| refuse(&ApiError::too_many_requests(busy, 1)))?;
    if wants(header::UPGRADE, "websocket") {
        let (answer, ports) = websocket::handshake(headers, request.uri())?;
        upgrade(parts, request, permit, move |stream| websocket::run(stream, pod, ports));
        Ok(answer)
    } else if wants(header::UPGRADE, "SPDY/3.1") {
        let answer = spdy_handshake(headers)?;
        upgrade(parts, request, permit, move |stream| spdy::run(stream, pod));
        Ok(answer)
    } else {
        Err(text(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request"))
    }
}

/// The pod, which must be there and on a node.
fn find(parts: &Parts, namespace: &str, name: &str) -> Result<Pod, ApiError> {
    let target = Target {
        version: "v1".into(),
        plural: "pods".into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Target::default()
    };
    let object = parts.server.get(&target, false)?;
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/nodeName").is_empty() {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    Ok(Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: text("/metadata/uid").into(),
        ports: Arc::clone(&parts.ports),
    })
}

/// Goes on with the connection when it has been handed over, until the API server ends.
fn upgrade<F>(
    parts: &Parts,
    mut request: Request<Incoming>,
    permit: OwnedSemaphorePermit,
    run: impl FnOnce(Io) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let upgraded = hyper::upgrade::on(&mut request);
    let (drain, cut) = (parts.drain.clone(), parts.cut.clone());
    tokio::spawn(async move {
        let _permit = permit;
        let forward = async {
            match upgraded.await {
                Ok(stream) => run(TokioIo::new(stream)).await,
                Err(error) => tracing::debug!(%error, "Connection for a port-forward was not handed over."),
            }
        };
        tokio::select! {
            () = drain.cancelled() => {}
            () = cut.cancelled() => {}
            () = forward => {}
        }
    });
}

/// The values of a header that is a list.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

fn text(status: StatusCode, message: &str) -> Answer {
    plain(status, "text/plain; charset=utf-8", Bytes::from(message.to_owned()))
}

fn switching(protocol: &'static str) -> Answer {
    let mut answer = Response::new(Empty::new().boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
    answer
}

/// Agrees on a protocol (`streaming/pkg/httpstream`, `Handshake`).
fn spdy_handshake(headers: &HeaderMap) -> Result<Answer, Answer> {
    let offered: Vec<_> = values(headers, &STREAM_PROTOCOL).collect();
    if offered.is_empty() {
        let why = format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with {} headers",
            headers.len()
        );
        return Err(text(StatusCode::BAD_REQUEST, &why));
    }
    let protocol = HeaderValue::from_static(PROTOCOL);
    if !offered.contains(&PROTOCOL) {
        let why = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{PROTOCOL}]",
            offered.join(" ")
        );
        let mut answer = text(StatusCode::FORBIDDEN, &why);
        answer.headers_mut().insert(ACCEPTED_PROTOCOLS, protocol);
        return Err(answer);
    }
    let mut answer = switching("SPDY/3.1");
    answer.headers_mut().insert(STREAM_PROTOCOL, protocol);
    Ok(answer)
}
