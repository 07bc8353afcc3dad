//! The list and the watch that keep one cache current.
//!
//! kube's watcher is not used because of three ways in which it never recovers or never rests: a watch that starts at a
//! version the server has forgotten (410 as the answer, not as an event) is asked for again and again; a watch that ends
//! as soon as it began is opened again without a pause; and a list that never ends has no limit. It also hides bookmarks,
//! by which a cache knows how far it has come.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
    core::Status,
};
use tokio::time::{Instant, timeout};

use super::{Watched, guard::Guard};
use crate::{error::retry_after, random::Random};

/// Objects in one page of a list: the page is decoded as a whole, so it bounds the peak of memory.
const PAGE_SIZE: u32 = 50;
/// Limit of one page of a list, of the start of a watch, and of the silence within a streamed list.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the server shall keep a watch, in seconds.
const WATCH: u32 = 290;
/// Silence after which a watch is taken for dead: the server ends it before that.
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 10);
/// A watch that ends before this without a word was not really one.
const BRIEF: Duration = Duration::from_secs(1);
/// Shortest and longest pause after an interruption.
const PAUSE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(30));
/// Annotation of the bookmark that ends a streamed list.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// What a feed tells.
pub(super) enum News<K> {
    /// All objects, and the version of the whole.
    All(Vec<Guard<K>>, String),
    /// An object is new or changed.
    Changed(Guard<K>),
    /// An object is gone.
    Deleted(Guard<K>),
    /// Nothing else happened up to this version.
    Progress(String),
}

/// Why a feed pauses.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interruption {
    /// The watch ended, as watches do after some minutes.
    #[error("the watch ended")]
    Ended,
    /// The watch ended as soon as it began.
    #[error("the watch was dropped at once")]
    Dropped,
    /// Nothing came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The server refused, or the connection broke.
    #[error("{0}")]
    Failed(#[from] kube::Error),
    /// The server reported an error within the watch.
    #[error("{}: {}", .0.reason, .0.message)]
    Reported(Box<Status>),
}

type Events<K> = BoxStream<'static, kube::Result<WatchEvent<Guard<K>>>>;

/// Lists once, then watches from there; lists anew when it must.
pub(super) struct Feed<K> {
    api: Api<Guard<K>>,
    labels: Option<String>,
    /// Whether the server is asked to stream lists; until it refuses.
    streams: bool,
    /// Version up to which everything was told; `None` before a list.
    version: Option<String>,
    watch: Option<(Instant, Events<K>)>,
    pause: Duration,
}

impl<K: Watched> Feed<K> {
    pub(super) fn new(api: Api<Guard<K>>, labels: Option<String>) -> Self {
        Self { api, labels, streams: true, version: None, watch: None, pause: PAUSE.0 }
    }

    /// The next news. After an interruption ask again, after [`Feed::rest`].
    pub(super) async fn next(&mut self) -> Result<News<K>, Interruption> {
        let told = match self.version.clone() {
            None => self.list().await,
            Some(version) => self.watch_from(version).await,
        };
        if let Err(interruption) = &told {
            self.watch = None;
            if is_gone(interruption) {
                self.version = None;
            }
        }
        told
    }

    /// How long to rest after an interruption: longer each time, until a watch works.
    pub(super) fn rest(&mut self, interruption: &Interruption, random: &dyn Random) -> Duration {
        let asked = match interruption {
            Interruption::Ended => return Duration::ZERO,
            Interruption::Failed(kube::Error::Api(status)) | Interruption::Reported(status) => retry_after(status),
            _ => None,
        };
        let rest = random.jittered(self.pause).max(asked.unwrap_or_default());
        self.pause = (self.pause * 2).min(PAUSE.1);
        rest
    }

    async fn list(&mut self) -> Result<News<K>, Interruption> {
        let (objects, version) = if self.streams {
            match self.streamed().await {
                Err(interruption) if is_refusal(&interruption) => {
                    tracing::info!(kind = %K::kind(&()), "The API server does not stream lists; listing in pages instead.");
                    self.streams = false;
                    self.paged().await?
                }
                streamed => streamed?,
            }
        } else {
            self.paged().await?
        };
        self.version = Some(version.clone());
        Ok(News::All(objects, version))
    }

    /// A list as the beginning of a watch, which goes on afterwards.
    async fn streamed(&mut self) -> Result<(Vec<Guard<K>>, String), Interruption> {
        // No version asks for the newest state: a list from a server's cache may be older than what was seen before.
        let mut events = self.open("", true).await?;
        let mut objects = Vec::new();
        loop {
            match within(ANSWER, events.next()).await? {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => objects.push(object),
                Some(Ok(WatchEvent::Bookmark(mark))) if mark.metadata.annotations.contains_key(LIST_ENDS) => {
                    self.watch = Some((Instant::now(), events));
                    return Ok((objects, mark.metadata.resource_version));
                }
                Some(Ok(WatchEvent::Bookmark(_) | WatchEvent::Deleted(_))) => {}
                Some(Ok(WatchEvent::Error(status))) => return Err(Interruption::Reported(status)),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Interruption::Dropped),
            }
        }
    }

    async fn paged(&mut self) -> Result<(Vec<Guard<K>>, String), Interruption> {
        let mut parameters = ListParams::default().limit(PAGE_SIZE);
        parameters.label_selector.clone_from(&self.labels);
        let mut objects = Vec::new();
        loop {
            let page = within(ANSWER, self.api.list(&parameters)).await??;
            objects.extend(page.items);
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok((objects, page.metadata.resource_version.unwrap_or_default()));
            }
            parameters.continue_token = next;
        }
    }

    async fn watch_from(&mut self, version: String) -> Result<News<K>, Interruption> {
        let (since, mut events) = match self.watch.take() {
            Some(watch) => watch,
            None => (Instant::now(), self.open(&version, false).await?),
        };
        let news = match within(SILENCE, events.next()).await? {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.version = Some(object.resource_version().unwrap_or(version));
                News::Changed(object)
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                self.version = Some(object.resource_version().unwrap_or(version));
                News::Deleted(object)
            }
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                self.version = Some(mark.metadata.resource_version.clone());
                News::Progress(mark.metadata.resource_version)
            }
            Some(Ok(WatchEvent::Error(status))) => return Err(Interruption::Reported(status)),
            Some(Err(error)) => return Err(error.into()),
            None if since.elapsed() < BRIEF => return Err(Interruption::Dropped),
            None => return Err(Interruption::Ended),
        };
        self.watch = Some((since, events));
        self.pause = PAUSE.0;
        Ok(news)
    }

    async fn open(&mut self, version: &str, list: bool) -> Result<Events<K>, Interruption> {
        let parameters = WatchParams {
            label_selector: self.labels.clone(),
            timeout: Some(WATCH),
            send_initial_events: list,
            ..WatchParams::default()
        };
        Ok(within(ANSWER, self.api.watch(&parameters, version)).await??.boxed())
    }
}

async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, Interruption> {
    timeout(limit, work).await.map_err(|_| Interruption::Late(limit))
}

fn status(interruption: &Interruption) -> Option<&Status> {
    match interruption {
        Interruption::Failed(kube::Error::Api(status)) | Interruption::Reported(status) => Some(status),
        _ => None,
    }
}

fn is_gone(interruption: &Interruption) -> bool {
    status(interruption).is_some_and(|status| status.code == 410)
}

/// An API server without streaming lists answers 422 or 400.
fn is_refusal(interruption: &Interruption) -> bool {
    status(interruption).is_some_and(|status| matches!(status.code, 400 | 422))
}
