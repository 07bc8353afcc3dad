//! Our CRDs against the published ones: whatever differs has its reason here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, fs, path::Path};

use cluster_api::crd::compare::{Allowed, differences, judge};
use serde_json::{Value, json};

const fn addition(place: &'static str, reason: &'static str) -> Allowed {
    Allowed { place, reason }
}

/// Differences that are wanted, and why. All of them add: nothing published may be missing or other.
const ALLOWED: &[Allowed] = &[
    addition(" columns/", "columns for people; the published CRDs have none"),
    addition(" names/shortNames", "for people at a prompt"),
    addition(" names/categories", "`kubectl get cluster-api` shows all kinds"),
    addition(" v1beta1 /spec required", "an object without a spec asks for nothing, and nobody can act on it"),
    addition("/status/initialization", "the v1beta2 contract reads it"),
    addition("/status/conditions[]/observedGeneration", "the v1beta2 contract reads it"),
    addition("/status/conditions x-kubernetes-list-", "conditions merge by type in server-side apply"),
    addition(
        "dcsiphostnamepools v1beta1 /status/allocations",
        "who holds which entry; the published pool has no record of it",
    ),
    addition("dcsiphostnamepools v1beta1 /status/conditions", "a pool without conditions cannot say what it waits for"),
    addition("dcsmachines v1beta1 /status/failureDomain", "the contracts read it; beside the map that nobody writes"),
    addition("dcsmachinetemplates v1beta1 /status/capacity", "autoscalers that begin at none read it"),
    addition("dcsmachinetemplates v1beta1 /status/nodeInfo", "autoscalers that begin at none read it"),
    addition("dcsmachinetemplates v1beta1 /status/observedGeneration", "tells of which spec the rest was observed"),
    addition("dcsiphostnamepools v1beta1 /status/total", "counter for people"),
    addition("dcsiphostnamepools v1beta1 /status/free", "counter for people"),
    addition("dcsiphostnamepools v1beta1 /status/disks", "counter for people"),
    addition("dcsiphostnamepools v1beta1 /status/diskErrors", "counter for people"),
];

#[test]
fn our_schemas_are_the_published_ones_with_reasoned_additions() {
    let ours: BTreeMap<String, Value> = dcs_controller::api::crd::definitions()
        .into_iter()
        .map(|crd| (crd["spec"]["names"]["plural"].as_str().unwrap().to_owned(), crd))
        .collect();
    let mut found = Vec::new();
    let mut count = 0;
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let theirs: Value = serde_saphyr::from_str(&text).unwrap();
        let ours = &ours[theirs["spec"]["names"]["plural"].as_str().unwrap()];
        let mut labels = json!({"cluster.x-k8s.io/v1beta1": "v1beta1", "cluster.x-k8s.io/v1beta2": "v1beta1"});
        if ours["spec"]["names"]["plural"] == "dcsiphostnamepools" {
            // Pools have no owner: so they are taken along by `clusterctl move`.
            labels["clusterctl.cluster.x-k8s.io/move"] = json!("");
        }
        assert_eq!(ours["metadata"]["labels"], labels);
        found.extend(differences(ours, &theirs));
        count += 1;
    }
    assert_eq!(count, 4);
    let (unexplained, unused) = judge(&found, ALLOWED);
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
    assert!(unused.is_empty(), "reasons without a difference: {unused:?}");
    let narrower: Vec<_> = found.iter().filter(|difference| difference.theirs.is_some()).collect();
    assert!(narrower.is_empty(), "something published is missing or other: {narrower:?}");
}

#[test]
fn generated_yaml_reads_back() {
    let yaml = cluster_api::crd::to_yaml(&dcs_controller::api::crd::definitions()).unwrap();
    assert_eq!(yaml.matches("kind: CustomResourceDefinition").count(), 5);
    assert!(!yaml.contains("nullable"));
}
