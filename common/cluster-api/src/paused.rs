//! Pausing (contract rules PA-1 and PA-2): while paused, nothing is done but to say so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    conditions::{Claim, Status, types},
    labels,
    v1beta2::Cluster,
};

/// Whether an object is paused: by its cluster, or by its own annotation.
pub fn is_paused(cluster: Option<&Cluster>, meta: &ObjectMeta) -> bool {
    cluster.is_some_and(|cluster| cluster.spec.paused == Some(true)) || has_annotation(meta)
}

/// The `Paused` condition of an object.
pub fn claim(cluster: Option<&Cluster>, meta: &ObjectMeta) -> Claim {
    let by_cluster = cluster.is_some_and(|cluster| cluster.spec.paused == Some(true));
    let mut causes = Vec::new();
    if by_cluster {
        causes.push("Cluster spec.paused is set to true".to_owned());
    }
    if has_annotation(meta) {
        causes.push(format!("it has the {} annotation", labels::PAUSED));
    }
    if causes.is_empty() {
        Claim::new(types::PAUSED, Status::False, "NotPaused", "")
    } else {
        Claim::new(types::PAUSED, Status::True, "Paused", causes.join(", "))
    }
}

fn has_annotation(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(labels::PAUSED))
}
