//! The kinds of a simulated management cluster, read from their definitions once for all worlds.

use std::sync::{Arc, LazyLock};

use cluster_api::v1beta2::{Cluster, Machine, MachinePool};
use jiff::Timestamp;
use kube::CustomResourceExt;
use kube_model::{Options, Registry, Server, Sources};
use serde_json::{Value, json};

use crate::store::Kind;

const CORE: &str = "cluster.x-k8s.io";
const INFRASTRUCTURE: &str = "infrastructure.cluster.x-k8s.io";
const BOOTSTRAP: &str = "bootstrap.cluster.x-k8s.io";
const CONTROL_PLANE: &str = "controlplane.cluster.x-k8s.io";

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural }
}

/// `Namespace`.
pub const NAMESPACE: Kind = kind("", "v1", "Namespace", "namespaces");
/// `Secret`.
pub const SECRET: Kind = kind("", "v1", "Secret", "secrets");
/// `ConfigMap`.
pub const CONFIG_MAP: Kind = kind("", "v1", "ConfigMap", "configmaps");
/// `Lease`.
pub const LEASE: Kind = kind("coordination.k8s.io", "v1", "Lease", "leases");
/// `Node`.
pub const NODE: Kind = kind("", "v1", "Node", "nodes");
/// `Pod`.
pub const POD: Kind = kind("", "v1", "Pod", "pods");
/// Core's `Cluster`.
pub const CLUSTER: Kind = kind(CORE, "v1beta2", "Cluster", "clusters");
/// Core's `Machine`.
pub const MACHINE: Kind = kind(CORE, "v1beta2", "Machine", "machines");
/// The bootstrap provider's `KubeadmConfig`.
pub const KUBEADM_CONFIG: Kind = kind(BOOTSTRAP, "v1beta2", "KubeadmConfig", "kubeadmconfigs");
/// The control plane provider's `KubeadmControlPlane`.
pub const KUBEADM_CONTROL_PLANE: Kind = kind(CONTROL_PLANE, "v1beta2", "KubeadmControlPlane", "kubeadmcontrolplanes");
/// `DCSCluster`.
pub const DCS_CLUSTER: Kind = kind(INFRASTRUCTURE, "v1beta1", "DCSCluster", "dcsclusters");
/// `DCSMachine`.
pub const DCS_MACHINE: Kind = kind(INFRASTRUCTURE, "v1beta1", "DCSMachine", "dcsmachines");
/// `DCSIpHostnamePool`.
pub const DCS_POOL: Kind = kind(INFRASTRUCTURE, "v1beta1", "DCSIpHostnamePool", "dcsiphostnamepools");
/// A cluster of the model infrastructure.
pub const SIM_CLUSTER: Kind = kind(INFRASTRUCTURE, "v1beta1", "SimCluster", "simclusters");
/// A machine of the model infrastructure.
pub const SIM_MACHINE: Kind = kind(INFRASTRUCTURE, "v1beta1", "SimMachine", "simmachines");
/// A template of machines of the model infrastructure.
pub const SIM_TEMPLATE: Kind = kind(INFRASTRUCTURE, "v1beta1", "SimMachineTemplate", "simmachinetemplates");
/// `CustomResourceDefinition`.
pub const DEFINITION: Kind =
    kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");

/// Every kind that references name, by which models follow them.
const REFERRED: &[Kind] =
    &[KUBEADM_CONFIG, KUBEADM_CONTROL_PLANE, DCS_CLUSTER, DCS_MACHINE, SIM_CLUSTER, SIM_MACHINE, SIM_TEMPLATE];

/// The kind that a reference names.
pub fn referred(reference: &Value) -> Option<Kind> {
    let named = reference.get("kind").and_then(Value::as_str)?;
    REFERRED.iter().copied().find(|kind| kind.kind == named)
}

/// Everything that a simulated management cluster serves.
pub fn registry() -> Registry {
    static SHARED: LazyLock<Registry> = LazyLock::new(|| {
        let server = Server::new(Arc::new(Nothing), Options::default());
        let core = [Cluster::crd(), Machine::crd(), MachinePool::crd()];
        let core = core.iter().map(|definition| json!(definition));
        let ours = bootstrap_kubeadm::crds::definitions()
            .into_iter()
            .chain(controlplane_kubeadm::api::crds::definitions())
            .chain(dcs_controller::api::crd::definitions())
            .chain([SIM_CLUSTER, SIM_MACHINE, SIM_TEMPLATE].iter().map(definition));
        for definition in core.chain(ours) {
            // Kept and asked for in their newest version alone: nothing is converted.
            server.install_definition(&definition, Arc::new(|object, _| Ok(object.clone())));
        }
        server.registry()
    });
    SHARED.clone()
}

/// The definition of `KubeadmConfig`.
pub fn kubeadm_config() -> Value {
    static READ: LazyLock<Value> =
        LazyLock::new(|| bootstrap_kubeadm::crds::definitions().into_iter().next().unwrap_or_default());
    READ.clone()
}

/// The definition of a kind of the model infrastructure, as core and providers look for it.
pub fn definition(kind: &Kind) -> Value {
    json!({
        "metadata": {
            "name": format!("{}.{}", kind.plural, kind.group),
            "labels": {"cluster.x-k8s.io/v1beta2": kind.version},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {"kind": kind.kind, "plural": kind.plural},
            "versions": [{
                "name": kind.version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

/// For a server that holds nothing.
struct Nothing;

impl Sources for Nothing {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uid(&self) -> String {
        String::new()
    }

    fn name_suffix(&self) -> String {
        String::new()
    }
}
