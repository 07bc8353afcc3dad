//! Defaults that older releases wrote into objects, for comparisons that must not see a change where there is none.

use serde_json::{Value, json};

/// Fills in a `KubeadmConfigSpec` what older releases filled in (bootstrap contract, historical defaults).
pub fn previous_defaults(spec: &mut Value) {
    if !spec.is_object() {
        *spec = json!({});
    }
    fill(&mut spec["format"], "cloud-config");
    for section in ["initConfiguration", "joinConfiguration"] {
        fill(&mut spec[section]["nodeRegistration"]["imagePullPolicy"], "IfNotPresent");
    }
    if let Some(exec) = spec.pointer_mut("/joinConfiguration/discovery/file/kubeConfig/user/exec")
        && exec.is_object()
    {
        fill(&mut exec["apiVersion"], "client.authentication.k8s.io/v1");
    }
}

fn fill(field: &mut Value, default: &str) {
    if field.is_null() {
        *field = json!(default);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_kept_and_the_rest_filled_in() {
        let mut spec = json!({
            "format": "ignition",
            "joinConfiguration": {
                "nodeRegistration": {"imagePullPolicy": "Never"},
                "discovery": {"file": {"kubeConfigPath": "/a", "kubeConfig": {"user": {"exec": {"command": "c"}}}}},
            },
        });
        previous_defaults(&mut spec);
        assert_eq!(spec["format"], "ignition");
        assert_eq!(spec["initConfiguration"]["nodeRegistration"]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(spec["joinConfiguration"]["nodeRegistration"]["imagePullPolicy"], "Never");
        let exec = &spec["joinConfiguration"]["discovery"]["file"]["kubeConfig"]["user"]["exec"];
        assert_eq!(exec["apiVersion"], "client.authentication.k8s.io/v1");
        let mut nothing = Value::Null;
        previous_defaults(&mut nothing);
        assert_eq!(nothing["format"], "cloud-config");
        assert!(nothing["joinConfiguration"].get("discovery").is_none());
    }
}
