//! Is a machine as the spec wants it? What may change without a new machine does not count.

use cluster_api::{
    labels::{CLONED_FROM_GROUP_KIND, CLONED_FROM_NAME},
    v1beta2::Machine,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubeadm::api::spec::{
    ClusterConfiguration, Format, ImagePullPolicy, InitConfiguration, JoinConfiguration, JoinControlPlane,
    KubeadmConfigSpec, NodeRegistration, Timeouts,
};
use serde_json::{Map, Value};

use super::{
    desired::{Role, config_spec},
    wanted::Wanted,
};

/// Why a machine must be replaced, in the order in which people want to read it; empty when it need not. Configuration
/// and infrastructure that are not there count as fitting.
pub fn outdated(
    wanted: &Wanted,
    machine: &Machine,
    config: Option<&KubeadmConfigSpec>,
    infrastructure: Option<&ObjectMeta>,
    now: Timestamp,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let expiry = machine.status.as_ref().and_then(|status| status.certificates_expiry_date.as_ref());
    if let (Some(days), Some(expiry)) = (wanted.rollout_before_days, expiry)
        && days > 0
        && expiry.0.duration_since(now) < SignedDuration::from_hours(days * 24)
    {
        reasons.push("Certificates will expire soon, rolloutBefore expired".to_owned());
    }
    let created = machine.metadata.creation_timestamp.as_ref().map(|time| time.0);
    if let (Some(after), Some(created)) = (wanted.rollout_after, created)
        && created < after
        && after < now
    {
        reasons.push("KubeadmControlPlane spec.rollout.after expired".to_owned());
    }
    if machine.spec.version != wanted.version {
        reasons.push(format!("Version {}, {} required", machine.spec.version, wanted.version));
    }
    if config.is_some_and(|config| !config_fits(wanted, config)) {
        reasons.push("KubeadmConfig is not up-to-date".to_owned());
    }
    if let Some(kind) = infrastructure.and_then(|metadata| differing_template(wanted, metadata, machine)) {
        reasons.push(format!("{kind} is not up-to-date"));
    }
    reasons
}

/// The kind of an infrastructure object that was cloned from another template; its content is not compared.
fn differing_template(wanted: &Wanted, metadata: &ObjectMeta, machine: &Machine) -> Option<String> {
    let annotations = metadata.annotations.as_ref()?;
    let (name, group_kind) = (annotations.get(CLONED_FROM_NAME)?, annotations.get(CLONED_FROM_GROUP_KIND)?);
    let fits = name == &wanted.infrastructure.name && group_kind == &wanted.template_group_kind();
    (!fits).then(|| machine.spec.infrastructure_ref.kind.clone())
}

/// Whether a configuration is what a machine made now would get.
fn config_fits(wanted: &Wanted, current: &KubeadmConfigSpec) -> bool {
    let joining = config_spec(wanted, Role::Join);
    let as_join = if is_join(current) { with_control_plane(current.clone()) } else { init_as_join(current, &joining) };
    if normal(&as_join, &joining) == normal(&joining, &joining) {
        return true;
    }
    let initializing = config_spec(wanted, Role::Init);
    !is_join(current) && normal(current, &initializing) == normal(&initializing, &initializing)
}

/// Whether a configuration is that of a machine that joins. Old releases left `controlPlane` out of it.
pub fn is_join(config: &KubeadmConfigSpec) -> bool {
    config.join_configuration.as_ref().is_some_and(|join| {
        let has_arguments = || join.node_registration.as_ref().is_some_and(|node| !node.kubelet_extra_args.is_empty());
        join.control_plane.is_some() || has_arguments()
    })
}

fn with_control_plane(mut config: KubeadmConfigSpec) -> KubeadmConfigSpec {
    let join = config.join_configuration.get_or_insert_with(JoinConfiguration::default);
    join.control_plane.get_or_insert_with(JoinControlPlane::default);
    config
}

/// The configuration of the first machine as if it had joined.
fn init_as_join(current: &KubeadmConfigSpec, desired: &KubeadmConfigSpec) -> KubeadmConfigSpec {
    let mut config = current.clone();
    let init = config.init_configuration.take().unwrap_or_default();
    let ca_cert_path = desired.join_configuration.as_ref().map(|join| join.ca_cert_path.clone());
    config.join_configuration = Some(JoinConfiguration {
        node_registration: init.node_registration,
        ca_cert_path: ca_cert_path.unwrap_or_default(),
        control_plane: Some(JoinControlPlane { local_api_endpoint: init.local_api_endpoint }),
        skip_phases: init.skip_phases,
        patches: init.patches,
        timeouts: init.timeouts,
        ..JoinConfiguration::default()
    });
    config
}

/// A configuration in a form in which what means the same is the same, and what needs no new machine is the same as in
/// `desired`.
fn normal(config: &KubeadmConfigSpec, desired: &KubeadmConfigSpec) -> Value {
    let mut config = config.clone();
    config.format.get_or_insert(Format::CloudConfig);
    let cluster = config.cluster_configuration.get_or_insert_with(ClusterConfiguration::default);
    let wanted = desired.cluster_configuration.clone().unwrap_or_default();
    cluster.control_plane_endpoint = wanted.control_plane_endpoint;
    cluster.dns = wanted.dns;
    if config.join_configuration.is_none() {
        config.init_configuration.get_or_insert_with(InitConfiguration::default);
    }
    if let Some(init) = &mut config.init_configuration {
        let InitConfiguration { node_registration, timeouts, .. } = init;
        plain_node(node_registration);
        plain_timeouts(timeouts);
    }
    if let Some(join) = &mut config.join_configuration {
        plain_node(&mut join.node_registration);
        plain_timeouts(&mut join.timeouts);
        join.discovery = None;
    }
    // Both roles are normalised from specs that cannot fail to serialise: they came from JSON.
    pruned(serde_json::to_value(&config).unwrap_or_default())
}

fn plain_node(node: &mut Option<NodeRegistration>) {
    let node = node.get_or_insert_with(NodeRegistration::default);
    node.image_pull_policy.get_or_insert(ImagePullPolicy::IfNotPresent);
}

fn plain_timeouts(timeouts: &mut Option<Timeouts>) {
    if let Some(timeouts) = timeouts {
        timeouts.control_plane_component_health_check_seconds = None;
    }
}

/// Without empty lists and objects: they mean the same as nothing. Taints differ: no list is kubeadm's own, an empty one
/// is none.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().map(|(name, value)| (name, pruned(value)));
            Value::Object(kept.filter(|(name, value)| name == "taints" || !is_empty(value)).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(pruned).collect()),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
