use cluster_api::labels::{CLONED_FROM_GROUP_KIND, CLONED_FROM_NAME};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubeadm::api::spec::{ApiServer, Arg, ImageMeta};
use rstest::rstest;

use super::{
    super::{desired, wanted::tests::wanted},
    *,
};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn machine() -> Machine {
    let mut machine = Machine::default();
    machine.spec.version = "v1.34.5-3".to_owned();
    machine.metadata.creation_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
    machine
}

#[rstest]
#[case(Role::Init)]
#[case(Role::Join)]
fn what_was_made_from_the_spec_fits_it(#[case] role: Role) {
    let wanted = wanted();
    let config = desired::config(&wanted, "m", role).spec.0;
    assert_eq!(outdated(&wanted, &machine(), Some(&config), None, now()), Vec::<String>::new());
}

#[test]
fn what_others_fill_in_and_what_needs_no_machine_does_not_count() {
    let mut wanted = wanted();
    let mut config = config_spec(&wanted, Role::Join);
    let join = config.join_configuration.as_mut().unwrap();
    join.discovery = Some(kubeadm::api::spec::Discovery::default());
    join.node_registration.as_mut().unwrap().image_pull_policy = Some(ImagePullPolicy::IfNotPresent);
    config.format = Some(Format::CloudConfig);
    config.cluster_configuration.as_mut().unwrap().control_plane_endpoint = "10.0.0.1:6443".to_owned();
    let cluster = wanted.config.cluster_configuration.as_mut().unwrap();
    cluster.dns = Some(ImageMeta { image_tag: "v1.12.1".to_owned(), ..ImageMeta::default() });
    cluster.api_server = Some(ApiServer::default());
    assert!(outdated(&wanted, &machine(), Some(&config), None, now()).is_empty());
}

#[test]
fn an_old_join_without_control_plane_is_still_a_join() {
    let wanted = wanted();
    let mut config = config_spec(&wanted, Role::Join);
    config.join_configuration.as_mut().unwrap().control_plane = None;
    assert!(outdated(&wanted, &machine(), Some(&config), None, now()).is_empty());
}

#[test]
fn every_cause_is_named_in_order() {
    let mut wanted = wanted();
    let config = config_spec(&wanted, Role::Join);
    let mut old = machine();
    old.spec.version = "v1.34.5".to_owned();
    old.spec.infrastructure_ref.kind = "DCSMachine".to_owned();
    let status = old.status.get_or_insert_default();
    status.certificates_expiry_date = Some(Time("2026-01-05T00:00:00Z".parse().unwrap()));
    wanted.rollout_before_days = Some(7);
    wanted.rollout_after = Some("2026-01-01T06:00:00Z".parse().unwrap());
    let arg = Arg { name: "audit-log-maxage".to_owned(), value: "30".to_owned() };
    wanted.config.cluster_configuration.as_mut().unwrap().api_server =
        Some(ApiServer { extra_args: vec![arg], ..ApiServer::default() });
    let cloned = |name: &str| ObjectMeta {
        annotations: Some(
            [
                (CLONED_FROM_NAME.to_owned(), name.to_owned()),
                (CLONED_FROM_GROUP_KIND.to_owned(), wanted.template_group_kind()),
            ]
            .into(),
        ),
        ..ObjectMeta::default()
    };
    let reasons = outdated(&wanted, &old, Some(&config), Some(&cloned("masters-old")), now());
    assert_eq!(
        reasons,
        [
            "Certificates will expire soon, rolloutBefore expired",
            "KubeadmControlPlane spec.rollout.after expired",
            "Version v1.34.5, v1.34.5-3 required",
            "KubeadmConfig is not up-to-date",
            "DCSMachine is not up-to-date",
        ]
    );
    assert_eq!(outdated(&wanted, &old, None, Some(&cloned("masters")), now()).len(), 3);
}

#[test]
fn no_taints_differ_from_unsaid_taints() {
    let wanted = wanted();
    let mut config = config_spec(&wanted, Role::Join);
    config.join_configuration.as_mut().unwrap().node_registration.as_mut().unwrap().taints = Some(Vec::new());
    assert_eq!(outdated(&wanted, &machine(), Some(&config), None, now()).len(), 1);
}

#[test]
fn the_first_machine_names_the_endpoint_that_its_cluster_is_made_with() {
    let endpoint = |wanted: &Wanted, role| {
        let cluster = desired::config(wanted, "m", role).spec.0.cluster_configuration;
        cluster.map(|cluster| cluster.control_plane_endpoint).unwrap_or_default()
    };
    let mut wanted = wanted();
    assert_eq!(endpoint(&wanted, Role::Init), "10.0.0.1:6443");
    assert_eq!(endpoint(&wanted, Role::Join), "", "only the first machine's is read");
    wanted.config.cluster_configuration.as_mut().unwrap().control_plane_endpoint = "api.example.com:443".to_owned();
    assert_eq!(endpoint(&wanted, Role::Init), "api.example.com:443", "the user's word stands");
}
