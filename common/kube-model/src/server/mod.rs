//! The server: verbs over the store, without a transport.

mod bind;
mod collect;
mod delete;
mod evict;
mod fields;
mod read;
mod scale;
mod snapshot;
mod write;

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

pub use self::{
    bind::BINDING,
    delete::{DeleteParams, Deleted, Propagation},
    fields::{FieldChecks, FieldValidation},
    read::{List, ListParams},
    scale::{Rescale, SCALE},
    snapshot::Snapshot,
    write::{Veto, WriteParams},
};
use crate::{
    apply::managed::Managers,
    builtin, certificates, crd,
    errors::ApiError,
    faults::{Faultless, Faults},
    object,
    registry::{Convert, Registry, Resource, ResourceId},
    storage::{Change, ObjectId, Store, key},
    stored::Stored,
    watch::Watches,
};

/// The subresource that deletes a pod on behalf of a drain.
pub const EVICTION: &str = "eviction";

/// What a request is about: the parts of its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// API group; empty for the core group.
    pub group: String,
    /// Version of the kind.
    pub version: String,
    /// Plural of the resource.
    pub plural: String,
    /// Namespace; empty for cluster-wide requests.
    pub namespace: String,
    /// Name of the object; empty for a collection.
    pub name: String,
    /// Subresource, or empty.
    pub subresource: String,
}

/// What is not decided by requests: time and chance. A deterministic one makes the whole server deterministic.
pub trait Sources: Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp;
    /// A UID that no object has had.
    fn uid(&self) -> String;
    /// The end of a generated name: five characters of `bcdfghjklmnpqrstvwxz2456789`.
    fn name_suffix(&self) -> String;
}

/// Sizes and habits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Changes of each resource that are remembered, for watches that resume and lists that go on.
    pub history: usize,
    /// Events that wait for a slow watcher before its watch is ended.
    pub watch_queue: usize,
    /// The text of an object is made once and kept: for servers that are asked much and hold little.
    pub keeps_text: bool,
    /// Garbage is collected and namespaces are emptied after each request, as if the controllers that do it were
    /// always quick; otherwise only by [`Server::collect_one`].
    pub collects_at_once: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { history: 1000, watch_queue: 1000, keeps_text: true, collects_at_once: true }
    }
}

/// A Kubernetes API server in memory.
pub struct Server {
    state: Mutex<State>,
    sources: Arc<dyn Sources>,
    faults: Arc<dyn Faults>,
    options: Options,
}

impl Server {
    /// A server of the built-in kinds, with the namespaces `default`, `kube-system`, `kube-public` and
    /// `kube-node-lease`.
    pub fn new(sources: Arc<dyn Sources>, options: Options) -> Self {
        Self::with_registry(sources, options, builtin::registry())
    }

    /// A server of the kinds that another one serves ([`Server::registry`]), with the same namespaces as any: where many are made, kinds
    /// need be read from their definitions only once.
    pub fn with_registry(sources: Arc<dyn Sources>, options: Options, registry: Registry) -> Self {
        let server = Self::empty(sources, options, registry);
        let target = Target { version: "v1".into(), plural: "namespaces".into(), ..Target::default() };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let namespace = serde_json::json!({"metadata": {"name": name}});
            // Nothing can refuse these: the store is empty and the names are valid.
            let _ = server.create(&target, namespace, &WriteParams::default());
        }
        server
    }

    fn empty(sources: Arc<dyn Sources>, options: Options, registry: Registry) -> Self {
        let state = State {
            registry,
            store: Store::new(options.history, options.keeps_text),
            watches: Watches::default(),
            garbage: VecDeque::new(),
            faults: Arc::new(Faultless),
        };
        Self { state: Mutex::new(state), sources, faults: Arc::new(Faultless), options }
    }

    /// The same server with faults.
    #[must_use]
    pub fn with_faults(mut self, faults: Arc<dyn Faults>) -> Self {
        self.state.get_mut().faults = Arc::clone(&faults);
        self.faults = faults;
        self
    }

    /// Where this server's faults come from; whoever carries requests to it asks.
    pub fn faults(&self) -> Arc<dyn Faults> {
        Arc::clone(&self.faults)
    }

    /// Serves another resource, or an installed one differently.
    pub fn install(&self, resource: Resource) {
        self.state.lock().registry.install(resource);
    }

    /// Serves the kind of a `CustomResourceDefinition` with a conversion between its versions.
    pub fn install_definition(&self, definition: &Value, convert: Convert) -> bool {
        let resource = crd::resource(&Arc::new(definition.clone()), Some(convert));
        let is_read = resource.is_some();
        if let Some(resource) = resource {
            self.install(resource);
        }
        is_read
    }

    /// What is served at present.
    pub fn registry(&self) -> Registry {
        self.state.lock().registry.clone()
    }

    /// The resource of a target, when it is served.
    #[cfg(feature = "transport")]
    pub(crate) fn resource(&self, target: &Target) -> Option<Arc<Resource>> {
        self.state.lock().registry.find(&target.group, &target.version, &target.plural).map(|(_, resource)| resource)
    }

    /// Whether anything of a group is served.
    #[cfg(feature = "transport")]
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.state.lock().registry.has_group(group)
    }

    /// The present time.
    #[cfg(feature = "transport")]
    pub(crate) fn now(&self) -> Timestamp {
        self.sources.now()
    }

    /// The resource version of the last change.
    pub fn version(&self) -> u64 {
        self.state.lock().store.version()
    }

    /// Forgets all history: watches and lists of older versions get 410.
    pub fn compact(&self) {
        let store = &mut self.state.lock().store;
        let version = store.version();
        store.compact(version);
    }

    /// Sends a bookmark to every watch that welcomes them; the real server does it about once a minute.
    pub fn send_bookmarks(&self) {
        let state = &mut *self.state.lock();
        let version = state.store.version();
        for (id, resource) in state.registry.iter() {
            state.watches.bookmark(id, resource, version);
        }
    }

    /// Ends every watch, as a restart does.
    pub fn close_watches(&self) {
        self.state.lock().watches.close();
    }

    /// One step of the garbage collector or the namespace controller; false when there was none to do.
    pub fn collect_one(&self) -> bool {
        let context = self.clock();
        self.state.lock().collect_one(&context)
    }

    fn clock(&self) -> Clock {
        Clock { now: self.sources.now() }
    }

    /// Runs a change under the lock and then collects garbage, where the server does that at once.
    fn change<T>(&self, run: impl FnOnce(&mut State, &Clock) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let clock = self.clock();
        let mut state = self.state.lock();
        let outcome = run(&mut state, &clock);
        while self.options.collects_at_once && state.collect_one(&clock) {}
        outcome
    }
}

/// The time of one request.
struct Clock {
    now: Timestamp,
}

impl Clock {
    /// As metadata records times: whole seconds.
    fn text(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn text_after(&self, seconds: i64) -> String {
        let then = self.now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(self.now);
        Self { now: then }.text()
    }
}

/// Everything that changes, under one lock.
struct State {
    registry: Registry,
    store: Store,
    watches: Watches,
    /// Objects that the garbage collector or the namespace controller has to look at.
    garbage: VecDeque<ObjectId>,
    faults: Arc<dyn Faults>,
}

/// A target, looked up.
struct Found {
    id: ResourceId,
    resource: Arc<Resource>,
}

impl State {
    fn find(&self, target: &Target) -> Result<Found, ApiError> {
        let found = self.registry.find(&target.group, &target.version, &target.plural);
        let (id, resource) = found.ok_or_else(ApiError::no_such_path)?;
        if resource.behaviour.is_asked {
            return Err(ApiError::method_not_allowed());
        }
        let has_namespace = !target.namespace.is_empty();
        let is_known = match target.subresource.as_str() {
            "" => true,
            "status" => resource.behaviour.has_status,
            certificates::APPROVAL => resource.behaviour.has_approval,
            EVICTION | BINDING => resource.group.is_empty() && resource.plural == "pods",
            SCALE => resource.behaviour.has_scale,
            _ => false,
        };
        // A single object and any write need the namespace; lists and watches may go over all.
        let fits = if resource.is_namespaced { has_namespace || target.name.is_empty() } else { !has_namespace };
        if is_known && fits { Ok(Found { id, resource }) } else { Err(ApiError::no_such_path()) }
    }

    /// Makes a change: stores it, tells the watchers, and notes what has to be collected.
    fn commit(&mut self, id: &ObjectId, object: Option<(Value, Arc<Managers>)>) -> Arc<Change> {
        let change = self.store.commit(id, object);
        if let Some(resource) = self.registry.get(id.0).cloned() {
            self.watches.publish(id.0, &resource, &change, self.faults.as_ref());
            if resource.group == builtin::API_EXTENSIONS
                && let Some(definition) = &change.new
            {
                self.define(definition.fields());
            }
        }
        self.note_garbage(id, &change);
        change
    }

    /// Serves a defined kind; a conversion that was given for it stays.
    fn define(&mut self, definition: &Arc<Value>) {
        let text = |path: &str| definition.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let known = self.registry.known(text("/spec/group"), text("/spec/names/plural"));
        // Reading a definition takes long, and a status changes nothing.
        let is_read = |known: &Arc<Value>| known.get("spec") == definition.get("spec");
        if known.and_then(|known| known.definition.as_ref()).is_some_and(is_read) {
            return;
        }
        let convert = known.and_then(|known| known.convert.clone());
        if let Some(defined) = crd::resource(definition, convert) {
            self.registry.install(defined);
        }
    }

    fn namespace(&self, name: &str) -> Option<&Arc<Stored>> {
        let id = self.registry.find_kind("", "Namespace")?;
        self.store.get(&(id, key("", name)))
    }

    /// Refuses new objects in namespaces that are missing or being deleted.
    fn check_namespace(&self, resource: &Resource, name: &str, namespace: &str) -> Result<(), ApiError> {
        if !resource.is_namespaced {
            return Ok(());
        }
        let namespaces = crate::errors::Qualified { group: "", resource: "namespaces" };
        match self.namespace(namespace) {
            None => Err(ApiError::not_found(namespaces, namespace)),
            Some(object) if object::is_deleting(object) => {
                let why =
                    format!("unable to create new content in namespace {namespace} because it is being terminated");
                Err(ApiError::forbidden(resource.qualified(), name, &why).with_cause(
                    "NamespaceTerminating",
                    &format!("namespace {namespace} is being terminated"),
                    "metadata.namespace",
                ))
            }
            Some(_) => Ok(()),
        }
    }
}
