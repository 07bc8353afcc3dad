//! Watches: events are rendered once for all who see an object alike, and queued for each.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    errors::ApiError,
    faults::{Call, Delivery, Faults},
    object,
    registry::{Resource, ResourceId},
    selectors::Selector,
    storage::Change,
    stored::Stored,
};

/// Marks the bookmark after the last initial event of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How a client wants to see objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Version of the kind.
    pub version: String,
    /// Only the metadata, as `PartialObjectMetadata`.
    pub is_metadata_only: bool,
}

impl View {
    /// An object as this view shows it.
    pub fn show(&self, resource: &Resource, object: &Arc<Stored>) -> Result<Arc<Stored>, ApiError> {
        if self.is_metadata_only {
            return Ok(Arc::new(object.with_fields(object::metadata_only(object))));
        }
        Ok(match resource.to_version(object, &self.version)? {
            std::borrow::Cow::Borrowed(_) => Arc::clone(object),
            std::borrow::Cow::Owned(converted) => Arc::new(object.with_fields(converted)),
        })
    }
}

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The object is there, or is selected now.
    Added,
    /// The object has changed.
    Modified,
    /// The object is gone, or not selected any more.
    Deleted,
}

impl EventKind {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// What a change is to one who selects objects; none when it is nothing.
pub fn classify(selector: &Selector, change: &Change) -> Option<(EventKind, Arc<Stored>)> {
    let selected = |object: &Option<Arc<Stored>>| object.clone().filter(|object| selector.matches(object));
    match (selected(&change.old), selected(&change.new)) {
        (None, None) => None,
        (None, Some(new)) => Some((EventKind::Added, new)),
        (Some(_), Some(new)) => Some((EventKind::Modified, new)),
        (Some(old), None) => Some((EventKind::Deleted, Arc::new(at_version(&old, change.version)))),
    }
}

/// An object as it was when it went, which is under the version of its end.
pub fn at_version(object: &Stored, version: u64) -> Stored {
    let mut fields = object.fields().as_ref().clone();
    object::set_meta(&mut fields, "resourceVersion", json!(version.to_string()));
    object.with_fields(fields)
}

fn line(kind: &str, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut line = Vec::new();
    line.extend_from_slice(br#"{"type":""#);
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(br#"","object":"#);
    write(&mut line);
    line.extend_from_slice(b"}\n");
    line.into()
}

fn document_line(kind: &str, document: &Value) -> Bytes {
    line(kind, |line| line.extend_from_slice(document.to_string().as_bytes()))
}

/// The event that ends a watch with an error.
pub fn error_line(error: &ApiError) -> Bytes {
    document_line("ERROR", &json!(error.0))
}

/// An event as the line that a client reads.
fn event_line(resource: &Resource, view: &View, kind: EventKind, object: &Arc<Stored>) -> Bytes {
    match view.show(resource, object) {
        Ok(shown) => line(kind.name(), |line| shown.write(line)),
        Err(error) => error_line(&error),
    }
}

fn bookmark_line(resource: &Resource, view: &View, version: u64, ends_initial_events: bool) -> Bytes {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if ends_initial_events {
        metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
    }
    let (api_version, kind) = if view.is_metadata_only {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata")
    } else {
        (resource.api_version(&view.version), resource.kind.as_str())
    };
    document_line("BOOKMARK", &json!({"apiVersion": api_version, "kind": kind, "metadata": metadata}))
}

struct Watcher {
    call: Call,
    selector: Selector,
    view: View,
    /// Events up to this version are known to the client.
    after: u64,
    wants_bookmarks: bool,
    sender: mpsc::Sender<Bytes>,
    /// An event that a fault holds back.
    late: Option<Bytes>,
}

impl Watcher {
    /// Queues a line; false ends the watch: its client is gone or too slow.
    fn queue(&self, line: Bytes) -> bool {
        self.sender.try_send(line).is_ok()
    }

    fn deliver(&mut self, line: Bytes, faults: &dyn Faults) -> bool {
        let late = self.late.take();
        let alive = match faults.deliver(&self.call) {
            Delivery::Once => self.queue(line),
            Delivery::Twice => self.queue(line.clone()) && self.queue(line),
            Delivery::Lost => true,
            Delivery::Late => {
                self.late = Some(line);
                true
            }
            Delivery::Cut => false,
        };
        alive && late.is_none_or(|late| self.queue(late))
    }
}

/// The watchers of one resource: those of one namespace are looked up by it.
#[derive(Default)]
struct Channels {
    all: Vec<Watcher>,
    by_namespace: HashMap<String, Vec<Watcher>>,
}

impl Channels {
    fn every(&mut self) -> impl Iterator<Item = &mut Vec<Watcher>> {
        std::iter::once(&mut self.all).chain(self.by_namespace.values_mut())
    }
}

/// Everybody who watches.
#[derive(Default)]
pub struct Watches {
    channels: HashMap<ResourceId, Channels>,
}

/// What a new watch is about.
pub struct Subscription {
    /// The request.
    pub call: Call,
    /// Which objects.
    pub selector: Selector,
    /// How they are shown.
    pub view: View,
    /// Events up to this version are not sent.
    pub after: u64,
    /// Bookmarks are welcome.
    pub wants_bookmarks: bool,
    /// A bookmark marks the end of the initial events, at this version.
    pub marks_initial_end: Option<u64>,
    /// Events that are sent first.
    pub initial: VecDeque<(EventKind, Arc<Stored>)>,
}

impl Watches {
    /// Starts a watch with a queue of so many events.
    pub fn subscribe(
        &mut self,
        id: ResourceId,
        resource: &Arc<Resource>,
        subscription: Subscription,
        capacity: usize,
    ) -> WatchStream {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let Subscription { call, selector, view, after, wants_bookmarks, marks_initial_end, initial } = subscription;
        let channels = self.channels.entry(id).or_default();
        for watchers in channels.every() {
            watchers.retain(|watcher| !watcher.sender.is_closed());
        }
        let namespace = call.target.namespace.clone();
        let watcher = Watcher { call, selector, view: view.clone(), after, wants_bookmarks, sender, late: None };
        if namespace.is_empty() {
            channels.all.push(watcher);
        } else {
            channels.by_namespace.entry(namespace).or_default().push(watcher);
        }
        let end = marks_initial_end.map(|version| bookmark_line(resource, &view, version, true));
        WatchStream { resource: Arc::clone(resource), view, initial, end, receiver }
    }

    /// Sends a change to everybody whom it concerns.
    pub fn publish(&mut self, id: ResourceId, resource: &Resource, change: &Change, faults: &dyn Faults) {
        let Some(channels) = self.channels.get_mut(&id) else { return };
        let namespace = change.key.split_once('/').map(|(namespace, _)| namespace);
        let mut rendered: Vec<(View, EventKind, Bytes)> = Vec::new();
        let mut publish = |watchers: &mut Vec<Watcher>| {
            watchers.retain_mut(|watcher| {
                if change.version <= watcher.after {
                    return true;
                }
                let Some((kind, object)) = classify(&watcher.selector, change) else { return true };
                let known = rendered.iter().find(|(view, known, _)| *view == watcher.view && *known == kind);
                let line = if let Some((.., line)) = known {
                    line.clone()
                } else {
                    let line = event_line(resource, &watcher.view, kind, &object);
                    rendered.push((watcher.view.clone(), kind, line.clone()));
                    line
                };
                watcher.deliver(line, faults)
            });
        };
        publish(&mut channels.all);
        if let Some(watchers) = namespace.and_then(|namespace| channels.by_namespace.get_mut(namespace)) {
            publish(watchers);
        }
    }

    /// Sends a bookmark to everybody who wants them.
    pub fn bookmark(&mut self, id: ResourceId, resource: &Resource, version: u64) {
        for watchers in self.channels.get_mut(&id).into_iter().flat_map(Channels::every) {
            watchers.retain(|watcher| {
                !watcher.wants_bookmarks || watcher.queue(bookmark_line(resource, &watcher.view, version, false))
            });
        }
    }

    /// Ends every watch.
    pub fn close(&mut self) {
        self.channels.clear();
    }
}

/// The lines of one watch. It ends when the server ends it, or when it was read too slowly.
pub struct WatchStream {
    resource: Arc<Resource>,
    view: View,
    initial: VecDeque<(EventKind, Arc<Stored>)>,
    end: Option<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
}

impl Stream for WatchStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some((kind, object)) = self.initial.pop_front() {
            return Poll::Ready(Some(event_line(&self.resource, &self.view, kind, &object)));
        }
        match self.end.take() {
            Some(end) => Poll::Ready(Some(end)),
            None => self.receiver.poll_recv(context),
        }
    }
}
