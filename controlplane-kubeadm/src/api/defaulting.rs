//! Defaults of a `KubeadmControlPlane`, filled in by the webhook.

use serde_json::{Value, json};

/// Fills in what the user left open: one replica, the version's `v`, the way of rolling out.
pub fn default(object: &mut Value) {
    let spec = &mut object["spec"];
    if spec["replicas"].is_null() {
        spec["replicas"] = json!(1);
    }
    if let Some(version) = spec["version"].as_str().filter(|version| !version.is_empty() && !version.starts_with('v')) {
        spec["version"] = json!(format!("v{version}"));
    }
    let strategy = &mut spec["rollout"]["strategy"];
    if strategy["type"].as_str().is_none_or(str::is_empty) {
        strategy["type"] = json!("RollingUpdate");
    }
    let surge = &mut strategy["rollingUpdate"]["maxSurge"];
    if surge.is_null() {
        *surge = json!(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_filled_in_and_the_rest_is_left() {
        let mut object = json!({"spec": {"version": "1.36.3"}});
        default(&mut object);
        let rollout = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
        assert_eq!(object, json!({"spec": {"version": "v1.36.3", "replicas": 1, "rollout": rollout}}));
        let mut said = json!({"spec": {"version": "v1.34.5-3", "replicas": 3, "rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}}}});
        let before = said.clone();
        default(&mut said);
        assert_eq!(said, before);
    }
}
