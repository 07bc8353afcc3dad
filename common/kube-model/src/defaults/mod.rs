//! What the API server fills in where an object says nothing, kind by kind (`pkg/apis/*/v1/defaults.go`), and what the types
//! that it decodes into show although nothing is there.

mod pods;
mod services;
mod storage;
mod workloads;

use serde_json::{Map, Value, json};

pub use self::{
    pods::{default_pod, new_pod_status},
    services::{default_endpoint_slice, default_service},
    storage::{
        default_claim, default_csi_driver, default_storage_class, default_volume, new_claim_status, new_volume_status,
    },
    workloads::{
        default_cron_job, default_daemon_set, default_deployment, default_job, default_replica_set,
        default_stateful_set,
    },
};

/// Fills in fields that are not there.
fn fill<const N: usize>(fields: &mut Map<String, Value>, defaults: [(&str, Value); N]) {
    for (name, value) in defaults {
        fields.entry(name).or_insert(value);
    }
}

/// The fields of an object below a name.
fn below<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(name)?.as_object_mut()
}

/// The items of a list below a name that are objects.
fn each<'a>(fields: &'a mut Map<String, Value>, list: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let items = fields.get_mut(list).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Moments and the reporter are shown even where they are not known.
pub fn default_event(event: &mut Value) {
    if let Some(event) = event.as_object_mut() {
        fill(
            event,
            [
                ("eventTime", Value::Null),
                ("firstTimestamp", Value::Null),
                ("lastTimestamp", Value::Null),
                ("reportingComponent", json!("")),
                ("reportingInstance", json!("")),
                ("source", json!({})),
            ],
        );
    }
}

/// The group of users and groups goes without saying.
pub fn default_binding(binding: &mut Value) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let Some(binding) = binding.as_object_mut() else { return };
    for subject in each(binding, "subjects") {
        if ["User", "Group"].iter().any(|kind| subject.get("kind").is_some_and(|given| given == kind)) {
            fill(subject, [("apiGroup", json!(GROUP))]);
        }
    }
    if let Some(role) = binding.get_mut("roleRef").and_then(Value::as_object_mut) {
        fill(role, [("apiGroup", json!(GROUP))]);
    }
}

/// Limits of containers are what they may use without asking for more.
pub fn default_limit_range(range: &mut Value) {
    let Some(spec) = below(range, "spec") else { return };
    for limit in each(spec, "limits").filter(|limit| limit.get("type").is_some_and(|kind| kind == "Container")) {
        let copy = |limit: &mut Map<String, Value>, from: &str, to: &str| {
            for (resource, quantity) in limit.get(from).and_then(Value::as_object).cloned().unwrap_or_default() {
                let kept = limit.entry(to).or_insert_with(|| json!({}));
                if let Some(kept) = kept.as_object_mut() {
                    kept.entry(resource).or_insert(quantity);
                }
            }
        };
        copy(limit, "max", "default");
        copy(limit, "default", "defaultRequest");
        copy(limit, "min", "defaultRequest");
    }
}

/// A class that says nothing lets its pods push others aside.
pub fn default_priority_class(class: &mut Value) {
    if let Some(class) = class.as_object_mut() {
        fill(class, [("preemptionPolicy", json!("PreemptLowerPriority"))]);
    }
}

/// What a node shows of which nothing is known yet.
pub fn new_node_status(node: &mut Value) {
    const FACTS: [&str; 10] = [
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ];
    if !node["status"].is_object() {
        node["status"] = json!({});
    }
    let Some(status) = below(node, "status") else { return };
    fill(status, [("daemonEndpoints", json!({"kubeletEndpoint": {"Port": 0}})), ("nodeInfo", json!({}))]);
    if let Some(info) = status.get_mut("nodeInfo").and_then(Value::as_object_mut) {
        fill(info, FACTS.map(|fact| (fact, json!(""))));
    }
}

/// Names of a definition that follow from others, and no conversion.
pub fn default_definition(definition: &mut Value) {
    let Some(spec) = below(definition, "spec") else { return };
    fill(spec, [("conversion", json!({"strategy": "None"}))]);
    let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) else { return };
    if let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned) {
        fill(names, [("listKind", json!(format!("{kind}List"))), ("singular", json!(kind.to_lowercase()))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaulted(run: fn(&mut Value), mut object: Value) -> Value {
        run(&mut object);
        object
    }

    #[test]
    fn a_container_says_how_it_is_probed_and_asks_for_what_it_may_use() {
        let pod = defaulted(
            default_pod,
            json!({"spec": {
                "hostNetwork": true, "serviceAccountName": "a",
                "containers": [{
                    "name": "c", "image": "host:5000/web:1", "ports": [{"containerPort": 80}],
                    "livenessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "1"}},
                    "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                }],
                "volumes": [{"name": "v"}, {"name": "h", "hostPath": {"path": "/x"}}, {"name": "m", "configMap": {}}],
            }}),
        );
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
        assert_eq!(
            container["livenessProbe"],
            json!({
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3,
            })
        );
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(pod["spec"]["serviceAccount"], "a");
        let volumes = &pod["spec"]["volumes"];
        assert_eq!(volumes[0]["emptyDir"], json!({}));
        assert_eq!(
            (&volumes[1]["hostPath"]["type"], &volumes[2]["configMap"]["defaultMode"]),
            (&json!(""), &json!(420))
        );
    }

    #[test]
    fn templates_are_filled_in_like_pods() {
        let template = json!({"spec": {"containers": [{"name": "c", "image": "web"}]}});
        let of = |run, spec: Value| defaulted(run, json!({"metadata": {}, "spec": spec}))["spec"].clone();
        let deployment =
            of(default_deployment, json!({"template": template, "strategy": {"rollingUpdate": {"maxSurge": 0}}}));
        assert_eq!(deployment["strategy"]["rollingUpdate"], json!({"maxSurge": 0, "maxUnavailable": "25%"}));
        let containers = |spec: &Value| spec["template"]["spec"]["containers"][0]["imagePullPolicy"].clone();
        assert_eq!(containers(&deployment), "Always");
        for run in [default_daemon_set, default_replica_set, default_stateful_set, default_job] {
            assert_eq!(containers(&of(run, json!({"template": template}))), "Always");
        }
        let job = of(default_cron_job, json!({"jobTemplate": {"spec": {"template": template}}}));
        assert_eq!(containers(&job["jobTemplate"]["spec"]), "Always");
        assert!(job["jobTemplate"]["spec"].get("completions").is_none(), "a Job fills that in when it is made");
    }

    #[test]
    fn recreation_knows_no_steps() {
        let deployment = defaulted(default_deployment, json!({"spec": {"strategy": {"type": "Recreate"}}}));
        assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    }

    #[test]
    fn services_that_reach_outside_say_how() {
        let service = defaulted(default_service, json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}]}}));
        assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
        let inner = defaulted(default_service, json!({"spec": {"ports": []}}));
        assert!(inner["spec"].get("externalTrafficPolicy").is_none());
    }
}
