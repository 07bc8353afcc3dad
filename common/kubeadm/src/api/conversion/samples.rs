//! What tests of conversions share: values for fields that a schema does not describe, and forms in which documents
//! that mean the same are the same.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{go_duration, object, prune};

/// Fields of v1beta1 that hold a Go duration.
const DURATIONS: [&str; 8] = [
    "ttl",
    "timeout",
    "timeoutForControlPlane",
    "nodeDrainTimeout",
    "nodeVolumeDetachTimeout",
    "nodeDeletionTimeout",
    "retryPeriod",
    "minHealthyPeriod",
];
/// Fields of v1beta1 whose `false` says as much as their absence.
const UNSAID: [&str; 8] = [
    "append",
    "readOnly",
    "unsafeSkipCAVerification",
    "insecureSkipTLSVerify",
    "provideClusterInfo",
    "strict",
    "ready",
    "initialized",
];

/// Values of fields that a schema calls a text and nothing more.
pub fn known(name: &str) -> Option<BoxedStrategy<Value>> {
    let durations = || (0_u64..100_000).prop_map(|seconds| Value::String(go_duration(seconds))).boxed();
    match name {
        // The schema of v1beta1 alone takes an etcd without endpoints.
        "endpoints" => {
            Some(prop::collection::vec("[a-z]{1,8}".prop_map(Value::from), 1..3).prop_map(Value::from).boxed())
        }
        _ => DURATIONS.contains(&name).then(durations),
    }
}

/// A v1beta2 document in the form that survives v1beta1: flags ordered and once each, files and volumes once each, no
/// empty structures, partitions that the rules in CEL allow.
pub fn settled(mut document: Value) -> Value {
    walk(&mut document, &mut |fields| {
        for (list, key) in [("extraArgs", "name"), ("kubeletExtraArgs", "name")] {
            distinct(fields, list, key);
            if let Some(Value::Array(args)) = fields.get_mut(list) {
                args.sort_by_key(|arg| arg[key].as_str().map(str::to_owned));
            }
        }
        distinct(fields, "files", "path");
        distinct(fields, "extraVolumes", "hostPath");
        for partition in fields.get_mut("partitions").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(partition) = partition.as_object_mut() {
                if partition.contains_key("diskLayout") {
                    partition.remove("layout");
                } else {
                    partition.entry("layout").or_insert(json!(true));
                }
            }
        }
    });
    prune(&mut document);
    document
}

/// A v1beta1 document in the form that survives v1beta2: without what v1beta2 took away, and without what only repeats
/// that nothing is said.
pub fn settled_old(mut document: Value) -> Value {
    walk(&mut document, &mut |fields| {
        fields.remove("useExperimentalRetryJoin");
        for section in ["clusterConfiguration", "initConfiguration", "joinConfiguration"] {
            for gone in ["apiVersion", "kind", "networking", "kubernetesVersion", "clusterName"] {
                object(fields, section).and_then(|section| section.remove(gone));
            }
        }
        fields.retain(|name, value| !UNSAID.contains(&name.as_str()) || *value != json!(false));
        distinct(fields, "files", "path");
        distinct(fields, "extraVolumes", "hostPath");
        // Upstream keeps an empty list of variables, which the schema of v1beta2 would refuse from a client.
        fields.retain(|name, value| name != "extraEnvs" || *value != json!([]));
        if fields.get("retryPeriod") == Some(&json!("0s")) {
            fields.remove("retryPeriod");
        }
    });
    prune(&mut document);
    document
}

fn distinct(fields: &mut Map<String, Value>, list: &str, key: &str) {
    if let Some(Value::Array(items)) = fields.get_mut(list) {
        let mut seen = Vec::new();
        items.retain(|item| {
            let is_new = !seen.contains(&item[key]);
            seen.push(item[key].clone());
            is_new
        });
    }
}

fn walk(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            change(fields);
            fields.values_mut().for_each(|field| walk(field, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, change)),
        _ => {}
    }
}
