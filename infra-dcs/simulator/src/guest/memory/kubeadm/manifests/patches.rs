//! The directory of patches: files named `target[suffix][+type].extension` that change what kubeadm writes.

use serde_json::{Map, Value};

use crate::guest::memory::kubeadm::{config, files::Files};

const TARGETS: [&str; 6] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubeletconfiguration",
    "corednsdeployment",
];

/// Lists that a strategic merge joins, and the key that tells their elements apart (after the Kubernetes API's tags).
const MERGED_LISTS: [(&str, &str); 9] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
}

/// Applies the patches of a target, in the order of their file names.
pub fn apply(
    files: &dyn Files,
    directory: Option<&str>,
    target: &str,
    mut object: Value,
    print: &mut dyn FnMut(String),
) -> Result<Value, String> {
    let Some(directory) = directory.filter(|directory| !directory.is_empty()) else { return Ok(object) };
    if files.entry(directory).is_none() {
        return Err(format!("failed to get patches: lstat {directory}: no such file or directory"));
    }
    for name in files.list(directory) {
        let Some((known, kind)) = parse_name(&name)? else { continue };
        if known != target {
            continue;
        }
        let path = format!("{}/{name}", directory.trim_end_matches('/'));
        let text = files.text(&path).unwrap_or_default();
        let failed = |why: String| {
            format!("could not apply the following patch of type {kind:?} to target {target:?} ({path}): {why}")
        };
        for patch in documents(&text).map_err(failed)? {
            object = patched(object, &patch, kind).map_err(failed)?;
        }
        print(format!("[patches] Applied patch of type {kind:?} to target {target:?}"));
    }
    Ok(object)
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let all: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())?;
    Ok(all.into_iter().filter(|document| !document.is_null()).collect())
}

/// Target and kind by a file's name; none for files that are no patches, which kubeadm ignores.
fn parse_name(name: &str) -> Result<Option<(&'static str, Kind)>, String> {
    let Some((stem, "json" | "yaml")) = name.rsplit_once('.') else { return Ok(None) };
    let Some(target) = TARGETS.into_iter().find(|target| stem.starts_with(target)) else { return Ok(None) };
    match stem[target.len()..].split_once('+') {
        None | Some((_, "" | "strategic")) => Ok(Some((target, Kind::Strategic))),
        Some((_, "merge")) => Ok(Some((target, Kind::Merge))),
        Some((_, "json")) => Ok(Some((target, Kind::Json))),
        Some((_, other)) => {
            Err(format!("unknown patch type {other:?} of {name:?}, must be one of [json merge strategic]"))
        }
    }
}

fn patched(mut object: Value, patch: &Value, kind: Kind) -> Result<Value, String> {
    match kind {
        Kind::Merge => json_patch::merge(&mut object, patch),
        Kind::Strategic => strategic(&mut object, patch),
        Kind::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|error| error.to_string())?;
            json_patch::patch(&mut object, &patch).map_err(|error| error.to_string())?;
        }
    }
    Ok(object)
}

/// A strategic merge without directives other than `$patch: delete` of list elements.
fn strategic(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return };
    for (name, change) in changes {
        let merged = MERGED_LISTS.iter().find(|(list, _)| list == name).map(|(_, key)| *key);
        match (change, merged, fields.get_mut(name)) {
            (Value::Null, _, _) => {
                fields.remove(name);
            }
            (Value::Array(elements), Some(key), Some(Value::Array(present))) => {
                for element in elements {
                    let at = present.iter().position(|known| known[key] == element[key]);
                    match (element["$patch"].as_str(), at) {
                        (Some("delete"), Some(at)) => {
                            present.remove(at);
                        }
                        (_, Some(at)) => strategic(&mut present[at], element),
                        (_, None) => present.push(element.clone()),
                    }
                }
            }
            (Value::Object(_), _, Some(present)) => strategic(present, change),
            _ => {
                fields.insert(name.clone(), change.clone());
            }
        }
    }
}

/// A kubelet configuration as a file.
pub fn kubelet_file(configuration: &Value) -> Result<String, String> {
    config::yaml(configuration).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::guest::memory::kubeadm::files;

    #[test]
    fn patches_are_found_by_name_and_applied_in_order() {
        let mut files = files::empty();
        Files::write(&mut files, "/p/kube-apiserver0+merge.yaml", 0o644, b"metadata:\n  labels: {a: b}\n");
        let more = br#"{"spec": {"containers": [{"name": "kube-apiserver", "image": "x"}]}}"#;
        Files::write(&mut files, "/p/kube-apiserver1.json", 0o644, more);
        Files::write(&mut files, "/p/readme.md", 0o644, b"nothing");
        let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "kube-apiserver", "command": ["c"]}]}});
        let mut said = Vec::new();
        let patched = apply(&files, Some("/p"), "kube-apiserver", pod, &mut |line| said.push(line)).unwrap();
        assert_eq!(
            patched,
            json!({"metadata": {"labels": {"a": "b"}},
                   "spec": {"containers": [{"name": "kube-apiserver", "command": ["c"], "image": "x"}]}})
        );
        assert_eq!(said.len(), 2);
        assert!(apply(&files, Some("/q"), "etcd", json!({}), &mut |_| ()).unwrap_err().contains("lstat /q"));
    }

    #[test]
    fn names_say_target_and_kind() {
        assert_eq!(
            parse_name("kubeletconfiguration0+strategic.json"),
            Ok(Some(("kubeletconfiguration", Kind::Strategic)))
        );
        assert_eq!(parse_name("etcd+json.yaml"), Ok(Some(("etcd", Kind::Json))));
        assert_eq!(parse_name("other.yaml"), Ok(None));
        assert!(parse_name("etcd+wrong.yaml").is_err());
    }
}
