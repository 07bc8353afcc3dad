//! The objects of a machine as the control plane wants them.

use std::collections::BTreeMap;

use cluster_api::{
    labels::{CLONED_FROM_GROUP_KIND, CLONED_FROM_NAME, CLUSTER_NAME, CONTROL_PLANE, CONTROL_PLANE_NAME},
    v1beta2::{Bootstrap, ContractReference, Machine, MachineDeletionSpec, MachineSpec, ReadinessGate},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kubeadm::api::{
    spec::{ClusterConfiguration, JoinConfiguration, JoinControlPlane, KubeadmConfigSpec},
    v1beta2::{self as bootstrap, ConfigSpec, KubeadmConfig},
};
use serde_json::{Value, json};

use super::{
    names::{CLEANUP_HOOK, MACHINE_FINALIZER, REMEDIATION_FOR, machine},
    wanted::Wanted,
};

/// Longest value of a label.
const LABEL_LIMIT: usize = 63;
/// Feature gate that keeps kubelets talking to the API server of their own machine; on by itself from 1.36.
const LOCAL_MODE_GATE: &str = "ControlPlaneKubeletLocalMode";
/// What core sets where nothing is said, in seconds; said here so that the field does not flap.
const NODE_DELETION_TIMEOUT: i32 = 10;

/// The Machine that a control plane creates.
pub fn new_machine(
    wanted: &Wanted,
    name: &str,
    failure_domain: &str,
    infrastructure_kind: &str,
    remediation: Option<&str>,
) -> Machine {
    let reference = |api_group: &str, kind: &str| ContractReference {
        api_group: api_group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    let spec = MachineSpec {
        version: wanted.version.clone(),
        failure_domain: failure_domain.to_owned(),
        bootstrap: Bootstrap { config_ref: Some(reference(bootstrap::GROUP, "KubeadmConfig")), data_secret_name: None },
        infrastructure_ref: reference(&wanted.infrastructure.api_group, infrastructure_kind),
        ..MachineSpec::default()
    };
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    complete(wanted, metadata, spec, remediation)
}

/// An existing Machine with everything that may change in place; what identifies it stays.
pub fn existing_machine(wanted: &Wanted, current: &Machine) -> Machine {
    let spec = MachineSpec {
        version: current.spec.version.clone(),
        failure_domain: current.spec.failure_domain.clone(),
        bootstrap: Bootstrap { config_ref: current.spec.bootstrap.config_ref.clone(), data_secret_name: None },
        infrastructure_ref: current.spec.infrastructure_ref.clone(),
        ..MachineSpec::default()
    };
    let metadata = ObjectMeta {
        name: current.metadata.name.clone(),
        // With its UID an apply can only change the object, never make it anew.
        uid: current.metadata.uid.clone(),
        ..ObjectMeta::default()
    };
    let remediation = current.metadata.annotations.as_ref().and_then(|all| all.get(REMEDIATION_FOR));
    complete(wanted, metadata, spec, remediation.map(String::as_str))
}

fn complete(wanted: &Wanted, metadata: ObjectMeta, spec: MachineSpec, remediation: Option<&str>) -> Machine {
    let mut annotations = wanted.annotations.clone();
    annotations.insert(CLEANUP_HOOK.to_owned(), String::new());
    if let Some(remediation) = remediation {
        annotations.insert(REMEDIATION_FOR.to_owned(), remediation.to_owned());
    }
    let metadata = ObjectMeta {
        namespace: Some(wanted.namespace.clone()),
        labels: Some(labels(wanted)),
        annotations: Some(annotations),
        owner_references: Some(vec![wanted.controller_reference()]),
        // Core's first look at a Machine would do no more than add it; MachineSets make theirs with it too.
        finalizers: Some(vec![MACHINE_FINALIZER.to_owned()]),
        ..metadata
    };
    let spec = MachineSpec {
        cluster_name: wanted.cluster.clone(),
        readiness_gates: readiness_gates(wanted),
        deletion: Some(deletion(wanted)),
        taints: wanted.taints.clone(),
        ..spec
    };
    Machine { metadata, spec, status: None }
}

/// Limits of a machine's deletion.
pub fn deletion(wanted: &Wanted) -> MachineDeletionSpec {
    let asked = wanted.deletion.clone().unwrap_or_default();
    let node_deletion = asked.node_deletion_timeout_seconds.unwrap_or(NODE_DELETION_TIMEOUT);
    MachineDeletionSpec { node_deletion_timeout_seconds: Some(node_deletion), ..asked }
}

fn readiness_gates(wanted: &Wanted) -> Vec<ReadinessGate> {
    let mut ours = vec![machine::NODE, machine::API_SERVER, machine::CONTROLLER_MANAGER, machine::SCHEDULER];
    if wanted.has_managed_etcd() {
        ours.extend([machine::ETCD_POD, machine::ETCD_MEMBER]);
    }
    let gate = |type_: &str| ReadinessGate { condition_type: type_.to_owned(), polarity: None };
    let mut gates: Vec<_> = ours.into_iter().map(gate).collect();
    for asked in &wanted.readiness_gates {
        if gates.iter().all(|gate| gate.condition_type != asked.condition_type) {
            gates.push(asked.clone());
        }
    }
    gates
}

/// Labels of a machine and of what is made for it.
pub fn labels(wanted: &Wanted) -> BTreeMap<String, String> {
    let mut labels = wanted.labels.clone();
    labels.insert(CLUSTER_NAME.to_owned(), wanted.cluster.clone());
    labels.insert(CONTROL_PLANE.to_owned(), String::new());
    labels.insert(CONTROL_PLANE_NAME.to_owned(), label_value(&wanted.name));
    labels
}

/// A name as a label value: itself, or where it is too long a hash of it.
fn label_value(name: &str) -> String {
    if name.len() <= LABEL_LIMIT {
        return name.to_owned();
    }
    // FNV-1a, 32 bits: spread is all that is asked of it, and stability over releases.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("hash_{hash:08x}_z")
}

/// Whether a machine runs `kubeadm init` or `kubeadm join`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The first machine.
    Init,
    /// Every other one.
    Join,
}

/// The spec of a machine's KubeadmConfig.
pub fn config_spec(wanted: &Wanted, role: Role) -> KubeadmConfigSpec {
    let mut spec = wanted.config.clone();
    match role {
        Role::Init => spec.join_configuration = None,
        Role::Join => {
            spec.init_configuration = None;
            let join = spec.join_configuration.get_or_insert_with(JoinConfiguration::default);
            // Its presence is what makes this a join of the control plane.
            join.control_plane.get_or_insert_with(JoinControlPlane::default);
        }
    }
    let minor = wanted.parsed_version().map(|version| version.minor());
    if minor.is_some_and(|minor| ((1, 31)..(1, 36)).contains(&minor)) {
        let cluster = spec.cluster_configuration.get_or_insert_with(ClusterConfiguration::default);
        cluster.feature_gates.entry(LOCAL_MODE_GATE.to_owned()).or_insert(true);
    }
    spec
}

/// The KubeadmConfig of a new machine. That of the first names the endpoint that the cluster is made with: the bootstrap
/// provider need not write it there.
pub fn config(wanted: &Wanted, name: &str, role: Role) -> KubeadmConfig {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(wanted.namespace.clone()),
        labels: Some(labels(wanted)),
        annotations: Some(wanted.annotations.clone()),
        owner_references: Some(vec![wanted.plain_reference()]),
        ..ObjectMeta::default()
    };
    let mut spec = config_spec(wanted, role);
    if let (Role::Init, Some(endpoint)) = (role, &wanted.endpoint) {
        let cluster = spec.cluster_configuration.get_or_insert_default();
        if cluster.control_plane_endpoint.is_empty() {
            cluster.control_plane_endpoint.clone_from(endpoint);
        }
    }
    KubeadmConfig { metadata, spec: ConfigSpec(spec), status: None }
}

/// Why a template cannot be cloned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It has nothing to clone.
    #[error("{kind} {name} has no spec.template.spec")]
    Empty {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Kind of what a template makes.
pub fn clone_kind(template_kind: &str) -> &str {
    template_kind.strip_suffix("Template").unwrap_or(template_kind)
}

/// The infrastructure object of a new machine, cloned from its template; `api_version` is that of its own kind.
pub fn infrastructure(
    wanted: &Wanted,
    name: &str,
    api_version: &str,
    template: &Value,
) -> Result<Value, TemplateError> {
    let source = &wanted.infrastructure;
    let content = &template["spec"]["template"];
    if !content["spec"].is_object() {
        return Err(TemplateError::Empty { kind: source.kind.clone(), name: source.name.clone() });
    }
    let (labels, annotations) = infrastructure_metadata(wanted, template);
    Ok(json!({
        "apiVersion": api_version,
        "kind": clone_kind(&source.kind),
        "metadata": {
            "name": name,
            "namespace": wanted.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [wanted.plain_reference()],
        },
        "spec": content["spec"],
    }))
}

/// Labels and annotations of an infrastructure object when it is made.
fn infrastructure_metadata(wanted: &Wanted, template: &Value) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let of_template = |field: &str| -> BTreeMap<String, String> {
        serde_json::from_value(template["spec"]["template"]["metadata"][field].clone()).unwrap_or_default()
    };
    let mut labels = of_template("labels");
    labels.extend(self::labels(wanted));
    let mut annotations = of_template("annotations");
    annotations.extend(wanted.annotations.clone());
    annotations.insert(CLONED_FROM_NAME.to_owned(), wanted.infrastructure.name.clone());
    annotations.insert(CLONED_FROM_GROUP_KIND.to_owned(), wanted.template_group_kind());
    (labels, annotations)
}

/// An object of a machine without the labels and annotations that may change: what came with the infrastructure template,
/// and from which one, is fixed at creation like the spec.
pub fn without_changing(wanted: &Wanted, mut object: Value) -> Value {
    for (field, changing) in [("labels", labels(wanted)), ("annotations", wanted.annotations.clone())] {
        if let Some(fields) = object["metadata"][field].as_object_mut() {
            fields.retain(|name, _| !changing.contains_key(name));
        }
    }
    object
}

/// What is kept current on a KubeadmConfig or infrastructure object: labels and annotations alone.
pub fn metadata_only(wanted: &Wanted, object: &ObjectMeta, api_version: &str, kind: &str) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": object.name,
            "namespace": object.namespace,
            "uid": object.uid,
            "labels": labels(wanted),
            "annotations": wanted.annotations,
        },
    })
}

impl Wanted {
    /// Kind and group of the infrastructure template, as annotations write them.
    pub fn template_group_kind(&self) -> String {
        format!("{}.{}", self.infrastructure.kind, self.infrastructure.api_group)
    }

    /// This control plane as the controller of an object.
    pub fn controller_reference(&self) -> OwnerReference {
        OwnerReference { controller: Some(true), block_owner_deletion: Some(true), ..self.plain_reference() }
    }

    /// This control plane as an owner that is not the controller.
    pub fn plain_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: super::names::API_VERSION.to_owned(),
            kind: "KubeadmControlPlane".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }
}
