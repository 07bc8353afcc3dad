//! Keeps the census by watching Clusters and Machines, as a user's tools would.

use std::{collections::BTreeSet, sync::Arc};

use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use super::census::{Census, Kind};
use crate::tree;

/// A census that is kept up to date until this is dropped.
pub struct Watch {
    census: Arc<Mutex<Census>>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Begins to watch a namespace.
    pub fn start(client: &Client, namespace: &str) -> Self {
        let census = Arc::new(Mutex::new(Census::default()));
        let mut tasks = JoinSet::new();
        for (kind, name) in [(Kind::Cluster, "Cluster"), (Kind::Machine, "Machine")] {
            let api = tree::api(client, namespace, ("cluster.x-k8s.io", "v1beta2", name));
            tasks.spawn(keep(api, kind, Arc::clone(&census)));
        }
        Self { census, _tasks: tasks }
    }

    /// The census as it is now.
    pub fn census(&self) -> MutexGuard<'_, Census> {
        self.census.lock()
    }
}

async fn keep(api: Api<DynamicObject>, kind: Kind, census: Arc<Mutex<Census>>) {
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => census.lock().see(kind, &object),
            Ok(watcher::Event::Delete(object)) => census.lock().lose(kind, &object.name_any()),
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(object.name_any());
                census.lock().see(kind, &object);
            }
            Ok(watcher::Event::InitDone) => census.lock().keep(kind, &listed),
            // A busy API server may end a watch; the watcher begins another.
            Err(_) => {}
        }
    }
}
