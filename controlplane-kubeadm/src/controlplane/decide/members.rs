//! Changes of etcd's membership: who must leave, and in what order everything around that happens.

use cluster_api::labels::PRE_TERMINATE_HOOK;
use jiff::SignedDuration;

use super::{
    super::{
        facts::{Etcd, Facts, MachineFact},
        names::{CLEANUP_HOOK, machine},
    },
    Step, Wait,
    projection::{Change, control_plane_survives, etcd_survives},
};
use crate::etcd::{Member, View};

/// No `kubeadm join` takes longer from the registration of the node to the end of etcd's part.
const JOIN_LIMIT: SignedDuration = SignedDuration::from_mins(10);

/// A member to remove because it belongs to no machine: left behind by one that is gone, or by a join that failed.
///
/// A member without a name may be joining right now, although its node has registered already; it is removed only when
/// no machine can be the one that joins.
pub fn stray(facts: &Facts) -> Option<Result<Step, Wait>> {
    let view = facts.etcd.view()?;
    if facts.machines.is_empty() || facts.machines.iter().any(|machine| machine.node.is_none()) {
        return None;
    }
    let mut strays: Vec<&Member> =
        view.members.iter().filter(|member| facts.machine_on(&member.name).is_none()).collect();
    strays.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    let stray = *strays.first()?;
    if stray.name.is_empty() {
        let may_join = facts.machines.iter().any(|machine| may_be_joining(facts, machine));
        return if may_join { None } else { Some(Ok(Step::RemoveStray { id: stray.id, name: String::new() })) };
    }
    if etcd_survives(facts, Change::Remove(&stray.name)) {
        Some(Ok(Step::RemoveStray { id: stray.id, name: stray.name.clone() }))
    } else {
        Some(Err(Wait::StrayMember(stray.name.clone())))
    }
}

/// Whether the machine's etcd member may be one without a name yet.
fn may_be_joining(facts: &Facts, machine: &MachineFact) -> bool {
    let named =
        machine.node.as_ref().is_some_and(|node| facts.etcd.view().is_some_and(|view| view.member(node).is_some()));
    if named || machine.deleting.is_some() {
        return false;
    }
    let nodes = facts.nodes.as_deref().unwrap_or_default();
    let node = nodes.iter().find(|node| Some(&node.name) == machine.node.as_ref());
    node.is_none_or(|node| facts.now.duration_since(node.created) < JOIN_LIMIT)
}

/// Whether a machine is young and its etcd member does not vote yet: its `kubeadm join` is under way, or not begun.
pub fn is_joining(facts: &Facts, machine: &MachineFact) -> bool {
    let Some(view) = facts.etcd.view() else { return false };
    let votes = machine.node.as_deref().and_then(|node| view.member(node)).is_some_and(|member| !member.learner);
    !votes && facts.now.duration_since(machine.created) < JOIN_LIMIT
}

/// What to do for the machines that are being deleted; called while there is one. Their infrastructure is kept by our
/// hook until the etcd member is gone, one machine at a time: the first that can go, since one that cannot may be waiting
/// for just that.
pub fn terminate(facts: &Facts) -> Result<Step, Wait> {
    let mut deleting: Vec<_> = facts.machines.iter().filter(|machine| machine.deleting.is_some()).collect();
    if deleting.iter().any(|machine| !machine.has_cleanup_hook()) {
        return Err(Wait::Terminating);
    }
    deleting.sort_by_key(|machine| (machine.deleting, &machine.name));
    let mut waits = Vec::new();
    for leaving in deleting {
        match let_go(facts, leaving) {
            Ok(step) => return Ok(step),
            Err(wait) => waits.push(wait),
        }
    }
    Err(waits.into_iter().next().unwrap_or(Wait::Terminating))
}

fn let_go(facts: &Facts, leaving: &MachineFact) -> Result<Step, Wait> {
    let other_hook = |annotation: &String| annotation.starts_with(PRE_TERMINATE_HOOK) && annotation != CLEANUP_HOOK;
    // With its etcd member a node of 1.31 and later loses its API server: nobody else's hook could work after ours.
    if facts.local_kubelet_mode && leaving.annotations.keys().any(other_hook) {
        return Err(Wait::OtherHook(leaving.name.clone()));
    }
    let waits_for_us = leaving.conditions.iter().any(|condition| {
        condition.type_ == "Deleting" && condition.status == "True" && condition.reason == "WaitingForPreTerminateHook"
    });
    if !waits_for_us {
        return Err(Wait::Draining(leaving.name.clone()));
    }
    let let_go = Step::LetGo { machine: leaving.name.clone(), exit: None };
    if facts.machines.len() <= 1 {
        return Ok(let_go);
    }
    if !control_plane_survives(facts, Change::Remove(&leaving.name)) {
        return Err(Wait::LastHealthy(leaving.name.clone()));
    }
    let view = match &facts.etcd {
        Etcd::External => return Ok(let_go),
        Etcd::Unknown(reason) => return Err(Wait::Unreachable(reason.clone())),
        Etcd::Known(view) => view,
    };
    if let Err(reason) = &facts.nodes {
        return Err(Wait::Unreachable(reason.clone()));
    }
    if view.members.is_empty() {
        return Err(Wait::Unreachable("etcd reports no members".to_owned()));
    }
    // No member: it never had one, or lost it in a pass that ended before the hook was removed.
    let Some(member) = member_of(facts, view, leaving)? else { return Ok(let_go) };
    if member.name.is_empty() {
        // Its `kubeadm join` is under way. Without this it could be promoted after its machine is gone, and vote for ever.
        return Ok(Step::RemoveStray { id: member.id, name: String::new() });
    }
    if !etcd_survives(facts, Change::Remove(&member.name)) {
        return Err(Wait::Quorum(leaving.name.clone()));
    }
    let exit = Exit { id: member.id, node: member.name.clone(), heir: heir(facts, leaving, &member.name)? };
    Ok(Step::LetGo { machine: leaving.name.clone(), exit: Some(exit) })
}

/// The member of a machine that is being deleted: that of its node. A machine that is still joining may have one before
/// its node is known, and before the member has a name: then it is a member that can belong to no other machine.
fn member_of<'a>(facts: &Facts, view: &'a View, leaving: &MachineFact) -> Result<Option<&'a Member>, Wait> {
    let node = leaving.node.as_deref();
    if let Some(member) = node.and_then(|node| view.member(node)) {
        return Ok(Some(member));
    }
    let may_be_its = |member: &&Member| {
        let unclaimed = facts.machine_on(&member.name).is_none();
        unclaimed && (node.is_none() || member.name.is_empty())
    };
    let candidates = view.members.iter().filter(may_be_its);
    let Some(candidate) = candidates.min_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id))) else {
        return Ok(None);
    };
    // Whose it is cannot be told while another machine joins.
    match facts.machines.iter().find(|machine| may_be_joining(facts, machine)) {
        Some(other) => Err(Wait::Join(other.name.clone())),
        None => Ok(Some(candidate)),
    }
}

/// How a member leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The member.
    pub id: u64,
    /// Its node.
    pub node: String,
    /// Nodes of members that may lead instead, best first; empty when it does not lead.
    pub heir: Vec<(u64, String)>,
}

/// Members that may lead instead of a machine's; empty when it does not lead.
pub fn heir(facts: &Facts, leaving: &MachineFact, node: &str) -> Result<Vec<(u64, String)>, Wait> {
    let Some(view) = facts.etcd.view() else { return Ok(Vec::new()) };
    if !view.members.iter().any(|member| member.id == view.leader) {
        return Err(Wait::Unreachable("etcd has no leader".to_owned()));
    }
    if !view.leads(node) {
        return Ok(Vec::new());
    }
    let mut candidates: Vec<_> = facts
        .machines
        .iter()
        .filter(|machine| machine.deleting.is_none() && machine.name != leaving.name)
        .filter_map(|machine| Some((machine, view.member(machine.node.as_deref()?)?)))
        .filter(|(_, member)| !member.learner)
        .collect();
    candidates.sort_by_key(|(machine, _)| {
        let first = |holds: bool| u8::from(!holds);
        (
            first(machine.is_true(machine::ETCD_MEMBER)),
            first(machine.is_true(machine::HEALTH_CHECK)),
            first(machine.is_up_to_date()),
            std::cmp::Reverse(machine.created),
        )
    });
    if candidates.is_empty() {
        return Err(Wait::Unreachable("no other etcd member can lead".to_owned()));
    }
    Ok(candidates.into_iter().map(|(_, member)| (member.id, member.name.clone())).collect())
}
