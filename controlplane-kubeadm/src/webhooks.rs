//! Routes of the webhook server to the rules in `api`.

use kubeadm::api::validation::Violation;
use manager::{
    Webhooks,
    webhook::{FieldError, Operation, Request},
};
use serde_json::Value;

use crate::api::{
    conversion, defaulting,
    v1beta2::{KubeadmControlPlaneSpec, KubeadmControlPlaneTemplateSpec},
    validation,
};

/// The webhooks of this provider. `ignition` says whether the Ignition format is switched on.
pub fn routes(ignition: bool) -> Webhooks {
    let (control_plane, template): (Validate, Validate) = if ignition {
        (|request| validate(request, true), |request| validate_template(request, true))
    } else {
        (|request| validate(request, false), |request| validate_template(request, false))
    };
    Webhooks::default()
        .mutate("/mutate-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplane", |object, _| {
            defaulting::default(object);
            Ok(())
        })
        .validate("/validate-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplane", control_plane)
        .validate("/validate-scale-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplane", validate_scale)
        .validate("/validate-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplanetemplate", template)
        .convert("/convert", |object, desired| conversion::convert(object, desired).map_err(|error| error.to_string()))
}

type Validate = fn(&Request) -> Result<Vec<String>, Vec<FieldError>>;

fn validate(request: &Request, ignition: bool) -> Result<Vec<String>, Vec<FieldError>> {
    if request.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    let spec: KubeadmControlPlaneSpec = parsed(&request.object["spec"], "spec")?;
    let mut found = validation::validate(&spec, ignition);
    // An object that goes must be able to lose its finalizer, whatever its spec says.
    let deleting = !request.object["metadata"]["deletionTimestamp"].is_null();
    if request.operation == Operation::Update {
        found.extend(validation::validate_update(&request.old, &request.object));
    }
    if deleting { Ok(Vec::new()) } else { answer(found) }
}

fn validate_template(request: &Request, ignition: bool) -> Result<Vec<String>, Vec<FieldError>> {
    if request.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    let spec: KubeadmControlPlaneTemplateSpec = parsed(&request.object["spec"], "spec")?;
    let config = spec.template.spec.and_then(|spec| spec.kubeadm_config_spec).unwrap_or_default();
    answer(kubeadm::api::validation::validate(&config, "spec.template.spec.kubeadmConfigSpec", ignition))
}

/// `kubectl scale`: the number alone. That it must be odd with stacked etcd is checked when the control plane is written,
/// which a scale does not show; 0 and less are never right.
fn validate_scale(request: &Request) -> Result<Vec<String>, Vec<FieldError>> {
    match request.object["spec"]["replicas"].as_i64() {
        Some(replicas) if replicas > 0 => Ok(Vec::new()),
        _ => Err(vec![FieldError::new("spec.replicas", "must be greater than 0")]),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: &Value, path: &str) -> Result<T, Vec<FieldError>> {
    serde_json::from_value(value.clone()).map_err(|error| vec![FieldError::new(path, error.to_string())])
}

fn answer(found: Vec<Violation>) -> Result<Vec<String>, Vec<FieldError>> {
    let errors: Vec<_> = found.into_iter().map(|found| FieldError::new(found.field, found.message)).collect();
    if errors.is_empty() { Ok(Vec::new()) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(operation: Operation, object: Value, old: Value) -> Request {
        Request { operation, object, old, dry_run: false, subresource: String::new() }
    }

    fn control_plane(replicas: i64) -> Value {
        let template = json!({"spec": {"infrastructureRef": {"apiGroup": "g", "kind": "KTemplate", "name": "n"}}});
        json!({"spec": {"replicas": replicas, "version": "v1.34.5-3", "machineTemplate": template}})
    }

    #[test]
    fn an_even_number_is_refused_and_an_object_that_goes_is_let_through() {
        let errors = validate(&request(Operation::Create, control_plane(2), Value::Null), true).unwrap_err();
        assert_eq!(errors[0].field, "spec.replicas");
        let mut going = control_plane(2);
        going["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert!(validate(&request(Operation::Update, going, control_plane(2)), true).is_ok());
        assert!(validate(&request(Operation::Create, control_plane(3), Value::Null), true).is_ok());
    }

    #[test]
    fn a_scale_to_nothing_is_refused() {
        let scale = |replicas: i64| request(Operation::Update, json!({"spec": {"replicas": replicas}}), Value::Null);
        assert!(validate_scale(&scale(0)).is_err() && validate_scale(&scale(3)).is_ok());
    }
}
