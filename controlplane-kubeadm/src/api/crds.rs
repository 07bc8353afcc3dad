//! The provider's CRDs and rights, as `cargo xtask gen` writes them.

use std::collections::BTreeMap;

use cluster_api::crd::{self, Definition, at, cluster_role, rule};
use kube::CustomResourceExt;
use kubeadm::api::v1beta1;
use serde_json::{Value, json};

use super::v1beta2::{KubeadmControlPlane, KubeadmControlPlaneTemplate};

const NAMESPACE: &str = "capi-kubeadm-control-plane-system";
const SERVICE: &str = "capi-kubeadm-control-plane-webhook-service";
const CONTRACTS: &[(&str, &str)] = &[("v1beta1", "v1beta1"), ("v1beta2", "v1beta2")];

/// `KubeadmControlPlane` and `KubeadmControlPlaneTemplate`, in both versions.
pub fn definitions() -> Vec<Value> {
    let control_plane = Definition::new(&KubeadmControlPlane::crd())
        .contracts(CONTRACTS)
        .converted_by(NAMESPACE, SERVICE)
        .refine(|schema| refine_machines(at(schema, &["properties", "spec", "properties"])))
        .older("v1beta1", true, columns(), |schema| {
            let spec = at(schema, &["properties", "spec"]);
            older_spec(spec);
            spec["required"] = json!(["kubeadmConfigSpec", "machineTemplate", "version"]);
            older_status(at(schema, &["properties", "status"]));
            remove(schema, "required");
        });
    let template = Definition::new(&KubeadmControlPlaneTemplate::crd())
        .contracts(CONTRACTS)
        .converted_by(NAMESPACE, SERVICE)
        .refine(|schema| {
            remove(schema, "required");
            refine_machines(at(schema, TEMPLATE_SPEC));
        })
        .older("v1beta1", true, json!([age("KubeadmControlPlaneTemplate")]), |schema| {
            let template = at(schema, &TEMPLATE_SPEC[..TEMPLATE_SPEC.len() - 3]);
            older_spec(&mut template["properties"]["spec"]);
            template["properties"]["spec"]["required"] = json!(["kubeadmConfigSpec"]);
            template["required"] = json!(["spec"]);
            v1beta1::relax(&mut template["properties"]["metadata"]);
            remove(template, "minProperties");
        });
    vec![control_plane.into_value(), template.into_value()]
}

const TEMPLATE_SPEC: &[&str] = &["properties", "spec", "properties", "template", "properties", "spec", "properties"];

/// Bounds of what is shared with core's Machine, whose own type says none.
fn refine_machines(spec: &mut Value) {
    let machine = at(spec, &["machineTemplate", "properties", "spec", "properties"]);
    if let Some(gates) = machine.get_mut("readinessGates") {
        gates["minItems"] = json!(1);
        gates["maxItems"] = json!(32);
        gates["x-kubernetes-list-type"] = json!("map");
        gates["x-kubernetes-list-map-keys"] = json!(["conditionType"]);
        let fields = at(gates, &["items", "properties"]);
        fields["conditionType"] =
            json!({"type": "string", "minLength": 1, "maxLength": 316, "pattern": crd::QUALIFIED_NAME});
        fields["polarity"] = json!({"type": "string", "enum": ["Positive", "Negative"]});
    }
    if let Some(taints) = machine.get_mut("taints") {
        taints["minItems"] = json!(1);
        taints["maxItems"] = json!(64);
        taints["x-kubernetes-list-type"] = json!("map");
        taints["x-kubernetes-list-map-keys"] = json!(["key", "effect"]);
        let fields = at(taints, &["items", "properties"]);
        fields["key"] = json!({
            "type": "string", "minLength": 1, "maxLength": 317,
            "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$",
        });
        fields["value"] = json!({
            "type": "string", "minLength": 1, "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        });
        fields["effect"] = json!({"type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]});
        fields["propagation"] = json!({"type": "string", "enum": ["Always", "OnInitialization"]});
    }
    if let Some(deletion) = machine.get_mut("deletion") {
        deletion["minProperties"] = json!(1);
        for limit in deletion["properties"].as_object_mut().into_iter().flat_map(|fields| fields.values_mut()) {
            limit["minimum"] = json!(0);
        }
    }
}

fn older_spec(spec: &mut Value) {
    remove(spec, "minProperties");
    let fields = at(spec, &["properties"]);
    let mut config = fields["kubeadmConfigSpec"].take();
    v1beta1::spec_schema(&mut config);
    // Gates and taints came when v1beta2 was there already, and merge in both.
    let mut machine = fields["machineTemplate"]["properties"]["spec"]["properties"].take();
    if let Some(gates) = machine.get_mut("readinessGates") {
        remove(gates, "minItems");
    }
    v1beta1::relax(fields);
    fields["kubeadmConfigSpec"] = config;
    let text = json!({"type": "string"});
    let mut template = json!({"metadata": fields["machineTemplate"]["properties"]["metadata"].take()});
    for limit in ["nodeDrainTimeout", "nodeVolumeDetachTimeout", "nodeDeletionTimeout"] {
        template[limit] = text.clone();
    }
    for same in ["readinessGates", "taints"] {
        if let Some(schema) = machine.get(same) {
            template[same] = schema.clone();
        }
    }
    if machine.get("infrastructureRef").is_some() {
        let names = ["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"];
        let reference: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), text.clone())).collect();
        template["infrastructureRef"] =
            json!({"type": "object", "properties": reference, "x-kubernetes-map-type": "atomic"});
        fields["machineTemplate"] =
            json!({"type": "object", "required": ["infrastructureRef"], "properties": template});
    } else {
        fields["machineTemplate"] = json!({"type": "object", "properties": template});
    }
    let mut rollout = fields["rollout"]["properties"].take();
    remove(&mut rollout["before"]["properties"]["certificatesExpiryDays"], "minimum");
    let mut strategy = rollout["strategy"].take();
    remove(&mut strategy, "required");
    strategy["default"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    fields["rolloutBefore"] = rollout["before"].take();
    fields["rolloutAfter"] = rollout["after"].take();
    fields["rolloutStrategy"] = strategy;
    fields["remediationStrategy"] = json!({"type": "object", "properties": {
        "maxRetry": {"type": "integer", "format": "int32"}, "retryPeriod": text, "minHealthyPeriod": text,
    }});
    fields["machineNamingStrategy"] = fields["machineNaming"].take();
    for newer in ["rollout", "remediation", "machineNaming"] {
        remove(fields, newer);
    }
}

fn older_status(status: &mut Value) {
    remove(status, "minProperties");
    let fields = at(status, &["properties"]);
    let mut newer = serde_json::Map::new();
    for moved in ["conditions", "readyReplicas", "availableReplicas", "upToDateReplicas"] {
        newer.insert(moved.to_owned(), fields[moved].take());
    }
    let legacy = fields["deprecated"]["properties"]["v1beta1"]["properties"].take();
    for gone in ["initialization", "deprecated", "availableReplicas", "upToDateReplicas"] {
        remove(fields, gone);
    }
    for (name, schema) in legacy.as_object().into_iter().flatten() {
        fields[name] = schema.clone();
    }
    for flag in ["initialized", "ready"] {
        fields[flag] = json!({"type": "boolean"});
    }
    remove(&mut fields["observedGeneration"], "minimum");
    remove(&mut fields["lastRemediation"]["properties"]["retryCount"], "minimum");
    let time = fields["lastRemediation"]["properties"]["time"].take();
    remove(&mut fields["lastRemediation"]["properties"], "time");
    fields["lastRemediation"]["properties"]["timestamp"] = time;
    fields["lastRemediation"]["required"] = json!(["machine", "retryCount", "timestamp"]);
    fields["v1beta2"] = json!({"type": "object", "properties": newer});
}

fn remove(fields: &mut Value, name: &str) {
    if let Some(fields) = fields.as_object_mut() {
        fields.remove(name);
    }
}

fn age(kind: &str) -> Value {
    json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
           "description": format!("Time duration since creation of {kind}")})
}

fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str, description: &str| json!({"name": name, "type": kind, "jsonPath": path, "description": description});
    let mut desired = column("Desired", "integer", ".spec.replicas", "Machines that are wanted");
    desired["priority"] = json!(10);
    let cluster = r".metadata.labels['cluster\.x-k8s\.io/cluster-name']";
    json!([
        column("Cluster", "string", cluster, "Cluster"),
        column("Initialized", "boolean", ".status.initialized", "kubeadm's configuration is in the workload cluster"),
        column("API Server Available", "boolean", ".status.ready", "The API server can take requests"),
        desired,
        column("Replicas", "integer", ".status.replicas", "Machines"),
        column("Ready", "integer", ".status.readyReplicas", "Machines whose node is ready"),
        column("Updated", "integer", ".status.updatedReplicas", "Machines that are as the spec wants them"),
        column("Unavailable", "integer", ".status.unavailableReplicas", "Machines whose node is not ready"),
        age("KubeadmControlPlane"),
        column("Version", "string", ".spec.version", "Kubernetes version of the control plane"),
    ])
}

/// The manager's rights; infrastructure providers add theirs through aggregation.
pub fn roles() -> Vec<Value> {
    let all = &["create", "delete", "get", "list", "patch", "update", "watch"];
    let read = &["get", "list", "watch"];
    let rules = [
        rule(&[""], &["secrets"], &["create", "get", "patch", "update"]),
        rule(&[""], &["events"], &["create", "patch"]),
        rule(&["apiextensions.k8s.io"], &["customresourcedefinitions"], read),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        rule(
            &["controlplane.cluster.x-k8s.io"],
            &["kubeadmcontrolplanes"],
            &["get", "list", "patch", "update", "watch"],
        ),
        rule(&["controlplane.cluster.x-k8s.io"], &["kubeadmcontrolplanes/status"], &["get", "patch", "update"]),
        rule(&["controlplane.cluster.x-k8s.io"], &["kubeadmcontrolplanes/finalizers"], &["update"]),
        rule(&["bootstrap.cluster.x-k8s.io"], &["kubeadmconfigs"], all),
        rule(&["infrastructure.cluster.x-k8s.io"], &["*"], all),
        rule(
            &["cluster.x-k8s.io"],
            &["clusters", "clusters/status", "machinepools", "machinesets", "machinedeployments"],
            read,
        ),
        rule(&["cluster.x-k8s.io"], &["machines", "machines/status"], all),
    ];
    let label = BTreeMap::from([("kubeadm.controlplane.cluster.x-k8s.io/aggregate-to-manager", "true")]);
    vec![cluster_role("capi-kubeadm-control-plane-manager-role", &label, &rules)]
}
