//! Routes of the webhook server to the rules in `kubeadm::api`.

use cluster_api::labels::TOPOLOGY_DRY_RUN;
use kubeadm::api::{
    conversion,
    spec::KubeadmConfigSpec,
    validation::{self, Violation},
};
use manager::{
    Webhooks,
    webhook::{FieldError, Request},
};
use serde_json::{Value, json};

/// The webhooks of this provider. `ignition` says whether the Ignition format is switched on.
pub fn routes(ignition: bool) -> Webhooks {
    let (config, template): (Validate, Validate) = if ignition {
        (
            |request| validate(request, "/spec", "spec", true),
            |request| validate(request, TEMPLATE, "spec.template.spec", true),
        )
    } else {
        (
            |request| validate(request, "/spec", "spec", false),
            |request| validate(request, TEMPLATE, "spec.template.spec", false),
        )
    };
    Webhooks::default()
        .validate("/validate-bootstrap-cluster-x-k8s-io-v1beta2-kubeadmconfig", config)
        .validate("/validate-bootstrap-cluster-x-k8s-io-v1beta2-kubeadmconfigtemplate", template)
        .mutate("/mutate-bootstrap-cluster-x-k8s-io-v1beta2-kubeadmconfigtemplate", default_template)
        .convert("/convert", |object, desired| conversion::convert(object, desired).map_err(|error| error.to_string()))
}

type Validate = fn(&Request) -> Result<Vec<String>, Vec<FieldError>>;

const TEMPLATE: &str = "/spec/template/spec";
/// The command of a discovery kubeconfig, below a spec.
const EXEC: &str = "/joinConfiguration/discovery/file/kubeConfig/user/exec";

fn validate(request: &Request, pointer: &str, path: &str, ignition: bool) -> Result<Vec<String>, Vec<FieldError>> {
    let Some(spec) = request.object.pointer(pointer) else { return Ok(Vec::new()) };
    let spec: KubeadmConfigSpec =
        serde_json::from_value(spec.clone()).map_err(|error| vec![FieldError::new(path, error.to_string())])?;
    let found = validation::validate(&spec, path, ignition);
    if found.is_empty() { Ok(Vec::new()) } else { Err(found.into_iter().map(field_error).collect()) }
}

fn field_error(violation: Violation) -> FieldError {
    FieldError::new(violation.field, violation.message)
}

/// Historical defaults, for the topology controller's dry runs alone: without them its comparison would see a change
/// that is none, and roll machines.
#[allow(clippy::unnecessary_wraps)] // The signature of every defaulting webhook.
fn default_template(object: &mut Value, request: &Request) -> Result<(), Vec<FieldError>> {
    if !request.dry_run || !request.has_annotation(TOPOLOGY_DRY_RUN) {
        return Ok(());
    }
    let Some(spec) = object.pointer_mut(TEMPLATE).and_then(Value::as_object_mut) else { return Ok(()) };
    spec.entry("format").or_insert(json!("cloud-config"));
    for section in ["initConfiguration", "joinConfiguration"] {
        let section = spec.entry(section).or_insert(json!({}));
        if let Some(section) = section.as_object_mut()
            && let Some(node) = section.entry("nodeRegistration").or_insert(json!({})).as_object_mut()
        {
            node.entry("imagePullPolicy").or_insert(json!("IfNotPresent"));
        }
    }
    let exec = object.pointer_mut(&format!("{TEMPLATE}{EXEC}")).and_then(Value::as_object_mut);
    if let Some(exec) = exec {
        exec.entry("apiVersion").or_insert(json!("client.authentication.k8s.io/v1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use manager::webhook::Operation;

    use super::*;

    fn request(object: Value) -> Request {
        Request { operation: Operation::Create, object, old: Value::Null, dry_run: true, subresource: String::new() }
    }

    #[test]
    fn a_template_is_denied_by_field() {
        let bad = json!({"spec": {"template": {"spec": {"files": [{"path": "/a"}, {"path": "/a"}]}}}});
        let errors = validate(&request(bad), TEMPLATE, "spec.template.spec", true).unwrap_err();
        assert_eq!(errors[0].field, "spec.template.spec.files[1].path");
    }

    #[test]
    fn only_a_topology_dry_run_is_defaulted() {
        let mut object = json!({"metadata": {"annotations": {}}, "spec": {"template": {"spec": {}}}});
        let before = object.clone();
        default_template(&mut object, &request(before.clone())).unwrap();
        assert_eq!(object, before);
        object["metadata"]["annotations"][TOPOLOGY_DRY_RUN] = json!("");
        let exec = json!({"discovery": {"file": {"kubeConfig": {"user": {"exec": {"command": "c"}}}}}});
        object["spec"]["template"]["spec"]["joinConfiguration"] = exec;
        let asked = request(object.clone());
        default_template(&mut object, &asked).unwrap();
        let spec = &object["spec"]["template"]["spec"];
        assert_eq!(spec["format"], "cloud-config");
        assert_eq!(spec["initConfiguration"]["nodeRegistration"]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(spec["joinConfiguration"]["nodeRegistration"]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(
            spec.pointer(&EXEC.replace("/user/exec", "/user/exec/apiVersion")),
            Some(&json!("client.authentication.k8s.io/v1"))
        );
    }

    #[test]
    fn what_is_said_is_kept_and_what_is_malformed_is_left_to_the_schema() {
        let annotated = |spec: Value| json!({"metadata": {"annotations": {TOPOLOGY_DRY_RUN: ""}}, "spec": {"template": {"spec": spec}}});
        for spec in [
            json!("text"),
            json!({"format": "ignition", "initConfiguration": "text", "joinConfiguration": {"nodeRegistration": []}}),
        ] {
            let mut object = annotated(spec);
            let before = object.clone();
            default_template(&mut object, &request(before.clone())).unwrap();
            assert_eq!(object, before);
        }
    }
}
