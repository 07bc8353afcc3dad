//! The built-in kinds that are served: topology of their fields (after client-go's apply configurations), how each behaves,
//! and what only the server sets.

use std::sync::{Arc, LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    apply::schema::{ListKey, Schema},
    certificates, crd, defaults,
    errors::FieldError,
    object,
    registry::{Behaviour, Registry, Resource},
    validation,
    workloads::{self, begin_with},
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
    registry.install(validated(lease, validation::validate_lease, |_, _| Vec::new()));
    let budget = kind(
        "policy",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        true,
        [("spec", Schema::record([("selector", Schema::Leaf)]))],
    );
    let mut budget = named(budget, &["pdb"], &[]);
    budget.behaviour = Behaviour { has_status: true, has_generation: true, ..Behaviour::default() };
    budget.prepare = Some(begin_with(
        || json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
    ));
    registry.install(validated(budget, validation::validate_budget, |_, _| Vec::new()));
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

/// A resource with other names and the groups of resources that it belongs to.
pub(crate) fn named(mut resource: Resource, short: &[&str], categories: &[&str]) -> Resource {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    (resource.short_names, resource.categories) = (texts(short), texts(categories));
    resource
}

pub(crate) fn selectable(mut resource: Resource, fields: &[&str]) -> Resource {
    resource.selectable = fields.iter().map(|field| (*field).to_owned()).collect();
    resource
}

/// A resource whose objects are filled in.
pub(crate) fn defaulted(mut resource: Resource, fill_in: fn(&mut Value)) -> Resource {
    resource.default = Some(Arc::new(move |object, _| {
        fill_in(object);
        Ok(())
    }));
    resource
}

/// A resource whose objects and their changes are looked at.
pub(crate) fn validated(
    mut resource: Resource,
    object: fn(&Value) -> Vec<FieldError>,
    change: fn(&Value, &Value) -> Vec<FieldError>,
) -> Resource {
    resource.validate = Some(Arc::new(move |new, _| object(new)));
    resource.validate_update = Some(Arc::new(change));
    resource
}

fn core(registry: &mut Registry) {
    registry.install(namespaces());
    let config_map =
        kind("", "ConfigMap", "configmaps", true, [("data", Schema::map()), ("binaryData", Schema::map())]);
    let config_map = named(config_map, &["cm"], &[]);
    registry.install(validated(config_map, validation::validate_keys, validation::validate_keys_update));
    registry.install(secrets());
    registry.install(pods());
    registry.install(nodes());
    registry.install(services());
    let mut account =
        kind("", "ServiceAccount", "serviceaccounts", true, [("secrets", Schema::keyed(["name"], Schema::Leaf))]);
    account.behaviour.returns_deleted = true;
    registry.install(named(account, &["sa"], &[]));
    let event = kind("", "Event", "events", true, [("involvedObject", Schema::Leaf), ("related", Schema::Leaf)]);
    let mut event = selectable(
        named(event, &["ev"], &[]),
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    );
    event.behaviour.creates_on_update = true;
    registry.install(defaulted(event, defaults::default_event));
}

fn namespaces() -> Resource {
    let mut namespace =
        named(kind("", "Namespace", "namespaces", false, [("status", Schema::record([conditions()]))]), &["ns"], &[]);
    namespace = selectable(namespace, &["status.phase"]);
    namespace.behaviour = Behaviour {
        has_status: true,
        updates_unconditionally: true,
        returns_deleted: true,
        has_label_names: true,
        deletes_one_by_one: true,
        ..Behaviour::default()
    };
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
    validated(secret, validation::validate_keys, validation::validate_keys_update)
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
        named(pod, &["po"], &["all"]),
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
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
    pod.prepare = Some(Arc::new(|pod, old| {
        if old.is_none() {
            defaults::new_pod_status(pod);
        }
    }));
    let pod = defaulted(pod, defaults::default_pod);
    validated(pod, validation::validate_pod, validation::validate_pod_update)
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
    let mut node = selectable(named(node, &["no"], &[]), &["spec.unschedulable"]);
    node.behaviour =
        Behaviour { has_status: true, creates_status: true, updates_unconditionally: true, ..Behaviour::default() };
    node.prepare = Some(Arc::new(|node, old| {
        if old.is_none() {
            defaults::new_node_status(node);
        }
    }));
    validated(node, |_| Vec::new(), validation::validate_node_update)
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
    let mut service = selectable(named(service, &["svc"], &["all"]), &["spec.clusterIP", "spec.type"]);
    service.behaviour =
        Behaviour { has_status: true, updates_unconditionally: true, returns_deleted: true, ..Behaviour::default() };
    service.prepare = Some(begin_with(|| json!({"loadBalancer": {}})));
    let service = defaulted(service, defaults::default_service);
    validated(service, validation::validate_service, validation::validate_service_update)
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
        registry.install(if name.ends_with("Binding") {
            validated(defaulted(kind, defaults::default_binding), |_| Vec::new(), validation::validate_binding_update)
        } else {
            kind
        });
    }
}

/// Kinds of which little more than storage is known: those that drains, volumes and kubelets ask for, and those whose objects
/// others read.
fn others(registry: &mut Registry) {
    const STORAGE: &str = "storage.k8s.io";
    let plain = |registry: &mut Registry, group, name, plural, short: &[&str], is_namespaced| {
        registry.install(named(kind(group, name, plural, is_namespaced, []), short, &[]));
    };
    plain(registry, "", "Endpoints", "endpoints", &["ep"], true);
    plain(registry, "", "PodTemplate", "podtemplates", &[], true);
    plain(registry, "apps", "ControllerRevision", "controllerrevisions", &[], true);
    plain(registry, STORAGE, "CSINode", "csinodes", &[], false);
    plain(registry, STORAGE, "CSIStorageCapacity", "csistoragecapacities", &[], true);
    plain(registry, STORAGE, "VolumeAttributesClass", "volumeattributesclasses", &["vac"], false);
    let slice = kind("discovery.k8s.io", "EndpointSlice", "endpointslices", true, []);
    registry.install(defaulted(slice, defaults::default_endpoint_slice));
    let range = named(kind("", "LimitRange", "limitranges", true, []), &["limits"], &[]);
    registry.install(defaulted(range, defaults::default_limit_range));
    let mut class = named(kind("scheduling.k8s.io", "PriorityClass", "priorityclasses", false, []), &["pc"], &[]);
    class.behaviour.has_generation = true;
    registry.install(defaulted(class, defaults::default_priority_class));
    let class = named(kind(STORAGE, "StorageClass", "storageclasses", false, []), &["sc"], &[]);
    registry.install(defaulted(class, defaults::default_storage_class));
    let driver = kind(STORAGE, "CSIDriver", "csidrivers", false, []);
    registry.install(defaulted(driver, defaults::default_csi_driver));
    let mut quota = named(kind("", "ResourceQuota", "resourcequotas", true, []), &["quota"], &[]);
    (quota.behaviour.has_status, quota.behaviour.returns_deleted) = (true, true);
    quota.prepare = Some(begin_with(|| json!({})));
    registry.install(quota);
    let mut attachment = kind(STORAGE, "VolumeAttachment", "volumeattachments", false, []);
    attachment.behaviour.has_status = true;
    registry.install(validated(attachment, validation::validate_attachment, |_, _| Vec::new()));
    let volume = named(kind("", "PersistentVolume", "persistentvolumes", false, []), &["pv"], &[]);
    registry.install(claimed(volume, defaults::default_volume, defaults::new_volume_status));
    let claim = named(kind("", "PersistentVolumeClaim", "persistentvolumeclaims", true, []), &["pvc"], &[]);
    registry.install(claimed(claim, defaults::default_claim, defaults::new_claim_status));
}

/// Volumes and claims begin with a phase.
fn claimed(resource: Resource, fill_in: fn(&mut Value), begin: fn(&mut Value)) -> Resource {
    let mut resource = defaulted(resource, fill_in);
    (resource.behaviour.has_status, resource.behaviour.returns_deleted) = (true, true);
    resource.prepare = Some(Arc::new(move |object, old| {
        if old.is_none() {
            begin(object);
        }
    }));
    resource
}

fn definitions() -> Resource {
    let names = Schema::record([("shortNames", Schema::Leaf), ("categories", Schema::Leaf)]);
    let status = Schema::record([conditions()]);
    let mut definition = named(
        kind(
            API_EXTENSIONS,
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
            [("spec", Schema::record([("names", names), ("versions", Schema::Leaf)])), ("status", status)],
        ),
        &["crd", "crds"],
        &["api-extensions"],
    );
    definition.behaviour = Behaviour { has_generation: true, has_status: true, ..Behaviour::default() };
    validated(defaulted(definition, defaults::default_definition), crd::validate, |_, _| Vec::new())
}
