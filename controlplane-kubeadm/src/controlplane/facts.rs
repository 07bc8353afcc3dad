//! What decisions know: plain values, taken from the caches, the workload cluster and the clock by `observe`.

use std::collections::BTreeMap;

use cluster_api::conditions;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

use super::names::{CLEANUP_HOOK, REMEDIATION_FOR, machine};
use crate::etcd::View;

/// Everything that a decision about one control plane may depend on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The time.
    pub now: Timestamp,
    /// Machines wanted.
    pub replicas: usize,
    /// Machines that may exist beyond that during a rollout: 0 or 1.
    pub max_surge: usize,
    /// Whether the version is 1.31 or later, where a node loses its API server with its etcd member.
    pub local_kubelet_mode: bool,
    /// Whether the API server has answered once.
    pub initialized: bool,
    /// Whether every certificate Secret exists.
    pub certificates_available: bool,
    /// A version that the topology will ask for before anything else may happen.
    pub pending_version: Option<String>,
    /// Failure domains for control plane machines.
    pub failure_domains: Vec<String>,
    /// The control plane's machines, in the order of their names.
    pub machines: Vec<MachineFact>,
    /// etcd.
    pub etcd: Etcd,
    /// Control plane nodes; `Err` is why they could not be read.
    pub nodes: Result<Vec<NodeFact>, String>,
    /// A machine was deleted for its bad health and is not replaced yet.
    pub remediation: Option<Remediation>,
    /// Limits of replacing machines for their health.
    pub retries: Retries,
    /// Breaks ties between failure domains.
    pub tie: u64,
}

/// etcd as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Etcd {
    /// Someone else's.
    External,
    /// Ours, and it could not be asked.
    Unknown(String),
    /// Ours.
    Known(View),
}

impl Etcd {
    /// Whether etcd runs on the control plane's machines.
    pub fn is_managed(&self) -> bool {
        !matches!(self, Self::External)
    }

    /// The member list, where it is known.
    pub fn view(&self) -> Option<&View> {
        match self {
            Self::Known(view) => Some(view),
            Self::External | Self::Unknown(_) => None,
        }
    }
}

/// A control plane node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFact {
    /// Name.
    pub name: String,
    /// Identity at the infrastructure.
    pub provider_id: String,
    /// When it registered.
    pub created: Timestamp,
}

/// A control plane machine.
#[derive(Clone, Debug)]
pub struct MachineFact {
    /// Name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Since when it is being deleted.
    pub deleting: Option<Timestamp>,
    /// Its node, once core or we have found it.
    pub node: Option<String>,
    /// Its identity at the infrastructure; empty until known.
    pub provider_id: String,
    /// Where it is placed; empty where nowhere in particular.
    pub failure_domain: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its conditions, ours as of this pass.
    pub conditions: Vec<Condition>,
    /// Whether its etcd pod is ready, whatever its conditions say: those of a machine that is being deleted say just that.
    pub serves_etcd: bool,
    /// Whether its API server's certificate was read once, which its configuration remembers beyond a move to another
    /// management cluster.
    pub has_served: bool,
    /// Why it is not as the spec wants it; empty when it is.
    pub outdated: Vec<String>,
}

impl MachineFact {
    /// Whether a condition is there and true.
    pub fn is_true(&self, type_: &str) -> bool {
        conditions::is_true(&self.conditions, type_)
    }

    /// Whether a condition is there and false.
    pub fn is_false(&self, type_: &str) -> bool {
        conditions::is_false(&self.conditions, type_)
    }

    /// Whether an annotation is there.
    pub fn has(&self, annotation: &str) -> bool {
        self.annotations.contains_key(annotation)
    }

    /// Whether its deletion waits for us.
    pub fn has_cleanup_hook(&self) -> bool {
        self.has(CLEANUP_HOOK)
    }

    /// Whether it is as the spec wants it.
    pub fn is_up_to_date(&self) -> bool {
        self.outdated.is_empty()
    }

    /// Whether its static pods are healthy; etcd's too where it is ours.
    pub fn has_healthy_pods(&self, managed_etcd: bool) -> bool {
        machine::COMPONENTS.iter().all(|type_| self.is_true(type_))
            && (!managed_etcd || self.is_true(machine::ETCD_POD))
    }

    /// Whether a health check wants it replaced by us.
    pub fn is_to_be_remediated(&self) -> bool {
        self.is_false(machine::HEALTH_CHECK) && self.is_false(machine::OWNER_REMEDIATED)
    }

    /// The deletion that it makes good for.
    pub fn remediation_for(&self) -> Option<Remediation> {
        Remediation::parse(self.annotations.get(REMEDIATION_FOR)?)
    }
}

/// The deletion of a machine for its bad health, as annotations keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remediation {
    /// The machine.
    pub machine: String,
    /// When it was deleted.
    pub timestamp: Timestamp,
    /// How often in a row that was tried before.
    #[serde(default)]
    pub retry_count: i32,
}

impl Remediation {
    /// From an annotation; what does not parse never happened.
    pub fn parse(annotation: &str) -> Option<Self> {
        serde_json::from_str(annotation).ok()
    }

    /// As an annotation.
    pub fn to_annotation(&self) -> String {
        let seconds = self.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ");
        serde_json::json!({"machine": self.machine, "timestamp": seconds.to_string(), "retryCount": self.retry_count})
            .to_string()
    }
}

/// Limits of replacing machines for their health.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Replacements of a replacement; unlimited when absent.
    pub limit: Option<i32>,
    /// Shortest time between two.
    pub period: SignedDuration,
    /// A machine that lasted this long does not count as a failed replacement.
    pub min_healthy: SignedDuration,
}

impl Facts {
    /// Whether etcd runs on the machines.
    pub fn managed_etcd(&self) -> bool {
        self.etcd.is_managed()
    }

    /// A machine by name.
    pub fn machine(&self, name: &str) -> Option<&MachineFact> {
        self.machines.iter().find(|machine| machine.name == name)
    }

    /// The machine on a node.
    pub fn machine_on(&self, node: &str) -> Option<&MachineFact> {
        self.machines.iter().find(|machine| machine.node.as_deref() == Some(node))
    }
}
