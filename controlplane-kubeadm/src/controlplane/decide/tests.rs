mod simulation;

use std::collections::BTreeMap;

use cluster_api::{conditions, labels};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    super::{
        facts::{Etcd, MachineFact, NodeFact, Retries},
        names::{CLEANUP_HOOK, REMEDIATION_FOR, machine},
    },
    *,
};
use crate::etcd::{Member, View};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

const HEALTH: [&str; 5] =
    [machine::API_SERVER, machine::CONTROLLER_MANAGER, machine::SCHEDULER, machine::ETCD_POD, machine::ETCD_MEMBER];

fn set(machine: &mut MachineFact, type_: &str, holds: bool, reason: &str) {
    machine.conditions.retain(|condition| condition.type_ != type_);
    machine.conditions.extend(conditions::settle(&[], vec![Claim::new(type_, holds, reason, "")], None, now()));
}

/// A healthy machine `m1` on node `n1`, made one hour ago and `age` minutes.
fn healthy(index: usize, age: i64) -> MachineFact {
    let mut machine = MachineFact {
        name: format!("m{index}"),
        created: now() - (60 + age).minutes(),
        deleting: None,
        node: Some(format!("n{index}")),
        provider_id: format!("p{index}"),
        failure_domain: String::new(),
        annotations: BTreeMap::from([(CLEANUP_HOOK.to_owned(), String::new())]),
        conditions: Vec::new(),
        serves_etcd: true,
        has_served: true,
        outdated: Vec::new(),
    };
    for type_ in HEALTH {
        set(&mut machine, type_, true, "Running");
    }
    machine
}

fn member(index: usize) -> Member {
    Member { id: 0xf000_0000_0000_0000 + index as u64, name: format!("n{index}"), learner: false, alarms: Vec::new() }
}

fn node(index: usize, age: i64) -> NodeFact {
    NodeFact { name: format!("n{index}"), provider_id: format!("p{index}"), created: now() - age.minutes() }
}

/// A settled control plane of so many machines, the first leading etcd.
fn settled(count: usize) -> Facts {
    let members: Vec<_> = (1..=count).map(member).collect();
    Facts {
        now: now(),
        replicas: count,
        max_surge: 1,
        local_kubelet_mode: true,
        initialized: true,
        certificates_available: true,
        pending_version: None,
        failure_domains: Vec::new(),
        machines: (1..=count).map(|index| healthy(index, 10 - index as i64)).collect(),
        etcd: Etcd::Known(View { leader: members.first().map_or(0, |member| member.id), members }),
        nodes: Ok((1..=count).map(|index| node(index, 50)).collect()),
        remediation: None,
        retries: Retries { limit: None, period: SignedDuration::ZERO, min_healthy: SignedDuration::from_hours(1) },
        tie: 0,
    }
}

fn view(facts: &mut Facts) -> &mut View {
    match &mut facts.etcd {
        Etcd::Known(view) => view,
        _ => panic!("etcd is known here"),
    }
}

fn deleting(facts: &mut Facts, index: usize) {
    let machine = &mut facts.machines[index];
    machine.deleting = Some(now() - 1.minutes());
    set(machine, "Deleting", true, "WaitingForPreTerminateHook");
    set(machine, machine::ETCD_MEMBER, false, "Deleting");
    for type_ in &HEALTH[..4] {
        set(machine, type_, false, "Deleting");
    }
}

fn blocked(facts: &Facts) -> Blocked {
    match next(facts).next {
        Err(Wait::Preflight(blocked)) => blocked,
        other => panic!("expected preflight checks to block, got {other:?}"),
    }
}

#[test]
fn a_settled_control_plane_is_left_alone() {
    assert_eq!(next(&settled(3)).next, Ok(Step::Settle));
}

#[test]
fn the_first_machine_initializes() {
    let facts = Facts { replicas: 3, initialized: false, failure_domains: vec!["a".to_owned()], ..settled(0) };
    let create = Step::Create { init: true, failure_domain: "a".to_owned(), rollout: false };
    assert_eq!(next(&facts).next, Ok(create));
}

#[test]
fn a_first_machine_that_never_served_is_replaced_when_the_spec_is_corrected() {
    let mut facts =
        Facts { replicas: 3, initialized: false, etcd: Etcd::Unknown("not initialized".to_owned()), ..settled(1) };
    let first = &mut facts.machines[0];
    (first.node, first.has_served, first.outdated) = (None, false, vec!["version".to_owned()]);
    first.conditions.clear();
    let delete = Step::Delete { machine: first.name.clone(), handover: None, rollout: false };
    assert_eq!(next(&facts).next, Ok(delete));

    // Whoever may hold the cluster's state stays, whatever cannot be seen for the moment.
    let mut served = facts.clone();
    served.machines[0].has_served = true;
    let mut registered = facts.clone();
    registered.machines[0].node = Some("n1".to_owned());
    let initialized = Facts { initialized: true, ..facts.clone() };
    let changing = Facts { pending_version: Some("v1.36.3".to_owned()), ..facts.clone() };
    for facts in [served, registered, initialized, changing] {
        assert!(blocked(&facts).is_blocked());
    }
    facts.machines[0].outdated.clear();
    assert!(blocked(&facts).is_blocked(), "a machine that boots is given its time");
}

#[test]
fn the_second_machine_waits_for_the_first() {
    let mut facts =
        Facts { replicas: 3, initialized: false, etcd: Etcd::Unknown("not initialized".to_owned()), ..settled(1) };
    facts.machines[0].node = None;
    facts.machines[0].conditions.clear();
    let blocked = blocked(&facts);
    assert!(blocked.components_unhealthy && blocked.etcd_unhealthy);
    let healthy = Facts { replicas: 3, ..settled(1) };
    assert_eq!(next(&healthy).next, Ok(Step::Create { init: false, failure_domain: String::new(), rollout: false }));
}

#[test]
fn a_join_waits_for_certificates_versions_and_learners() {
    let mut facts = Facts { replicas: 5, ..settled(3) };
    facts.certificates_available = false;
    assert!(blocked(&facts).certificates_missing);
    facts.pending_version = Some("v1.35.0".to_owned());
    assert_eq!(blocked(&facts).lines(), ["* waiting for a version upgrade to v1.35.0 to be propagated"]);
    let mut joining = Facts { replicas: 5, ..settled(3) };
    view(&mut joining).members[2].learner = true;
    set(&mut joining.machines[2], machine::ETCD_MEMBER, false, "NotHealthy");
    assert!(blocked(&joining).etcd_unhealthy);
}

#[test]
fn a_scale_down_takes_the_oldest_and_hands_leadership_to_the_newest() {
    let facts = Facts { replicas: 1, ..settled(3) };
    let heirs = vec![(member(3).id, "n3".to_owned()), (member(2).id, "n2".to_owned())];
    let delete = Step::Delete { machine: "m1".to_owned(), handover: Some(("n1".to_owned(), heirs)), rollout: false };
    assert_eq!(next(&facts).next, Ok(delete));
}

#[test]
fn a_scale_down_takes_what_the_user_marked() {
    let mut facts = Facts { replicas: 1, ..settled(3) };
    facts.machines[1].annotations.insert(labels::DELETE_MACHINE.to_owned(), String::new());
    assert!(matches!(next(&facts).next, Ok(Step::Delete { machine, handover: None, .. }) if machine == "m2"));
}

#[test]
fn a_scale_down_relieves_the_fullest_failure_domain() {
    let mut facts = Facts { replicas: 1, failure_domains: vec!["a".to_owned(), "b".to_owned()], ..settled(3) };
    for (machine, domain) in facts.machines.iter_mut().zip(["a", "b", "b"]) {
        machine.failure_domain = domain.to_owned();
    }
    assert!(matches!(next(&facts).next, Ok(Step::Delete { machine, .. }) if machine == "m2"));
}

#[test]
fn a_machine_is_let_go_after_its_member_and_only_when_drained() {
    let mut facts = settled(3);
    deleting(&mut facts, 0);
    let heirs = vec![(member(3).id, "n3".to_owned()), (member(2).id, "n2".to_owned())];
    let exit = Exit { id: member(1).id, node: "n1".to_owned(), heir: heirs };
    assert_eq!(next(&facts).next, Ok(Step::LetGo { machine: "m1".to_owned(), exit: Some(exit) }));
    set(&mut facts.machines[0], "Deleting", true, "DrainingNode");
    assert_eq!(next(&facts).next, Err(Wait::Draining("m1".to_owned())));
}

#[test]
fn of_two_machines_that_go_the_first_is_let_go_while_the_second_serves() {
    let mut facts = settled(3);
    deleting(&mut facts, 0);
    deleting(&mut facts, 1);
    assert!(matches!(next(&facts).next, Ok(Step::LetGo { machine, exit: Some(_) }) if machine == "m1"));
    facts.machines[1].serves_etcd = false;
    assert!(
        matches!(next(&facts).next, Ok(Step::LetGo { machine, .. }) if machine == "m2"),
        "the second is dead already"
    );
    facts.machines[1].serves_etcd = true;
    set(&mut facts.machines[2], machine::ETCD_MEMBER, false, "NotHealthy");
    assert_eq!(next(&facts).next, Err(Wait::Quorum("m1".to_owned())));
}

#[test]
fn a_broken_machine_goes_before_one_that_is_needed_until_then() {
    let mut facts = settled(3);
    deleting(&mut facts, 1);
    unhealthy(&mut facts.machines[0]);
    facts.machines[0].serves_etcd = false;
    set(&mut facts.machines[0], machine::ETCD_MEMBER, false, "NotHealthy");
    assert!(matches!(next(&facts).next, Ok(Step::Remediate { record, .. }) if record.machine == "m1"));
    // It is being deleted now, later than the other, and yet it is the one that can go.
    let other = facts.machines[1].deleting;
    deleting(&mut facts, 0);
    facts.machines[0].deleting = other.map(|time| time + 1.seconds());
    view(&mut facts).leader = member(3).id;
    assert!(matches!(next(&facts).next, Ok(Step::LetGo { machine, exit: Some(_) }) if machine == "m1"));
}

#[test]
fn a_machine_without_a_member_is_let_go_at_once() {
    let mut facts = settled(3);
    deleting(&mut facts, 0);
    view(&mut facts).members.remove(0);
    view(&mut facts).leader = member(2).id;
    assert_eq!(next(&facts).next, Ok(Step::LetGo { machine: "m1".to_owned(), exit: None }));
}

/// Three machines of which the third is being deleted while it joins: core does not know its node yet.
fn deleted_while_joining() -> Facts {
    let mut facts = settled(3);
    deleting(&mut facts, 2);
    facts.machines[2].node = None;
    facts
}

#[test]
fn the_member_of_a_machine_that_goes_while_it_joins_leaves_first() {
    let mut unnamed = deleted_while_joining();
    view(&mut unnamed).members[2] = Member { name: String::new(), learner: true, ..member(3) };
    assert_eq!(next(&unnamed).next, Ok(Step::RemoveStray { id: member(3).id, name: String::new() }));
    // It votes already: it leaves like any other, with the quorum of the rest looked at.
    let mut named = deleted_while_joining();
    let exit = Exit { id: member(3).id, node: "n3".to_owned(), heir: Vec::new() };
    assert_eq!(next(&named).next, Ok(Step::LetGo { machine: "m3".to_owned(), exit: Some(exit) }));
    set(&mut named.machines[1], machine::ETCD_MEMBER, false, "NotHealthy");
    assert_eq!(next(&named).next, Err(Wait::Quorum("m3".to_owned())));
    // Another machine joins too: whose member it is cannot be told.
    let mut two = deleted_while_joining();
    let mut other = healthy(4, 1);
    other.node = None;
    two.machines.push(other);
    assert_eq!(next(&two).next, Err(Wait::Join("m4".to_owned())));
    let mut none = deleted_while_joining();
    view(&mut none).members.pop();
    assert_eq!(next(&none).next, Ok(Step::LetGo { machine: "m3".to_owned(), exit: None }));
}

/// One machine was to be replaced, and is wanted again while its replacement joins.
#[test]
fn a_rollout_that_is_taken_back_waits_for_the_join_that_is_under_way() {
    let mut facts = Facts { replicas: 1, ..settled(2) };
    facts.machines[1].outdated.push("Version v1.35.0, v1.34.5 required".to_owned());
    facts.machines[1].created = now() - 1.minutes();
    let joined = facts.clone();
    view(&mut facts).members[1].learner = true;
    set(&mut facts.machines[1], machine::ETCD_MEMBER, false, "NotHealthy");
    assert_eq!(next(&facts).next, Err(Wait::Join("m2".to_owned())));
    view(&mut facts).members.pop();
    facts.machines[1].node = None;
    assert_eq!(next(&facts).next, Err(Wait::Join("m2".to_owned())), "it may begin at any moment");
    facts.machines[1].created = now() - 30.minutes();
    assert!(matches!(next(&facts).next, Ok(Step::Delete { machine, .. }) if machine == "m2"), "it failed");
    assert!(matches!(next(&joined).next, Ok(Step::Delete { machine, .. }) if machine == "m2"));
}

#[test]
fn in_a_cluster_that_is_silent_only_the_last_machine_may_go() {
    let mut last = settled(1);
    deleting(&mut last, 0);
    assert_eq!(next_unseen(&last, "timeout").next, Ok(Step::LetGo { machine: "m1".to_owned(), exit: None }));
    let mut one_of_two = settled(2);
    deleting(&mut one_of_two, 0);
    for facts in [settled(1), one_of_two, Facts { replicas: 3, ..settled(1) }, Facts { replicas: 1, ..settled(0) }] {
        assert_eq!(next_unseen(&facts, "timeout").next, Err(Wait::Unreachable("timeout".to_owned())));
    }
}

#[test]
fn nobody_leaves_while_etcd_would_lose_quorum_or_somebody_joins() {
    let mut facts = settled(3);
    deleting(&mut facts, 0);
    set(&mut facts.machines[1], machine::ETCD_MEMBER, false, "NotHealthy");
    assert_eq!(next(&facts).next, Err(Wait::Quorum("m1".to_owned())));
    let mut joining = settled(3);
    deleting(&mut joining, 0);
    view(&mut joining).members[2].learner = true;
    assert_eq!(next(&joining).next, Err(Wait::Quorum("m1".to_owned())));
    let mut unseen = settled(3);
    deleting(&mut unseen, 0);
    unseen.etcd = Etcd::Unknown("timeout".to_owned());
    assert!(matches!(next(&unseen).next, Err(Wait::Unreachable(_))));
}

#[test]
fn other_hooks_go_first_and_two_deletions_go_one_after_the_other() {
    let mut facts = settled(3);
    deleting(&mut facts, 1);
    facts.machines[1].annotations.insert(format!("{}/storage", labels::PRE_TERMINATE_HOOK), String::new());
    assert_eq!(next(&facts).next, Err(Wait::OtherHook("m2".to_owned())));
    facts.local_kubelet_mode = false;
    assert!(matches!(next(&facts).next, Ok(Step::LetGo { .. })));
    deleting(&mut facts, 2);
    facts.machines[2].annotations.remove(CLEANUP_HOOK);
    assert_eq!(next(&facts).next, Err(Wait::Terminating));
}

#[test]
fn the_last_machine_is_let_go_without_etcd() {
    let mut facts = settled(1);
    deleting(&mut facts, 0);
    facts.etcd = Etcd::Unknown("gone".to_owned());
    assert_eq!(next(&facts).next, Ok(Step::LetGo { machine: "m1".to_owned(), exit: None }));
}

#[test]
fn a_member_that_may_be_joining_is_never_removed() {
    let mut facts = settled(3);
    // The third machine's node has registered; its learner has not started yet.
    view(&mut facts).members[2] = Member { name: String::new(), learner: true, ..member(3) };
    facts.nodes.as_mut().unwrap()[2].created = now() - 2.minutes();
    set(&mut facts.machines[2], machine::ETCD_MEMBER, false, "NotHealthy");
    assert_eq!(next(&facts).next, Ok(Step::Settle), "a join may take that long");
    facts.machines[2].node = None;
    assert!(!matches!(next(&facts).next, Ok(Step::RemoveStray { .. })), "its machine is being provisioned");
    facts.machines[2].node = Some("n3".to_owned());
    facts.nodes.as_mut().unwrap()[2].created = now() - 30.minutes();
    assert_eq!(next(&facts).next, Ok(Step::RemoveStray { id: member(3).id, name: String::new() }));
}

#[test]
fn a_member_of_nobody_is_removed_unless_quorum_depends_on_it() {
    let mut facts = settled(3);
    view(&mut facts).members.push(member(9));
    assert_eq!(next(&facts).next, Ok(Step::RemoveStray { id: member(9).id, name: "n9".to_owned() }));
    set(&mut facts.machines[1], machine::ETCD_MEMBER, false, "NotHealthy");
    set(&mut facts.machines[2], machine::ETCD_MEMBER, false, "NotHealthy");
    assert_eq!(next(&facts).next, Err(Wait::StrayMember("n9".to_owned())));
}

#[test]
fn a_rollout_adds_first_where_it_may_and_removes_the_outdated() {
    let mut facts = settled(3);
    facts.machines.iter_mut().for_each(|machine| machine.outdated.push("Version v1.34.0, v1.35.0 required".to_owned()));
    assert_eq!(next(&facts).next, Ok(Step::Create { init: false, failure_domain: String::new(), rollout: true }));
    let mut surged = Facts { replicas: 3, ..settled(4) };
    surged.machines[1].outdated.push("KubeadmConfig is not up-to-date".to_owned());
    assert!(matches!(next(&surged).next, Ok(Step::Delete { machine, rollout: true, .. }) if machine == "m2"));
    facts.max_surge = 0;
    assert!(matches!(next(&facts).next, Ok(Step::Delete { machine, rollout: true, .. }) if machine == "m1"));
}

fn unhealthy(machine: &mut MachineFact) {
    set(machine, machine::HEALTH_CHECK, false, "NodeStartupTimeout");
    set(machine, machine::OWNER_REMEDIATED, false, "WaitingForRemediation");
}

#[test]
fn a_broken_machine_is_replaced_where_the_rest_carries_the_cluster() {
    let mut facts = settled(3);
    unhealthy(&mut facts.machines[1]);
    set(&mut facts.machines[1], machine::ETCD_MEMBER, false, "NotHealthy");
    let decision = next(&facts);
    assert!(
        matches!(&decision.next, Ok(Step::Remediate { record, .. }) if record.machine == "m2" && record.retry_count == 0)
    );
    set(&mut facts.machines[2], machine::ETCD_MEMBER, false, "NotHealthy");
    let refused = next(&facts);
    assert!(!matches!(refused.next, Ok(Step::Remediate { .. })));
    let claim = refused.remediated["m2"].clone().unwrap();
    assert_eq!(claim.reason, "CannotBeRemediated");
}

#[test]
fn before_the_first_start_only_a_single_machine_is_replaced() {
    let mut facts = Facts { initialized: false, etcd: Etcd::Unknown("silent".to_owned()), ..settled(1) };
    unhealthy(&mut facts.machines[0]);
    assert!(matches!(next(&facts).next, Ok(Step::Remediate { .. })));
    let mut moved = Facts { initialized: false, etcd: Etcd::Unknown("silent".to_owned()), ..settled(3) };
    unhealthy(&mut moved.machines[0]);
    let decision = next(&moved);
    assert!(!matches!(decision.next, Ok(Step::Remediate { .. } | Step::Delete { .. })));
    assert_eq!(decision.remediated["m1"].clone().unwrap().reason, "RemediationDeferred");
}

#[test]
fn a_replacement_is_made_although_others_are_unhealthy_too() {
    let mut facts = Facts { replicas: 5, ..settled(4) };
    let record = Remediation { machine: "m5".to_owned(), timestamp: now() - 1.minutes(), retry_count: 0 };
    facts.remediation = Some(record);
    set(&mut facts.machines[3], machine::ETCD_POD, false, "Failed");
    assert!(matches!(next(&facts).next, Ok(Step::Create { .. })));
    facts.remediation = None;
    assert!(blocked(&facts).etcd_unhealthy);
}

#[test]
fn retries_are_limited() {
    let mut facts = settled(3);
    facts.retries.limit = Some(1);
    unhealthy(&mut facts.machines[1]);
    let last = Remediation { machine: "m0".to_owned(), timestamp: now() - 10.minutes(), retry_count: 1 };
    facts.machines[1].annotations.insert(REMEDIATION_FOR.to_owned(), last.to_annotation());
    let refused = next(&facts).remediated["m2"].clone().unwrap();
    assert!(refused.reason == "CannotBeRemediated" && refused.message.contains("maxRetry"));
    facts.now = now() + 2.hours();
    assert!(matches!(next(&facts).next, Ok(Step::Remediate { record, .. }) if record.retry_count == 0));
}

#[test]
fn a_deletion_that_needs_no_replacement_holds_up_no_other() {
    let mut facts = settled(3);
    facts.remediation = Some(Remediation { machine: "m4".to_owned(), timestamp: now() - 1.minutes(), retry_count: 0 });
    unhealthy(&mut facts.machines[1]);
    let decision = next(&facts);
    assert!(decision.forget_remediation && matches!(decision.next, Ok(Step::Remediate { .. })));
}

#[test]
fn a_broken_machine_that_never_joined_goes_before_a_voter() {
    let mut facts = Facts { replicas: 3, ..settled(4) };
    for index in [0, 3] {
        unhealthy(&mut facts.machines[index]);
        set(&mut facts.machines[index], machine::ETCD_MEMBER, false, "NotHealthy");
    }
    view(&mut facts).members[3].learner = true;
    let decision = next(&facts);
    assert!(matches!(decision.next, Ok(Step::Remediate { record, .. }) if record.machine == "m4"));
    assert_eq!(decision.remediated["m1"].clone().unwrap().reason, "CannotBeRemediated");
}

#[test]
fn a_replacement_that_waits_for_a_broken_machine_lets_it_go_first() {
    let mut facts = Facts { replicas: 5, ..settled(3) };
    facts.remediation = Some(Remediation { machine: "m4".to_owned(), timestamp: now() - 1.minutes(), retry_count: 2 });
    unhealthy(&mut facts.machines[1]);
    assert!(matches!(next(&facts).next, Ok(Step::Create { .. })), "nothing holds the replacement up");
    set(&mut facts.machines[1], machine::ETCD_MEMBER, false, "NotHealthy");
    let removed = next(&facts).next;
    assert!(matches!(removed, Ok(Step::Remediate { record, .. }) if record.machine == "m2" && record.retry_count == 2));
}

#[test]
fn a_recorded_deletion_that_never_happened_is_done_again() {
    let mut facts = settled(3);
    facts.remediation = Some(Remediation { machine: "m2".to_owned(), timestamp: now(), retry_count: 0 });
    unhealthy(&mut facts.machines[1]);
    let decision = next(&facts);
    assert!(decision.forget_remediation && matches!(decision.next, Ok(Step::Remediate { .. })));
}

#[test]
fn a_control_plane_goes_after_its_workers() {
    use delete::{Deletion, next};
    assert_eq!(next(0, &["w".to_owned()], &[]), Deletion::Completed);
    assert!(matches!(next(3, &["w".to_owned()], &[]), Deletion::WaitingForWorkers { .. }));
    assert!(matches!(next(3, &[], &["p".to_owned()]), Deletion::WaitingForWorkers { .. }));
    assert_eq!(next(3, &[], &[]), Deletion::DeleteMachines);
}

/// What is true of a machine or member, from which both etcd's view and the conditions follow.
#[derive(Clone, Debug)]
struct Truth {
    has_machine: bool,
    has_node: bool,
    is_member: bool,
    named: bool,
    learner: bool,
    healthy: bool,
    deleting: bool,
    outdated: bool,
    unhealthy: bool,
    node_age: i64,
}

fn truth() -> impl Strategy<Value = Truth> {
    let often = || prop::bool::weighted(0.85);
    let seldom = || prop::bool::weighted(0.15);
    let shape = (often(), often(), often(), often(), seldom(), often());
    (shape, (seldom(), seldom(), seldom(), 0..60_i64)).prop_map(|(shape, rest)| {
        let (has_machine, has_node, is_member, named, learner, healthy) = shape;
        let (deleting, outdated, unhealthy, node_age) = rest;
        // A member that never started has never been promoted.
        let learner = learner || !named;
        Truth { has_machine, has_node, is_member, named, learner, healthy, deleting, outdated, unhealthy, node_age }
    })
}

fn facts_of(truths: &[Truth], replicas: usize, max_surge: usize, leader: usize) -> Facts {
    let mut facts = Facts { replicas, max_surge, ..settled(0) };
    let (mut members, mut nodes) = (Vec::new(), Vec::new());
    for (index, truth) in truths.iter().enumerate() {
        if truth.is_member {
            let name = if truth.named { format!("n{index}") } else { String::new() };
            members.push(Member { name, learner: truth.learner, ..member(index) });
        }
        if !truth.has_machine {
            continue;
        }
        let mut machine = healthy(index, index as i64);
        machine.serves_etcd = truth.healthy && truth.has_node;
        let is_healthy = truth.healthy && truth.is_member && truth.named && !truth.learner && !truth.deleting;
        set(&mut machine, machine::ETCD_MEMBER, is_healthy, "Judged");
        if !truth.healthy {
            set(&mut machine, machine::API_SERVER, false, "Failed");
        }
        if truth.has_node {
            nodes.push(node(index, truth.node_age));
        } else {
            machine.node = None;
            machine.conditions.clear();
        }
        if truth.outdated {
            machine.outdated.push("Version".to_owned());
        }
        if truth.unhealthy {
            unhealthy(&mut machine);
        }
        if truth.deleting {
            machine.deleting = Some(now());
            set(&mut machine, "Deleting", true, "WaitingForPreTerminateHook");
        }
        facts.machines.push(machine);
    }
    let leader = members.get(leader % members.len().max(1)).map_or(0, |member| member.id);
    facts.etcd = Etcd::Known(View { members, leader });
    facts.nodes = Ok(nodes);
    facts
}

/// Healthy voters and quorum of etcd without a member.
fn after(truths: &[Truth], gone: Option<usize>) -> (usize, usize) {
    let left = truths.iter().enumerate().filter(|(index, truth)| truth.is_member && Some(*index) != gone);
    let voters: Vec<_> = left.map(|(_, truth)| truth).filter(|truth| truth.named && !truth.learner).collect();
    // A machine that is being deleted still serves; nobody vouches for a member without a machine or node.
    let healthy = voters.iter().filter(|truth| truth.healthy && truth.has_machine && truth.has_node).count();
    (healthy, voters.len() / 2 + 1)
}

fn index_of(id: u64) -> usize {
    usize::try_from(id - member(0).id).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Whatever state a cluster is in: after what we do to its members, its healthy voters are a quorum; nobody who may
    /// be joining is removed; nobody is added while somebody joins; at most one machine leaves at a time.
    #[test]
    fn membership_changes_keep_quorum(
        truths in prop::collection::vec(truth(), 0..8),
        replicas in prop::sample::select(vec![1_usize, 3, 5]),
        max_surge in 0..2_usize,
        leader in 0..8_usize,
    ) {
        let facts = facts_of(&truths, replicas, max_surge, leader);
        match next(&facts).next {
            Ok(Step::RemoveStray { id, name }) => {
                let index = index_of(id);
                prop_assert!(facts.machines.iter().all(|machine| machine.node.as_deref() != Some(name.as_str())));
                if name.is_empty() {
                    // It does not vote: quorum cannot suffer. But nobody may be joining under it.
                    for (index, truth) in truths.iter().enumerate().filter(|(_, truth)| truth.has_machine && !truth.deleting) {
                        let named = truths[index].is_member && truths[index].named;
                        prop_assert!(truth.has_node && (named || truth.node_age >= 10));
                    }
                } else {
                    let (healthy, quorum) = after(&truths, Some(index));
                    prop_assert!(healthy >= quorum, "{healthy} of {quorum}");
                }
            }
            Ok(Step::LetGo { exit: Some(exit), .. }) => {
                let (healthy, quorum) = after(&truths, Some(index_of(exit.id)));
                prop_assert!(healthy >= quorum, "{healthy} of {quorum}");
                prop_assert!(truths.iter().enumerate().all(|(index, truth)| {
                    !truth.is_member || !truth.learner || index == index_of(exit.id)
                }), "somebody is joining");
                prop_assert!(exit.heir.iter().all(|(id, _)| !truths[index_of(*id)].learner && *id != exit.id));
            }
            Ok(Step::Create { init, .. }) => {
                prop_assert_eq!(init, facts.machines.is_empty());
                prop_assert!(facts.machines.iter().all(|machine| machine.deleting.is_none()));
                prop_assert!(init || truths.iter().all(|truth| {
                    !truth.is_member || !truth.learner || !truth.has_machine
                }), "somebody is joining");
                prop_assert!(facts.machines.len() < replicas + max_surge);
            }
            Ok(Step::Delete { .. }) => {
                prop_assert!(facts.machines.iter().all(|machine| machine.deleting.is_none()));
            }
            Ok(Step::Remediate { record, .. }) => {
                let index: usize = record.machine[1..].parse().unwrap();
                let (healthy, quorum) = after(&truths, Some(index));
                prop_assert!(!truths[index].deleting && truths[index].unhealthy);
                prop_assert!(healthy >= quorum || !truths[index].has_node, "{healthy} of {quorum}");
            }
            Ok(Step::LetGo { machine, exit: None }) => {
                // Its infrastructure goes next: no member may be left behind that could be its own.
                let index: usize = machine[1..].parse().unwrap();
                prop_assert!(facts.machines.len() <= 1 || !truths[index].is_member, "{machine} leaves a member behind");
            }
            Ok(Step::Settle) | Err(_) => {}
        }
    }
}
