//! Informers: an object cache of one kind, kept current by one watch, with indexes and subscribers.
//!
//! kube's reflector is not used because of three defects that matter here: only one waiter on its readiness wakes; after
//! a re-list a subscriber can see the object from before it; shared streams lose deletions. Here one task owns the
//! store; a change is in the store before any subscriber hears of it; a re-list is applied as a whole and reports what
//! changed and what vanished.

mod store;

use std::{collections::HashMap, fmt::Debug, hash::Hash, sync::Arc};

use futures::StreamExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, InitialListStrategy},
    },
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use store::Change;
use store::Store;

use crate::ObjectKey;

/// Objects in one page of a list: the page is decoded as a whole, so it bounds the peak of memory.
const PAGE_SIZE: u32 = 50;
/// Annotation of client-side apply: a second copy of the object that nothing here reads.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind that can be watched.
pub trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

type Subscriber<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Handle on the cache of one kind; cheap to clone.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<K> {
    store: RwLock<Store<K>>,
    subscribers: RwLock<Vec<Subscriber<K>>>,
    ready: watch::Sender<bool>,
}

impl<K: Watched> Default for Informer<K> {
    fn default() -> Self {
        let shared =
            Shared { store: RwLock::default(), subscribers: RwLock::default(), ready: watch::Sender::new(false) };
        Self { shared: Arc::new(shared) }
    }
}

impl<K: Watched> Informer<K> {
    /// Adds an index: for each object the values under which [`Informer::by_index`] finds it. Call before it runs.
    #[must_use]
    pub fn index(self, name: &'static str, values: fn(&K) -> Vec<String>) -> Self {
        self.shared.store.write().add_index(name, values);
        self
    }

    /// Calls `subscriber` after each change, in order, from the informer's task: it must be quick.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.shared.subscribers.write().push(Box::new(subscriber));
    }

    /// An object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.store.read().get(key)
    }

    /// Objects with this value in an index, in the order of their keys.
    pub fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        self.shared.store.read().by_index(index, value)
    }

    /// All objects, in the order of their keys.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.shared.store.read().all()
    }

    /// Whether the first list is complete.
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// Waits until the first list is complete.
    pub async fn ready(&self) {
        // The sender lives as long as this handle.
        let _ = self.shared.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Watches until `stop`: all namespaces, or one; objects that `labels` selects.
    pub async fn run(self, client: Client, namespace: Option<String>, labels: Option<String>, stop: CancellationToken) {
        let api: Api<K> = match &namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let mut strategy = InitialListStrategy::StreamingList;
        while !stop.is_cancelled() {
            let mut config = watcher::Config::default();
            config.label_selector.clone_from(&labels);
            config.page_size = if strategy == InitialListStrategy::ListWatch { Some(PAGE_SIZE) } else { None };
            config.initial_list_strategy = strategy.clone();
            let events = watcher::watcher(api.clone(), config).default_backoff();
            let streaming = strategy == InitialListStrategy::StreamingList;
            if self.follow(events.boxed(), streaming, &stop).await == Ended::StreamingRefused {
                tracing::info!(kind = %K::kind(&()), "The API server does not stream lists; listing in pages instead.");
                strategy = InitialListStrategy::ListWatch;
            }
        }
    }

    async fn follow<S>(&self, mut events: S, streaming: bool, stop: &CancellationToken) -> Ended
    where
        S: futures::Stream<Item = Result<Event<K>, watcher::Error>> + Unpin,
    {
        let mut listed: Option<HashMap<ObjectKey, Arc<K>>> = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = stop.cancelled() => return Ended::Stopped,
            };
            match event {
                None => return Ended::Stopped,
                Some(Ok(Event::Init)) => listed = Some(HashMap::new()),
                Some(Ok(Event::InitApply(object))) => {
                    let object = stripped(object);
                    if let Some(listed) = &mut listed {
                        listed.insert(ObjectKey::of(&object), Arc::new(object));
                    }
                }
                Some(Ok(Event::InitDone)) => {
                    let changes = self.shared.store.write().replace(listed.take().unwrap_or_default());
                    self.shared.ready.send_replace(true);
                    self.notify(changes);
                }
                Some(Ok(Event::Apply(object))) => {
                    let change = self.shared.store.write().apply(Arc::new(stripped(object)));
                    self.notify(change);
                }
                Some(Ok(Event::Delete(object))) => {
                    let change = self.shared.store.write().remove(&ObjectKey::of(&object));
                    self.notify(change);
                }
                Some(Err(error)) if streaming && is_refusal(&error) => return Ended::StreamingRefused,
                Some(Err(error)) => tracing::warn!(kind = %K::kind(&()), %error, "Watch interrupted."),
            }
        }
    }

    fn notify(&self, changes: impl IntoIterator<Item = Change<K>>) {
        let subscribers = self.shared.subscribers.read();
        for change in changes {
            for subscriber in subscribers.iter() {
                subscriber(&change);
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Stopped,
    StreamingRefused,
}

/// An API server without streaming lists answers 422 or 400, and the watcher would ask for ever.
fn is_refusal(error: &watcher::Error) -> bool {
    let cause = match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) | watcher::Error::WatchError(status) => status,
        _ => return false,
    };
    matches!(cause.code, 400 | 422)
}

/// Without what costs memory and is never read: managed fields decode to many times their size.
fn stripped<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(LAST_APPLIED);
    }
    object
}

/// What a controller's read-your-writes check asks of a cache.
pub trait View: Send + Sync {
    /// Resource version of an object in the cache; `None` where it is not there.
    fn resource_version(&self, key: &ObjectKey) -> Option<u64>;
}

impl<K: Watched> View for Informer<K> {
    fn resource_version(&self, key: &ObjectKey) -> Option<u64> {
        self.get(key).map(|object| version_number(object.resource_version().as_deref()))
    }
}

/// A resource version as a number: officially comparable since Kubernetes 1.35 (KEP-5504), and always so in etcd.
pub fn version_number(version: Option<&str>) -> u64 {
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Groups values by a key, for indexes.
fn group<T: Eq + Hash>(values: Vec<T>) -> std::collections::HashSet<T> {
    values.into_iter().collect()
}
