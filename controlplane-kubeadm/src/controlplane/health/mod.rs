//! Health of machines and of the control plane as conditions: from what was read in the workload cluster, or from the
//! fact that it could not be read.

mod aggregate;
mod etcd;
mod pods;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cluster_api::conditions::{Claim, Status};

use super::{
    facts::Etcd,
    names::{condition, machine, reason},
};
use crate::workload::Workload;

pub(super) use aggregate::listed;
pub use etcd::members_match;
pub use pods::serves_etcd;

/// A control plane machine as its health is judged.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name.
    pub name: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its node, once core has found it.
    pub node: Option<String>,
    /// Its identity at the infrastructure; empty until known.
    pub provider_id: String,
    /// Kind of its infrastructure object.
    pub infrastructure_kind: String,
    /// Whether kubeadm or core give its node the control plane's taint.
    pub expects_taint: bool,
}

/// What conditions say of a control plane's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Conditions of machines, by name of the machine.
    pub machines: BTreeMap<String, Vec<Claim>>,
    /// Conditions of the control plane.
    pub control_plane: Vec<Claim>,
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    /// `ConnectionDown` or `InspectionFailed`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Health as read from the workload cluster.
pub fn evaluate(subjects: &[Subject], workload: &Workload) -> Health {
    let managed = workload.etcd.is_managed();
    let pods = pods::evaluate(subjects, workload, managed);
    let mut health = Health { machines: pods.claims, control_plane: Vec::new() };
    let component_types: &[&str] = if managed {
        &[machine::API_SERVER, machine::CONTROLLER_MANAGER, machine::SCHEDULER, machine::ETCD_POD]
    } else {
        &[machine::API_SERVER, machine::CONTROLLER_MANAGER, machine::SCHEDULER]
    };
    let components = match &workload.nodes {
        Err(error) => blind_claim(condition::COMPONENTS, error),
        Ok(_) => aggregate::claim(condition::COMPONENTS, subjects, &health.machines, component_types, &pods.errors),
    };
    health.control_plane.push(components);
    if managed {
        let members = etcd::evaluate(subjects, workload);
        for (name, claim) in members.claims {
            health.machines.entry(name).or_default().push(claim);
        }
        let claim = match &workload.nodes {
            Err(error) => blind_claim(condition::ETCD, error),
            Ok(_) => {
                aggregate::claim(condition::ETCD, subjects, &health.machines, &[machine::ETCD_MEMBER], &members.errors)
            }
        };
        health.control_plane.push(claim);
    }
    health
}

fn blind_claim(type_: &str, error: &str) -> Claim {
    Claim::new(
        type_,
        Status::Unknown,
        reason::INSPECTION_FAILED,
        format!("Failed to get Nodes hosting the control plane: {error}"),
    )
}

/// Health when nothing could be read.
pub fn unknown(subjects: &[Subject], managed_etcd: bool, blind: &Blind) -> Health {
    let claim = |type_: &str| Claim::new(type_, Status::Unknown, blind.reason, blind.message.clone());
    let types = machine_types(managed_etcd);
    let machines =
        subjects.iter().map(|subject| (subject.name.clone(), types.iter().map(|type_| claim(type_)).collect()));
    let control_plane =
        [condition::COMPONENTS, condition::ETCD].into_iter().filter(|type_| managed_etcd || *type_ != condition::ETCD);
    Health { machines: machines.collect(), control_plane: control_plane.map(claim).collect() }
}

/// The health conditions of a machine.
pub fn machine_types(managed_etcd: bool) -> &'static [&'static str] {
    const ALL: [&str; 6] = [
        machine::NODE,
        machine::API_SERVER,
        machine::CONTROLLER_MANAGER,
        machine::SCHEDULER,
        machine::ETCD_POD,
        machine::ETCD_MEMBER,
    ];
    if managed_etcd { &ALL } else { &ALL[..4] }
}

/// Why a machine without a node tells nothing.
fn waiting_for_node(subject: &Subject) -> String {
    if subject.provider_id.is_empty() {
        format!("Waiting for {} to report spec.providerID", subject.infrastructure_kind)
    } else {
        format!("Waiting for a Node with spec.providerID {} to exist", subject.provider_id)
    }
}

impl Etcd {
    /// The member list, or why it is not known.
    fn known(&self) -> Result<&crate::etcd::View, &str> {
        match self {
            Self::Known(view) => Ok(view),
            Self::Unknown(reason) => Err(reason),
            Self::External => Err("etcd is external"),
        }
    }
}
