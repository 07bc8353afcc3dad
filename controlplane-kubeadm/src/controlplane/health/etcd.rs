//! etcd members.

use std::collections::BTreeMap;

use cluster_api::conditions::{Claim, Status};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::names::{machine, reason},
    Subject, waiting_for_node,
};
use crate::{etcd::Member, workload::Workload};

/// A node's member may appear this much later than the node.
const MEMBER_DELAY: SignedDuration = SignedDuration::from_mins(2);

/// Conditions of machines, and what is wrong beyond machines.
pub(super) struct Judged {
    pub(super) claims: BTreeMap<String, Claim>,
    pub(super) errors: Vec<String>,
}

pub(super) fn evaluate(subjects: &[Subject], workload: &Workload) -> Judged {
    let claims = subjects.iter().map(|subject| (subject.name.clone(), member_claim(subject, workload))).collect();
    let view = workload.etcd.known();
    let stray = view.into_iter().flat_map(|view| &view.members).filter(|member| owner(subjects, member).is_none());
    Judged { claims, errors: stray.map(stray_error).collect() }
}

fn member_claim(subject: &Subject, workload: &Workload) -> Claim {
    let claim = |status, reason: &str, message: &str| Claim::new(machine::ETCD_MEMBER, status, reason, message);
    let unknown = |message: &str| claim(Status::Unknown, reason::INSPECTION_FAILED, message);
    if let Err(error) = &workload.nodes {
        return unknown(&format!("Failed to get Nodes: {error}"));
    }
    if subject.deleting {
        return claim(Status::False, reason::DELETING, "Machine is deleting");
    }
    let Some(node) = &subject.node else { return unknown(&waiting_for_node(subject)) };
    let view = match workload.etcd.known() {
        Ok(view) => view,
        Err(error) => return unknown(&format!("Failed to ask etcd: {error}")),
    };
    if !view.members.iter().any(|member| member.id == view.leader) {
        return unknown("etcd has no leader");
    }
    let not_healthy = |message: &str| claim(Status::False, reason::NOT_HEALTHY, message);
    match view.member(node) {
        None => not_healthy(&format!("Etcd doesn't have an etcd member for Node {node}")),
        Some(member) if member.learner => {
            not_healthy("Waiting for the etcd member to be promoted from learner to voter")
        }
        Some(member) if !member.alarms.is_empty() => {
            let alarms: Vec<_> = member.alarms.iter().map(|alarm| alarm.as_str()).collect();
            not_healthy(&format!("Etcd reports alarms: {}", alarms.join(", ")))
        }
        Some(_) => claim(Status::True, reason::HEALTHY, ""),
    }
}

fn owner<'a>(subjects: &'a [Subject], member: &Member) -> Option<&'a Subject> {
    subjects.iter().find(|subject| !member.name.is_empty() && subject.node.as_deref() == Some(&member.name))
}

fn stray_error(member: &Member) -> String {
    if member.name.is_empty() {
        format!("Etcd member {:x} (not started yet) does not have a corresponding Machine", member.id)
    } else {
        format!("Etcd member {} does not have a corresponding Machine", member.name)
    }
}

/// Whether members and machines fit together, apart from what may be under way.
pub fn members_match(subjects: &[Subject], workload: &Workload, now: Timestamp) -> bool {
    let Ok(view) = workload.etcd.known() else { return subjects.iter().all(|subject| subject.node.is_none()) };
    let nodes = workload.nodes.as_ref();
    let is_old = |node: &str| {
        let created =
            nodes.ok().and_then(|nodes| nodes.get(node)?.metadata.creation_timestamp.as_ref().map(|time| time.0));
        created.is_some_and(|created| now.duration_since(created) > MEMBER_DELAY)
    };
    let lacks_member = subjects
        .iter()
        .filter(|subject| !subject.deleting)
        .filter_map(|subject| subject.node.as_deref())
        .any(|node| view.member(node).is_none() && is_old(node));
    let all_have_nodes = subjects.iter().all(|subject| subject.node.is_some());
    let lacks_machine = view.members.iter().any(|member| owner(subjects, member).is_none());
    !(lacks_member || all_have_nodes && lacks_machine)
}
