//! Endpoints of Services: `EndpointSlices` and the older `Endpoints`, of the pods that a Service selects
//! (`pkg/controller/{endpointslice,endpoint}`); and those of the Service `kubernetes`, which API servers keep themselves.

use std::{net::SocketAddr, sync::Arc};

use kube_model::selects;
use serde_json::{Map, Value, json};

use super::{Context, workloads::is_ready};
use crate::guest::memory::cluster::api::{
    Api, ENDPOINT_SLICES, ENDPOINTS, SERVICES, is_deleting, name, namespace, owner_reference,
};

/// Endpoints in one slice (`--max-endpoints-per-slice`).
const PER_SLICE: usize = 100;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const SLICE_KEEPER: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
const KEEPER: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

/// Pods that answer at the same ports.
struct Group {
    ports: Value,
    pods: Vec<Arc<Value>>,
}

/// See the module.
pub fn pass(context: &Context<'_>, pods: &[Arc<Value>]) {
    let api = context.api.by("kube-controller-manager");
    let services = api.list(SERVICES, "");
    let slices = api.list(ENDPOINT_SLICES, "");
    for service in services.iter().filter(|service| !is_deleting(service)) {
        let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else {
            continue;
        };
        let selector = json!({"matchLabels": selector});
        let is_selected = |pod: &&Arc<Value>| {
            namespace(pod) == namespace(service)
                && pod["status"]["podIP"].is_string()
                && !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
                && selects(&selector, &pod["metadata"]["labels"])
        };
        let groups = groups(service, pods.iter().filter(is_selected));
        keep_slices(&api, service, &groups, &slices);
        keep_endpoints(&api, service, &groups);
    }
    for object in api.list(ENDPOINTS, "") {
        let is_ours = object["metadata"]["labels"][KEEPER.0] == KEEPER.1;
        let is_of = |service: &Arc<Value>| name(service) == name(&object) && namespace(service) == namespace(&object);
        if is_ours && !services.iter().any(is_of) {
            api.delete(ENDPOINTS, namespace(&object), name(&object), None);
        }
    }
}

fn groups<'a>(service: &Value, pods: impl Iterator<Item = &'a Arc<Value>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for pod in pods {
        let ports = ports(service, pod);
        match groups.iter_mut().find(|group| group.ports == ports) {
            Some(group) => group.pods.push(Arc::clone(pod)),
            None => groups.push(Group { ports, pods: vec![Arc::clone(pod)] }),
        }
    }
    groups
}

/// The ports of a Service on a pod; those that name a port which the pod does not have are left out.
fn ports(service: &Value, pod: &Value) -> Value {
    let listed = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = listed.filter_map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let target = &port["targetPort"];
        let number = match target.as_str() {
            Some(wanted) => named(pod, wanted, protocol)?,
            None => target.as_u64().or_else(|| port["port"].as_u64())?,
        };
        let name = port["name"].as_str().unwrap_or_default();
        Some(json!({"name": name, "port": number, "protocol": protocol}))
    });
    found.collect()
}

fn named(pod: &Value, wanted: &str, protocol: &str) -> Option<u64> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let found = ports.find(|port| port["name"] == wanted && port["protocol"].as_str().unwrap_or("TCP") == protocol)?;
    found["containerPort"].as_u64()
}

fn reference(pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    json!({"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]})
}

fn labels(service: &Value, more: &[(&str, &str)]) -> Value {
    let mut labels: Map<String, Value> = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())));
    if service["spec"]["clusterIP"] == "None" {
        labels.insert("service.kubernetes.io/headless".into(), "".into());
    }
    labels.into()
}

fn publishes_unready(service: &Value) -> bool {
    service["spec"]["publishNotReadyAddresses"] == true
}

fn family(addresses: &[Value]) -> &'static str {
    let first = addresses.first().and_then(|endpoint| endpoint["addresses"][0].as_str());
    if first.is_some_and(|address| address.contains(':')) { "IPv6" } else { "IPv4" }
}

// === slices ===

fn endpoint(service: &Value, pod: &Value) -> Value {
    let (serves, ends) = (is_ready(pod), is_deleting(pod));
    let is_ready = publishes_unready(service) || serves && !ends;
    json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": is_ready, "serving": serves, "terminating": ends},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": reference(pod),
    })
}

fn keep_slices(api: &Api<'_>, service: &Value, groups: &[Group], all: &[Arc<Value>]) {
    let mut wanted: Vec<(&Value, Vec<Value>)> = Vec::new();
    for group in groups {
        let parts = group.pods.chunks(PER_SLICE);
        wanted.extend(parts.map(|part| (&group.ports, part.iter().map(|pod| endpoint(service, pod)).collect())));
    }
    let nothing = json!([]);
    if wanted.is_empty() {
        wanted.push((&nothing, Vec::new()));
    }
    let is_own = |slice: &&Arc<Value>| {
        let labels = &slice["metadata"]["labels"];
        namespace(slice) == namespace(service)
            && labels[SERVICE_NAME] == name(service)
            && labels[SLICE_KEEPER.0] == SLICE_KEEPER.1
    };
    let mut own: Vec<&Arc<Value>> = all.iter().filter(is_own).collect();
    for (ports, endpoints) in wanted {
        // A slice of the same ports changes least; the family of a slice never changes.
        let fits = |slice: &&Arc<Value>| {
            (slice["addressType"] == family(&endpoints) || endpoints.is_empty()) && slice["ports"] == *ports
        };
        let found = own.iter().position(fits);
        match found.map(|index| own.swap_remove(index)) {
            Some(slice) if slice["endpoints"] == json!(endpoints) => {}
            Some(slice) => {
                let change = json!({"endpoints": endpoints});
                let _ = api.merge(ENDPOINT_SLICES, namespace(slice), name(slice), change);
            }
            None => {
                let slice = json!({
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "generateName": format!("{}-", name(service)),
                        "labels": labels(service, &[(SERVICE_NAME, name(service)), SLICE_KEEPER]),
                        "ownerReferences": owner_reference(service),
                    },
                    "addressType": family(&endpoints),
                    "endpoints": endpoints,
                    "ports": ports,
                });
                let _ = api.create(ENDPOINT_SLICES, namespace(service), slice);
            }
        }
    }
    for slice in &own {
        api.delete(ENDPOINT_SLICES, namespace(slice), name(slice), None);
    }
}

// === endpoints ===

fn keep_endpoints(api: &Api<'_>, service: &Value, groups: &[Group]) {
    let subset = |group: &Group| {
        let (mut ready, mut others) = (Vec::new(), Vec::new());
        for pod in group.pods.iter().filter(|pod| !is_deleting(pod)) {
            let address = json!({
                "ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": reference(pod),
            });
            if is_ready(pod) || publishes_unready(service) { ready.push(address) } else { others.push(address) }
        }
        let mut subset = json!({});
        let fields = [("addresses", ready), ("notReadyAddresses", others)];
        fields.into_iter().filter(|(_, list)| !list.is_empty()).for_each(|(field, list)| subset[field] = list.into());
        if subset.as_object().is_none_or(Map::is_empty) {
            return None;
        }
        subset["ports"] = group.ports.clone();
        Some(subset)
    };
    let subsets: Vec<Value> = groups.iter().filter_map(subset).collect();
    publish(api, namespace(service), name(service), labels(service, &[KEEPER]), subsets);
}

fn publish(api: &Api<'_>, namespace: &str, service: &str, labels: Value, subsets: Vec<Value>) {
    match api.get(ENDPOINTS, namespace, service) {
        Some(found) if found["subsets"].as_array().map_or(&[][..], Vec::as_slice) == subsets => {}
        Some(_) => drop(api.merge(ENDPOINTS, namespace, service, json!({"subsets": subsets}))),
        None => {
            let object = json!({
                "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": service, "labels": labels},
                "subsets": subsets,
            });
            let _ = api.create(ENDPOINTS, namespace, object);
        }
    }
}

// === the API servers' own ===

/// Publishes where API servers answer, as they do by themselves
/// (`pkg/controlplane/reconcilers`). All of a cluster have one port.
pub fn publish_api_servers(api: &Api<'_>, servers: &[SocketAddr]) {
    const SERVICE: &str = "kubernetes";
    let Some(first) = servers.first() else { return };
    let mut addresses: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    let ports = json!([{"name": "https", "port": first.port(), "protocol": "TCP"}]);
    let shown: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let skip = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    publish(api, "default", SERVICE, skip, vec![json!({"addresses": shown, "ports": ports})]);
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
    match api.get(ENDPOINT_SLICES, "default", SERVICE) {
        Some(slice) if slice["endpoints"] == json!(endpoints) => {}
        Some(_) => drop(api.merge(ENDPOINT_SLICES, "default", SERVICE, json!({"endpoints": endpoints}))),
        None => {
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": SERVICE, "labels": {SERVICE_NAME: SERVICE}},
                "addressType": family(&endpoints),
                "endpoints": endpoints,
                "ports": ports,
            });
            let _ = api.create(ENDPOINT_SLICES, "default", slice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_pod() {
        let service = json!({"spec": {"ports": [
            {"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"},
            {"name": "raw", "port": 81, "targetPort": 8081},
            {"name": "gone", "port": 82, "targetPort": "no-such-port"},
        ]}});
        let pod = json!({"spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        let found = ports(&service, &pod);
        assert_eq!(
            found,
            json!([
                {"name": "web", "port": 8080, "protocol": "TCP"},
                {"name": "raw", "port": 8081, "protocol": "TCP"},
            ])
        );
    }
}
