use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::*;
use crate::{
    etcd::{Alarm, Member, View},
    workload::Host,
};

fn subject(name: &str, node: Option<&str>) -> Subject {
    Subject {
        name: name.to_owned(),
        deleting: false,
        node: node.map(str::to_owned),
        provider_id: if node.is_some() { format!("dcs://{name}") } else { String::new() },
        infrastructure_kind: "DCSMachine".to_owned(),
        expects_taint: true,
    }
}

fn node(name: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap()
}

fn pod(ready: bool) -> Pod {
    let status = if ready { "True" } else { "False" };
    serde_json::from_value(json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
        .unwrap()
}

fn member(id: u64, name: &str) -> Member {
    Member { id, name: name.to_owned(), learner: false, alarms: Vec::new() }
}

fn workload(names: &[&str]) -> Workload {
    let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];
    let pods = names.iter().flat_map(|name| components.map(|component| (format!("{component}-{name}"), pod(true))));
    let members = names.iter().zip(1..).map(|(name, id)| member(id, name)).collect();
    Workload {
        nodes: Ok(names.iter().map(|name| ((*name).to_owned(), node(name))).collect()),
        pods: Ok(pods.collect()),
        etcd: Etcd::Known(View { members, leader: 1 }),
    }
}

fn said<'a>(health: &'a Health, machine: &str, type_: &str) -> &'a Claim {
    health.machines[machine].iter().find(|claim| claim.type_ == type_).unwrap()
}

fn of<'a>(health: &'a Health, type_: &str) -> &'a Claim {
    health.control_plane.iter().find(|claim| claim.type_ == type_).unwrap()
}

#[test]
fn healthy_machines_make_a_healthy_control_plane() {
    let health = evaluate(&[subject("a", Some("n1")), subject("b", Some("n2"))], &workload(&["n1", "n2"]));
    for claims in health.machines.values() {
        assert_eq!(claims.len(), 6);
        assert!(claims.iter().all(|claim| claim.status == Status::True), "{claims:?}");
    }
    assert!(health.control_plane.iter().all(|claim| claim.status == Status::True && claim.reason == "Healthy"));
}

#[test]
fn a_machine_that_is_being_provisioned_is_unknown_and_harms_nobody() {
    let health = evaluate(&[subject("a", Some("n1")), subject("b", None)], &workload(&["n1"]));
    let claim = said(&health, "b", machine::API_SERVER);
    assert_eq!((claim.status, claim.reason.as_str()), (Status::Unknown, "InspectionFailed"));
    assert_eq!(claim.message, "Waiting for DCSMachine to report spec.providerID");
    assert_eq!(of(&health, condition::COMPONENTS).status, Status::True);
}

#[test]
fn each_trouble_has_its_reason() {
    let mut workload = workload(&["n1", "n2", "n3"]);
    let pods = workload.pods.as_mut().unwrap();
    pods.remove("kube-scheduler-n1");
    pods.insert("kube-apiserver-n1".to_owned(), pod(false));
    let crashed = json!({"status": {"phase": "Running", "containerStatuses": [{
        "name": "etcd", "image": "", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 2}},
    }]}});
    pods.insert("etcd-n1".to_owned(), serde_json::from_value(crashed).unwrap());
    if let Etcd::Known(view) = &mut workload.etcd {
        view.members[0].learner = true;
        view.members[1].alarms = vec![Alarm::NoSpace];
        view.members.push(member(9, "old"));
        view.leader = 2;
    }
    workload.nodes.as_mut().unwrap().get_mut("n3").unwrap().metadata.labels = None;
    let subjects = [subject("a", Some("n1")), subject("b", Some("n2")), subject("c", Some("n3"))];
    let health = evaluate(&subjects, &workload);
    let reason = |machine: &str, type_: &str| said(&health, machine, type_).reason.clone();
    assert_eq!(reason("a", machine::SCHEDULER), "DoesNotExist");
    assert_eq!(reason("a", machine::API_SERVER), "Provisioning");
    assert_eq!(reason("a", machine::ETCD_POD), "Failed");
    assert_eq!(reason("a", machine::ETCD_MEMBER), "NotHealthy");
    assert!(said(&health, "b", machine::ETCD_MEMBER).message.contains("NOSPACE"));
    assert_eq!(reason("c", machine::NODE), "NotSet");
    insta::assert_snapshot!(of(&health, condition::ETCD).message, @r"
    * Machine a:
      * EtcdMemberHealthy: Waiting for the etcd member to be promoted from learner to voter
    * Machine b:
      * EtcdMemberHealthy: Etcd reports alarms: NOSPACE
    * Etcd member old does not have a corresponding Machine
    ");
    assert_eq!(of(&health, condition::COMPONENTS).reason, "NotHealthy");
}

#[test]
fn members_and_machines_must_fit_but_for_what_is_under_way() {
    let now = "2026-01-01T12:00:00Z".parse().unwrap();
    let fits = workload(&["n1"]);
    assert!(members_match(&[subject("a", Some("n1"))], &fits, now));
    assert!(members_match(&[subject("a", None)], &fits, now), "core has not found the node yet");
    let mut stray = workload(&["n1"]);
    if let Etcd::Known(view) = &mut stray.etcd {
        view.members.push(member(9, "old"));
    }
    assert!(!members_match(&[subject("a", Some("n1"))], &stray, now));
    let silent = Workload { etcd: Etcd::Unknown("timeout".to_owned()), ..workload(&["n1"]) };
    assert!(!members_match(&[subject("a", Some("n1"))], &silent, now));
}

#[test]
fn a_node_is_found_by_identity_before_core_has_found_it() {
    let mut workload = workload(&["n1", "n2"]);
    let nodes = workload.nodes.as_mut().unwrap();
    nodes.get_mut("n2").unwrap().spec.as_mut().unwrap().provider_id = Some("dcs://b".to_owned());
    let host = |node: Option<&str>, provider_id: &str| Host {
        node: node.map(str::to_owned),
        provider_id: provider_id.to_owned(),
    };
    assert_eq!(workload.node_of(&host(None, "dcs://b")).as_deref(), Some("n2"));
    assert_eq!(workload.node_of(&host(Some("n1"), "dcs://b")).as_deref(), Some("n1"), "core's word counts first");
    assert_eq!(workload.node_of(&host(None, "")), None, "nodes without an identity are nobody's");
    assert_eq!(workload.node_of(&host(None, "dcs://c")), None);
}

#[test]
fn etcd_serves_where_its_pod_is_ready_and_its_node_tells() {
    let mut workload = workload(&["n1", "n2", "n3"]);
    assert!(serves_etcd(&workload, "n1") && !serves_etcd(&workload, "n9"));
    workload.pods.as_mut().unwrap().insert("etcd-n2".to_owned(), pod(false));
    let unknown = json!([{"type": "Ready", "status": "Unknown"}]);
    let conditions = serde_json::from_value(unknown).unwrap();
    workload.nodes.as_mut().unwrap().get_mut("n3").unwrap().status.as_mut().unwrap().conditions = Some(conditions);
    assert!(!serves_etcd(&workload, "n2") && !serves_etcd(&workload, "n3"));
}
