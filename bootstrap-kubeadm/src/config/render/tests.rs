use jiff::Timestamp;
use kubeadm::api::spec::EncryptionAlgorithm;
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    super::{certificates::Certificates, decide::tests::facts},
    *,
};

fn certificates(external_etcd: bool) -> Certificates {
    let make = |purpose| pki::generate(purpose, EncryptionAlgorithm::EcdsaP256, None, Timestamp::now()).unwrap();
    Purpose::of_control_plane(external_etcd).into_iter().map(|purpose| (purpose, make(purpose))).collect()
}

fn spec(spec: Value) -> Facts {
    facts(json!({"config": {"spec": spec}}))
}

fn cloud_config(bytes: &[u8]) -> Value {
    serde_saphyr::from_str(std::str::from_utf8(bytes).unwrap()).unwrap()
}

fn paths(document: &Value) -> Vec<&str> {
    document["write_files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect()
}

fn with_secret(key: &str, value: &[u8]) -> Resolved {
    Resolved { values: [(("s".to_owned(), key.to_owned()), value.to_vec())].into(), ..Resolved::default() }
}

fn from_secret(more: Value) -> Facts {
    let mut file = json!({"path": "/a", "contentFrom": {"secret": {"name": "s", "key": "k"}}});
    json_patch::merge(&mut file, &more);
    spec(json!({"files": [file]}))
}

#[test]
fn init_carries_all_certificates_and_the_clusters_facts() {
    let facts = facts(json!({"cluster": {"spec": {"clusterNetwork": {"pods": {"cidrBlocks": ["10.1.0.0/16"]}}}}}));
    let document = cloud_config(&init(&facts, &certificates(false), &Resolved::default()).unwrap());
    let pki = |name: &str| format!("/etc/kubernetes/pki/{name}");
    let mut expected = [
        "ca.crt",
        "ca.key",
        "etcd/ca.crt",
        "etcd/ca.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "sa.pub",
        "sa.key",
    ]
    .map(pki)
    .to_vec();
    expected.extend(["/run/kubeadm/kubeadm.yaml", "/run/cluster-api/placeholder"].map(str::to_owned));
    assert_eq!(paths(&document), expected);
    let files = document["write_files"].as_array().unwrap();
    assert_eq!((&files[0]["permissions"], &files[1]["permissions"]), (&json!("0640"), &json!("0600")));
    let cluster: Value = serde_saphyr::from_multiple(files[8]["content"].as_str().unwrap())
        .map(|all: Vec<Value>| all[0].clone())
        .unwrap();
    assert_eq!(cluster["controlPlaneEndpoint"], "10.0.0.1:6443");
    assert_eq!(cluster["networking"]["podSubnet"], "10.1.0.0/16");
    assert_eq!(cluster["clusterName"], "c");
    assert_eq!(cluster["kubernetesVersion"], "v1.36.3");
}

#[test]
fn an_external_etcd_gets_its_files_where_the_user_wants_them_and_no_key_of_its_ca() {
    let facts = spec(json!({"clusterConfiguration": {"certificatesDir": "/pki/", "etcd": {"external": {
        "endpoints": ["https://e:2379"], "caFile": "/etcd/ca.pem", "certFile": "/etcd/c.pem", "keyFile": "/etcd/k.pem"}}}}));
    let document = cloud_config(&init(&facts, &certificates(true), &Resolved::default()).unwrap());
    assert_eq!(
        paths(&document)[..9],
        [
            "/pki/ca.crt",
            "/pki/ca.key",
            "/etcd/ca.pem",
            "/pki/front-proxy-ca.crt",
            "/pki/front-proxy-ca.key",
            "/pki/sa.pub",
            "/pki/sa.key",
            "/etcd/c.pem",
            "/etcd/k.pem"
        ]
    );
}

#[test]
fn an_external_ca_leaves_its_key_at_home() {
    let mut certificates = certificates(false);
    certificates[0].1.key = String::new().into();
    let document = cloud_config(&init(&facts(json!({})), &certificates, &Resolved::default()).unwrap());
    assert!(!paths(&document).contains(&"/etc/kubernetes/pki/ca.key"));
}

#[test]
fn a_worker_gets_a_taint_and_no_keys() {
    let facts = facts(json!({"machine": {"metadata": {"labels": null}}}));
    let bytes = join(&facts, &certificates(false), &Resolved::default(), false).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"));
    let document = cloud_config(&bytes);
    let join: Value = serde_saphyr::from_str(document["write_files"][0]["content"].as_str().unwrap()).unwrap();
    assert_eq!(join["nodeRegistration"]["taints"], json!([{"key": UNINITIALIZED, "effect": "NoSchedule"}]));
}

#[rstest]
#[case::beside_others(json!([{"key": "a", "effect": "NoExecute"}]), json!([{"key": "a", "effect": "NoExecute"}, {"key": UNINITIALIZED, "effect": "NoSchedule"}]))]
#[case::to_none(json!([]), json!([{"key": UNINITIALIZED, "effect": "NoSchedule"}]))]
#[case::once(json!([{"key": UNINITIALIZED, "effect": "NoSchedule", "value": "v"}]), json!([{"key": UNINITIALIZED, "effect": "NoSchedule", "value": "v"}]))]
fn a_workers_taint_is_added(#[case] given: Value, #[case] expected: Value) {
    let mut settings: JoinConfiguration =
        serde_json::from_value(json!({"nodeRegistration": {"taints": given}})).unwrap();
    taint(&mut settings);
    assert_eq!(serde_json::to_value(settings.node_registration.unwrap().taints).unwrap(), expected);
}

#[test]
fn the_control_plane_joins_with_all_certificates_and_no_taint() {
    let facts = spec(json!({}));
    let document = cloud_config(&join(&facts, &certificates(false), &Resolved::default(), true).unwrap());
    assert_eq!(document["write_files"].as_array().unwrap().len(), 8 + 2);
    let join: Value = serde_saphyr::from_str(document["write_files"][8]["content"].as_str().unwrap()).unwrap();
    assert_eq!(join["controlPlane"], json!({"localAPIEndpoint": {}}));
    assert_eq!(join["nodeRegistration"]["taints"], Value::Null);
}

#[test]
fn a_discovery_kubeconfig_is_written_after_the_users_files() {
    let facts = spec(json!({
        "files": [{"path": "/mine", "content": "x"}],
        "joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/etc/discovery.conf", "kubeConfig": {
            "cluster": {"server": "https://h:1", "certificateAuthorityData": "UEVN"}, "user": {"exec": {"command": "c"}}}}}},
    }));
    let document = cloud_config(&join(&facts, &[], &Resolved::default(), false).unwrap());
    assert_eq!(paths(&document)[..3], ["/mine", "/etc/discovery.conf", "/run/kubeadm/kubeadm-join-config.yaml"]);
    let join: Value = serde_saphyr::from_str(document["write_files"][2]["content"].as_str().unwrap()).unwrap();
    assert_eq!(join["discovery"], json!({"file": {"kubeConfigPath": "/etc/discovery.conf"}}));
    // The machine that makes the cluster finds nobody.
    let document = cloud_config(&init(&facts, &[], &Resolved::default()).unwrap());
    assert!(!paths(&document).contains(&"/etc/discovery.conf"));
}

#[rstest]
#[case("v1.30.14", "kubeadm.k8s.io/v1beta3")]
#[case("v1.31.0-3", "kubeadm.k8s.io/v1beta4")]
fn the_machines_version_chooses_kubeadms_format(#[case] version: &str, #[case] api: &str) {
    let facts = facts(json!({"machine": {"spec": {"version": version}}}));
    let document = cloud_config(&join(&facts, &[], &Resolved::default(), true).unwrap());
    let join: Value = serde_saphyr::from_str(document["write_files"][0]["content"].as_str().unwrap()).unwrap();
    assert_eq!(join["apiVersion"], api);
}

#[rstest]
#[case::text(json!({}), b"hello" as &[u8], json!("hello\n"), json!(null))]
#[case::bytes(json!({}), b"\xff\x00", json!("/wA=\n"), json!("base64"))]
#[case::packed_bytes(json!({"encoding": "gzip"}), b"\x1f\x8b\xff", json!("H4v/\n"), json!("gzip+base64"))]
#[case::encoded_text(json!({"encoding": "base64"}), b"aGk=", json!("aGk=\n"), json!("base64"))]
fn a_content_of_a_secret_arrives(
    #[case] file: Value,
    #[case] bytes: &[u8],
    #[case] content: Value,
    #[case] encoding: Value,
) {
    let document = cloud_config(&init(&from_secret(file), &[], &with_secret("k", bytes)).unwrap());
    let file = &document["write_files"][0];
    assert_eq!((&file["content"], file.get("encoding").unwrap_or(&Value::Null)), (&content, &encoding));
}

#[test]
fn a_template_sees_the_control_planes_version_whether_inline_or_from_a_secret() {
    let template = "{{ with .controlPlane }}{{ .version }}{{ end }}";
    let inline = spec(json!({"files": [{"path": "/a", "content": template, "contentFormat": "Template"}]}));
    assert_eq!(first_template(&inline.config.spec.0).as_deref(), Some("files[0].contentFormat"));
    let mut resolved = with_secret("k", template.as_bytes());
    resolved.control_plane_version = Some("v1.36.3".to_owned());
    for facts in [inline, from_secret(json!({"contentFormat": "Template"}))] {
        let document = cloud_config(&init(&facts, &[], &resolved).unwrap());
        assert_eq!(document["write_files"][0]["content"], "v1.36.3\n");
    }
}

#[test]
fn a_password_hash_of_a_secret_is_taken_without_its_newline() {
    let facts = spec(json!({"users": [{"name": "u", "passwdFrom": {"secret": {"name": "s", "key": "k"}}}]}));
    let document = cloud_config(&init(&facts, &[], &with_secret("k", b"$6$x$y\n")).unwrap());
    assert_eq!(document["users"][0]["passwd"], "$6$x$y");
}

#[rstest]
#[case::a_missing_value(json!({"files": [{"path": "/a", "contentFrom": {"secret": {"name": "s", "key": "other"}}}]}), "files[0].contentFrom: Secret s has no key other")]
#[case::a_value_that_is_not_base64(json!({"files": [{"path": "/a", "encoding": "base64", "contentFrom": {"secret": {"name": "s", "key": "k"}}}]}), "files[0].contentFrom: key k of Secret s is no text, so it is not base64")]
#[case::a_template_of_bytes(json!({"files": [{"path": "/a", "contentFormat": "Template", "contentFrom": {"secret": {"name": "s", "key": "k"}}}]}), "files[0].contentFrom: key k of Secret s is no text, so it is no template")]
#[case::a_hash_of_bytes(json!({"users": [{"name": "u", "passwdFrom": {"secret": {"name": "s", "key": "k"}}}]}), "users[0].passwdFrom: key k of Secret s is no password hash")]
fn what_is_wrong_with_a_secret_is_named_and_may_pass(#[case] given: Value, #[case] message: &str) {
    let error = init(&spec(given), &[], &with_secret("k", b"sup3r\xffs3cret")).unwrap_err();
    assert!(matches!(error, Error::Secret(_)), "{error}");
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_broken_template_of_a_secret_is_not_shown() {
    let facts = from_secret(json!({"contentFormat": "Template"}));
    let error = init(&facts, &[], &with_secret("k", b"{{ sup3rs3cret }}")).unwrap_err().to_string();
    assert!(error.starts_with("files[0] (/a): ") && !error.contains("sup3rs3cret"), "{error}");
}

#[rstest]
#[case::a_version(json!({"machine": {"spec": {"version": "latest"}}}), "Machine spec.version: ")]
#[case::no_version(json!({"machine": {"spec": {"version": null}}}), "Machine spec.version: ")]
#[case::an_old_version(json!({"machine": {"spec": {"version": "v1.21.0"}}}), "Kubernetes v1.21.0 is older")]
#[case::a_control_plane_section_on_a_worker(json!({"config": {"spec": {"joinConfiguration": {"controlPlane": {}}}}}), "joinConfiguration.controlPlane: ")]
#[case::a_broken_template(json!({"config": {"spec": {"files": [{"path": "/a", "content": "{{ if }}", "contentFormat": "Template"}]}}}), "files[0] (/a): ")]
#[case::a_broken_additional_config(json!({"config": {"spec": {"format": "ignition", "ignition": {"containerLinuxConfig": {"additionalConfig": "etcd: {}"}}}}}), "ignition.containerLinuxConfig.additionalConfig: ")]
fn what_is_wrong_with_the_object_is_final_and_named(#[case] change: Value, #[case] message: &str) {
    let error = join(&facts(change), &[], &Resolved::default(), false).unwrap_err();
    assert!(!matches!(error, Error::Secret(_)));
    assert!(error.to_string().starts_with(message), "{error}");
}

#[test]
fn every_reference_to_a_secret_is_found() {
    let facts = spec(json!({
        "files": [{"path": "/a", "content": "x"}, {"path": "/b", "contentFrom": {"secret": {"name": "s", "key": "k"}}}],
        "users": [{"name": "u", "passwdFrom": {"secret": {"name": "t", "key": "l"}}}]}));
    assert_eq!(
        references(&facts.config.spec.0),
        [("files[1].contentFrom".to_owned(), "s", "k"), ("users[0].passwdFrom".to_owned(), "t", "l")]
    );
}
