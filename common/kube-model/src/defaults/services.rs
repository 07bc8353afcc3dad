//! Services and what is behind them. Addresses are given by whoever serves a cluster.

use serde_json::{Value, json};

use super::{below, each, fill};

/// A Service.
pub fn default_service(service: &mut Value) {
    let Some(spec) = below(service, "spec") else { return };
    fill(spec, [("type", json!("ClusterIP")), ("sessionAffinity", json!("None"))]);
    if spec["type"] != "ExternalName" {
        fill(spec, [("internalTrafficPolicy", json!("Cluster"))]);
    }
    if spec["type"] == "NodePort" || spec["type"] == "LoadBalancer" {
        fill(spec, [("externalTrafficPolicy", json!("Cluster"))]);
    }
    if spec["type"] == "LoadBalancer" {
        fill(spec, [("allocateLoadBalancerNodePorts", json!(true))]);
    }
    if spec["sessionAffinity"] == "ClientIP" {
        fill(spec, [("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}))]);
    }
    for port in each(spec, "ports") {
        fill(port, [("protocol", json!("TCP"))]);
        if let Some(number) = port.get("port").cloned() {
            fill(port, [("targetPort", number)]);
        }
    }
}

/// An `EndpointSlice`.
pub fn default_endpoint_slice(slice: &mut Value) {
    let Some(slice) = slice.as_object_mut() else { return };
    each(slice, "endpoints").for_each(|endpoint| fill(endpoint, [("conditions", json!({}))]));
    each(slice, "ports").for_each(|port| fill(port, [("name", json!("")), ("protocol", json!("TCP"))]));
}
