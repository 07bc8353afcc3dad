//! What lies between an instance of ours and whom it talks to: delays, losses, refusals, stale watches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use kube_model::transport::{AnswerBody, HttpServer};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, Service};

use crate::{
    chance::Chance,
    journal::Journal,
    plan::{CallFault, EventFault, Plan},
};

/// How long a client waits for an answer (`manager::client`).
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Shortest and longest way of a request or an answer.
const WAY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(12));
/// Shortest and longest way of an event.
const NEWS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(30));

/// What an event shows of a cluster that is paused.
pub(crate) const PAUSED: &[u8] = br#""paused":true"#;

/// The connection broke.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection was lost")]
pub struct Broken;

/// The network of one instance, as far as it concerns that one: shared by all its connections.
pub struct Link {
    /// Name of the instance.
    pub name: Arc<str>,
    /// The journal of its world.
    pub journal: Arc<Journal>,
    /// What goes wrong.
    pub plan: Arc<Plan>,
    chance: Chance,
    dead: AtomicBool,
    isolated: Mutex<Instant>,
    lagging: Mutex<Instant>,
    /// Since when the instance knows that the cluster is paused.
    knows_of_pause: Mutex<Option<Instant>>,
    /// Watches that were begun before this generation are over.
    generation: AtomicU64,
}

impl Link {
    /// The network of an instance of this name, which is alive.
    pub fn new(name: &str, journal: &Arc<Journal>, plan: &Arc<Plan>, chance: &Chance) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            name: name.into(),
            journal: Arc::clone(journal),
            plan: Arc::clone(plan),
            chance: chance.of(name),
            dead: AtomicBool::new(false),
            isolated: Mutex::new(now),
            lagging: Mutex::new(now),
            knows_of_pause: Mutex::default(),
            generation: AtomicU64::new(0),
        })
    }

    /// The instance is dead: nothing that it left behind reaches anybody any more.
    pub fn cut(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Whether the instance is dead.
    pub fn is_cut(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// The instance reaches nobody for this long, and its connections break.
    pub fn isolate(&self, time: Duration) {
        *self.isolated.lock() = Instant::now() + time;
        self.break_watches();
    }

    /// The instance hears of changes only after this time.
    pub fn lag(&self, time: Duration) {
        *self.lagging.lock() = Instant::now() + time;
    }

    /// Its watches end.
    pub fn break_watches(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The way there. An error says that it does not lead there; a dead instance waits for ever.
    pub async fn leave(&self, fault: Option<CallFault>, what: &str) -> Result<(), Broken> {
        if self.is_cut() {
            return std::future::pending().await;
        }
        sleep(self.chance.between(WAY.0, WAY.1)).await;
        if let Some(fault) = fault {
            self.journal.fault(&self.name, format!("{fault:?}: {what}"));
        }
        if *self.isolated.lock() > Instant::now() {
            sleep(PATIENCE).await;
            self.journal.note(&self.name, what, "no answer: cut off");
            return Err(Broken);
        }
        match fault {
            Some(CallFault::LoseRequest) => Err(Broken),
            Some(CallFault::Slow(time)) => {
                sleep(time.min(PATIENCE)).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The way back; as [`Link::leave`].
    pub async fn arrive(&self, fault: Option<CallFault>) -> Result<(), Broken> {
        sleep(self.chance.between(WAY.0, WAY.1)).await;
        if self.is_cut() {
            return std::future::pending().await;
        }
        if fault == Some(CallFault::LoseAnswer) || *self.isolated.lock() > Instant::now() {
            Err(Broken)
        } else {
            Ok(())
        }
    }

    /// Since when the instance knows that the cluster is paused.
    pub fn knows_of_pause(&self) -> Option<Instant> {
        *self.knows_of_pause.lock()
    }

    /// An event of Clusters has come.
    pub(crate) fn hear_of_cluster(&self, event: &[u8]) {
        let is_paused = event.windows(PAUSED.len()).any(|part| part == PAUSED);
        let knows = &mut *self.knows_of_pause.lock();
        *knows = if is_paused { knows.or_else(|| Some(Instant::now())) } else { None };
    }

    /// Waits until an event has come, `after` the one before; `false` when the connection is broken.
    async fn news(&self, generation: u64, after: &mut Instant, fault: Option<EventFault>) -> bool {
        let mut due = Instant::now() + self.chance.between(NEWS.0, NEWS.1);
        if let Some(EventFault::Late(time)) = fault {
            due += time;
        }
        let lagging = *self.lagging.lock();
        *after = due.max(lagging).max(*after);
        sleep_until(*after).await;
        generation == self.generation.load(Ordering::Relaxed) && !self.is_cut() && fault != Some(EventFault::Lost)
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The connection of an instance to an API server; a service that `kube::Client::new` takes.
#[derive(Clone)]
pub struct Wire {
    link: Arc<Link>,
    server: Far,
}

/// What is at the other end.
#[derive(Clone)]
pub struct Far {
    /// The API server.
    pub server: HttpServer,
    /// What calls to it are named after; empty for the management cluster.
    pub label: &'static str,
    /// Until when nobody answers there.
    pub silent: Arc<Mutex<Option<Instant>>>,
    /// Writes an object as somebody else: a call's path tells which.
    pub overtake: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Far {
    fn is_silent(&self) -> bool {
        self.silent.lock().is_some_and(|until| until > Instant::now())
    }
}

impl Wire {
    /// A connection.
    pub fn new(link: Arc<Link>, server: Far) -> Self {
        Self { link, server }
    }

    async fn carry(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let Self { link, server: mut far } = self;
        let what = described(&request, far.label);
        let is_write = request.method() != http::Method::GET;
        let is_watch =
            request.uri().query().is_some_and(|query| query.contains("watch=1") || query.contains("watch=true"));
        let fault = link.plan.next_call();
        let path = request.uri().path().to_owned();
        link.leave(fault, &what).await?;
        if far.is_silent() {
            sleep(PATIENCE).await;
            link.journal.note(&link.name, what, "no answer: silent");
            return Err(Broken.into());
        }
        match fault {
            Some(CallFault::Refuse(number)) => {
                let refusal = refusal(number);
                link.journal.note(&link.name, what, refusal.status().as_str());
                return Ok(refusal);
            }
            Some(CallFault::Late(time)) if is_write => {
                let late = async move {
                    sleep(time).await;
                    let answer = far.server.call(request).await;
                    noted(&link, &what, &answer);
                };
                tokio::spawn(late);
                sleep(PATIENCE).await;
                return Err(Broken.into());
            }
            Some(CallFault::Overtake) if is_write => (far.overtake)(&path),
            _ => {}
        }
        let generation = link.generation.load(Ordering::Relaxed);
        let answer = far.server.call(request).await;
        if is_write {
            noted(&link, &what, &answer);
        } else {
            let status = answer.as_ref().map_or_else(ToString::to_string, |answer| answer.status().as_str().to_owned());
            link.journal.note(&link.name, what.clone(), status);
        }
        link.arrive(fault).await?;
        let answer = answer?;
        Ok(if is_watch {
            delayed(link, generation, &what, answer)
        } else {
            answer.map(|body| body.map_err(Into::into).boxed_unsync())
        })
    }
}

/// Notes a write, and what came of it.
fn noted(link: &Link, what: &str, answer: &Result<Response<AnswerBody>, BoxError>) {
    let outcome = answer.as_ref().map_or_else(ToString::to_string, |answer| answer.status().as_str().to_owned());
    link.journal.note(&link.name, what, outcome);
    if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
        link.journal.changed();
        link.journal.check();
    }
}

/// A watch on its way to an instance.
struct Incoming {
    body: AnswerBody,
    /// When the event before came, or comes.
    after: Instant,
    /// An event that comes once more.
    again: Option<Bytes>,
}

/// The events of a watch, each on its way for a while: in their order, for that is what the API promises.
fn delayed(link: Arc<Link>, generation: u64, what: &str, answer: Response<AnswerBody>) -> Answer {
    let (begun, what): (_, Arc<str>) = (Instant::now(), what.into());
    answer.map(|body| {
        let incoming = Incoming { body, after: begun, again: None };
        let events = futures::stream::unfold(Some(incoming), move |incoming| {
            let (link, what) = (Arc::clone(&link), Arc::clone(&what));
            async move {
                let mut incoming = incoming?;
                if let Some(again) = incoming.again.take() {
                    return Some((Ok(Frame::data(again)), Some(incoming)));
                }
                // A watch knows no error of its own here: the model's body cannot fail.
                let Ok(frame) = incoming.body.frame().await?;
                let fault = link.plan.next_event();
                if let Some(fault) = fault {
                    link.journal.fault(&link.name, format!("{fault:?}: event of {what}"));
                }
                if !link.news(generation, &mut incoming.after, fault).await {
                    return Some((Err(BoxError::from(Broken)), None));
                }
                if let Some(event) = frame.data_ref().filter(|_| what.ends_with("watch clusters")) {
                    link.hear_of_cluster(event);
                }
                if fault == Some(EventFault::Twice) {
                    incoming.again = frame.data_ref().cloned();
                }
                Some((Ok(frame), Some(incoming)))
            }
        });
        StreamBody::new(events.boxed()).boxed_unsync()
    })
}

/// An answer of a server that is overloaded or broken, by number.
fn refusal(number: u8) -> Answer {
    let (code, reason, retry) = match number % 4 {
        0 => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", Some(1 + u32::from(number) % 5)),
        1 => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", None),
        2 => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", None),
        _ => (StatusCode::GATEWAY_TIMEOUT, "Timeout", None),
    };
    let mut status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": reason,
        "message": "refused on purpose",
    });
    if let Some(seconds) = retry {
        status["details"] = json!({"retryAfterSeconds": seconds});
    }
    let mut answer = Response::new(Full::from(status.to_string()).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = code;
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

/// A request as the journal names it: verb, plural, name, subresource.
fn described(request: &Request<Body>, label: &str) -> String {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let object = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => match rest {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest.join("/"),
            rest => rest.join("/"),
        },
        other => other.join("/"),
    };
    let content = request.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let verb = match request.method().as_str() {
        "GET" if query.contains("watch=") => "watch",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" if content.is_some_and(|kind| kind.starts_with("application/apply")) => "apply",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => other,
    };
    let place = if label.is_empty() { String::new() } else { format!("{label}: ") };
    format!("{place}{verb} {object}")
}

impl Service<Request<Body>> for Wire {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}
