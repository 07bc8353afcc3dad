//! What an update may not do.

use cluster_api::version::Version;
use kubeadm::api::{defaulting::previous_defaults, validation::Violation};
use serde_json::{Value, json};

use super::{add, dns_version};
use crate::controlplane::names::SKIP_CORE_DNS;

/// Places that may change. A trailing `*` stands for everything below.
const MUTABLE: &[&str] = &[
    "metadata.*",
    "spec.replicas",
    "spec.version",
    "spec.rollout*",
    "spec.remediation*",
    "spec.machineNaming*",
    "spec.machineTemplate.metadata*",
    "spec.machineTemplate.spec*",
    "spec.kubeadmConfigSpec.clusterConfiguration.etcd*",
    "spec.kubeadmConfigSpec.clusterConfiguration.dns*",
    "spec.kubeadmConfigSpec.clusterConfiguration.imageRepository",
    "spec.kubeadmConfigSpec.clusterConfiguration.featureGates*",
    "spec.kubeadmConfigSpec.clusterConfiguration.apiServer*",
    "spec.kubeadmConfigSpec.clusterConfiguration.controllerManager*",
    "spec.kubeadmConfigSpec.clusterConfiguration.scheduler*",
    "spec.kubeadmConfigSpec.clusterConfiguration.certificateValidityPeriodDays",
    "spec.kubeadmConfigSpec.clusterConfiguration.encryptionAlgorithm",
    "spec.kubeadmConfigSpec.initConfiguration.*",
    "spec.kubeadmConfigSpec.joinConfiguration.*",
    "spec.kubeadmConfigSpec.bootCommands",
    "spec.kubeadmConfigSpec.preKubeadmCommands",
    "spec.kubeadmConfigSpec.postKubeadmCommands",
    "spec.kubeadmConfigSpec.files",
    "spec.kubeadmConfigSpec.users",
    "spec.kubeadmConfigSpec.ntp*",
    "spec.kubeadmConfigSpec.ignition*",
    "spec.kubeadmConfigSpec.diskSetup*",
    "spec.kubeadmConfigSpec.format",
    "spec.kubeadmConfigSpec.mounts",
    "spec.kubeadmConfigSpec.verbosity",
];

/// What an update of a control plane may not do.
pub fn validate_update(old: &Value, new: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut changed = Vec::new();
    differences(old, new, String::new(), &mut changed);
    for place in changed.into_iter().filter(|place| !is_mutable(place)) {
        add(&mut found, place, "cannot be modified");
    }
    let version = |object: &Value| object["spec"]["version"].as_str().and_then(|text| text.parse::<Version>().ok());
    if let (Some(old), Some(new)) = (version(old), version(new))
        && new.minor().0 == old.minor().0
        && new.minor().1 >= old.minor().1 + 2
    {
        let message = format!("cannot go from {old} to {new}: one minor version at a time");
        add(&mut found, "spec.version", message);
    }
    let external =
        |object: &Value| !object["spec"]["kubeadmConfigSpec"]["clusterConfiguration"]["etcd"]["external"].is_null();
    if external(old) != external(new) {
        let field = "spec.kubeadmConfigSpec.clusterConfiguration.etcd.external";
        add(&mut found, field, "cannot change between stacked and external etcd");
    }
    let dns = |object: &Value| {
        dns_version(object.pointer("/spec/kubeadmConfigSpec/clusterConfiguration/dns/imageTag")?.as_str()?)
    };
    let is_ours = new["metadata"]["annotations"].get(SKIP_CORE_DNS).is_none();
    if let (Some(old), Some(new)) = (dns(old), dns(new))
        && new < old
        && is_ours
    {
        let field = "spec.kubeadmConfigSpec.clusterConfiguration.dns.imageTag";
        add(
            &mut found,
            field,
            format!(
                "cannot go back: its configuration cannot be migrated to an older CoreDNS (annotate {SKIP_CORE_DNS} to see to it yourself)"
            ),
        );
    }
    found
}

/// What an update of a control plane template may not do: machines know their template by its name alone.
pub fn validate_template_update(old: &Value, new: &Value) -> Vec<Violation> {
    let (old, new) = (comparable(old), comparable(new));
    let mut changed = Vec::new();
    differences(&old, &new, "spec.template.spec".to_owned(), &mut changed);
    let mut found = Vec::new();
    for place in changed {
        add(&mut found, place, "cannot be modified: make a new template and refer to that");
    }
    found
}

/// The spec of a template with what older releases filled in, which is no change.
fn comparable(object: &Value) -> Value {
    let mut spec = object.pointer("/spec/template/spec").cloned().unwrap_or_else(|| json!({}));
    previous_defaults(&mut spec["kubeadmConfigSpec"]);
    let filled_in = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    if spec["rollout"]["strategy"].is_null() {
        spec["rollout"]["strategy"] = filled_in;
    }
    spec
}

/// The leaves of the merge patch from one object to another.
fn differences(old: &Value, new: &Value, place: String, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for name in names {
                let (before, after) =
                    (before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
                let below = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                differences(before, after, below, found);
            }
        }
        // A structure that is new is judged by what is in it.
        (Value::Null, Value::Object(after)) => {
            for (name, value) in after {
                differences(&Value::Null, value, format!("{place}.{name}"), found);
            }
        }
        (before, after) if before != after => found.push(place),
        _ => {}
    }
}

fn is_mutable(place: &str) -> bool {
    let fits = |allowed: &&str| match allowed.strip_suffix('*') {
        Some(prefix) => place.starts_with(prefix),
        None => place == *allowed,
    };
    // Status and identity are the API server's to guard.
    !place.starts_with("spec") || MUTABLE.iter().any(fits)
}
