//! Informers: an object cache of one kind, kept current by one watch, with indexes and subscribers.
//!
//! kube's reflector is not used because of three defects that matter here: only one waiter on its readiness wakes; after
//! a re-list a subscriber can see the object from before it; shared streams lose deletions. Here one task owns the
//! store; a change is in the store before any subscriber hears of it; a re-list is applied as a whole and reports what
//! changed and what vanished. Why kube's watcher is not used either is told in `feed.rs`.

mod feed;
mod guard;
mod store;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
    sync::Arc,
};

use kube::{
    Api, Client, Resource, ResourceExt,
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use feed::{Feed, Interruption, News};
use guard::Guard;
pub use store::Change;
use store::Store;

use crate::{ObjectKey, random::Random};

/// Annotation of client-side apply: a second copy of the object that nothing here reads.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind that can be watched: also one of which only the metadata is wanted (`PartialObjectMeta<K>`).
pub trait Watched:
    Resource<DynamicType = (), Scope: Reach> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope: Reach> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// Whether objects live in namespaces.
pub trait Reach: Sized {
    /// The objects of a kind in one namespace, or in all; cluster-wide kinds have only one place.
    fn api<K: Resource<DynamicType = (), Scope = Self>>(client: Client, namespace: Option<&str>) -> Api<K>;
}

impl Reach for NamespaceResourceScope {
    fn api<K: Resource<DynamicType = (), Scope = Self>>(client: Client, namespace: Option<&str>) -> Api<K> {
        match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}

impl Reach for ClusterResourceScope {
    fn api<K: Resource<DynamicType = (), Scope = Self>>(client: Client, _: Option<&str>) -> Api<K> {
        Api::all(client)
    }
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
    /// Objects that are not of their kind's shape, and why.
    invalid: RwLock<BTreeMap<ObjectKey, String>>,
}

impl<K: Watched> Default for Informer<K> {
    fn default() -> Self {
        let shared = Shared {
            store: RwLock::default(),
            subscribers: RwLock::default(),
            ready: watch::Sender::new(false),
            invalid: RwLock::default(),
        };
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

    /// Objects that could not be decoded, and why. The cache keeps what they were before, if anything.
    pub fn invalid(&self) -> BTreeMap<ObjectKey, String> {
        self.shared.invalid.read().clone()
    }

    /// Watches until `stop`: all namespaces, or one; objects that `labels` selects.
    pub async fn run(
        self,
        client: Client,
        namespace: Option<String>,
        labels: Option<String>,
        random: Arc<dyn Random>,
        stop: CancellationToken,
    ) {
        let mut feed = Feed::<K>::new(K::Scope::api(client, namespace.as_deref()), labels);
        let following = async {
            loop {
                match feed.next().await {
                    Ok(news) => self.take_in(news),
                    Err(interruption) => {
                        if !matches!(interruption, Interruption::Ended) {
                            tracing::warn!(kind = %K::kind(&()), error = %interruption, "Watch interrupted.");
                        }
                        tokio::time::sleep(feed.rest(&interruption, random.as_ref())).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = following => {}
        }
    }

    fn take_in(&self, news: News<K>) {
        match news {
            News::All(objects, version) => {
                self.shared.invalid.write().clear();
                let mut listed = HashMap::with_capacity(objects.len());
                for object in objects {
                    let key = ObjectKey::of(&object);
                    if let Some(object) = self.sound(&key, object).or_else(|| self.get(&key)) {
                        listed.insert(key, object);
                    }
                }
                let initial = !self.is_ready();
                let changes = self.shared.store.write().replace(listed, version_number(Some(&version)), initial);
                self.shared.ready.send_replace(true);
                self.notify(changes);
            }
            News::Changed(object) => {
                let (key, version) = (ObjectKey::of(&object), version_number(object.resource_version().as_deref()));
                let change = match self.sound(&key, object) {
                    Some(object) => self.shared.store.write().apply(object, false),
                    None => None,
                };
                self.shared.store.write().advance(version);
                self.notify(change);
            }
            News::Deleted(object) => {
                let (key, version) = (ObjectKey::of(&object), version_number(object.resource_version().as_deref()));
                self.shared.invalid.write().remove(&key);
                let change = {
                    let mut store = self.shared.store.write();
                    store.advance(version);
                    store.remove(&key)
                };
                self.notify(change);
            }
            News::Progress(version) => self.shared.store.write().advance(version_number(Some(&version))),
        }
    }

    /// The object, unless it is not of its kind's shape; that is noted.
    fn sound(&self, key: &ObjectKey, object: Guard<K>) -> Option<Arc<K>> {
        match object.0 {
            Ok(object) => {
                self.shared.invalid.write().remove(key);
                Some(Arc::new(stripped(object)))
            }
            Err(invalid) => {
                tracing::error!(kind = %K::kind(&()), object = %key, error = %invalid.reason, "An object cannot be decoded.");
                self.shared.invalid.write().insert(key.clone(), invalid.reason);
                None
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
    /// Version up to which the cache has seen everything of its kind.
    fn progress(&self) -> u64;
}

impl<K: Watched> View for Informer<K> {
    fn resource_version(&self, key: &ObjectKey) -> Option<u64> {
        self.get(key).map(|object| version_number(object.resource_version().as_deref()))
    }

    fn progress(&self) -> u64 {
        self.shared.store.read().progress()
    }
}

/// A resource version as a number: officially comparable since Kubernetes 1.35 (KEP-5504), and always so in etcd.
pub fn version_number(version: Option<&str>) -> u64 {
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Groups values by a key, for indexes.
fn group<T: Eq + Hash>(values: Vec<T>) -> HashSet<T> {
    values.into_iter().collect()
}
