//! An API server whose answers the test gives, one by one, under a clock that stands still.
#![allow(dead_code)] // Each test file uses its part.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// The API server's side.
pub struct Stub {
    asked: mpsc::UnboundedReceiver<Asked>,
}

/// A request that waits for its answer.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
    answer: oneshot::Sender<Response<AnswerBody>>,
}

/// An open watch; it ends when this is dropped.
pub struct Watch(mpsc::UnboundedSender<Bytes>);

/// A client and the API server that answers it.
pub fn stub() -> (Client, Stub) {
    let (tell, asked) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<Body>| {
        let tell = tell.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let (answer, answered) = oneshot::channel();
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
                answer,
            };
            tell.send(asked).map_err(|_| tower::BoxError::from("the stub is gone"))?;
            answered.await.map_err(|_| tower::BoxError::from("the connection broke"))
        }
    });
    (Client::new(service, "default"), Stub { asked })
}

impl Stub {
    /// The next request; fails the test when none comes within ten minutes of its clock.
    pub async fn next(&mut self) -> Asked {
        let next = tokio::time::timeout(Duration::from_secs(600), self.asked.recv()).await;
        next.expect("a request comes").expect("the client lives")
    }

    /// Whether nothing is asked for this long.
    pub async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.asked.recv()).await.is_err()
    }
}

impl Asked {
    pub fn is_streamed_list(&self) -> bool {
        self.query.contains("sendInitialEvents=true")
    }

    /// Answers with an object.
    pub fn json(self, value: &Value) {
        self.status(200, value);
    }

    /// Answers with a code and an object.
    pub fn status(self, code: u16, value: &Value) {
        let text = Bytes::from(value.to_string());
        let body = http_body_util::Full::new(text).boxed_unsync();
        let answer = Response::builder().status(code).body(body).expect("a response");
        let _ = self.answer.send(answer);
    }

    /// Answers with an error as the API server words it.
    pub fn fail(self, code: u16, reason: &str, wait: u32) {
        let details = json!({"retryAfterSeconds": wait});
        self.status(
            code,
            &json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": reason, "details": details, "metadata": {},
            }),
        );
    }

    /// Answers with a watch.
    pub fn watch(self) -> Watch {
        let (tell, events) = mpsc::unbounded_channel::<Bytes>();
        let events = futures::stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) });
        let body = StreamBody::new(events.map(|bytes| Ok::<_, Infallible>(hyper::body::Frame::data(bytes))));
        let answer = Response::builder().status(200).body(body.boxed_unsync()).expect("a response");
        let _ = self.answer.send(answer);
        Watch(tell)
    }

    /// Answers a streamed list with these objects, and goes on as a watch.
    pub fn list(self, objects: &[Value], version: u64) -> Watch {
        assert!(self.is_streamed_list(), "{}", self.query);
        let watch = self.watch();
        for object in objects {
            watch.event("ADDED", object);
        }
        watch.event("BOOKMARK", &json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}},
        }));
        watch
    }
}

impl Watch {
    pub fn event(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.0.send(Bytes::from(line)).expect("the watch is read");
    }

    pub fn bookmark(&self, version: u64) {
        let metadata = json!({"resourceVersion": version.to_string()});
        self.event("BOOKMARK", &json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}));
    }

    pub fn gone(&self) {
        self.event(
            "ERROR",
            &json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
                "message": "too old resource version", "metadata": {},
            }),
        );
    }
}

/// A `ConfigMap` of namespace `ns`.
pub fn object(name: &str, version: u64) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": version.to_string(), "uid": format!("uid-{name}")},
    })
}
