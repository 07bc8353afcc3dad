//! What kube-controller-manager and kube-scheduler do, one pass at a time over the objects as they are. A pass that
//! changed something is followed by another, until nothing changes.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use kube_model::Server;
use parking_lot::Mutex;
use serde_json::Value;

use super::api::{Api, PODS};
use crate::guest::memory::kubeadm::pki::Authority;

pub mod accounts;
pub mod budgets;
pub mod certificates;
pub mod endpoints;
pub mod jobs;
pub mod nodes;
pub mod scheduling;
pub mod stateful_sets;
pub mod tokens;
pub mod workloads;

/// What the controller manager was started with, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Ranges of which nodes get their parts; none are given without `--allocate-node-cidrs`.
    pub cluster_cidrs: Vec<crate::guest::memory::kubeadm::Cidr>,
    /// `--node-cidr-mask-size-ipv4`
    pub ipv4_mask: u8,
    /// `--node-cidr-mask-size-ipv6`
    pub ipv6_mask: u8,
    /// Content of `--root-ca-file`, PEM; empty without it.
    pub root_authority: String,
    /// `--cluster-signing-duration`: longest life of what it signs.
    pub signing_life: Duration,
}

/// What a pass knows beside the objects.
pub struct Context<'a> {
    /// The API.
    pub api: Api<'a>,
    /// The API server's content, which decides who may do what.
    pub server: &'a Server,
    /// What the running controller manager signs with.
    pub signer: Option<&'a Authority>,
    /// The cluster's clock.
    pub now: Timestamp,
    /// The running controller manager; none runs.
    pub manager: Option<&'a Flags>,
    /// Whether a scheduler runs.
    pub schedules: bool,
    /// Since when pods, by UID, have to go from tainted nodes.
    pub noticed: &'a Mutex<HashMap<String, Timestamp>>,
    /// Nodes by name, and whether anything is still heard of them.
    pub heard: &'a BTreeMap<String, bool>,
}

impl Context<'_> {
    /// Now, as objects record it.
    pub fn time(&self) -> String {
        time(self.now)
    }
}

/// A moment as metadata records it: whole seconds.
pub fn time(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One pass of all controllers. Answers when the next is due even if nothing changes.
pub fn pass(context: &Context<'_>) -> Option<Timestamp> {
    let mut due = None;
    if context.manager.is_some() {
        due = earliest(due, nodes::pass(context));
        due = earliest(due, tokens::pass(context));
        accounts::pass(context);
        due = earliest(due, certificates::pass(context));
        workloads::pass(context);
        let pods = context.api.list(PODS, "");
        stateful_sets::pass(context, &pods);
        due = earliest(due, jobs::pass(context, &pods));
        endpoints::pass(context, &pods);
        due = earliest(due, budgets::pass(context, &pods));
    }
    if context.schedules {
        scheduling::pass(context);
    }
    due
}

/// The earlier of two moments.
pub fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A moment that an object records.
pub fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}
