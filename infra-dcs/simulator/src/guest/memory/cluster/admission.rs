//! What new pods and nodes are given before they are stored: an account with its token, a priority, a while on nodes that
//! fall silent (the admission plugins `ServiceAccount`, `Priority` and `DefaultTolerationSeconds`); the taint of a node that
//! is not ready yet (`TaintNodesByCondition`).

use std::sync::Arc;

use kube_model::{Admit, ApiError, Others, Qualified, Server};
use serde_json::{Value, json};

use super::{api::name, controllers::scheduling::tolerates};

/// Where programs look for the token of their account.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds that a token lives; the seven are how one that nobody asked for is told.
const TOKEN_LIFE: u32 = 3607;
/// Seconds that a pod stays on a node that is not ready.
const PATIENCE: u32 = 300;

/// Makes a server admit them so.
pub fn install(server: &Server) {
    let plugins: [(&str, Admit); 2] = [("pods", Arc::new(admit)), ("nodes", Arc::new(taint))];
    for (plural, admit) in plugins {
        if let Some((_, resource)) = server.registry().find("", "v1", plural) {
            let mut resource = resource.as_ref().clone();
            resource.admit = Some(admit);
            server.install(resource);
        }
    }
}

/// No pods go to a node that is not ready; its controller takes the taint off.
#[allow(clippy::unnecessary_wraps, reason = "it is what an admission is")]
fn taint(node: &mut Value, _: &dyn Others) -> Result<(), ApiError> {
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let known = node["spec"]["taints"].as_array().into_iter().flatten();
    if !known.into_iter().any(|known| *known == taint) {
        push(&mut node["spec"]["taints"], taint);
    }
    Ok(())
}

fn admit(pod: &mut Value, others: &dyn Others) -> Result<(), ApiError> {
    let is_mirror = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
    if !is_mirror {
        give_account(pod, others)?;
    }
    give_priority(pod, others)?;
    give_patience(pod);
    Ok(())
}

fn refused(pod: &Value, why: &str) -> ApiError {
    ApiError::forbidden(Qualified { group: "", resource: "pods" }, name(pod), why)
}

fn give_account(pod: &mut Value, others: &dyn Others) -> Result<(), ApiError> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let wanted = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
    let wanted = wanted.unwrap_or("default").to_owned();
    let account = others.get("", "ServiceAccount", &namespace, &wanted).ok_or_else(|| {
        let why = format!("error looking up service account {namespace}/{wanted}: serviceaccount {wanted:?} not found");
        refused(pod, &why)
    })?;
    (pod["spec"]["serviceAccountName"], pod["spec"]["serviceAccount"]) = (json!(wanted), json!(wanted));
    if !pod["spec"]["imagePullSecrets"].is_array() && account["imagePullSecrets"].is_array() {
        pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    let automounts = match &pod["spec"]["automountServiceAccountToken"] {
        Value::Null => &account["automountServiceAccountToken"],
        own => own,
    };
    if *automounts != false {
        mount_token(pod, others);
    }
    Ok(())
}

/// Mounts the account's token into every container that has nothing else there.
fn mount_token(pod: &mut Value, others: &dyn Others) {
    let volume = format!("kube-api-access-{}", others.name_suffix());
    let mut is_mounted = false;
    for list in ["containers", "initContainers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            if mounts.into_iter().any(|mount| mount["mountPath"] == TOKEN_PATH) {
                continue;
            }
            is_mounted = true;
            push(&mut container["volumeMounts"], json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
        }
    }
    if is_mounted {
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFE, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]);
        push(
            &mut pod["spec"]["volumes"],
            json!({"name": volume, "projected": {"sources": sources, "defaultMode": 0o644}}),
        );
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

fn give_priority(pod: &mut Value, others: &dyn Others) -> Result<(), ApiError> {
    let (priority, preemption) = match pod["spec"]["priorityClassName"].as_str().filter(|name| !name.is_empty()) {
        None => (json!(0), Value::Null),
        Some(class) => {
            let found = others.get("scheduling.k8s.io", "PriorityClass", "", class);
            let missing = || refused(pod, &format!("no PriorityClass with name {class} was found"));
            let found = found.ok_or_else(missing)?;
            (found["value"].clone(), found["preemptionPolicy"].clone())
        }
    };
    pod["spec"]["priority"] = priority;
    if pod["spec"]["preemptionPolicy"].is_null() {
        let usual = || json!("PreemptLowerPriority");
        pod["spec"]["preemptionPolicy"] = Some(preemption).filter(Value::is_string).unwrap_or_else(usual);
    }
    Ok(())
}

fn give_patience(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let taint = json!({"key": key, "effect": "NoExecute"});
        let known = pod["spec"]["tolerations"].as_array().into_iter().flatten();
        if !known.into_iter().any(|toleration| tolerates(toleration, &taint)) {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE});
            push(&mut pod["spec"]["tolerations"], toleration);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The account `default` and one class.
    struct Few;

    impl Others for Few {
        fn get(&self, _: &str, kind: &str, _: &str, name: &str) -> Option<Arc<Value>> {
            match (kind, name) {
                ("ServiceAccount", "default") => Some(Arc::new(json!({}))),
                ("ServiceAccount", "quiet") => Some(Arc::new(json!({"automountServiceAccountToken": false}))),
                ("PriorityClass", "high") => Some(Arc::new(json!({"value": 7, "preemptionPolicy": "Never"}))),
                _ => None,
            }
        }

        fn name_suffix(&self) -> String {
            "bcdfg".into()
        }
    }

    fn admitted(spec: Value) -> Result<Value, String> {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        admit(&mut pod, &Few).map(|()| pod["spec"].clone()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_plain_pod_gets_an_account_a_priority_and_patience() {
        let spec = admitted(json!({"containers": [{"name": "c"}]})).unwrap();
        assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
        assert_eq!(spec["volumes"][0]["name"], "kube-api-access-bcdfg");
        assert_eq!(spec.get("initContainers"), None);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], TOKEN_PATH);
        assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_a_pod_says_itself_stays() {
        let spec = admitted(json!({
            "serviceAccountName": "quiet", "priorityClassName": "high", "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c"}],
        }));
        let spec = spec.unwrap();
        assert!(spec["volumes"].is_null() && spec["containers"][0]["volumeMounts"].is_null());
        assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(7), &json!("Never")));
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn accounts_and_classes_must_be_there() {
        let why = admitted(json!({"serviceAccountName": "none"})).unwrap_err();
        let wanted =
            "pods \"p\" is forbidden: error looking up service account n/none: serviceaccount \"none\" not found";
        assert_eq!(why, wanted);
        let why = admitted(json!({"priorityClassName": "none"})).unwrap_err();
        assert_eq!(why, "pods \"p\" is forbidden: no PriorityClass with name none was found");
    }
}
