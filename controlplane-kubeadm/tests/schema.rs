//! Our CRDs against those of the pinned Cluster API: whatever differs has its reason here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;

use cluster_api::crd::compare::{Allowed, differences, judge};
use serde_json::{Value, json};

/// Differences that are wanted, and why.
const ALLOWED: &[Allowed] = &[];

/// Upstream's definition of a kind, from the module that `e2e/toolchain/cluster-api/go.mod` pins.
fn upstream(plural: &str) -> Value {
    let module = xtask::toolchain::source_of("cluster-api")
        .unwrap_or_else(|error| panic!("upstream's CRDs are needed, and Go cannot give their module: {error:#}"));
    let file =
        module.join(format!("controlplane/kubeadm/config/crd/bases/controlplane.cluster.x-k8s.io_{plural}.yaml"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn our_schemas_are_upstreams() {
    let mut found = Vec::new();
    for ours in controlplane_kubeadm::api::crds::definitions() {
        let theirs = upstream(ours["spec"]["names"]["plural"].as_str().unwrap());
        assert_eq!(theirs["spec"]["versions"].as_array().unwrap().len(), 2, "v1beta1 and v1beta2");
        found.extend(differences(&ours, &theirs));
    }
    let (unexplained, unused) = judge(&found, ALLOWED);
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
    assert!(unused.is_empty(), "reasons without a difference: {unused:?}");
}

/// Labels and conversion are added by upstream's Kustomize patches, not by its types.
#[test]
fn both_contracts_are_labelled_and_versions_convert_by_webhook() {
    for ours in controlplane_kubeadm::api::crds::definitions() {
        let labels = json!({"cluster.x-k8s.io/v1beta1": "v1beta1", "cluster.x-k8s.io/v1beta2": "v1beta2"});
        assert_eq!(ours["metadata"]["labels"], labels);
        let conversion = &ours["spec"]["conversion"];
        assert_eq!(conversion["strategy"], "Webhook");
        assert_eq!(conversion["webhook"]["clientConfig"]["service"]["path"], "/convert");
        assert_eq!(conversion["webhook"]["conversionReviewVersions"], json!(["v1"]));
    }
}
