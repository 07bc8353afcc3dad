//! `kubeadm.k8s.io/v1beta3` told in the words of v1beta4, and back.

use serde_json::{Map, Value, json};

/// Where lists of arguments are maps in v1beta3.
const ARGUMENTS: [&str; 6] = [
    "/apiServer/extraArgs",
    "/controllerManager/extraArgs",
    "/scheduler/extraArgs",
    "/etcd/local/extraArgs",
    "/nodeRegistration/kubeletExtraArgs",
    "/nodeRegistration/extraArgs",
];
/// Fields that v1beta3 does not have, by kind.
const NEW: [(&str, &[&str]); 3] = [
    (
        "ClusterConfiguration",
        &[
            "/proxy",
            "/encryptionAlgorithm",
            "/certificateValidityPeriod",
            "/caCertificateValidityPeriod",
            "/dns/disabled",
            "/apiServer/extraEnvs",
            "/controllerManager/extraEnvs",
            "/scheduler/extraEnvs",
            "/etcd/local/extraEnvs",
            "/etcd/external/httpEndpoints",
        ],
    ),
    ("InitConfiguration", &["/dryRun", "/timeouts", "/nodeRegistration/imagePullSerial"]),
    ("JoinConfiguration", &["/dryRun", "/timeouts", "/nodeRegistration/imagePullSerial"]),
];

/// Turns a v1beta3 document into the same of v1beta4. Answers the fields that v1beta3 does not know, and drops them.
pub fn upgrade(kind: &str, document: &mut Value) -> Result<Vec<String>, String> {
    let new = NEW.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, fields)| fields);
    let unknown = new.iter().filter(|path| remove(document, path).is_some());
    let unknown = unknown.map(|path| path.trim_start_matches('/').replace('/', ".")).collect();
    for path in ARGUMENTS {
        match document.pointer_mut(path) {
            Some(Value::Null) | None => {}
            Some(found) => {
                let Value::Object(arguments) = found else {
                    return Err(format!("{} is not a map of strings", path.trim_start_matches('/').replace('/', ".")));
                };
                let list = std::mem::take(arguments).into_iter();
                *found = list.map(|(name, value)| json!({"name": name, "value": value})).collect();
            }
        }
    }
    for (parent, old, new) in [
        ("/apiServer", "timeoutForControlPlane", "controlPlaneComponentHealthCheck"),
        ("/discovery", "timeout", "discovery"),
    ] {
        let moved = document.pointer_mut(parent).and_then(Value::as_object_mut).and_then(|fields| fields.remove(old));
        // The API server's timeout has its place in another document; kubeadm's default is the same.
        if let Some(timeout) = moved
            && kind == "JoinConfiguration"
        {
            document["timeouts"][new] = timeout;
        }
    }
    Ok(unknown)
}

/// Turns a v1beta4 `ClusterConfiguration` into v1beta3.
pub fn downgrade(document: &mut Value) {
    for path in ARGUMENTS {
        if let Some(Value::Array(list)) = document.pointer_mut(path).map(Value::take) {
            let pairs = list.into_iter().map(|argument| {
                let name = argument["name"].as_str().unwrap_or_default().to_owned();
                (name, argument["value"].clone())
            });
            let map: Map<String, Value> = pairs.collect();
            if let Some(place) = document.pointer_mut(path) {
                *place = map.into();
            }
        }
    }
    for path in NEW[0].1 {
        remove(document, path);
    }
}

fn remove(document: &mut Value, path: &str) -> Option<Value> {
    let (parent, field) = path.rsplit_once('/')?;
    document.pointer_mut(parent)?.as_object_mut()?.remove(field)
}
