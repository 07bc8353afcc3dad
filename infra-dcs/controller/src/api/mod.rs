//! The five kinds of this provider in `infrastructure.cluster.x-k8s.io/v1beta1`: types, schema, validation. Pure.
//!
//! Fields, limits and spelling (also `additionNic` beside `additionalNic`) are those of the published CRDs; what is
//! added to them serves the v1beta2 contract of Cluster API.

pub mod cluster;
pub mod cluster_template;
pub mod crd;
pub mod machine;
pub mod pool;
mod schema;
pub mod template;
pub mod validation;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cluster::{DCSCluster, DCSClusterSpec, DCSClusterStatus};
pub use cluster_template::{DCSClusterTemplate, DCSClusterTemplateSpec};
pub use machine::{DCSMachine, DCSMachineSpec, DCSMachineStatus};
pub use pool::{DCSIpHostnamePool, DCSIpHostnamePoolSpec, DCSIpHostnamePoolStatus};
pub use template::{DCSMachineTemplate, DCSMachineTemplateSpec};

/// API group of all kinds.
pub const GROUP: &str = "infrastructure.cluster.x-k8s.io";

/// Finalizer of a `DCSMachine`: there before anything is made on the site, gone after everything is.
pub const MACHINE_FINALIZER: &str = "dcsmachine.infrastructure.cluster.x-k8s.io";
/// Finalizer of a `DCSCluster`.
pub const CLUSTER_FINALIZER: &str = "dcscluster.infrastructure.cluster.x-k8s.io";
/// Finalizer of a `DCSIpHostnamePool`.
pub const POOL_FINALIZER: &str = "dcsiphostnamepool.infrastructure.cluster.x-k8s.io";
/// Annotation on a Machine or `DCSMachine`: its deletion leaves the VM running and its pool entry taken.
pub const RETAIN_VM: &str = "cpaas.io/retain-vm";

/// An object of the same namespace, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalReference {
    /// Name of the object.
    #[serde(default)]
    pub name: String,
}

/// What the v1beta2 contract calls initialization.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Initialization {
    /// True once the infrastructure is provisioned; never withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<bool>,
}

/// A failure domain, as the v1beta1 contract has it. Never written: a map here fails core's reconcile of the Cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureDomain {
    /// Free-form facts about the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<std::collections::BTreeMap<String, String>>,
    /// Whether control plane machines may be put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<bool>,
}

/// A condition in the published shape, with the generation it was observed at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Last time the condition changed from one status to another.
    #[schemars(schema_with = "schema::date_time")]
    pub last_transition_time: meta::Time,
    /// Human-readable details about the last transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10240))]
    pub message: Option<String>,
    /// Generation of the object that the condition was set for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Reason for the last transition, in CamelCase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub reason: Option<String>,
    /// How grave a False status is: Error, Warning or Info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub severity: Option<String>,
    /// True, False or Unknown.
    pub status: String,
    /// Type of the condition in CamelCase.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 256))]
    pub type_: String,
}

/// Longest message that the published schema takes.
const MESSAGE_LIMIT: usize = 10240;

/// Makes the conditions of a status: those claimed, in a stable order, with transition times kept where a status did not
/// change. Empty reasons and messages are left out, as the published schema refuses them.
pub fn settle_conditions(
    before: &[Condition],
    claims: Vec<cluster_api::conditions::Claim>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let before: Vec<meta::Condition> = before.iter().map(as_meta).collect();
    cluster_api::conditions::settle(&before, claims, generation, now).into_iter().map(published).collect()
}

fn as_meta(condition: &Condition) -> meta::Condition {
    meta::Condition {
        last_transition_time: condition.last_transition_time.clone(),
        message: condition.message.clone().unwrap_or_default(),
        observed_generation: condition.observed_generation,
        reason: condition.reason.clone().unwrap_or_default(),
        status: condition.status.clone(),
        type_: condition.type_.clone(),
    }
}

fn published(condition: meta::Condition) -> Condition {
    let mut message = condition.message;
    if message.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT - 4).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str(" ...");
    }
    Condition {
        last_transition_time: condition.last_transition_time,
        message: Some(message).filter(|text| !text.is_empty()),
        observed_generation: condition.observed_generation,
        severity: severity(&condition.type_, &condition.reason).map(str::to_owned),
        reason: Some(condition.reason).filter(|text| !text.is_empty()),
        status: condition.status,
        type_: condition.type_,
    }
}

/// How grave a condition is, where the published documentation says so.
fn severity(type_: &str, reason: &str) -> Option<&'static str> {
    match (type_, reason) {
        ("VMStopPending", "WaitingForStop") => Some("Info"),
        ("VMStopPending", "VMMidTransition") => Some("Warning"),
        _ => None,
    }
}

/// The condition of a type.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
