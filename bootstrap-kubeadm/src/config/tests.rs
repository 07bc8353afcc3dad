use super::*;
use rstest::rstest;
use serde_json::{Value, json};

fn machine(change: Value) -> Machine {
    let mut machine = json!({
        "metadata": {"name": "m", "namespace": "ns", "labels": {"cluster.x-k8s.io/control-plane": ""}},
        "spec": {"clusterName": "c", "version": "v1.36.3", "bootstrap": {"configRef": reference()}},
    });
    json_patch::merge(&mut machine, &change);
    serde_json::from_value(machine).unwrap()
}

fn pool(change: Value) -> MachinePool {
    let mut pool = json!({
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"clusterName": "c", "template": {"spec": {"bootstrap": {"configRef": reference()}}}},
    });
    json_patch::merge(&mut pool, &change);
    serde_json::from_value(pool).unwrap()
}

fn reference() -> Value {
    json!({"apiGroup": v1beta2::GROUP, "kind": "KubeadmConfig", "name": "m-config"})
}

fn config() -> Vec<ObjectKey> {
    vec![ObjectKey::new("ns", "m-config")]
}

#[rstest]
#[case::gets_a_node(json!({"status": {"nodeRef": {"name": "n"}}}))]
#[case::is_upgraded_before_it_boots(json!({"spec": {"version": "v1.37.0"}}))]
#[case::gets_its_data_secret(json!({"spec": {"bootstrap": {"dataSecretName": "m"}}}))]
#[case::becomes_a_worker(json!({"metadata": {"labels": null}}))]
#[case::is_deleted(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))]
fn a_machine_wakes_its_config_when_it(#[case] change: Value) {
    assert_eq!(woken_by_machine(Some(&machine(json!({}))), Some(&machine(change))), config());
}

#[test]
fn a_machine_does_not_wake_its_config_for_nothing() {
    let changed = machine(json!({"status": {"phase": "Provisioning", "addresses": []}}));
    assert!(woken_by_machine(Some(&machine(json!({}))), Some(&changed)).is_empty());
    assert_eq!(woken_by_machine(None, Some(&machine(json!({})))), config());
    assert_eq!(woken_by_machine(Some(&machine(json!({}))), None), config());
}

#[test]
fn a_pool_wakes_its_config_when_its_machines_have_joined() {
    let joined = pool(json!({"status": {"nodeRefs": [{"name": "n"}]}}));
    assert_eq!(woken_by_pool(Some(&pool(json!({}))), Some(&joined)), config());
    assert!(woken_by_pool(Some(&joined), Some(&joined)).is_empty());
    assert_eq!(pool_by_cluster(&joined), ["ns/c"]);
}

#[test]
fn a_config_of_another_provider_is_not_ours() {
    let other = machine(json!({"spec": {"bootstrap": {"configRef": {"kind": "K3sConfig"}}}}));
    assert!(woken_by_machine(None, Some(&other)).is_empty());
    assert_eq!(by_cluster(&machine(json!({}))), ["ns/c"]);
}

#[test]
fn every_effect_has_a_crash_point_and_every_crash_point_is_listed() {
    let sources = [include_str!("act.rs"), include_str!("tokens.rs"), include_str!("certificates.rs")];
    let used: Vec<_> = sources
        .iter()
        .flat_map(|source| source.split("fault::around(").skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    for effect in EFFECTS {
        assert!(used.contains(effect), "{effect} is listed and happens nowhere");
    }
    for effect in used {
        assert!(EFFECTS.contains(&effect), "{effect} happens and is not listed");
    }
}
