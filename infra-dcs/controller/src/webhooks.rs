//! Routes of the webhook server to the rules in [`crate::api::validation`].

use manager::{
    Webhooks,
    webhook::{FieldError, Operation, Request},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{DCSCluster, DCSIpHostnamePool, DCSMachine, DCSMachineTemplate, validation};

/// The webhooks of this provider.
pub fn routes() -> Webhooks {
    Webhooks::default()
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcscluster", |request| {
            let (old, new) = both::<DCSCluster>(request)?;
            unless_going(&request.object, || validation::cluster(old.as_ref(), &new))
        })
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcsmachine", |request| {
            let (old, new) = both::<DCSMachine>(request)?;
            unless_going(&request.object, || validation::machine(old.as_ref(), &new))
        })
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcsmachinetemplate", |request| {
            let (_, new) = both::<DCSMachineTemplate>(request)?;
            unless_going(&request.object, || validation::template(&new))
        })
        .validate("/validate-infrastructure-cluster-x-k8s-io-v1beta1-dcsiphostnamepool", |request| {
            if request.operation == Operation::Delete {
                return validation::pool_deletion(&read(&request.old)?);
            }
            let (old, new) = both::<DCSIpHostnamePool>(request)?;
            unless_going(&request.object, || validation::pool(old.as_ref(), &new))
        })
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
