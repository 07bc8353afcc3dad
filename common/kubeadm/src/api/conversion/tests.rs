use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const OLD: &str = "bootstrap.cluster.x-k8s.io/v1beta1";
const NEW: &str = "bootstrap.cluster.x-k8s.io/v1beta2";

fn config(version: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": "KubeadmConfig", "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn a_published_configuration_is_understood() {
    let old = config(
        OLD,
        json!({
            "format": "ignition",
            "files": [{"path": "/a", "append": false, "content": "x"}],
            "clusterConfiguration": {
                "imageRepository": "cloud.alauda.io/alauda",
                "apiServer": {"extraArgs": {"profiling": "false", "audit-log-mode": "batch"}, "timeoutForControlPlane": "4m0s"},
            },
            "joinConfiguration": {
                "patches": {"directory": "/etc/kubernetes/patches"},
                "nodeRegistration": {"kubeletExtraArgs": {"provider-id": "PROVIDER_ID"}},
            },
        }),
    );
    let new = convert(old, NEW).unwrap();
    assert_eq!(new["spec"]["files"], json!([{"path": "/a", "content": "x"}]), "a false that says nothing goes");
    assert_eq!(
        new["spec"]["clusterConfiguration"]["apiServer"],
        json!({"extraArgs": [{"name": "audit-log-mode", "value": "batch"}, {"name": "profiling", "value": "false"}]})
    );
    assert_eq!(new["spec"]["initConfiguration"]["timeouts"]["controlPlaneComponentHealthCheckSeconds"], 240);
    assert_eq!(
        new["spec"]["joinConfiguration"]["nodeRegistration"]["kubeletExtraArgs"],
        json!([{"name": "provider-id", "value": "PROVIDER_ID"}])
    );
}

#[test]
fn what_the_older_version_cannot_say_survives() {
    let new = config(
        NEW,
        json!({
            "files": [{"path": "/a", "append": false}],
            "initConfiguration": {"timeouts": {"discoverySeconds": 7, "controlPlaneComponentHealthCheckSeconds": 9}},
            "joinConfiguration": {"controlPlane": {}, "nodeRegistration": {"taints": []}},
        }),
    );
    let old = convert(new.clone(), OLD).unwrap();
    assert_eq!(old["spec"]["clusterConfiguration"]["apiServer"]["timeoutForControlPlane"], "9s");
    let back = convert(old, NEW).unwrap();
    assert_eq!(back["spec"]["initConfiguration"], new["spec"]["initConfiguration"]);
    assert_eq!(back["spec"]["files"], new["spec"]["files"]);
    assert_eq!(back["spec"]["joinConfiguration"]["controlPlane"], json!({}));
    assert_eq!(back["spec"]["joinConfiguration"]["nodeRegistration"], json!({"taints": []}));
    assert!(back["metadata"].get("annotations").is_none(), "the annotation is taken out again");
}

#[test]
fn what_an_older_client_takes_out_stays_out() {
    let new = config(
        NEW,
        json!({
            "initConfiguration": {"timeouts": {"discoverySeconds": 7, "controlPlaneComponentHealthCheckSeconds": 9}},
            "joinConfiguration": {"timeouts": {"tlsBootstrapSeconds": 5, "controlPlaneComponentHealthCheckSeconds": 9}},
        }),
    );
    let mut old = convert(new, OLD).unwrap();
    old["spec"]["clusterConfiguration"]["apiServer"].as_object_mut().unwrap().remove("timeoutForControlPlane");
    old["spec"]["joinConfiguration"]["discovery"].as_object_mut().unwrap().remove("timeout");
    let back = convert(old, NEW).unwrap();
    assert_eq!(back["spec"], json!({"initConfiguration": {"timeouts": {"discoverySeconds": 7}}}));
}

#[test]
fn what_an_older_client_changes_wins_over_what_is_remembered() {
    let limit = |seconds: i32| json!({"timeouts": {"controlPlaneComponentHealthCheckSeconds": seconds}});
    let new = config(NEW, json!({"initConfiguration": limit(9), "joinConfiguration": limit(7)}));
    let mut old = convert(new.clone(), OLD).unwrap();
    assert_eq!(convert(old.clone(), NEW).unwrap()["spec"], new["spec"], "a join keeps its own limit");
    old["spec"]["clusterConfiguration"]["apiServer"]["timeoutForControlPlane"] = json!("1m0s");
    let back = convert(old, NEW).unwrap();
    assert_eq!(back["spec"], json!({"initConfiguration": limit(60), "joinConfiguration": limit(60)}));
}

#[test]
fn a_false_that_an_older_client_drops_is_remembered() {
    let new = config(NEW, json!({"files": [{"path": "/a", "append": false}]}));
    let mut old = convert(new.clone(), OLD).unwrap();
    old["spec"]["files"][0].as_object_mut().unwrap().remove("append");
    assert_eq!(convert(old, NEW).unwrap()["spec"], new["spec"]);
}

#[test]
fn a_layout_of_its_own_needs_no_false_beside_it() {
    let partition = json!({"device": "/dev/b", "diskLayout": [{"percentage": 50}]});
    let new = config(NEW, json!({"diskSetup": {"partitions": [partition]}}));
    let old = convert(new.clone(), OLD).unwrap();
    assert_eq!(old["spec"]["diskSetup"]["partitions"][0]["layout"], false, "v1beta1 demands the field");
    assert_eq!(convert(old, NEW).unwrap()["spec"], new["spec"]);
}

#[test]
fn empty_structures_of_the_older_version_become_nothing_and_empty_labels_stay() {
    let template = |version: &str, spec: Value| json!({"apiVersion": version, "kind": "KubeadmConfigTemplate", "metadata": {"name": "a"}, "spec": spec});
    let empty = json!({"template": {"metadata": {}, "spec": {"clusterConfiguration": {"dns": {}}, "files": []}}});
    let new = convert(template(OLD, empty), NEW).unwrap();
    assert!(new.get("spec").is_none(), "{new}");
    let labels = json!({"labels": {"node-role.kubernetes.io/control-plane": ""}});
    let new = convert(template(OLD, json!({"template": {"metadata": labels, "spec": {}}})), NEW).unwrap();
    assert_eq!(new["spec"], json!({"template": {"metadata": labels}}));
}

#[rstest]
#[case(
    "/clusterConfiguration/apiServer/timeoutForControlPlane",
    "spec.clusterConfiguration.apiServer.timeoutForControlPlane"
)]
#[case("/joinConfiguration/discovery/timeout", "spec.joinConfiguration.discovery.timeout")]
#[case("/initConfiguration/bootstrapTokens/0/ttl", "spec.initConfiguration.bootstrapTokens[0].ttl")]
fn a_text_that_is_no_duration_is_refused_by_field(#[case] pointer: &str, #[case] field: &str) {
    for wrong in ["4 minutes", "", "-5s", "soon"] {
        let mut spec = json!({
            "clusterConfiguration": {"apiServer": {"timeoutForControlPlane": "4m0s"}},
            "joinConfiguration": {"discovery": {"timeout": "5m0s"}},
            "initConfiguration": {"bootstrapTokens": [{"token": "abcdef.0123456789abcdef", "ttl": "1h"}]},
        });
        *spec.pointer_mut(pointer).unwrap() = json!(wrong);
        let error = convert(config(OLD, spec), NEW).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{field}: {wrong:?} is not a duration")), "{error}");
    }
}

#[rstest]
#[case("1h0m0s", 3600)]
#[case("90s", 90)]
#[case("1500ms", 1)]
#[case("0s", 0)]
#[case("1000000h", i32::MAX)]
fn durations_become_whole_seconds(#[case] duration: &str, #[case] seconds: i32) {
    let old = config(OLD, json!({"joinConfiguration": {"discovery": {"timeout": duration}}}));
    let new = convert(old, NEW).unwrap();
    assert_eq!(new["spec"]["joinConfiguration"]["timeouts"]["tlsBootstrapSeconds"], seconds);
}

#[test]
fn statuses_move_both_ways() {
    let mut new = config(NEW, json!({}));
    new["status"] = json!({
        "dataSecretName": "a", "initialization": {"dataSecretCreated": true},
        "conditions": [{"type": "Ready", "status": "True"}],
        "deprecated": {"v1beta1": {"conditions": [{"type": "Ready", "status": "True"}]}},
    });
    let old = convert(new.clone(), OLD).unwrap();
    assert_eq!(old["status"]["ready"], true);
    assert_eq!(old["status"]["v1beta2"]["conditions"], new["status"]["conditions"]);
    assert_eq!(convert(old, NEW).unwrap()["status"], new["status"]);
}

#[test]
fn another_kind_or_version_is_refused_by_name() {
    let error = convert(json!({"apiVersion": OLD, "kind": "Pod"}), NEW).unwrap_err();
    assert!(error.to_string().contains("Pod"));
    let error = convert(config(OLD, json!({})), "bootstrap.cluster.x-k8s.io/v9").unwrap_err();
    assert!(error.to_string().contains("v9"));
}

fn anything() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "clusterConfiguration",
        "initConfiguration",
        "joinConfiguration",
        "apiServer",
        "extraArgs",
        "discovery",
        "timeout",
        "timeouts",
        "files",
        "path",
        "append",
        "nodeRegistration",
        "kubeletExtraArgs",
        "etcd",
        "local",
        "bootstrapTokens",
        "ttl",
        "conditions",
        "deprecated",
        "v1beta2",
        "ready",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9]{0,4}s?".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a client sends, conversion answers; it never panics.
    #[test]
    fn any_document_is_answered(spec in anything(), status in anything()) {
        for (from, to) in [(OLD, NEW), (NEW, OLD)] {
            let mut object = config(from, spec.clone());
            object["status"] = status.clone();
            match convert(object, to) {
                Ok(converted) => prop_assert_eq!(&converted["apiVersion"], to),
                Err(error) => prop_assert!(matches!(error, ConvertError::Field(_)), "{}", error),
            }
        }
    }

    /// Flags survive the way down and up again, ordered by name.
    #[test]
    fn flags_survive(args in prop::collection::btree_map("[a-z-]{1,8}", "[ -~]{0,8}", 1..6)) {
        let list: Vec<Value> = args.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let new = config(NEW, json!({"clusterConfiguration": {"scheduler": {"extraArgs": list}}}));
        let back = convert(convert(new.clone(), OLD).unwrap(), NEW).unwrap();
        prop_assert_eq!(&back["spec"], &new["spec"]);
    }
}
