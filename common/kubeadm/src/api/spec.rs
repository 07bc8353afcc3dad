//! `KubeadmConfigSpec` at v1beta2: what kubeadm is told. Limits and list types are upstream's contract.

use k8s_openapi::api::core::v1::{EnvVar, Taint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use super::discovery::{BootstrapTokenDiscovery, Discovery, FileDiscovery};
use super::{
    env,
    files::{DiskSetup, File, Ignition, Ntp, User},
};

/// How a machine becomes a Kubernetes node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct KubeadmConfigSpec {
    /// Settings of the whole cluster; used by the machine that runs `kubeadm init`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_configuration: Option<ClusterConfiguration>,
    /// Settings of `kubeadm init`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_configuration: Option<InitConfiguration>,
    /// Settings of `kubeadm join`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_configuration: Option<JoinConfiguration>,
    /// Files written before kubeadm runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 200), extend("x-kubernetes-list-type" = "atomic"))]
    pub files: Vec<File>,
    /// Partitions and file systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_setup: Option<DiskSetup>,
    /// Mount points, each as cloud-init writes them: device, mount point, options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub mounts: Vec<Mount>,
    /// Commands run early in the boot, by cloud-init's `bootcmd`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 10240)), extend("x-kubernetes-list-type" = "atomic"))]
    pub boot_commands: Vec<String>,
    /// Commands run before kubeadm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 10240)), extend("x-kubernetes-list-type" = "atomic"))]
    pub pre_kubeadm_commands: Vec<String>,
    /// Commands run after kubeadm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 10240)), extend("x-kubernetes-list-type" = "atomic"))]
    pub post_kubeadm_commands: Vec<String>,
    /// Users made on the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub users: Vec<User>,
    /// Time servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ntp: Option<Ntp>,
    /// Format of the boot data; `cloud-config` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Verbosity of kubeadm's log, its `--v`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verbosity: Option<i32>,
    /// Settings of the Ignition format alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignition: Option<Ignition>,
}

/// Format of the boot data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// cloud-init.
    #[default]
    CloudConfig,
    /// Ignition.
    Ignition,
}

impl Format {
    /// As the data Secret's `format` key says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloudConfig => "cloud-config",
            Self::Ignition => "ignition",
        }
    }
}

/// One mount: device, mount point, options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Mount(#[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 512)))] pub Vec<String>);

/// Settings of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct ClusterConfiguration {
    /// etcd, stacked or external.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
    /// Where the API server is reached; the Cluster's endpoint when absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub control_plane_endpoint: String,
    /// The API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ApiServer>,
    /// The controller manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<Component>,
    /// The scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Component>,
    /// CoreDNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<ImageMeta>,
    /// Folder of certificates on the machine; `/etc/kubernetes/pki` when absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub certificates_dir: String,
    /// Registry and path of the component images; kubeadm's own default when absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub image_repository: String,
    /// kubeadm's feature gates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    /// Life of certificates that kubeadm makes, in days (Kubernetes 1.31 and later).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1095))]
    pub certificate_validity_period_days: Option<i32>,
    /// Life of the certificate authorities, in days; 3650 when absent.
    #[serde(skip_serializing_if = "Option::is_none", rename = "caCertificateValidityPeriodDays")]
    #[schemars(range(min = 1, max = 36500))]
    pub ca_certificate_validity_period_days: Option<i32>,
    /// Algorithm of the cluster's keys; RSA-2048 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_algorithm: Option<EncryptionAlgorithm>,
}

/// Algorithm of the cluster's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum EncryptionAlgorithm {
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
    #[default]
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    #[serde(rename = "RSA-4096")]
    Rsa4096,
}

/// etcd: stacked on the control plane machines, or external. `external` wins where both are given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Etcd {
    /// Stacked etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalEtcd>,
    /// External etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalEtcd>,
}

/// etcd stacked on the control plane machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct LocalEtcd {
    /// Registry and path of its image.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub image_repository: String,
    /// Tag of its image.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    pub image_tag: String,
    /// Folder of its data; `/var/lib/etcd` when absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub data_dir: String,
    /// Flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "args_schema")]
    pub extra_args: Vec<Arg>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "envs_schema")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Further names of the server certificate.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "serverCertSANs")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub server_cert_sans: Vec<String>,
    /// Further names of the peer certificate.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "peerCertSANs")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub peer_cert_sans: Vec<String>,
}

/// etcd elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalEtcd {
    /// Client URLs.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub endpoints: Vec<String>,
    /// File of its certificate authority on the machine.
    #[schemars(length(min = 1, max = 512))]
    pub ca_file: String,
    /// File of the API server's client certificate on the machine.
    #[schemars(length(min = 1, max = 512))]
    pub cert_file: String,
    /// File of the API server's client key on the machine.
    #[schemars(length(min = 1, max = 512))]
    pub key_file: String,
}

/// The API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct ApiServer {
    /// Flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "args_schema")]
    pub extra_args: Vec<Arg>,
    /// Host folders mounted into its pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub extra_volumes: Vec<HostPathMount>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "envs_schema")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Further names of its certificate.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "certSANs")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub cert_sans: Vec<String>,
}

/// The controller manager or the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Component {
    /// Flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "args_schema")]
    pub extra_args: Vec<Arg>,
    /// Host folders mounted into its pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub extra_volumes: Vec<HostPathMount>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "envs_schema")]
    pub extra_envs: Option<Vec<EnvVar>>,
}

/// Repository and tag of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct ImageMeta {
    /// Registry and path.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub image_repository: String,
    /// Tag.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    pub image_tag: String,
}

/// A flag of a component, without its dashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Arg {
    /// Name.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Value; may be empty.
    #[schemars(length(min = 0, max = 1024))]
    pub value: String,
}

/// A host folder or file mounted into a component's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPathMount {
    /// Name of the volume.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// Path on the machine.
    #[schemars(length(min = 1, max = 512))]
    pub host_path: String,
    /// Path in the pod.
    #[schemars(length(min = 1, max = 512))]
    pub mount_path: String,
    /// Whether the pod may not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Kubernetes' `HostPathType`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path_type: String,
}

/// Settings of `kubeadm init`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct InitConfiguration {
    /// Tokens made by `kubeadm init`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub bootstrap_tokens: Vec<BootstrapToken>,
    /// How the node registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_registration: Option<NodeRegistration>,
    /// Where this machine's API server listens.
    #[serde(skip_serializing_if = "Option::is_none", rename = "localAPIEndpoint")]
    pub local_api_endpoint: Option<LocalApiEndpoint>,
    /// Phases left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub skip_phases: Vec<String>,
    /// Patches of static pods and the kubelet's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<Patches>,
    /// Time limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// A token made by `kubeadm init`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapToken {
    /// `id.secret`: six and sixteen lower-case letters and digits.
    #[schemars(length(min = 1, max = 23))]
    pub token: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub description: String,
    /// Life, in seconds; excludes `expires`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds: Option<i32>,
    /// End of its life; excludes `ttlSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// What it may be used for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub usages: Vec<String>,
    /// Groups that its bearer belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub groups: Vec<String>,
}

/// How a node registers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct NodeRegistration {
    /// Its name; the host name when absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Socket of the container runtime.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub cri_socket: String,
    /// Its taints: kubeadm's own when absent, none when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "taints_schema")]
    pub taints: Option<Vec<Taint>>,
    /// Flags of the kubelet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "kubelet_args_schema")]
    pub kubelet_extra_args: Vec<Arg>,
    /// Checks whose failure kubeadm only reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub ignore_preflight_errors: Vec<String>,
    /// When images are pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Whether images are pulled one after the other (Kubernetes 1.31 and later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_serial: Option<bool>,
}

/// When images are pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Where a machine's API server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct LocalApiEndpoint {
    /// Address that other machines use.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 39))]
    pub advertise_address: String,
    /// TCP port; 6443 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bind_port: Option<i32>,
}

/// Patches of static pods and the kubelet's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Patches {
    /// Folder of the patches on the machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub directory: String,
}

/// kubeadm's time limits, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct Timeouts {
    /// For control plane components to become healthy; 240 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub control_plane_component_health_check_seconds: Option<i32>,
    /// For the kubelet to become healthy; 240 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub kubelet_health_check_seconds: Option<i32>,
    /// For calls of the API server; 60 when absent.
    #[serde(skip_serializing_if = "Option::is_none", rename = "kubernetesAPICallSeconds")]
    #[schemars(range(min = 0))]
    pub kubernetes_api_call_seconds: Option<i32>,
    /// For calls of etcd; 120 when absent.
    #[serde(skip_serializing_if = "Option::is_none", rename = "etcdAPICallSeconds")]
    #[schemars(range(min = 0))]
    pub etcd_api_call_seconds: Option<i32>,
    /// For the kubelet's TLS bootstrap; 300 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tls_bootstrap_seconds: Option<i32>,
    /// For discovery of the cluster; 300 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub discovery_seconds: Option<i32>,
}

/// Settings of `kubeadm join`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("minProperties" = 1))]
pub struct JoinConfiguration {
    /// How the node registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_registration: Option<NodeRegistration>,
    /// File of the cluster CA on the machine; `/etc/kubernetes/pki/ca.crt` when absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 512))]
    pub ca_cert_path: String,
    /// How the cluster is found and trusted; filled in by the provider when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// Present (even empty) when the machine joins the control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<JoinControlPlane>,
    /// Phases left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub skip_phases: Vec<String>,
    /// Patches of static pods and the kubelet's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<Patches>,
    /// Time limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// What a machine that joins the control plane is told besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JoinControlPlane {
    /// Where this machine's API server listens.
    #[serde(skip_serializing_if = "Option::is_none", rename = "localAPIEndpoint")]
    pub local_api_endpoint: Option<LocalApiEndpoint>,
}

/// Flags as a list of names and values, each name once.
fn args_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    named_args_schema(generator, "extraArgs")
}

fn kubelet_args_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    named_args_schema(generator, "kubeletExtraArgs")
}

fn named_args_schema(generator: &mut schemars::SchemaGenerator, name: &str) -> schemars::Schema {
    let items = generator.subschema_for::<Arg>();
    schemars::json_schema!({
        "type": "array", "items": items, "minItems": 1, "maxItems": 100,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "value"],
        "x-kubernetes-validations": [{
            "rule": "self.all(x, self.exists_one(y, x.name == y.name))",
            "message": format!("{name} name must be unique"),
        }],
    })
}

fn envs_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array", "items": env::schema(), "minItems": 1, "maxItems": 100, "x-kubernetes-list-type": "atomic",
    })
}

fn taints_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let items = generator.subschema_for::<Taint>();
    schemars::json_schema!({"type": "array", "items": items, "minItems": 0, "maxItems": 100})
}
