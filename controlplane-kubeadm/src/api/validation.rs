//! What the schema of the control plane kinds cannot say. Pure: the object, and on updates the one before.

mod update;

use cluster_api::{v1beta2::MachineTaint, version::Version};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubeadm::api::{
    spec::KubeadmConfigSpec,
    v1beta2::TemplateMeta,
    validation::{self as bootstrap, Violation},
};

use super::{
    naming,
    v1beta2::{KubeadmControlPlaneSpec, KubeadmControlPlaneTemplateSpec, MachineNaming, Rollout},
};
pub use update::{validate_template_update, validate_update};

/// Features that are switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// `KubeadmBootstrapFormatIgnition`: boot data as Ignition.
    pub ignition: bool,
    /// `MachineTaintPropagation`: core keeps taints of machines on their nodes.
    pub taints: bool,
}

/// Everything that is wrong with a control plane's spec.
pub fn validate(spec: &KubeadmControlPlaneSpec, gates: Gates) -> Vec<Violation> {
    let mut found = Vec::new();
    let config = spec.kubeadm_config_spec.clone().unwrap_or_default();
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
        Some(_) => {}
    }
    if !spec.version.starts_with('v') || spec.version.parse::<Version>().is_err() {
        let message = format!("{:?} is not a version such as v1.36.3 or v1.34.5-3", spec.version);
        add(&mut found, "spec.version", message);
    }
    let machines = &spec.machine_template;
    metadata(machines.metadata.as_ref(), "spec.machineTemplate.metadata", &mut found);
    taints(&machines.spec.taints, "spec.machineTemplate.spec.taints", gates, &mut found);
    rollout(spec.rollout.as_ref(), &config, spec.replicas, "spec", &mut found);
    machine_naming(spec.machine_naming.as_ref(), "spec", &mut found);
    kubeadm_config(&config, "spec.kubeadmConfigSpec", gates, &mut found);
    found
}

/// Everything that is wrong with a control plane template's spec; what the topology adds to it is judged there.
pub fn validate_template(spec: &KubeadmControlPlaneTemplateSpec, gates: Gates) -> Vec<Violation> {
    const PATH: &str = "spec.template.spec";
    let mut found = Vec::new();
    metadata(spec.template.metadata.as_ref(), "spec.template.metadata", &mut found);
    let Some(template) = &spec.template.spec else { return found };
    if let Some(machines) = &template.machine_template {
        metadata(machines.metadata.as_ref(), &format!("{PATH}.machineTemplate.metadata"), &mut found);
        let wanted = machines.spec.as_ref().map(|spec| spec.taints.as_slice()).unwrap_or_default();
        taints(wanted, &format!("{PATH}.machineTemplate.spec.taints"), gates, &mut found);
    }
    let config = template.kubeadm_config_spec.clone().unwrap_or_default();
    rollout(template.rollout.as_ref(), &config, None, PATH, &mut found);
    machine_naming(template.machine_naming.as_ref(), PATH, &mut found);
    kubeadm_config(&config, &format!("{PATH}.kubeadmConfigSpec"), gates, &mut found);
    found
}

fn add(found: &mut Vec<Violation>, field: impl Into<String>, message: impl Into<String>) {
    found.push(Violation { field: field.into(), message: message.into() });
}

fn has_external_etcd(config: &KubeadmConfigSpec) -> bool {
    let etcd = config.cluster_configuration.as_ref().and_then(|cluster| cluster.etcd.as_ref());
    etcd.is_some_and(|etcd| etcd.external.is_some())
}

fn metadata(metadata: Option<&TemplateMeta>, path: &str, found: &mut Vec<Violation>) {
    found.extend(metadata.into_iter().flat_map(|metadata| bootstrap::validate_metadata(metadata, path)));
}

/// The surge, 1 when nothing is said; the text where it is no number.
fn max_surge(rollout: Option<&Rollout>) -> Result<i32, &str> {
    let rolling = rollout.and_then(|rollout| rollout.strategy.as_ref()?.rolling_update.as_ref());
    match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
        None => Ok(1),
        Some(IntOrString::Int(surge)) => Ok(*surge),
        Some(IntOrString::String(text)) => text.parse().map_err(|_| text.as_str()),
    }
}

/// `replicas` is `None` where the topology gives it.
fn rollout(
    rollout: Option<&Rollout>,
    config: &KubeadmConfigSpec,
    replicas: Option<i32>,
    path: &str,
    found: &mut Vec<Violation>,
) {
    let field = format!("{path}.rollout.strategy.rollingUpdate.maxSurge");
    match max_surge(rollout) {
        Ok(1) => {}
        // What is wrong with a number that is none is said elsewhere.
        Ok(0) if replicas.is_some_and(|replicas| (1..3).contains(&replicas)) => {
            let message = "may be 0 only with 3 replicas or more: the last member of etcd cannot be replaced first";
            add(found, field, message);
        }
        Ok(0) => {}
        _ => add(found, field, "must be 0 or 1"),
    }
    let cluster = config.cluster_configuration.as_ref();
    let Some(days) = cluster.and_then(|cluster| cluster.certificate_validity_period_days) else { return };
    let authority = cluster.and_then(|cluster| cluster.ca_certificate_validity_period_days);
    if days > authority.unwrap_or(kubeadm::pki::CA_DAYS) {
        let field = format!("{path}.kubeadmConfigSpec.clusterConfiguration.certificateValidityPeriodDays");
        add(found, field, "must not be longer than caCertificateValidityPeriodDays");
    }
    let before = rollout.and_then(|rollout| rollout.before.as_ref()?.certificates_expiry_days);
    if before.is_some_and(|before| before >= days) {
        let field = format!("{path}.rollout.before.certificatesExpiryDays");
        add(found, field, "must be shorter than the certificates' life, or machines are replaced for ever");
    }
}

fn machine_naming(wanted: Option<&MachineNaming>, path: &str, found: &mut Vec<Violation>) {
    let template = wanted.map(|naming| naming.template.as_str()).unwrap_or_default();
    if template.is_empty() {
        return;
    }
    let field = format!("{path}.machineNaming.template");
    if !template.contains("{{ .random }}") {
        add(found, field.clone(), "must contain {{ .random }}");
    }
    match naming::render(template, "cluster", "kubeadmcontrolplane", "x7x7x") {
        Err(error) => add(found, field, error.to_string()),
        Ok(name) if !bootstrap::is_subdomain(&name) => {
            add(found, field, format!("gives names such as {name:?}, which are no DNS names of lower-case letters"));
        }
        Ok(_) => {}
    }
}

fn taints(taints: &[MachineTaint], path: &str, gates: Gates, found: &mut Vec<Violation>) {
    if !taints.is_empty() && !gates.taints {
        add(found, path, "can be set only if the MachineTaintPropagation feature gate is enabled");
    }
    for (index, taint) in taints.iter().enumerate() {
        let reason = match taint.key.as_str() {
            "node.cluster.x-k8s.io/uninitialized" | "node.cluster.x-k8s.io/outdated-revision" => {
                Some("is Cluster API's own")
            }
            "node.kubernetes.io/out-of-service" => None,
            "node-role.kubernetes.io/master" => Some("is obsolete; use node-role.kubernetes.io/control-plane"),
            key if key.starts_with("node.kubernetes.io/") => Some("is Kubernetes' own; only out-of-service may be set"),
            key if key.starts_with("node.cloudprovider.kubernetes.io/") => Some("is the cloud provider's own"),
            key => bootstrap::qualified_name(key).err(),
        };
        if let Some(reason) = reason {
            add(found, format!("{path}[{index}].key"), format!("{:?} {reason}", taint.key));
        }
    }
}

fn kubeadm_config(config: &KubeadmConfigSpec, path: &str, gates: Gates, found: &mut Vec<Violation>) {
    if let Some(cluster) = &config.cluster_configuration {
        let path = format!("{path}.clusterConfiguration");
        if cluster.etcd.as_ref().is_some_and(|etcd| etcd.local.is_some() && etcd.external.is_some()) {
            add(found, format!("{path}.etcd.local"), "excludes external");
        }
        let dns = cluster.dns.as_ref().map(|dns| dns.image_tag.as_str()).unwrap_or_default();
        let etcd = cluster.etcd.as_ref().and_then(|etcd| Some(etcd.local.as_ref()?.image_tag.as_str()));
        for (field, tag) in [("dns.imageTag", dns), ("etcd.local.imageTag", etcd.unwrap_or_default())] {
            if !tag.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter)) {
                add(found, format!("{path}.{field}"), "is no image tag: letters, digits, '_', '.' and '-' only");
            }
        }
        if !dns.is_empty() && dns_version(dns).is_none() {
            let message = format!("{dns:?} does not begin with CoreDNS' version, such as v1.12.4");
            add(found, format!("{path}.dns.imageTag"), message);
        }
    }
    found.extend(bootstrap::validate(config, path, gates.ignition));
    found.extend(bootstrap::validate_one_health_check(config, path));
}

/// Major, minor and patch number of CoreDNS in an image tag: `v1.12.4`, `1.12`, `v1.12.4-v4.2.3`.
fn dns_version(tag: &str) -> Option<(u64, u64, u64)> {
    let numbers = tag.strip_prefix('v').unwrap_or(tag);
    let end = numbers.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(numbers.len());
    if !numbers[end..].is_empty() && !numbers[end..].starts_with(['-', '_']) {
        return None;
    }
    let mut parts = numbers[..end].split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests;
