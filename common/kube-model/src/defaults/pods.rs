//! Pods and templates of pods.

use serde_json::{Map, Value, json};

use super::{below, each, fill};

/// Lists of containers in a pod's spec.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// Mode of files whose volume says nothing: `0644`.
const FILE_MODE: i32 = 0o644;

/// A pod.
pub fn default_pod(pod: &mut Value) {
    if let Some(spec) = below(pod, "spec") {
        if spec.get("hostNetwork").is_some_and(|is_on_host| *is_on_host == true) {
            expose_on_host(spec);
        }
        fill(spec, [("enableServiceLinks", json!(true))]);
        for list in CONTAINERS {
            each(spec, list).for_each(request_limits);
        }
        default_spec(spec);
    }
    show_probe_times(pod);
}

/// A template of pods.
pub(super) fn default_template(fields: &mut Map<String, Value>) {
    if let Some(spec) = fields.get_mut("template").and_then(|template| below(template, "spec")) {
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Map<String, Value>) {
    fill(
        spec,
        [
            ("dnsPolicy", json!("ClusterFirst")),
            ("restartPolicy", json!("Always")),
            ("schedulerName", json!("default-scheduler")),
            ("securityContext", json!({})),
            ("terminationGracePeriodSeconds", json!(30)),
        ],
    );
    // The older name of the account goes along with the newer one.
    let account = ["serviceAccountName", "serviceAccount"].into_iter().find_map(|name| spec.get(name).cloned());
    if let Some(account) = account {
        spec.insert("serviceAccount".into(), account.clone());
        spec.insert("serviceAccountName".into(), account);
    }
    for list in CONTAINERS {
        each(spec, list).for_each(default_container);
    }
    each(spec, "volumes").for_each(default_volume);
}

/// On the host's network a container's port is the host's.
fn expose_on_host(spec: &mut Map<String, Value>) {
    for list in ["containers", "initContainers"] {
        for port in each(spec, list).flat_map(|container| each(container, "ports")) {
            if let Some(number) = port.get("containerPort").cloned() {
                fill(port, [("hostPort", number)]);
            }
        }
    }
}

/// A container asks for what it may use at most, unless it says otherwise.
fn request_limits(container: &mut Map<String, Value>) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    for (resource, quantity) in limits {
        if let Some(requests) = requests.as_object_mut() {
            requests.entry(resource).or_insert(quantity);
        }
    }
}

fn default_container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map(|(_, tag)| tag);
    let is_moving = tag.is_none_or(|tag| tag == "latest") && !image.contains('@');
    let policy = if is_moving { "Always" } else { "IfNotPresent" };
    fill(
        container,
        [
            ("imagePullPolicy", json!(policy)),
            ("resources", json!({})),
            ("terminationMessagePath", json!("/dev/termination-log")),
            ("terminationMessagePolicy", json!("File")),
        ],
    );
    each(container, "ports").for_each(|port| fill(port, [("protocol", json!("TCP"))]));
    for variable in each(container, "env") {
        let source = variable.get_mut("valueFrom").and_then(|source| below(source, "fieldRef"));
        if let Some(field) = source {
            fill(field, [("apiVersion", json!("v1"))]);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = container.get_mut("lifecycle").and_then(|hooks| below(hooks, hook)) {
            default_http(hook);
        }
    }
}

fn default_probe(probe: &mut Map<String, Value>) {
    fill(
        probe,
        [
            ("timeoutSeconds", json!(1)),
            ("periodSeconds", json!(10)),
            ("successThreshold", json!(1)),
            ("failureThreshold", json!(3)),
        ],
    );
    default_http(probe);
    if let Some(service) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
        fill(service, [("service", json!(""))]);
    }
}

fn default_http(action: &mut Map<String, Value>) {
    if let Some(get) = action.get_mut("httpGet").and_then(Value::as_object_mut) {
        fill(get, [("path", json!("/")), ("scheme", json!("HTTP"))]);
    }
}

fn default_volume(volume: &mut Map<String, Value>) {
    if volume.len() == 1 {
        volume.insert("emptyDir".into(), json!({}));
    }
    default_host_path(volume);
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
            fill(source, [("defaultMode", json!(FILE_MODE))]);
            default_items(source);
            each(source, "sources").for_each(default_projection);
        }
    }
}

/// A path of the host of which nothing is known.
pub(super) fn default_host_path(volume: &mut Map<String, Value>) {
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        fill(path, [("type", json!(""))]);
    }
}

fn default_projection(projection: &mut Map<String, Value>) {
    if let Some(token) = projection.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
        fill(token, [("expirationSeconds", json!(3600))]);
    }
    if let Some(fields) = projection.get_mut("downwardAPI").and_then(Value::as_object_mut) {
        default_items(fields);
    }
}

fn default_items(source: &mut Map<String, Value>) {
    for item in each(source, "items") {
        if let Some(field) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
            fill(field, [("apiVersion", json!("v1"))]);
        }
    }
}

/// A condition shows when it was looked at, also where nobody did.
fn show_probe_times(pod: &mut Value) {
    let Some(status) = below(pod, "status") else { return };
    each(status, "conditions").for_each(|condition| fill(condition, [("lastProbeTime", Value::Null)]));
}

/// What a new pod shows: its phase, and how well it is served when resources are short.
pub fn new_pod_status(pod: &mut Value) {
    pod["status"] = json!({"phase": "Pending", "qosClass": quality_of_service(&pod["spec"])});
}

/// `pkg/apis/core/v1/helper/qos`: guaranteed where every container's limits are its requests, for CPU and memory.
fn quality_of_service(spec: &Value) -> &'static str {
    let containers: Vec<&Value> =
        ["containers", "initContainers"].iter().filter_map(|list| spec[*list].as_array()).flatten().collect();
    let amount = |container: &Value, list: &str, resource: &str| container["resources"][list][resource].clone();
    let is_some = |container: &&&Value, list: &str| {
        ["cpu", "memory"].iter().any(|resource| !amount(container, list, resource).is_null())
    };
    if !containers.iter().any(|container| is_some(&container, "requests") || is_some(&container, "limits")) {
        return "BestEffort";
    }
    let is_bound = |container: &&Value| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = amount(container, "limits", resource);
            !limit.is_null() && limit == amount(container, "requests", resource)
        })
    };
    if containers.iter().all(is_bound) { "Guaranteed" } else { "Burstable" }
}
