//! What the schema of the control plane kinds cannot say. Pure: the object, and on updates the one before.

use cluster_api::version::Version;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubeadm::api::{
    spec::KubeadmConfigSpec,
    validation::{self as bootstrap, Violation},
};
use serde_json::Value;

use super::v1beta2::KubeadmControlPlaneSpec;

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

/// Everything that is wrong with a control plane's spec.
pub fn validate(spec: &KubeadmControlPlaneSpec, ignition: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    let config = spec.kubeadm_config_spec.clone().unwrap_or_default();
    let surge = max_surge(spec);
    match spec.replicas {
        None => add(&mut found, "spec.replicas", "must be set"),
        Some(replicas) if replicas <= 0 => add(&mut found, "spec.replicas", "must be greater than 0"),
        Some(replicas) if replicas % 2 == 0 && !has_external_etcd(&config) => {
            add(
                &mut found,
                "spec.replicas",
                "must be odd when etcd is stacked: an even number tolerates no more failures",
            );
        }
        Some(replicas) if surge == Ok(0) && replicas < 3 => {
            let field = "spec.rollout.strategy.rollingUpdate.maxSurge";
            add(
                &mut found,
                field,
                "may be 0 only with 3 replicas or more: the last member of etcd cannot be replaced first",
            );
        }
        Some(_) => {}
    }
    if !matches!(surge, Ok(0 | 1)) {
        add(&mut found, "spec.rollout.strategy.rollingUpdate.maxSurge", "must be 0 or 1");
    }
    if !spec.version.starts_with('v') || spec.version.parse::<Version>().is_err() {
        let message = format!("{:?} is not a version such as v1.36.3 or v1.34.5-3", spec.version);
        add(&mut found, "spec.version", message);
    }
    let naming = spec.machine_naming.as_ref().map(|naming| naming.template.as_str()).unwrap_or_default();
    if !naming.is_empty() && !naming.contains("{{ .random }}") {
        add(&mut found, "spec.machineNaming.template", "must contain {{ .random }}");
    }
    cluster_configuration(&config, spec, &mut found);
    found.extend(bootstrap::validate(&config, "spec.kubeadmConfigSpec", ignition));
    found
}

/// What an update may not do.
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
        let field = "spec.kubeadmConfigSpec.clusterConfiguration.etcd";
        add(&mut found, field, "cannot change between stacked and external etcd");
    }
    found
}

fn add(found: &mut Vec<Violation>, field: impl Into<String>, message: impl Into<String>) {
    found.push(Violation { field: field.into(), message: message.into() });
}

fn has_external_etcd(config: &KubeadmConfigSpec) -> bool {
    let etcd = config.cluster_configuration.as_ref().and_then(|cluster| cluster.etcd.as_ref());
    etcd.is_some_and(|etcd| etcd.external.is_some())
}

/// The surge, 1 when nothing is said; the text where it is no number.
fn max_surge(spec: &KubeadmControlPlaneSpec) -> Result<i32, String> {
    let strategy = spec.rollout.as_ref().and_then(|rollout| rollout.strategy.as_ref());
    match strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_surge.clone()) {
        None => Ok(1),
        Some(IntOrString::Int(surge)) => Ok(surge),
        Some(IntOrString::String(text)) => text.parse().map_err(|_| text),
    }
}

fn cluster_configuration(config: &KubeadmConfigSpec, spec: &KubeadmControlPlaneSpec, found: &mut Vec<Violation>) {
    let Some(cluster) = &config.cluster_configuration else { return };
    let path = "spec.kubeadmConfigSpec.clusterConfiguration";
    if cluster.etcd.as_ref().is_some_and(|etcd| etcd.local.is_some() && etcd.external.is_some()) {
        add(found, format!("{path}.etcd"), "local and external exclude each other");
    }
    let tags = [
        ("dns.imageTag", cluster.dns.as_ref().map(|dns| dns.image_tag.as_str())),
        ("etcd.local.imageTag", cluster.etcd.as_ref().and_then(|etcd| Some(etcd.local.as_ref()?.image_tag.as_str()))),
    ];
    for (field, tag) in tags {
        let is_legal = |tag: &str| tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if tag.is_some_and(|tag| !is_legal(tag)) {
            add(found, format!("{path}.{field}"), "is no image tag: letters, digits, '_', '.' and '-' only");
        }
    }
    let Some(days) = cluster.certificate_validity_period_days else { return };
    if days > cluster.ca_certificate_validity_period_days.unwrap_or(kubeadm::pki::CA_DAYS) {
        let field = format!("{path}.certificateValidityPeriodDays");
        add(found, field, "must not be longer than caCertificateValidityPeriodDays");
    }
    let before = spec.rollout.as_ref().and_then(|rollout| rollout.before.as_ref()?.certificates_expiry_days);
    if before.is_some_and(|before| before >= days) {
        let field = "spec.rollout.before.certificatesExpiryDays";
        add(found, field, "must be shorter than the certificates' life, or machines are replaced for ever");
    }
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn control_plane() -> Value {
        json!({"spec": {
            "replicas": 3, "version": "v1.34.5-3",
            "machineTemplate": {"spec": {"infrastructureRef": {"apiGroup": "g", "kind": "K", "name": "n"}}},
            "kubeadmConfigSpec": {"clusterConfiguration": {"certificatesDir": "/a", "dns": {"imageTag": "v1.12.4-v4.2.3"}}},
        }})
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut object = control_plane();
        let mut place = &mut object;
        for field in pointer.split('/').skip(1) {
            place = &mut place[field];
        }
        *place = value;
        object
    }

    #[rstest]
    #[case("/spec/replicas", json!(2), "spec.replicas")]
    #[case("/spec/replicas", json!(0), "spec.replicas")]
    #[case("/spec/version", json!("1.34.5"), "spec.version")]
    #[case("/spec/version", json!("v1.34"), "spec.version")]
    #[case("/spec/rollout", json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%"}}}), "spec.rollout.strategy.rollingUpdate.maxSurge")]
    #[case("/spec/machineNaming", json!({"template": "x"}), "spec.machineNaming.template")]
    #[case("/spec/kubeadmConfigSpec/clusterConfiguration/dns", json!({"imageTag": "a/b"}), "spec.kubeadmConfigSpec.clusterConfiguration.dns.imageTag")]
    #[case("/spec/kubeadmConfigSpec/files", json!([{"path": "/a"}, {"path": "/a"}]), "spec.kubeadmConfigSpec.files[1].path")]
    fn a_violation_names_its_field(#[case] pointer: &str, #[case] value: Value, #[case] field: &str) {
        let spec = serde_json::from_value(with(pointer, value)["spec"].take()).unwrap();
        let fields: Vec<_> = validate(&spec, true).into_iter().map(|found| found.field).collect();
        assert_eq!(fields, [field]);
    }

    #[test]
    fn no_surge_needs_three_machines() {
        let mut object =
            with("/spec/rollout", json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}}));
        assert!(validate(&serde_json::from_value(object["spec"].clone()).unwrap(), true).is_empty());
        object["spec"]["replicas"] = json!(1);
        assert_eq!(validate(&serde_json::from_value(object["spec"].take()).unwrap(), true).len(), 1);
    }

    #[rstest]
    #[case("/spec/replicas", json!(5), None)]
    #[case("/spec/version", json!("v1.35.0"), None)]
    #[case("/spec/version", json!("v1.36.0"), Some("spec.version"))]
    #[case("/spec/kubeadmConfigSpec/clusterConfiguration/certificatesDir", json!("/b"), Some("spec.kubeadmConfigSpec.clusterConfiguration.certificatesDir"))]
    #[case("/spec/kubeadmConfigSpec/clusterConfiguration/apiServer", json!({"certSANs": ["a"]}), None)]
    #[case(
        "/spec/kubeadmConfigSpec/clusterConfiguration",
        Value::Null,
        Some("spec.kubeadmConfigSpec.clusterConfiguration")
    )]
    fn an_update_may_change_only_what_a_rollout_can_carry(
        #[case] pointer: &str,
        #[case] value: Value,
        #[case] field: Option<&str>,
    ) {
        let found = validate_update(&control_plane(), &with(pointer, value));
        assert_eq!(found.first().map(|found| found.field.as_str()), field);
    }
}
