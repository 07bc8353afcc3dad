//! Discovery documents: which groups, versions and resources there are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    certificates,
    registry::{Registry, Resource},
};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/version`.
pub fn version(git_version: &str) -> Value {
    let mut numbers = git_version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    json!({
        "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
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
            let main = json!({
                "name": resource.plural, "singularName": resource.singular, "namespaced": resource.is_namespaced,
                "kind": resource.kind, "verbs": VERBS, "shortNames": resource.short_names,
            });
            let subresource = |name: &str, is_served: bool| {
                is_served.then(|| {
                    json!({
                        "name": format!("{}/{name}", resource.plural), "singularName": "",
                        "namespaced": resource.is_namespaced, "kind": resource.kind,
                        "verbs": ["get", "patch", "update"],
                    })
                })
            };
            let approval = subresource(certificates::APPROVAL, resource.behaviour.has_approval);
            let status = subresource("status", resource.behaviour.has_status);
            std::iter::once(main).chain(approval).chain(status)
        })
        .collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
        })
    })
}
