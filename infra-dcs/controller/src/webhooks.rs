//! Routes of the webhook server to the rules in [`crate::api::validation`].

use manager::{
    Webhooks,
    webhook::{FieldError, Operation, Request},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    api::{
        DCSCluster, DCSClusterTemplate, DCSIpHostnamePool, DCSMachine, DCSMachineTemplate,
        validation::{self, neighbours},
    },
    machine::Caches,
};

/// Annotation of what the topology controller only tries, in dry runs.
const TOPOLOGY_DRY_RUN: &str = "topology.cluster.x-k8s.io/dry-run";

/// The webhooks of this provider. The caches tell of what lies beside an object.
pub fn routes(caches: &Caches) -> Webhooks {
    let (pools, clusters, others) = (caches.pools.clone(), caches.infras.clone(), caches.pools.clone());
    Webhooks::default()
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcscluster", move |request| {
            let (old, new) = both::<DCSCluster>(request)?;
            unless_going(&request.object, || {
                let pools = pools.all();
                let taken = neighbours::cluster_address(old.as_ref(), &new, pools.iter().map(AsRef::as_ref));
                beside(validation::cluster(old.as_ref(), &new), taken)
            })
        })
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcsclustertemplate", |request| {
            let (old, new) = both::<DCSClusterTemplate>(request)?;
            // The topology controller tries what it would never store.
            let is_tried = request.dry_run && request.has_annotation(TOPOLOGY_DRY_RUN);
            unless_going(&request.object, || validation::cluster_template(old.as_ref().filter(|_| !is_tried), &new))
        })
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcsmachine", |request| {
            let (old, new) = both::<DCSMachine>(request)?;
            unless_going(&request.object, || validation::machine(old.as_ref(), &new))
        })
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcsmachinetemplate", |request| {
            let (_, new) = both::<DCSMachineTemplate>(request)?;
            unless_going(&request.object, || validation::template(&new))
        })
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcsiphostnamepool", move |request| {
            if request.operation == Operation::Delete {
                return validation::pool_deletion(&read(&request.old)?);
            }
            let (old, new) = both::<DCSIpHostnamePool>(request)?;
            unless_going(&request.object, || {
                let (clusters, others) = (clusters.all(), others.all());
                let taken = neighbours::pool_addresses(old.as_ref(), &new, clusters.iter().map(AsRef::as_ref));
                let mut verdict = beside(validation::pool(old.as_ref(), &new), taken);
                if let Ok(warnings) = &mut verdict {
                    warnings.extend(neighbours::namesakes(&new, others.iter().map(AsRef::as_ref)));
                }
                verdict
            })
        })
}

/// A verdict on an object, and what lies beside it.
fn beside(verdict: validation::Verdict, found: Vec<FieldError>) -> validation::Verdict {
    match (verdict, found) {
        (Err(mut errors), found) => {
            errors.extend(found);
            Err(errors)
        }
        (Ok(warnings), found) if found.is_empty() => Ok(warnings),
        (Ok(_), found) => Err(found),
    }
}

/// An object in deletion only loses finalizers: rules that came later must not hold it back.
fn unless_going(object: &Value, judge: impl FnOnce() -> validation::Verdict) -> validation::Verdict {
    if object["metadata"].get("deletionTimestamp").is_some_and(|moment| !moment.is_null()) {
        return Ok(Vec::new());
    }
    judge()
}

fn both<K: DeserializeOwned>(request: &Request) -> Result<(Option<K>, K), Vec<FieldError>> {
    let old = if request.old.is_null() { None } else { read(&request.old).ok() };
    Ok((old, read(&request.object)?))
}

fn read<K: DeserializeOwned>(object: &Value) -> Result<K, Vec<FieldError>> {
    serde_json::from_value(object.clone()).map_err(|error| vec![FieldError::new("spec", error.to_string())])
}
