use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::claims;

fn object<K: serde::de::DeserializeOwned>(kind: &str, spec: &Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": kind,
        "metadata": {"name": "x", "namespace": "ns"}, "spec": spec,
    }))
    .unwrap()
}

fn merged(mut base: Value, change: &Value) -> Value {
    fn merge(base: &mut Value, change: &Value) {
        match change {
            Value::Object(fields) if base.is_object() => {
                fields.iter().for_each(|(name, value)| merge(&mut base[name], value));
            }
            other => *base = other.clone(),
        }
    }
    merge(&mut base, change);
    base
}

fn cluster_of(change: &Value) -> DCSCluster {
    let spec = json!({"controlPlaneLoadBalancer": {"type": "external", "host": "10.0.0.100", "port": 6443},
        "credentialSecretRef": {"name": "login"}, "networkType": "kube-ovn", "site": "5A1C0D3E"});
    object("DCSCluster", &merged(spec, change))
}

fn template_of(change: &Value) -> DCSMachineTemplate {
    let spec = json!({"vmTemplateName": "t", "ipHostPoolRef": {"name": "p"},
        "vmConfig": {"dcsMachineCpuSpec": {"quantity": 4}, "dcsMachineMemorySpec": {"quantity": 8192},
            "dcsMachineDiskSpec": [
                {"quantity": 0, "systemVolume": true, "datastoreClusterName": "d"},
                {"quantity": 100, "datastoreClusterName": "d", "path": "/var/lib/kubelet", "format": "xfs"},
                {"quantity": 100, "datastoreClusterName": "d", "path": "/var/lib/containerd", "format": "xfs"}]}});
    object("DCSMachineTemplate", &json!({"template": {"spec": merged(spec, change)}}))
}

fn entry(ip: &str) -> Value {
    json!({"ip": ip, "mask": "24", "gateway": "10.0.0.1", "dns": "10.0.0.2;10.0.0.3", "hostname": "h", "machineName": "m"})
}

fn pool_of(entries: &[Value]) -> DCSIpHostnamePool {
    object("DCSIpHostnamePool", &json!({"pool": entries}))
}

fn fields(verdict: Verdict) -> Vec<String> {
    verdict.err().unwrap_or_default().into_iter().map(|error| error.field).collect()
}

#[rstest]
#[case::valid(json!({}), &[])]
#[case::other_endpoint(json!({"controlPlaneEndpoint": {"host": "a", "port": 1}}), &["spec.controlPlaneEndpoint"])]
#[case::no_secret(json!({"credentialSecretRef": {"name": ""}}), &["spec.credentialSecretRef.name"])]
#[case::network(json!({"networkType": "flannel"}), &["spec.networkType"])]
#[case::internal_name(json!({"controlPlaneLoadBalancer": {"type": "internal", "host": "api.local", "vrid": 300}}),
    &["spec.controlPlaneLoadBalancer.vrid", "spec.controlPlaneLoadBalancer.host"])]
#[case::url(json!({"controlPlaneLoadBalancer": {"host": "https://api.local"}}), &["spec.controlPlaneLoadBalancer.host"])]
#[case::name(json!({"controlPlaneLoadBalancer": {"host": "api.example.com"}}), &[])]
#[case::other_kind_of_address(json!({"controlPlaneLoadBalancer": {"host": "fd00::1"}}), &[])]
#[case::internal(json!({"controlPlaneLoadBalancer": {"type": "internal", "vrid": 7}}), &[])]
fn clusters(#[case] change: Value, #[case] expected: &[&str]) {
    assert_eq!(fields(cluster(None, &cluster_of(&change))), expected);
}

#[test]
fn a_cluster_gets_a_name_that_others_can_be_made_of() {
    let mut named = cluster_of(&json!({}));
    named.metadata.name = Some("team.cluster".into());
    assert_eq!(fields(cluster(None, &named)), ["metadata.name"]);
    assert!(cluster(Some(&named.clone()), &named).is_ok(), "one that has it keeps working");
}

fn cluster_template_of(change: &Value) -> DCSClusterTemplate {
    let spec = json!({"controlPlaneLoadBalancer": {"type": "external", "host": "", "port": 6443},
        "credentialSecretRef": {"name": "login"}, "networkType": "kube-ovn"});
    object("DCSClusterTemplate", &json!({"template": {"spec": merged(spec, change)}}))
}

#[rstest]
#[case::valid(json!({}), &[])]
#[case::network(json!({"networkType": "flannel"}), &["spec.template.spec.networkType"])]
#[case::no_secret(json!({"credentialSecretRef": {"name": ""}}), &["spec.template.spec.credentialSecretRef.name"])]
#[case::internal(json!({"controlPlaneLoadBalancer": {"type": "internal"}}), &["spec.template.spec.controlPlaneLoadBalancer.vrid"])]
fn cluster_templates(#[case] change: Value, #[case] expected: &[&str]) {
    assert_eq!(fields(cluster_template(None, &cluster_template_of(&change))), expected);
}

#[test]
fn a_cluster_template_stays_but_for_its_metadata() {
    let old = cluster_template_of(&json!({}));
    let mut labelled = old.clone();
    labelled.spec.template.metadata = serde_json::from_value(json!({"labels": {"a": "b"}})).unwrap();
    assert!(cluster_template(Some(&old), &labelled).is_ok());
    let other = cluster_template_of(&json!({"site": "S"}));
    assert_eq!(fields(cluster_template(Some(&old), &other)), ["spec.template.spec"]);
    assert!(cluster_template(None, &other).is_ok(), "what is only tried may differ");
}

#[test]
fn the_endpoint_is_fixed_once_the_infrastructure_is_ready() {
    let mut old = cluster_of(&json!({}));
    let new = cluster_of(&json!({"controlPlaneLoadBalancer": {"port": 7443}, "credentialSecretRef": {"name": "new"}}));
    assert!(cluster(Some(&old), &new).is_ok());
    old.status = Some(crate::api::DCSClusterStatus { ready: Some(true), ..Default::default() });
    assert_eq!(fields(cluster(Some(&old), &new)), ["spec.controlPlaneLoadBalancer"]);
    // Core or the provider itself fills the endpoint in.
    let filled = cluster_of(&json!({"controlPlaneEndpoint": {"host": "10.0.0.100", "port": 6443}}));
    assert!(cluster(Some(&old), &filled).is_ok());
}

#[rstest]
#[case::valid(json!({}), &[])]
#[case::provider_id(json!({"providerID": "dcs://x"}), &["spec.template.spec.providerID"])]
#[case::urn(json!({"vmUrn": "urn:x"}), &["spec.template.spec.vmUrn"])]
#[case::cpu(json!({"vmConfig": {"dcsMachineCpuSpec": {"quantity": 0}}}), &["spec.template.spec.vmConfig.dcsMachineCpuSpec.quantity"])]
#[case::port_groups(json!({"vmConfig": {"portGroupName": "a", "portGroupUrn": "b"}}), &["spec.template.spec.vmConfig.portGroupUrn"])]
#[case::media(json!({"vmConfig": {"cdRomDatastoreName": "a", "cdRomDatastoreClusterName": "b"}}),
    &["spec.template.spec.vmConfig.cdRomDatastoreClusterName"])]
#[case::place(json!({"location": {"type": "rack", "name": "a"}}), &["spec.template.spec.location.type"])]
#[case::resource_folder(json!({"resource": {"type": "folder", "name": "a"}}), &["spec.template.spec.resource.type"])]
#[case::no_system(json!({"vmConfig": {"dcsMachineDiskSpec": [{"quantity": 1, "datastoreName": "d"}]}}),
    &["spec.template.spec.vmConfig.dcsMachineDiskSpec"])]
#[case::disks(json!({"vmConfig": {"dcsMachineDiskSpec": [
        {"quantity": 0, "systemVolume": true, "datastoreName": "d", "datastoreClusterName": "e"},
        {"quantity": 0, "datastoreName": "d"}, {"quantity": 5},
        {"quantity": 5, "datastoreName": "d", "path": "/a b;rm"}, {"quantity": 5, "datastoreName": "d", "path": "/a/../b"}]}}),
    &["spec.template.spec.vmConfig.dcsMachineDiskSpec[0].datastoreClusterName",
      "spec.template.spec.vmConfig.dcsMachineDiskSpec[1].quantity",
      "spec.template.spec.vmConfig.dcsMachineDiskSpec[2]",
      "spec.template.spec.vmConfig.dcsMachineDiskSpec[3].path",
      "spec.template.spec.vmConfig.dcsMachineDiskSpec[4].path"])]
fn templates(#[case] change: Value, #[case] expected: &[&str]) {
    assert_eq!(fields(template(&template_of(&change))), expected);
}

#[test]
fn a_template_with_a_wrong_label_is_refused_by_field() {
    let mut wrong = template_of(&json!({}));
    wrong.spec.template.metadata = serde_json::from_value(json!({"labels": {"a b": ""}})).unwrap();
    assert_eq!(fields(template(&wrong)), ["spec.template.metadata.labels[a b]"]);
}

/// Each field of a machine, changed: the provider's own may, once; the rest may not.
#[rstest]
#[case::image(json!({"vmTemplateName": "other"}), &["spec.vmTemplateName"])]
#[case::pool(json!({"ipHostPoolRef": {"name": "other"}}), &["spec.ipHostPoolRef"])]
#[case::cpu(json!({"vmConfig": {"dcsMachineCpuSpec": {"quantity": 8}}}), &["spec.vmConfig"])]
#[case::network(json!({"vmConfig": {"portGroupName": "p"}}), &["spec.vmConfig"])]
#[case::place(json!({"location": {"type": "folder", "name": "f"}}), &["spec.location"])]
#[case::cluster(json!({"resource": {"type": "cluster", "name": "c"}}), &["spec.resource"])]
#[case::identity(json!({"providerID": "dcs://x", "vmUrn": "urn:x"}), &[])]
fn a_field_of_a_machine_stays(#[case] change: Value, #[case] expected: &[&str]) {
    let spec = serde_json::to_value(template_of(&json!({})).spec.template.spec).unwrap();
    let old: DCSMachine = object("DCSMachine", &spec);
    let new: DCSMachine = object("DCSMachine", &merged(spec, &change));
    assert_eq!(fields(machine(Some(&old), &new)), expected);
}

/// Each field of a cluster, changed once the infrastructure is ready.
#[rstest]
#[case::host(json!({"controlPlaneLoadBalancer": {"host": "10.0.0.101"}}), &["spec.controlPlaneLoadBalancer"])]
#[case::network(json!({"networkType": "other"}), &["spec.networkType", "spec.networkType"])]
#[case::site(json!({"site": "OTHER"}), &["spec.site"])]
#[case::encryption(json!({"encryptionProviderConfigRef": {"name": "s"}}), &["spec.encryptionProviderConfigRef"])]
#[case::credentials(json!({"credentialSecretRef": {"name": "rotated"}}), &[])]
#[case::spread(json!({"controlPlaneHA": {"enabled": true}}), &[])]
fn a_field_of_a_ready_cluster_stays(#[case] change: Value, #[case] expected: &[&str]) {
    let mut old = cluster_of(&json!({}));
    old.status = Some(crate::api::DCSClusterStatus { ready: Some(true), ..Default::default() });
    assert_eq!(fields(cluster(Some(&old), &cluster_of(&change))), expected);
}

/// Each field of a pool's disk, changed.
#[rstest]
#[case::format(json!({"format": "ext4"}), &["spec.pool[0].persistentDisk"])]
#[case::options(json!({"options": ["-K"]}), &["spec.pool[0].persistentDisk"])]
#[case::bus(json!({"pciType": "SCSI"}), &["spec.pool[0].persistentDisk"])]
#[case::slot(json!({"slot": 1}), &["spec.pool[0].persistentDisk"])]
#[case::size(json!({"quantityGB": 20}), &[])]
#[case::path(json!({"path": "/var/other", "mountOptions": ["noatime"]}), &[])]
fn a_disk_of_a_pool_stays(#[case] change: Value, #[case] expected: &[&str]) {
    let disk = json!({"slot": 0, "quantityGB": 10, "datastoreName": "d", "format": "xfs", "path": "/var/cpaas"});
    let pool_with = |disk: Value| pool_of(&[merged(entry("10.0.0.7"), &json!({"persistentDisk": [disk]}))]);
    let (old, new) = (pool_with(disk.clone()), pool_with(merged(disk, &change)));
    assert_eq!(fields(pool(Some(&old), &new)), expected);
}

#[test]
fn a_missing_expected_disk_is_a_warning() {
    let warnings = template(&template_of(&json!({"vmConfig": {"dcsMachineDiskSpec":
        [{"quantity": 0, "systemVolume": true, "datastoreName": "d"}]}})));
    assert_eq!(warnings.unwrap().len(), 2);
}

#[test]
fn a_machine_is_immutable_but_for_what_the_provider_writes() {
    let spec = serde_json::to_value(template_of(&json!({})).spec.template.spec).unwrap();
    let old: DCSMachine = object("DCSMachine", &spec);
    let mut new = old.clone();
    new.spec.provider_id = Some("dcs://x".into());
    new.spec.vm_urn = Some("urn:x".into());
    assert!(machine(Some(&old), &new).is_ok());
    let mut other = new.clone();
    other.spec.provider_id = Some("dcs://y".into());
    other.spec.vm_template_name = "other".into();
    assert_eq!(fields(machine(Some(&new), &other)), ["spec.vmTemplateName", "spec.providerID"]);
}

#[rstest]
#[case::valid(json!({}), &[])]
#[case::ip(json!({"ip": "10.0.0"}), &["spec.pool[0].ip"])]
#[case::dotted_mask(json!({"mask": "255.255.255.0"}), &["spec.pool[0].mask"])]
#[case::gateway(json!({"gateway": "10.0.1.1"}), &["spec.pool[0].gateway"])]
#[case::dns(json!({"dns": "10.0.0.2,10.0.0.3"}), &["spec.pool[0].dns"])]
#[case::hostname(json!({"hostname": "Node_1"}), &["spec.pool[0].hostname"])]
#[case::ipv6(json!({"ipv6": "10.0.0.1"}), &["spec.pool[0].ipv6"])]
#[case::second_nic(json!({"additionNic": [{"ip": "10.0.0.77", "mask": "24"}]}), &["spec.pool[0].additionNic[0].ip"])]
#[case::disk(json!({"persistentDisk": [{"slot": 30, "quantityGB": 1, "datastoreName": "d"}]}), &["spec.pool[0].persistentDisk[0].slot"])]
fn pool_entries(#[case] change: Value, #[case] expected: &[&str]) {
    assert_eq!(fields(pool(None, &pool_of(&[merged(entry("10.0.0.7"), &change)]))), expected);
}

#[test]
fn an_address_is_in_a_pool_once() {
    assert_eq!(fields(pool(None, &pool_of(&[entry("10.0.0.7"), entry("10.0.0.7")]))), ["spec.pool[1].ip"]);
}

#[test]
fn a_claimed_entry_stays_and_its_disks_too() {
    let disk = json!({"persistentDisk": [{"slot": 0, "quantityGB": 1, "datastoreName": "d"}]});
    let mut old = pool_of(&[merged(entry("10.0.0.7"), &disk), entry("10.0.0.8")]);
    let held = claims::Claims::from([("10.0.0.7".to_owned(), claims::Claim::by("m-0"))]);
    old.metadata.annotations = Some([claims::annotation(&held)].into());
    assert_eq!(fields(pool(Some(&old), &pool_of(&[entry("10.0.0.8")]))), ["spec.pool"]);
    assert!(pool(Some(&old), &pool_of(&[merged(entry("10.0.0.7"), &disk)])).is_ok());
    assert_eq!(fields(pool(Some(&old), &pool_of(&[entry("10.0.0.7")]))), ["spec.pool[0].persistentDisk"]);
}

#[test]
fn the_size_of_a_volume_that_exists_is_what_it_is() {
    let disk = |size: i64| {
        pool_of(&[merged(
            entry("10.0.0.7"),
            &json!({"persistentDisk": [{"slot": 0, "quantityGB": size, "datastoreName": "d"}]}),
        )])
    };
    let record = record::Record {
        volume: Some("urn:v".into()),
        datastore: "urn:ds".into(),
        size: 40,
        ..record::Record::default()
    };
    let records = record::Disks::from([(record::Key::new("10.0.0.7", 0), record)]);
    let made = |size: i64| {
        let mut pool = disk(size);
        let annotation = (record::ANNOTATION.to_owned(), record::annotation(&records).unwrap());
        pool.metadata.annotations = Some([annotation].into());
        pool
    };
    let mut elsewhere = made(40);
    elsewhere.spec.pool[0].persistent_disk[0].datastore_name = Some("other".into());
    let warnings = pool(Some(&made(40)), &elsewhere).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("stays on urn:ds"), "{warnings:?}");
    assert_eq!(fields(pool(Some(&made(40)), &disk(60))), ["spec.pool[0].persistentDisk.quantityGB"]);
    assert!(pool(Some(&made(60)), &disk(40)).is_ok(), "a wrong declaration can be put right");
    assert!(pool(Some(&disk(40)), &disk(60)).is_ok(), "nothing is made yet");
}
