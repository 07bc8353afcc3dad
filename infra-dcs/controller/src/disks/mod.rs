//! Persistent disks: volumes that belong to a pool entry (`ip`) and a slot of it, and outlive the VMs that use them.
//!
//! ```text
//!            claimed          volume seen whole        VM is made
//! (nothing) ────────► Creating ──────────► Available ──────────► Attaching ──► Attached
//!                                           ▲    │                                 │ machine goes,
//!                                           │    │ entry, pool or cluster goes,    │ VM stopped
//!                                           │    ▼ and nobody holds the entry      ▼
//!                                           │  Deleting ──► (nothing)          Detaching
//!                                           └──────────────────────────────────────┘
//! ```
//!
//! `Error` is entered from everywhere and left when its cause is gone: phases are worked out from what the site says.
//!
//! The pool controller keeps the records and makes the calls. The machine controller asks for transitions by its own
//! record ([`crate::machine::Wish`]), and asks [`standing`] what it may do: no VM is made before its disks are there,
//! started before they are in it, or deleted while they are. A disk is never attached while anything else may hold it,
//! and never deleted while its entry is held.

mod act;
pub mod decide;
mod observe;
mod outcome;
pub mod record;
mod sequence;
mod shown;
pub mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kube::ResourceExt;
use manager::ObjectKey;

pub use act::{Disks, EFFECTS};
pub use observe::{Sources, data_disks, declared};
pub use sequence::sequence;
pub use shown::Shown;

use crate::{
    api::{DCSCluster, DCSIpHostnamePool},
    claims,
};

/// Index of pools by the tasks at the site that their disks wait for.
pub const BY_TASK: &str = "task";

/// Index values of a pool: the tasks of its disks.
pub fn by_task(pool: &DCSIpHostnamePool) -> Vec<String> {
    let disks = record::of_pool(pool).unwrap_or_default();
    disks.into_values().filter_map(|record| record.task).map(|task| task.id).collect()
}

/// Pools that still hold volumes of a cluster, which go with it. What a retained VM uses stays on purpose.
pub fn left_of<'a>(pools: impl IntoIterator<Item = &'a DCSIpHostnamePool>, infra: &DCSCluster) -> BTreeSet<String> {
    let (name, namespace) = (infra.name_any(), infra.namespace());
    let holds = |pool: &&DCSIpHostnamePool| {
        let claims = claims::of_pool(pool);
        let retained = |ip: &str| claims.get(ip).is_some_and(|claim| claim.retained);
        let of_cluster = |(key, record): (&record::Key, &record::Record)| record.cluster == name && !retained(&key.ip);
        pool.namespace() == namespace && record::of_pool(pool).map_or(true, |disks| disks.iter().any(of_cluster))
    };
    pools.into_iter().filter(holds).map(ResourceExt::name_any).collect()
}

/// Pools whose disks depend on a cluster.
pub fn woken_by_infra<'a>(
    pools: impl IntoIterator<Item = &'a DCSIpHostnamePool>,
    infra: &DCSCluster,
) -> Vec<ObjectKey> {
    let (name, namespace) = (infra.name_any(), infra.namespace());
    let depends = |pool: &&DCSIpHostnamePool| {
        pool.namespace() == namespace
            && record::of_pool(pool).is_ok_and(|disks| disks.values().any(|record| record.cluster == name))
    };
    pools.into_iter().filter(depends).map(ObjectKey::of).collect()
}
