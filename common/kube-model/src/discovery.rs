//! Discovery documents: which groups, versions and resources there are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    certificates,
    registry::{Registry, Resource},
    server::{BINDING, EVICTION, SCALE},
};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/version`.
pub fn version(git_version: &str) -> Value {
    let mut numbers = git_version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    json!({
        "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
        "emulationMajor": major, "emulationMinor": minor, "minCompatibilityMajor": major,
        "minCompatibilityMinor": before(minor),
    })
}

/// The minor version before another one: the oldest that is lived with.
fn before(minor: &str) -> String {
    minor.parse::<u32>().map(|minor| minor.saturating_sub(1).to_string()).unwrap_or_default()
}

/// `/api`.
pub fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// The versions of each group but the core group, the preferred one first.
fn groups(registry: &Registry) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (_, resource) in registry.iter().filter(|(_, resource)| !resource.group.is_empty()) {
        let versions = groups.entry(&resource.group).or_default();
        for version in &resource.versions {
            if !versions.contains(&version.name.as_str()) {
                versions.push(&version.name);
            }
        }
    }
    groups
}

fn group(name: &str, versions: &[&str]) -> Value {
    let versions: Vec<_> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis`.
pub fn group_list(registry: &Registry) -> Value {
    let groups: Vec<_> = groups(registry).iter().map(|(name, versions)| group(name, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`; none when there is no such group.
pub fn one_group(registry: &Registry, name: &str) -> Option<Value> {
    let mut document = group(name, groups(registry).get(name)?);
    document["kind"] = json!("APIGroup");
    document["apiVersion"] = json!("v1");
    Some(document)
}

/// `/api/v1` or `/apis/GROUP/VERSION`; none when nothing is served there.
pub fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let served =
        |resource: &&Resource| resource.group == group && resource.versions.iter().any(|served| served.name == version);
    let resources: Vec<_> = registry
        .iter()
        .map(|(_, resource)| resource.as_ref())
        .filter(served)
        .flat_map(|resource| {
            let is_known = |verb: &&str| match *verb {
                "create" => true,
                "deletecollection" => !resource.behaviour.deletes_one_by_one && !resource.behaviour.is_asked,
                _ => !resource.behaviour.is_asked,
            };
            let verbs: Vec<&str> = VERBS.into_iter().filter(is_known).collect();
            let mut main = json!({
                "name": resource.plural, "singularName": resource.singular, "namespaced": resource.is_namespaced,
                "kind": resource.kind, "verbs": verbs, "shortNames": resource.short_names,
            });
            if !resource.categories.is_empty() {
                main["categories"] = json!(resource.categories);
            }
            std::iter::once(main).chain(subresources(resource))
        })
        .collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
        })
    })
}

/// What is served below the objects of a resource.
fn subresources(resource: &Resource) -> Vec<Value> {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    let is_pod = resource.group.is_empty() && resource.plural == "pods";
    let own = |name: &str| (name.to_owned(), resource.kind.clone(), None, CHANGE);
    let other = |name: &str, kind: &str, version, verbs| (name.to_owned(), kind.to_owned(), version, verbs);
    let mut found: Vec<(String, String, Option<(&str, &str)>, &[&str])> = Vec::new();
    if resource.behaviour.has_approval {
        found.push(own(certificates::APPROVAL));
    }
    if resource.behaviour.has_status {
        found.push(own("status"));
    }
    if resource.behaviour.has_scale {
        found.push(other(SCALE, "Scale", Some(("autoscaling", "v1")), CHANGE));
    }
    if is_pod {
        found.push(other(BINDING, "Binding", None, &["create"]));
        found.push(other(EVICTION, "Eviction", Some(("policy", "v1")), &["create"]));
    }
    found.extend(resource.foreign.iter().map(|foreign| other(foreign.name, foreign.kind, None, foreign.verbs)));
    let shown = found.into_iter().map(|(name, kind, version, verbs)| {
        let mut shown = json!({
            "name": format!("{}/{name}", resource.plural), "singularName": "", "namespaced": resource.is_namespaced,
            "kind": kind, "verbs": verbs,
        });
        if let Some((group, version)) = version {
            (shown["group"], shown["version"]) = (json!(group), json!(version));
        }
        shown
    });
    shown.collect()
}
