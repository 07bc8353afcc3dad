use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const GATES: Gates = Gates { ignition: true, taints: true };

fn control_plane() -> Value {
    json!({"spec": {
        "replicas": 3, "version": "v1.34.5-3",
        "machineTemplate": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"infrastructureRef": {"apiGroup": "g", "kind": "K", "name": "n"}},
        },
        "kubeadmConfigSpec": {
            "clusterConfiguration": {"certificatesDir": "/a", "dns": {"imageTag": "v1.12.4-v4.2.3"}},
            "initConfiguration": {"skipPhases": ["a"]},
        },
    }})
}

/// `object` with `value` at `pointer`; `Null` takes the field out.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut place = &mut object;
    for field in parent.split('/').skip(1) {
        place = &mut place[field];
    }
    if value.is_null() {
        place.as_object_mut().unwrap().remove(name);
    } else {
        place[name] = value;
    }
    object
}

fn fields(found: &[Violation]) -> Vec<&str> {
    found.iter().map(|found| found.field.as_str()).collect()
}

fn surge(surge: Value) -> Value {
    json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}}})
}

const CLUSTER: &str = "/spec/kubeadmConfigSpec/clusterConfiguration";

#[rstest]
#[case::valid("/spec/replicas", json!(5), &[])]
#[case::even("/spec/replicas", json!(2), &["spec.replicas"])]
#[case::none_wanted("/spec/replicas", json!(0), &["spec.replicas"])]
#[case::negative("/spec/replicas", json!(-1), &["spec.replicas"])]
#[case::replicas_unset("/spec/replicas", Value::Null, &["spec.replicas"])]
#[case::no_v("/spec/version", json!("1.34.5"), &["spec.version"])]
#[case::no_patch("/spec/version", json!("v1.34"), &["spec.version"])]
#[case::percent("/spec/rollout", surge(json!("50%")), &["spec.rollout.strategy.rollingUpdate.maxSurge"])]
#[case::surge_2("/spec/rollout", surge(json!(2)), &["spec.rollout.strategy.rollingUpdate.maxSurge"])]
#[case::surge_as_text("/spec/rollout", surge(json!("1")), &[])]
#[case::no_surge_of_three("/spec/rollout", surge(json!(0)), &[])]
#[case::naming_without_random("/spec/machineNaming", json!({"template": "x"}), &["spec.machineNaming.template"])]
#[case::naming_with_other_variable("/spec/machineNaming", json!({"template": "{{ .x }}-{{ .random }}"}), &["spec.machineNaming.template"])]
#[case::naming_with_capitals("/spec/machineNaming", json!({"template": "Node-{{ .random }}"}), &["spec.machineNaming.template"])]
#[case::naming("/spec/machineNaming", json!({"template": "{{ .cluster.name }}-cp-{{ .random }}"}), &[])]
#[case::label("/spec/machineTemplate/metadata", json!({"labels": {"a": "b c"}}), &["spec.machineTemplate.metadata.labels[a]"])]
#[case::own_taint("/spec/machineTemplate/spec/taints", json!([{"key": "node.cluster.x-k8s.io/uninitialized", "effect": "NoSchedule", "propagation": "Always"}]), &["spec.machineTemplate.spec.taints[0].key"])]
#[case::kubelet_taint("/spec/machineTemplate/spec/taints", json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule", "propagation": "Always"}]), &["spec.machineTemplate.spec.taints[0].key"])]
#[case::cloud_taint("/spec/machineTemplate/spec/taints", json!([{"key": "node.cloudprovider.kubernetes.io/x", "effect": "NoSchedule", "propagation": "Always"}]), &["spec.machineTemplate.spec.taints[0].key"])]
#[case::old_taint("/spec/machineTemplate/spec/taints", json!([{"key": "node-role.kubernetes.io/master", "effect": "NoSchedule", "propagation": "Always"}]), &["spec.machineTemplate.spec.taints[0].key"])]
#[case::taints("/spec/machineTemplate/spec/taints", json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "propagation": "Always"}, {"key": "x.y/z", "effect": "NoSchedule", "propagation": "OnInitialization"}]), &[])]
#[case::dns_tag("/spec/kubeadmConfigSpec/clusterConfiguration/dns", json!({"imageTag": "v1.12.4/b"}), &["spec.kubeadmConfigSpec.clusterConfiguration.dns.imageTag", "spec.kubeadmConfigSpec.clusterConfiguration.dns.imageTag"])]
#[case::dns_version("/spec/kubeadmConfigSpec/clusterConfiguration/dns", json!({"imageTag": "latest"}), &["spec.kubeadmConfigSpec.clusterConfiguration.dns.imageTag"])]
#[case::etcd_tag("/spec/kubeadmConfigSpec/clusterConfiguration/etcd", json!({"local": {"imageTag": "a:b"}}), &["spec.kubeadmConfigSpec.clusterConfiguration.etcd.local.imageTag"])]
#[case::both_etcds("/spec/kubeadmConfigSpec/clusterConfiguration/etcd", json!({"local": {"imageTag": "a"}, "external": {"endpoints": ["a"], "caFile": "a", "certFile": "b", "keyFile": "c"}}), &["spec.kubeadmConfigSpec.clusterConfiguration.etcd.local"])]
#[case::long_lived("/spec/kubeadmConfigSpec/clusterConfiguration", json!({"certificateValidityPeriodDays": 20, "caCertificateValidityPeriodDays": 10}), &["spec.kubeadmConfigSpec.clusterConfiguration.certificateValidityPeriodDays"])]
#[case::files("/spec/kubeadmConfigSpec/files", json!([{"path": "/a"}, {"path": "/a"}]), &["spec.kubeadmConfigSpec.files[1].path"])]
#[case::health_checks("/spec/kubeadmConfigSpec/initConfiguration", json!({"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}}), &["spec.kubeadmConfigSpec.initConfiguration.timeouts.controlPlaneComponentHealthCheckSeconds", "spec.kubeadmConfigSpec.joinConfiguration.timeouts.controlPlaneComponentHealthCheckSeconds"])]
fn a_violation_names_its_field(#[case] pointer: &str, #[case] value: Value, #[case] expected: &[&str]) {
    let spec = serde_json::from_value(with(control_plane(), pointer, value)["spec"].take()).unwrap();
    assert_eq!(fields(&validate(&spec, GATES)), expected);
}

#[test]
fn external_etcd_takes_any_number_of_machines() {
    let external = json!({"external": {"endpoints": ["a"], "caFile": "a", "certFile": "b", "keyFile": "c"}});
    let object = with(control_plane(), &format!("{CLUSTER}/etcd"), external);
    let spec = serde_json::from_value(with(object, "/spec/replicas", json!(2))["spec"].take()).unwrap();
    assert_eq!(validate(&spec, GATES), []);
}

#[test]
fn no_surge_needs_three_machines() {
    let mut object = with(control_plane(), "/spec/rollout", surge(json!(0)));
    object["spec"]["replicas"] = json!(1);
    let spec = serde_json::from_value(object["spec"].take()).unwrap();
    assert_eq!(fields(&validate(&spec, GATES)), ["spec.rollout.strategy.rollingUpdate.maxSurge"]);
}

#[test]
fn machines_are_not_replaced_for_ever() {
    let object = with(control_plane(), &format!("{CLUSTER}/certificateValidityPeriodDays"), json!(30));
    let before = json!({"before": {"certificatesExpiryDays": 30}});
    let spec = serde_json::from_value(with(object, "/spec/rollout", before)["spec"].take()).unwrap();
    assert_eq!(fields(&validate(&spec, GATES)), ["spec.rollout.before.certificatesExpiryDays"]);
}

#[test]
fn the_gates_forbid_what_they_are_for() {
    let taint = json!([{"key": "a", "effect": "NoSchedule", "propagation": "Always"}]);
    let object = with(control_plane(), "/spec/machineTemplate/spec/taints", taint);
    let spec = serde_json::from_value(with(object, "/spec/kubeadmConfigSpec/format", json!("ignition"))["spec"].take());
    let found = validate(&spec.unwrap(), Gates { ignition: false, taints: false });
    assert_eq!(fields(&found), ["spec.machineTemplate.spec.taints", "spec.kubeadmConfigSpec.format"]);
}

#[rstest]
#[case("v1.12.4", Some((1, 12, 4)))]
#[case("1.12", Some((1, 12, 0)))]
#[case("v1.12.4-v4.2.3", Some((1, 12, 4)))]
#[case("v1.12.4_vendor", Some((1, 12, 4)))]
#[case("latest", None)]
#[case("v1.12.4.5", None)]
#[case("1.x", None)]
fn the_version_of_dns_is_read_from_its_tag(#[case] tag: &str, #[case] version: Option<(u64, u64, u64)>) {
    assert_eq!(dns_version(tag), version);
}

#[rstest]
#[case::replicas("/spec/replicas", json!(5), &[])]
#[case::version("/spec/version", json!("v1.35.0"), &[])]
#[case::downgrade("/spec/version", json!("v1.33.0"), &[])]
#[case::two_minors("/spec/version", json!("v1.36.0"), &["spec.version"])]
#[case::rebuild("/spec/version", json!("v1.34.5-4"), &[])]
#[case::certificates_dir("/spec/kubeadmConfigSpec/clusterConfiguration/certificatesDir", json!("/b"), &["spec.kubeadmConfigSpec.clusterConfiguration.certificatesDir"])]
#[case::endpoint("/spec/kubeadmConfigSpec/clusterConfiguration/controlPlaneEndpoint", json!("a:6443"), &["spec.kubeadmConfigSpec.clusterConfiguration.controlPlaneEndpoint"])]
#[case::authority("/spec/kubeadmConfigSpec/clusterConfiguration/caCertificateValidityPeriodDays", json!(900), &["spec.kubeadmConfigSpec.clusterConfiguration.caCertificateValidityPeriodDays"])]
#[case::leaves("/spec/kubeadmConfigSpec/clusterConfiguration/certificateValidityPeriodDays", json!(90), &[])]
#[case::algorithm("/spec/kubeadmConfigSpec/clusterConfiguration/encryptionAlgorithm", json!("ECDSA-P256"), &[])]
#[case::gates("/spec/kubeadmConfigSpec/clusterConfiguration/featureGates", json!({"A": true}), &[])]
#[case::api_server("/spec/kubeadmConfigSpec/clusterConfiguration/apiServer", json!({"certSANs": ["a"]}), &[])]
#[case::scheduler("/spec/kubeadmConfigSpec/clusterConfiguration/scheduler", json!({"extraArgs": [{"name": "v", "value": "2"}]}), &[])]
#[case::repository("/spec/kubeadmConfigSpec/clusterConfiguration/imageRepository", json!("a/b"), &[])]
#[case::local_etcd("/spec/kubeadmConfigSpec/clusterConfiguration/etcd", json!({"local": {"imageTag": "v3.6.0"}}), &[])]
#[case::external_etcd("/spec/kubeadmConfigSpec/clusterConfiguration/etcd", json!({"external": {"endpoints": ["a"], "caFile": "a", "certFile": "b", "keyFile": "c"}}), &["spec.kubeadmConfigSpec.clusterConfiguration.etcd.external"])]
#[case::dns_forward("/spec/kubeadmConfigSpec/clusterConfiguration/dns", json!({"imageTag": "v1.13.1"}), &[])]
#[case::dns_same("/spec/kubeadmConfigSpec/clusterConfiguration/dns", json!({"imageTag": "v1.12.4-v4.2.2"}), &[])]
#[case::dns_back("/spec/kubeadmConfigSpec/clusterConfiguration/dns", json!({"imageTag": "v1.11.3"}), &["spec.kubeadmConfigSpec.clusterConfiguration.dns.imageTag"])]
#[case::cluster_gone("/spec/kubeadmConfigSpec/clusterConfiguration", Value::Null, &["spec.kubeadmConfigSpec.clusterConfiguration"])]
#[case::init_gone("/spec/kubeadmConfigSpec/initConfiguration", Value::Null, &["spec.kubeadmConfigSpec.initConfiguration"])]
#[case::config_gone("/spec/kubeadmConfigSpec", Value::Null, &["spec.kubeadmConfigSpec"])]
#[case::init("/spec/kubeadmConfigSpec/initConfiguration", json!({"nodeRegistration": {"name": "a"}, "skipPhases": ["b"], "patches": {"directory": "/p"}}), &[])]
#[case::join_comes("/spec/kubeadmConfigSpec/joinConfiguration", json!({"nodeRegistration": {"name": "a"}, "controlPlane": {}, "caCertPath": "/a"}), &[])]
#[case::files("/spec/kubeadmConfigSpec/files", json!([{"path": "/a"}]), &[])]
#[case::disks("/spec/kubeadmConfigSpec/diskSetup", json!({"filesystems": [{"device": "a", "filesystem": "xfs"}]}), &[])]
#[case::format("/spec/kubeadmConfigSpec/format", json!("ignition"), &[])]
#[case::reference("/spec/machineTemplate/spec/infrastructureRef", json!({"apiGroup": "g", "kind": "K", "name": "n2"}), &[])]
#[case::labels("/spec/machineTemplate/metadata", json!({"labels": {"a": "c"}}), &[])]
#[case::labels_gone("/spec/machineTemplate/metadata", Value::Null, &[])]
#[case::rollout("/spec/rollout", json!({"before": {"certificatesExpiryDays": 9}}), &[])]
#[case::remediation("/spec/remediation", json!({"maxRetry": 3}), &[])]
#[case::naming("/spec/machineNaming", json!({"template": "a-{{ .random }}"}), &[])]
#[case::own_metadata("/metadata", json!({"labels": {"x": "y"}, "finalizers": []}), &[])]
fn an_update_may_change_only_what_a_rollout_can_carry(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: &[&str],
) {
    assert_eq!(fields(&validate_update(&control_plane(), &with(control_plane(), pointer, value))), expected);
}

#[test]
fn dns_may_go_back_where_it_is_left_to_the_user() {
    let tag = format!("{CLUSTER}/dns/imageTag");
    let mut new = with(control_plane(), &tag, json!("v1.11.3"));
    new["metadata"] = json!({"annotations": {"controlplane.cluster.x-k8s.io/skip-coredns": ""}});
    assert_eq!(validate_update(&control_plane(), &new), []);
}

fn template(spec: Value) -> Value {
    json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}})
}

#[rstest]
#[case::valid(json!({"kubeadmConfigSpec": {"format": "ignition"}, "rollout": surge(json!(0))}), &[])]
#[case::surge(json!({"rollout": surge(json!(3))}), &["spec.template.spec.rollout.strategy.rollingUpdate.maxSurge"])]
#[case::naming(json!({"machineNaming": {"template": "x"}}), &["spec.template.spec.machineNaming.template"])]
#[case::label(json!({"machineTemplate": {"metadata": {"labels": {"-": ""}}}}), &["spec.template.spec.machineTemplate.metadata.labels[-]"])]
#[case::taint(json!({"machineTemplate": {"spec": {"taints": [{"key": "a b", "effect": "NoSchedule", "propagation": "Always"}]}}}), &["spec.template.spec.machineTemplate.spec.taints[0].key"])]
#[case::certificates(json!({"kubeadmConfigSpec": {"clusterConfiguration": {"certificateValidityPeriodDays": 20, "caCertificateValidityPeriodDays": 10}}}), &["spec.template.spec.kubeadmConfigSpec.clusterConfiguration.certificateValidityPeriodDays"])]
#[case::files(json!({"kubeadmConfigSpec": {"files": [{"path": "/a"}, {"path": "/a"}]}}), &["spec.template.spec.kubeadmConfigSpec.files[1].path"])]
fn a_violation_in_a_template_names_its_field(#[case] spec: Value, #[case] expected: &[&str]) {
    let spec = serde_json::from_value(template(spec)["spec"].take()).unwrap();
    assert_eq!(fields(&validate_template(&spec, GATES)), expected);
}

#[rstest]
#[case::same(json!({"machineNaming": {"template": "a"}}), json!({"machineNaming": {"template": "a"}}), &[])]
#[case::other(json!({"machineNaming": {"template": "a"}}), json!({"machineNaming": {"template": "b"}}), &["spec.template.spec.machineNaming.template"])]
#[case::added(json!({}), json!({"kubeadmConfigSpec": {"verbosity": 3}}), &["spec.template.spec.kubeadmConfigSpec.verbosity"])]
#[case::old_format(json!({"kubeadmConfigSpec": {"format": "cloud-config"}}), json!({}), &[])]
#[case::old_strategy(json!({"rollout": surge(json!(1))}), json!({}), &[])]
#[case::other_strategy(json!({"rollout": surge(json!(0))}), json!({}), &["spec.template.spec.rollout.strategy.rollingUpdate.maxSurge"])]
fn a_template_does_not_change(#[case] old: Value, #[case] new: Value, #[case] expected: &[&str]) {
    assert_eq!(fields(&validate_template_update(&template(old.clone()), &template(new))), expected);
    let mut relabelled = template(old.clone());
    relabelled["spec"]["template"]["metadata"]["labels"]["a"] = json!("c");
    assert_eq!(validate_template_update(&template(old), &relabelled), []);
}
