//! The spec of a control plane as the rest of this crate uses it: defaults filled in, texts parsed.

use std::collections::BTreeMap;

use cluster_api::{
    v1beta2::{Cluster, ContractReference, MachineDeletionSpec, MachineTaint, ReadinessGate},
    version::Version,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kubeadm::api::spec::{ClusterConfiguration, EncryptionAlgorithm, KubeadmConfigSpec};

use super::facts::Retries;
use crate::api::{
    naming::{self, NamingError},
    v1beta2::{KubeadmControlPlane, Remediation, Rollout},
};

/// What a control plane shall be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name of the control plane object.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// Name of its cluster.
    pub cluster: String,
    /// `host:port` of its API servers, once it is known.
    pub endpoint: Option<String>,
    /// Machines; absent until defaulted.
    pub replicas: Option<i32>,
    /// Kubernetes version, as the user wrote it.
    pub version: String,
    /// Labels of machines.
    pub labels: BTreeMap<String, String>,
    /// Annotations of machines.
    pub annotations: BTreeMap<String, String>,
    /// Template of the machines' infrastructure.
    pub infrastructure: ContractReference,
    /// Conditions that count towards the machines' readiness, besides ours.
    pub readiness_gates: Vec<ReadinessGate>,
    /// Limits of the machines' deletion.
    pub deletion: Option<MachineDeletionSpec>,
    /// Taints that core keeps on the nodes.
    pub taints: Vec<MachineTaint>,
    /// How machines become nodes.
    pub config: KubeadmConfigSpec,
    /// Machines made before this moment are replaced after it.
    pub rollout_after: Option<Timestamp>,
    /// Machines are replaced this many days before their certificates expire.
    pub rollout_before_days: Option<i64>,
    /// Machines that may exist beyond the wanted number during a rollout.
    pub max_surge: usize,
    /// Limits of replacing machines for their health.
    pub retries: Retries,
    /// Template of machine names.
    pub naming: String,
}

/// Where nothing is said.
pub const DEFAULT_NAMING: &str = "{{ .kubeadmControlPlane.name }}-{{ .random }}";

impl Wanted {
    /// The spec of a control plane of a cluster.
    pub fn of(control_plane: &KubeadmControlPlane, cluster: &Cluster) -> Self {
        let spec = &control_plane.spec;
        let template = &spec.machine_template;
        let metadata = template.metadata.clone().unwrap_or_default();
        let infrastructure = &template.spec.infrastructure_ref;
        let rollout = spec.rollout.clone().unwrap_or_default();
        let before = rollout.before.as_ref().and_then(|before| before.certificates_expiry_days);
        let naming = spec.machine_naming.as_ref().map(|naming| naming.template.clone());
        Self {
            name: control_plane.name_any(),
            namespace: control_plane.namespace().unwrap_or_default(),
            uid: control_plane.uid().unwrap_or_default(),
            cluster: cluster.name_any(),
            endpoint: cluster.spec.control_plane_endpoint.address(),
            replicas: spec.replicas,
            version: spec.version.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            infrastructure: ContractReference {
                api_group: infrastructure.api_group.clone(),
                kind: infrastructure.kind.clone(),
                name: infrastructure.name.clone(),
            },
            readiness_gates: template.spec.readiness_gates.clone(),
            deletion: template.spec.deletion.clone(),
            taints: template.spec.taints.clone(),
            config: spec.kubeadm_config_spec.clone().unwrap_or_default(),
            rollout_after: rollout.after.as_ref().map(|after| after.0),
            rollout_before_days: before.map(i64::from),
            max_surge: max_surge(&rollout),
            retries: retries(spec.remediation.as_ref()),
            naming: naming.filter(|template| !template.is_empty()).unwrap_or_else(|| DEFAULT_NAMING.to_owned()),
        }
    }

    /// The version's numbers; `None` where it is none, which admission refuses.
    pub fn parsed_version(&self) -> Option<Version> {
        self.version.parse().ok()
    }

    /// Settings of the whole cluster.
    pub fn cluster_configuration(&self) -> Option<&ClusterConfiguration> {
        self.config.cluster_configuration.as_ref()
    }

    /// Whether etcd runs on the machines.
    pub fn has_managed_etcd(&self) -> bool {
        let etcd = self.cluster_configuration().and_then(|cluster| cluster.etcd.as_ref());
        etcd.is_none_or(|etcd| etcd.external.is_none())
    }

    /// Algorithm of the keys of the cluster's authorities; RSA-2048 where nothing is said, as with kubeadm.
    pub fn algorithm(&self) -> EncryptionAlgorithm {
        self.chosen_algorithm().unwrap_or_default()
    }

    /// Algorithm of the administrator's key: where nothing is said the one that costs next to nothing, to make and at every
    /// connection.
    pub fn client_algorithm(&self) -> EncryptionAlgorithm {
        self.chosen_algorithm().unwrap_or(EncryptionAlgorithm::EcdsaP256)
    }

    fn chosen_algorithm(&self) -> Option<EncryptionAlgorithm> {
        self.cluster_configuration().and_then(|cluster| cluster.encryption_algorithm)
    }

    /// A name for a new machine; `random` is five characters.
    pub fn machine_name(&self, random: &str) -> Result<String, NamingError> {
        naming::render(&self.naming, &self.cluster, &self.name, random)
    }
}

fn max_surge(rollout: &Rollout) -> usize {
    let rolling = rollout.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
        None => 1,
        Some(IntOrString::Int(surge)) => usize::try_from(*surge).unwrap_or(0),
        // Admission takes integers as text too, and nothing else.
        Some(IntOrString::String(surge)) => surge.parse().unwrap_or(0),
    }
}

fn retries(remediation: Option<&Remediation>) -> Retries {
    let seconds = |asked: Option<i32>, default: i32| SignedDuration::from_secs(i64::from(asked.unwrap_or(default)));
    Retries {
        limit: remediation.and_then(|remediation| remediation.max_retry),
        period: seconds(remediation.and_then(|remediation| remediation.retry_period_seconds), 0),
        min_healthy: seconds(remediation.and_then(|remediation| remediation.min_healthy_period_seconds), 3600),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::SignedDuration;
    use kubeadm::api::spec::{Arg, InitConfiguration, JoinConfiguration, NodeRegistration};
    use rstest::rstest;

    use super::*;

    /// A control plane of three machines with kubelet flags.
    pub(crate) fn wanted() -> Wanted {
        let flags = vec![Arg { name: "v".to_owned(), value: "2".to_owned() }];
        let node = NodeRegistration { kubelet_extra_args: flags, ..NodeRegistration::default() };
        Wanted {
            name: "cp".to_owned(),
            namespace: "ns".to_owned(),
            uid: "kcp-uid".to_owned(),
            cluster: "c".to_owned(),
            endpoint: Some("10.0.0.1:6443".to_owned()),
            replicas: Some(3),
            version: "v1.34.5-3".to_owned(),
            labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            annotations: BTreeMap::from([("note".to_owned(), "b".to_owned())]),
            infrastructure: ContractReference {
                api_group: "infrastructure.cluster.x-k8s.io".to_owned(),
                kind: "DCSMachineTemplate".to_owned(),
                name: "masters".to_owned(),
            },
            readiness_gates: Vec::new(),
            deletion: None,
            taints: Vec::new(),
            config: KubeadmConfigSpec {
                cluster_configuration: Some(ClusterConfiguration::default()),
                init_configuration: Some(InitConfiguration {
                    node_registration: Some(node.clone()),
                    ..InitConfiguration::default()
                }),
                join_configuration: Some(JoinConfiguration {
                    node_registration: Some(node),
                    ..JoinConfiguration::default()
                }),
                ..KubeadmConfigSpec::default()
            },
            rollout_after: None,
            rollout_before_days: None,
            max_surge: 1,
            retries: Retries { limit: None, period: SignedDuration::ZERO, min_healthy: SignedDuration::from_hours(1) },
            naming: DEFAULT_NAMING.to_owned(),
        }
    }

    #[rstest]
    #[case(DEFAULT_NAMING, "cp-x7x7x")]
    #[case("{{.cluster.name}}-cp-{{.random}}", "c-cp-x7x7x")]
    fn names_follow_their_template(#[case] template: &str, #[case] name: &str) {
        let wanted = Wanted { naming: template.to_owned(), ..wanted() };
        assert_eq!(wanted.machine_name("x7x7x").unwrap(), name);
    }

    #[test]
    fn a_long_name_stays_unique_and_a_wrong_variable_is_named() {
        let long = Wanted { name: "n".repeat(80), ..wanted() };
        let name = long.machine_name("x7x7x").unwrap();
        assert!(name.len() == 63 && name.ends_with("x7x7x"));
        let wrong = Wanted { naming: "{{ .machine }}-{{ .random }}".to_owned(), ..wanted() };
        assert!(wrong.machine_name("x7x7x").unwrap_err().to_string().contains(".machine"));
    }
}
