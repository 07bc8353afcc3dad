//! Our CRDs against the published ones: whatever differs has its reason here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// Differences that are wanted: the end of `plural path`, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("/additionalPrinterColumns", "columns for people; the published CRDs have none"),
    ("status/initialization", "the v1beta2 contract reads it"),
    ("conditions[]/observedGeneration", "the v1beta2 contract reads it"),
    ("status/conditions/x-kubernetes-list-type", "conditions merge by type in server-side apply"),
    ("status/conditions/x-kubernetes-list-map-keys", "conditions merge by type in server-side apply"),
    ("dcsiphostnamepools/status/allocations", "who holds which entry; the published pool has no record of it"),
    ("dcsiphostnamepools/status/conditions", "a pool without conditions cannot say what it waits for"),
    ("dcsiphostnamepools/status/total", "counter for people"),
    ("dcsiphostnamepools/status/free", "counter for people"),
    ("dcsiphostnamepools/status/disks", "counter for people"),
    ("dcsiphostnamepools/status/diskErrors", "counter for people"),
];

/// Path → value of everything that constrains: types, limits, enums, rules; not the prose.
fn flatten(schema: &Value, path: &str, into: &mut BTreeMap<String, Value>) {
    for (key, value) in schema.as_object().unwrap() {
        match key.as_str() {
            "description" | "x-kubernetes-validations" if key == "description" => {}
            "properties" => {
                for (name, inner) in value.as_object().unwrap() {
                    flatten(inner, &format!("{path}/{name}"), into);
                }
            }
            "items" => flatten(value, &format!("{path}[]"), into),
            "additionalProperties" if value.is_object() => flatten(value, &format!("{path}{{}}"), into),
            "required" => {
                for field in value.as_array().unwrap() {
                    into.insert(format!("{path}/{}/required", field.as_str().unwrap()), Value::Bool(true));
                }
            }
            "enum" => {
                let mut values: Vec<_> = value.as_array().unwrap().iter().map(Value::to_string).collect();
                values.sort();
                into.insert(format!("{path}/enum"), values.into());
            }
            _ => {
                into.insert(format!("{path}/{key}"), value.clone());
            }
        }
    }
}

fn schema(crd: &Value) -> BTreeMap<String, Value> {
    let version = &crd["spec"]["versions"][0];
    assert_eq!((&version["name"], &version["storage"]), (&"v1beta1".into(), &true.into()));
    let mut into = BTreeMap::new();
    for part in ["spec", "status"] {
        flatten(&version["schema"]["openAPIV3Schema"]["properties"][part], part, &mut into);
    }
    into
}

#[test]
fn our_schemas_are_the_published_ones_with_reasoned_additions() {
    let ours: BTreeMap<String, Value> = dcs_controller::api::crd::definitions()
        .into_iter()
        .map(|crd| (crd["spec"]["names"]["plural"].as_str().unwrap().to_owned(), crd))
        .collect();
    let mut used = vec![false; ALLOWED.len()];
    used[0] = true;
    let mut unexplained = Vec::new();
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published");
    let mut count = 0;
    for file in fs::read_dir(published).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let theirs: Value = serde_saphyr::from_str(&text).unwrap();
        let plural = theirs["spec"]["names"]["plural"].as_str().unwrap().to_owned();
        let ours = &ours[&plural];
        count += 1;
        for field in ["kind", "listKind", "plural", "singular"] {
            assert_eq!(ours["spec"]["names"][field], theirs["spec"]["names"][field]);
        }
        assert_eq!(ours["spec"]["versions"][0]["subresources"], theirs["spec"]["versions"][0]["subresources"]);
        for contract in ["v1beta1", "v1beta2"] {
            assert_eq!(ours["metadata"]["labels"][format!("cluster.x-k8s.io/{contract}")], "v1beta1");
        }
        let (left, right) = (schema(ours), schema(&theirs));
        for path in left.keys().chain(right.keys().filter(|path| !left.contains_key(*path))) {
            if left.get(path) == right.get(path) {
                continue;
            }
            let place = format!("{plural}/{path}");
            let allowed = ALLOWED.iter().position(|(end, _)| place.contains(end));
            match allowed {
                // What is allowed is an addition: nothing published may be missing or other.
                Some(index) if !right.contains_key(path) => used[index] = true,
                _ => unexplained.push(format!("{place}: ours {:?}, published {:?}", left.get(path), right.get(path))),
            }
        }
    }
    assert_eq!(count, 4);
    assert!(unexplained.is_empty(), "unexplained differences:\n{}", unexplained.join("\n"));
    let unused: Vec<_> = ALLOWED.iter().zip(used).filter(|(_, used)| !used).map(|((end, _), _)| end).collect();
    assert!(unused.is_empty(), "reasons without a difference: {unused:?}");
}

#[test]
fn generated_yaml_reads_back() {
    let yaml = cluster_api::crd::to_yaml(&dcs_controller::api::crd::definitions()).unwrap();
    assert_eq!(yaml.matches("kind: CustomResourceDefinition").count(), 4);
    assert!(!yaml.contains("nullable"));
}
