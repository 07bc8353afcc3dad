//! The built-in kinds that are served: topology of their fields (after client-go's apply configurations), what is
//! defaulted, and what only the server sets.

use std::sync::{Arc, LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    apply::schema::{ListKey, Schema},
    certificates, crd, object,
    registry::{Behaviour, Registry, Resource},
    workloads,
};

/// Group of `CustomResourceDefinition`.
pub const API_EXTENSIONS: &str = "apiextensions.k8s.io";

/// The resources that every server has. Servers share them: there may be a thousand.
pub fn registry() -> Registry {
    static SHARED: LazyLock<Registry> = LazyLock::new(build);
    SHARED.clone()
}

fn build() -> Registry {
    let mut registry = Registry::default();
    core(&mut registry);
    workloads::install(&mut registry);
    rbac(&mut registry);
    registry.install(definitions());
    let mut lease = kind("coordination.k8s.io", "Lease", "leases", true, []);
    lease.behaviour.updates_unconditionally = false;
    lease.behaviour.creates_on_update = true;
    registry.install(lease);
    let mut budget = kind(
        "policy",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        true,
        [("spec", Schema::record([("selector", Schema::Leaf)]))],
    );
    budget.behaviour = Behaviour { has_status: true, has_generation: true, ..Behaviour::default() };
    registry.install(budget);
    registry.install(certificates::resource());
    others(&mut registry);
    registry
}

pub(crate) fn kind<const N: usize>(
    group: &str,
    name: &str,
    plural: &str,
    is_namespaced: bool,
    fields: [(&str, Schema); N],
) -> Resource {
    let mut schema = Schema::record(fields);
    if let Schema::Record { fields, .. } = &mut schema {
        fields.insert("metadata".into(), Arc::new(Schema::metadata()));
    }
    Resource::new(group, "v1", name, plural, is_namespaced, schema)
}

pub(crate) fn short(mut resource: Resource, names: &[&str]) -> Resource {
    resource.short_names = names.iter().map(|name| (*name).to_owned()).collect();
    resource
}

pub(crate) fn selectable(mut resource: Resource, fields: &[&str]) -> Resource {
    resource.selectable = fields.iter().map(|field| (*field).to_owned()).collect();
    resource
}

fn core(registry: &mut Registry) {
    registry.install(namespaces());
    let config_map =
        kind("", "ConfigMap", "configmaps", true, [("data", Schema::map()), ("binaryData", Schema::map())]);
    registry.install(short(config_map, &["cm"]));
    registry.install(secrets());
    registry.install(pods());
    registry.install(nodes());
    registry.install(services());
    let mut account =
        kind("", "ServiceAccount", "serviceaccounts", true, [("secrets", Schema::keyed(["name"], Schema::Leaf))]);
    account.behaviour.returns_deleted = true;
    registry.install(short(account, &["sa"]));
    let event = kind("", "Event", "events", true, [("involvedObject", Schema::Leaf), ("related", Schema::Leaf)]);
    let mut event = selectable(
        short(event, &["ev"]),
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "reason",
            "type",
        ],
    );
    event.behaviour.creates_on_update = true;
    registry.install(event);
}

fn namespaces() -> Resource {
    let mut namespace =
        short(kind("", "Namespace", "namespaces", false, [("status", Schema::record([conditions()]))]), &["ns"]);
    namespace = selectable(namespace, &["status.phase"]);
    namespace.behaviour =
        Behaviour { has_status: true, updates_unconditionally: true, returns_deleted: true, ..Behaviour::default() };
    namespace.default = Some(Arc::new(|namespace, _| {
        let name = object::name(namespace).to_owned();
        if !name.is_empty() {
            let mut labels = namespace.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
            labels["kubernetes.io/metadata.name"] = json!(name);
            object::set_meta(namespace, "labels", labels);
        }
        Ok(())
    }));
    namespace.prepare = Some(Arc::new(|namespace, old| match old {
        None => {
            let finalizers = namespace.pointer("/spec/finalizers").and_then(Value::as_array);
            let mut finalizers = finalizers.cloned().unwrap_or_default();
            if !finalizers.contains(&json!("kubernetes")) {
                finalizers.push(json!("kubernetes"));
            }
            namespace["spec"] = json!({"finalizers": finalizers});
            namespace["status"] = json!({"phase": "Active"});
        }
        Some(old) => object::copy_field(namespace, old, "spec"),
    }));
    namespace
}

fn secrets() -> Resource {
    let mut secret = kind("", "Secret", "secrets", true, [("data", Schema::map()), ("stringData", Schema::map())]);
    secret = selectable(secret, &["type"]);
    secret.default = Some(Arc::new(|secret, _| {
        let Some(fields) = secret.as_object_mut() else { return Ok(()) };
        if fields.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
            fields.insert("type".into(), json!("Opaque"));
        }
        if let Some(Value::Object(texts)) = fields.remove("stringData") {
            let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
            for (key, text) in texts {
                data[key] = json!(BASE64_STANDARD.encode(text.as_str().unwrap_or_default()));
            }
        }
        let data = fields.get("data").and_then(Value::as_object).into_iter().flatten();
        data.filter_map(|(_, value)| value.as_str()).try_for_each(check_base64)
    }));
    secret
}

fn check_base64(text: &str) -> Result<(), String> {
    BASE64_STANDARD.decode(text).map(drop).map_err(|error| {
        let byte = match error {
            base64::DecodeError::InvalidByte(byte, _) => byte,
            _ => text.len(),
        };
        format!("illegal base64 data at input byte {byte}")
    })
}

pub(crate) fn conditions() -> (&'static str, Schema) {
    ("conditions", Schema::keyed(["type"], Schema::Plain))
}

fn resources() -> (&'static str, Schema) {
    let claims = Schema::keyed(["name"], Schema::Plain);
    ("resources", Schema::record([("claims", claims), ("limits", Schema::map()), ("requests", Schema::map())]))
}

fn container() -> Schema {
    let source = ["configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef"];
    let env = Schema::record([("valueFrom", Schema::record(source.map(|name| (name, Schema::Leaf))))]);
    let ports = Schema::Keyed {
        keys: vec![
            ListKey { name: "containerPort".into(), default: None },
            ListKey { name: "protocol".into(), default: Some(json!("TCP")) },
        ],
        element: Arc::new(Schema::Plain),
    };
    Schema::record([
        ("env", Schema::keyed(["name"], env)),
        ("ports", ports),
        resources(),
        ("volumeDevices", Schema::keyed(["devicePath"], Schema::Plain)),
        ("volumeMounts", Schema::keyed(["mountPath"], Schema::Plain)),
    ])
}

pub(crate) fn pod_spec() -> Schema {
    let named = || Schema::keyed(["name"], Schema::Plain);
    Schema::record([
        ("containers", Schema::keyed(["name"], container())),
        ("ephemeralContainers", Schema::keyed(["name"], container())),
        ("initContainers", Schema::keyed(["name"], container())),
        ("hostAliases", Schema::keyed(["ip"], Schema::Plain)),
        ("imagePullSecrets", named()),
        ("nodeSelector", Schema::Leaf),
        ("overhead", Schema::map()),
        ("resourceClaims", named()),
        resources(),
        ("schedulingGates", named()),
        ("topologySpreadConstraints", Schema::keyed(["topologyKey", "whenUnsatisfiable"], Schema::Plain)),
        ("volumes", named()),
    ])
}

fn pods() -> Resource {
    let status = Schema::record([
        conditions(),
        ("podIPs", Schema::keyed(["ip"], Schema::Plain)),
        ("resourceClaimStatuses", Schema::keyed(["name"], Schema::Plain)),
    ]);
    let pod = kind("", "Pod", "pods", true, [("spec", pod_spec()), ("status", status)]);
    let mut pod = selectable(
        short(pod, &["po"]),
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    );
    pod.behaviour = Behaviour {
        has_generation: true,
        has_status: true,
        updates_unconditionally: true,
        returns_deleted: true,
        grace: Some(pod_grace),
        ..Behaviour::default()
    };
    pod.default = Some(Arc::new(|pod, _| {
        if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
            for (name, value) in [
                ("dnsPolicy", json!("ClusterFirst")),
                ("enableServiceLinks", json!(true)),
                ("restartPolicy", json!("Always")),
                ("schedulerName", json!("default-scheduler")),
                ("securityContext", json!({})),
                ("terminationGracePeriodSeconds", json!(30)),
            ] {
                spec.entry(name).or_insert(value);
            }
            default_containers(spec);
        }
        Ok(())
    }));
    pod.prepare = Some(Arc::new(|pod, old| {
        if old.is_none() {
            pod["status"] = json!({"phase": "Pending"});
        }
    }));
    pod
}

fn default_containers(spec: &mut Map<String, Value>) {
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
            let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map(|(_, tag)| tag);
            let policy = if tag.is_none_or(|tag| tag == "latest") { "Always" } else { "IfNotPresent" };
            for (name, value) in [
                ("imagePullPolicy", json!(policy)),
                ("resources", json!({})),
                ("terminationMessagePath", json!("/dev/termination-log")),
                ("terminationMessagePolicy", json!("File")),
            ] {
                container.entry(name).or_insert(value);
            }
        }
    }
}

/// A pod that runs nowhere, or runs no more, needs no grace.
fn pod_grace(pod: &Value) -> i64 {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/nodeName").is_empty() || ["Failed", "Succeeded"].contains(&text("/status/phase")) {
        return 0;
    }
    pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30)
}

fn nodes() -> Resource {
    let status = Schema::record([
        ("addresses", Schema::keyed(["type"], Schema::Plain)),
        ("allocatable", Schema::map()),
        ("capacity", Schema::map()),
        conditions(),
    ]);
    let spec = Schema::record([("podCIDRs", Schema::Set)]);
    let node = kind("", "Node", "nodes", false, [("spec", spec), ("status", status)]);
    let mut node = selectable(short(node, &["no"]), &["spec.unschedulable"]);
    node.behaviour =
        Behaviour { has_status: true, creates_status: true, updates_unconditionally: true, ..Behaviour::default() };
    node
}

fn services() -> Resource {
    let ports = Schema::Keyed {
        keys: vec![
            ListKey { name: "port".into(), default: None },
            ListKey { name: "protocol".into(), default: Some(json!("TCP")) },
        ],
        element: Arc::new(Schema::Plain),
    };
    let spec = Schema::record([("ports", ports), ("selector", Schema::Leaf)]);
    let service = kind("", "Service", "services", true, [("spec", spec), ("status", Schema::record([conditions()]))]);
    let mut service = selectable(short(service, &["svc"]), &["spec.clusterIP", "spec.type"]);
    service.default = Some(Arc::new(|service, _| {
        default_service(service);
        Ok(())
    }));
    service.behaviour =
        Behaviour { has_status: true, updates_unconditionally: true, returns_deleted: true, ..Behaviour::default() };
    service
}

/// `pkg/apis/core/v1/defaults.go`; addresses are given by whoever serves a cluster.
fn default_service(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.entry("type").or_insert_with(|| json!("ClusterIP"));
    spec.entry("sessionAffinity").or_insert_with(|| json!("None"));
    if spec["type"] != "ExternalName" {
        spec.entry("internalTrafficPolicy").or_insert_with(|| json!("Cluster"));
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        port.entry("protocol").or_insert_with(|| json!("TCP"));
        if let Some(number) = port.get("port").cloned() {
            port.entry("targetPort").or_insert(number);
        }
    }
}

fn rbac(registry: &mut Registry) {
    for (name, plural, is_namespaced) in [
        ("ClusterRole", "clusterroles", false),
        ("ClusterRoleBinding", "clusterrolebindings", false),
        ("Role", "roles", true),
        ("RoleBinding", "rolebindings", true),
    ] {
        let mut kind = kind("rbac.authorization.k8s.io", name, plural, is_namespaced, [("roleRef", Schema::Leaf)]);
        kind.behaviour.has_path_names = true;
        registry.install(kind);
    }
}

/// Kinds that drains, volumes and kubelets ask for, and of which nothing but storage is known.
fn others(registry: &mut Registry) {
    for (group, name, plural, is_namespaced, has_status) in [
        ("", "Endpoints", "endpoints", true, false),
        ("", "PersistentVolume", "persistentvolumes", false, true),
        ("", "PersistentVolumeClaim", "persistentvolumeclaims", true, true),
        ("discovery.k8s.io", "EndpointSlice", "endpointslices", true, false),
        ("storage.k8s.io", "CSINode", "csinodes", false, false),
        ("storage.k8s.io", "StorageClass", "storageclasses", false, false),
        ("storage.k8s.io", "VolumeAttachment", "volumeattachments", false, true),
    ] {
        let mut kind = kind(group, name, plural, is_namespaced, []);
        kind.behaviour.has_status = has_status;
        registry.install(kind);
    }
}

fn definitions() -> Resource {
    let names = Schema::record([("shortNames", Schema::Leaf), ("categories", Schema::Leaf)]);
    let status = Schema::record([conditions()]);
    let mut definition = short(
        kind(
            API_EXTENSIONS,
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
            [("spec", Schema::record([("names", names), ("versions", Schema::Leaf)])), ("status", status)],
        ),
        &["crd", "crds"],
    );
    definition.behaviour = Behaviour { has_generation: true, has_status: true, ..Behaviour::default() };
    definition.validate = Some(Arc::new(|definition, _| crd::validate(definition)));
    definition
}
