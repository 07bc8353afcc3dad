//! Clusters over a restart of the simulator: their objects, etcd's members, and which machines hold the data. Nothing
//! runs in a cluster that was restored until its machines come back from their disks, and nothing is served until a quorum
//! of its members does.

use std::sync::Arc;

use kube_model::{Server, Snapshot};
use serde::{Deserialize, Serialize};

use super::{Around, Cluster, SiteSources, etcd::SavedHolder};
use crate::guest::memory::{api_server::MODEL_OPTIONS, etcd::Model};

/// A cluster as it is kept.
#[derive(Deserialize, Serialize)]
pub struct SavedCluster {
    id: String,
    authority: String,
    etcd_authority: String,
    members: Model,
    holders: Vec<SavedHolder>,
    objects: Snapshot,
}

impl Cluster {
    /// What has to be kept of it.
    pub fn saved(&self) -> SavedCluster {
        SavedCluster {
            id: self.id.clone(),
            authority: self.authority.clone(),
            etcd_authority: self.etcd.authority().to_owned(),
            members: self.etcd.members.model(),
            holders: self.etcd.saved_holders(),
            // Objects come last: members know no less of the cluster than its objects do.
            objects: self.server.snapshot(),
        }
    }

    /// A cluster as it was kept, after a loss of power.
    pub fn restored(saved: SavedCluster, around: Around) -> Arc<Self> {
        let sources = Arc::new(SiteSources(Arc::clone(&around.clock)));
        let server = Server::restored(sources, MODEL_OPTIONS, saved.objects);
        let etcd = (saved.etcd_authority.as_str(), saved.members.without_power());
        let cluster = Self::of(saved.id, saved.authority, etcd, server, around);
        cluster.etcd.restore_holders(saved.holders);
        cluster
    }
}
