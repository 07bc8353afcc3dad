//! Services (`pkg/apis/core/validation`).

use std::net::IpAddr;

use serde_json::Value;

use super::{one_of, port};
use crate::errors::FieldError;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// A Service.
pub fn validate_service(service: &Value) -> Vec<FieldError> {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let address = spec["clusterIP"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if ports.is_empty() && address != "None" && spec["type"] != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    for (index, exposed) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        if ports.len() > 1 && exposed["name"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        errors.extend(port(&exposed["port"], &format!("{at}.port")));
        errors.extend(port(&exposed["targetPort"], &format!("{at}.targetPort")));
    }
    errors.extend(one_of(&spec["type"], &TYPES, "spec.type"));
    if !["", "None"].contains(&address) && address.parse::<IpAddr>().is_err() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid("spec.clusterIPs[0]", address, why));
    }
    errors
}

/// A Service keeps its address, as long as it has one.
pub fn validate_service_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (new, old) = (&new["spec"], &old["spec"]);
    let has_address = |spec: &Value| {
        spec["type"] != "ExternalName" && spec["clusterIP"].as_str().is_some_and(|text| !text.is_empty())
    };
    if !has_address(new) || !has_address(old) || new["clusterIP"] == old["clusterIP"] {
        return Vec::new();
    }
    let addresses = match &new["clusterIPs"] {
        Value::Null => serde_json::json!([new["clusterIP"]]),
        addresses => addresses.clone(),
    };
    vec![FieldError::invalid("spec.clusterIPs[0]", addresses, "may not change once set")]
}
