//! All objects of a server, to be kept and served again: what a backup of etcd holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Options, Server, Sources};
use crate::{
    apply::managed::{Managers, Said},
    builtin, crd, object,
};

/// All objects at one resource version, each as it is stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Snapshot {
    /// The resource version of the last change.
    pub version: u64,
    /// The objects, by their resource versions.
    pub objects: Vec<Arc<Value>>,
}

fn version(object: &Value) -> u64 {
    object::meta(object, "resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl Server {
    /// All objects as they are now, with the owners of their fields.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        let of = |(id, _)| state.store.range(id, "", "").map(|(_, object)| Arc::new(object.whole()));
        let mut objects: Vec<Arc<Value>> = state.registry.iter().flat_map(of).collect();
        objects.sort_by_key(|object| version(object));
        Snapshot { version: state.store.version(), objects }
    }

    /// A server of the built-in kinds and those that the snapshot defines, with the snapshot's objects as they were. Its
    /// history begins there. Objects of kinds that nobody serves are left out.
    pub fn restored(sources: Arc<dyn Sources>, options: Options, snapshot: Snapshot) -> Self {
        let server = Self::empty(sources, options, builtin::registry());
        {
            let state = &mut *server.state.lock();
            for definition in snapshot.objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
                if let Some(defined) = crd::resource(definition, None) {
                    state.registry.install(defined);
                }
            }
            for object in snapshot.objects {
                let api_version = object["apiVersion"].as_str().unwrap_or_default();
                let group = api_version.split_once('/').map_or("", |(group, _)| group);
                let kind = object["kind"].as_str().unwrap_or_default();
                let Some(id) = state.registry.find_kind(group, kind) else { continue };
                let key = crate::storage::key(object::namespace(&object), object::name(&object));
                let version = version(&object);
                state.store.advance(version.saturating_sub(1));
                let mut fields = Arc::unwrap_or_clone(object);
                let managers = match Said::take(&mut fields) {
                    Said::Managers(managers) => managers,
                    Said::Nothing | Said::Reset => Managers::default(),
                };
                state.store.commit(&(id, key), Some((fields, Arc::new(managers))));
            }
            state.store.advance(snapshot.version);
        }
        server.compact();
        server
    }
}
