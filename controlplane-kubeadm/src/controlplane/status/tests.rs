use cluster_api::conditions::settle;

use super::{
    super::{
        facts::{Etcd, Retries},
        names::condition,
    },
    *,
};
use crate::etcd::{Member, View};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn machine_fact(name: &str, holds: bool) -> MachineFact {
    let mut types = machine::COMPONENTS.to_vec();
    types.extend([machine::ETCD_POD, machine::ETCD_MEMBER, machine::UP_TO_DATE, "Ready"]);
    let claims = types.into_iter().map(|type_| Claim::new(type_, holds, "Reason", if holds { "" } else { "* broken" }));
    MachineFact {
        name: name.to_owned(),
        created: now() - SignedDuration::from_hours(1),
        deleting: None,
        node: Some(format!("node-{name}")),
        provider_id: format!("dcs://{name}"),
        failure_domain: String::new(),
        annotations: BTreeMap::new(),
        conditions: settle(&[], claims.collect(), None, now() - SignedDuration::from_mins(1)),
        serves_etcd: holds,
        has_served: holds,
        outdated: Vec::new(),
    }
}

fn facts(healthy: &[bool]) -> Facts {
    let machines: Vec<_> =
        healthy.iter().enumerate().map(|(index, holds)| machine_fact(&format!("m{index}"), *holds)).collect();
    let members = machines.iter().zip(1..).map(|(machine, id)| Member {
        id,
        name: format!("node-{}", machine.name),
        learner: false,
        alarms: Vec::new(),
    });
    Facts {
        now: now(),
        replicas: machines.len(),
        max_surge: 1,
        local_kubelet_mode: true,
        initialized: true,
        certificates_available: true,
        pending_version: None,
        failure_domains: Vec::new(),
        etcd: Etcd::Known(View { members: members.collect(), leader: 1 }),
        machines,
        nodes: Ok(Vec::new()),
        remediation: None,
        retries: Retries { limit: None, period: SignedDuration::ZERO, min_healthy: SignedDuration::ZERO },
        tie: 0,
    }
}

fn said(facts: &Facts, change: impl FnOnce(&mut Inputs<'_>)) -> BTreeMap<String, Claim> {
    let mut inputs = Inputs {
        facts,
        replicas: Some(3),
        deletion: None,
        health: &[],
        certificates: Claim::holds(condition::CERTIFICATES, "Available"),
        blocked: Blocked::default(),
        failure: None,
        missing_template: None,
        reach: Reach { initialized: true, since: None, members_match: true },
        paused: Claim::new(condition::PAUSED, false, "NotPaused", ""),
    };
    change(&mut inputs);
    conditions(&inputs).into_iter().map(|claim| (claim.type_.clone(), claim)).collect()
}

#[test]
fn a_settled_control_plane_is_available_and_does_nothing() {
    let said = said(&facts(&[true, true, true]), |_| ());
    let holds: Vec<_> =
        said.values().filter(|claim| claim.status == Status::True).map(|claim| claim.type_.as_str()).collect();
    assert_eq!(holds, ["Available", "CertificatesAvailable", "Initialized", "MachinesReady", "MachinesUpToDate"]);
    assert!(said.values().all(|claim| claim.message.is_empty() && !claim.reason.is_empty()));
}

#[test]
fn one_broken_machine_of_three_leaves_it_available_and_two_do_not() {
    let one = said(&facts(&[true, true, false]), |_| ());
    assert_eq!(one["Available"].status, Status::True);
    insta::assert_snapshot!(one["Available"].message, @r"
    * 2 of 3 Machines have healthy control plane components, at least 1 required
    * 2 of 3 etcd members are healthy, at least 2 healthy members required for etcd quorum
    ");
    let two = said(&facts(&[true, false, false]), |_| ());
    assert_eq!((two["Available"].status, two["Available"].reason.as_str()), (Status::False, "NotAvailable"));
    assert_eq!(one["MachinesReady"].reason, "NotReady");
    assert_eq!(one["RollingOut"].message, "Rolling out 1 not up-to-date replica\n* broken");
}

#[test]
fn a_change_of_scale_says_from_where_to_where_and_what_holds_it_up() {
    let facts = facts(&[true]);
    let blocked = Blocked { etcd_unhealthy: true, ..Blocked::default() };
    let up = said(&facts, |inputs| {
        inputs.blocked = blocked;
        inputs.missing_template = Some("DCSMachineTemplate masters does not exist".to_owned());
    });
    insta::assert_snapshot!(up["ScalingUp"].message, @r"
    Scaling up from 1 to 3 replicas is blocked because:
    * waiting for etcd cluster to become healthy
    * DCSMachineTemplate masters does not exist
    ");
    let down = said(&facts, |inputs| inputs.deletion = Some(("WaitingForMachineDeletion", String::new())));
    assert_eq!(down["ScalingDown"].message, "Scaling down from 1 to 0 replicas");
    assert_eq!(down["Available"].message, "* Control plane metadata.deletionTimestamp is set");
    assert_eq!(down["Deleting"].reason, "WaitingForMachineDeletion");
}

#[test]
fn before_the_first_start_nothing_is_available() {
    let said = said(&facts(&[]), |inputs| inputs.reach.initialized = false);
    assert_eq!(said["Available"].reason, "NotAvailable");
    assert_eq!(said["Initialized"].reason, "NotInitialized");
    assert_eq!((said["MachinesReady"].status, said["MachinesReady"].reason.as_str()), (Status::True, "NoReplicas"));
}

#[test]
fn versions_are_ordered_and_counted() {
    let found = versions(["v1.35.6-acp.1", "v1.34.5-3", "v1.34.5", "v1.34.5-3", ""].into_iter());
    let text: Vec<_> = found.iter().map(|(version, count)| format!("{version}={count}")).collect();
    assert_eq!(text, ["v1.34.5=1", "v1.34.5-3=2", "v1.35.6-acp.1=1"]);
}

#[test]
fn a_machine_is_up_to_date_when_spec_and_kubelet_are() {
    let reason = |outdated: &[String], kubelet| up_to_date(outdated, "v1.34.5-3", kubelet).reason;
    assert_eq!(reason(&[], Some("v1.34.5-3")), "UpToDate");
    assert_eq!(reason(&[], None), "UpToDate");
    assert_eq!(reason(&[], Some("v1.34.5")), "Updating");
    assert_eq!(reason(&["Version".to_owned()], None), "NotUpToDate");
}

#[test]
fn what_went_wrong_is_told_by_the_operation_it_holds_up() {
    let fails = |inputs: &mut Inputs<'_>| inputs.failure = Some("DCSMachine cp-x is invalid: spec.pool".to_owned());
    let growing = said(&facts(&[true]), fails);
    assert_eq!(
        growing["ScalingUp"].message,
        "Scaling up from 1 to 3 replicas is blocked because:\n* DCSMachine cp-x is invalid: spec.pool"
    );
    assert!(growing["Available"].message.is_empty());
    let settled = said(&facts(&[true, true, true]), fails);
    assert_eq!(settled["Available"].message, "* DCSMachine cp-x is invalid: spec.pool");
    assert_eq!(settled["Available"].status, Status::True);
    let going = said(&facts(&[true]), |inputs| {
        fails(inputs);
        inputs.deletion = Some(("WaitingForMachineDeletion", "Deleting 1 Machine".to_owned()));
    });
    assert_eq!(going["Deleting"].message, "Deleting 1 Machine\n* DCSMachine cp-x is invalid: spec.pool");
    assert!(!going["ScalingDown"].message.contains("invalid"));
}

/// The old conditions as `type=status/severity/reason`.
fn old(
    facts: &Facts,
    change: impl FnOnce(&mut Inputs<'_>),
    health: &[Claim],
    before: &[serde_json::Value],
) -> Vec<String> {
    let (mut failure, mut deleting) = (None, false);
    let said = said(facts, |inputs| {
        change(inputs);
        (failure, deleting) = (inputs.failure.clone(), inputs.deletion.is_some());
    });
    let current = settle(&[], said.into_values().chain(health.iter().cloned()).collect(), None, now());
    let shown = v1beta1::conditions(facts, &current, deleting, failure.as_deref(), before);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let line = |shown: &serde_json::Value| {
        let [type_, status, severity, reason] =
            ["type", "status", "severity", "reason"].map(|field| text(&shown[field]));
        let cause =
            if severity.is_empty() && reason.is_empty() { String::new() } else { format!("/{severity}/{reason}") };
        format!("{type_}={status}{cause}")
    };
    shown.iter().map(line).collect()
}

#[test]
fn readers_of_v1beta1_see_their_own_conditions() {
    let healthy = [condition::COMPONENTS, condition::ETCD].map(|type_| Claim::holds(type_, "Healthy"));
    let settled = old(&facts(&[true, true, true]), |_| (), &healthy, &[]);
    assert_eq!(
        settled,
        [
            "Ready=True",
            "MachinesCreated=True",
            "Resized=True",
            "MachinesReady=True",
            "Available=True",
            "CertificatesAvailable=True",
            "ControlPlaneComponentsHealthy=True",
            "EtcdClusterHealthy=True",
        ]
    );
    let growing = old(&facts(&[true]), |inputs| inputs.failure = Some("refused".to_owned()), &[], &[]);
    assert!(growing.contains(&"MachinesCreated=False/Error/MachineGenerationFailed".to_owned()));
    assert!(growing.contains(&"Resized=False/Warning/ScalingUp".to_owned()));
    assert_eq!(growing[0], "Ready=False/Error/MachineGenerationFailed", "the worst is told");
    let going =
        old(&facts(&[true]), |inputs| inputs.deletion = Some(("WaitingForMachineDeletion", String::new())), &[], &[]);
    assert!(going.contains(&"Resized=False/Info/Deleting".to_owned()));
    let mut rolling = facts(&[true, true, true]);
    rolling.machines[0].outdated.push("Version v1.34.5, v1.35.6-acp.1 required".to_owned());
    assert_eq!(old(&rolling, |_| (), &[], &[])[0], "Ready=False/Warning/RollingUpdateInProgress");
    rolling.machines[0].outdated.clear();
    let shown = serde_json::json!({"type": "MachinesSpecUpToDate", "status": "False"});
    assert!(old(&rolling, |_| (), &[], &[shown]).contains(&"MachinesSpecUpToDate=True".to_owned()));
    let unknown = [Claim::new(condition::ETCD, Status::Unknown, "ConnectionDown", "")];
    let silent = old(&facts(&[true, true, true]), |_| (), &unknown, &[]);
    assert!(silent.contains(&"EtcdClusterHealthy=Unknown//EtcdClusterInspectionFailed".to_owned()));
}
