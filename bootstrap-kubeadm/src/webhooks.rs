//! Routes of the webhook server to the rules in `kubeadm::api`.

use cluster_api::labels::TOPOLOGY_DRY_RUN;
use kubeadm::api::{
    conversion,
    defaulting::previous_defaults,
    spec::KubeadmConfigSpec,
    v1beta2::TemplateMeta,
    validation::{self, Violation},
};
use manager::{
    Webhooks,
    webhook::{FieldError, Request},
};
use serde_json::Value;

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

fn validate(request: &Request, pointer: &str, path: &str, ignition: bool) -> Result<Vec<String>, Vec<FieldError>> {
    let mut found = Vec::new();
    if let Some(spec) = part::<KubeadmConfigSpec>(request, pointer, path)? {
        found.extend(validation::validate(&spec, path, ignition));
    }
    if pointer == TEMPLATE
        && let Some(metadata) = part::<TemplateMeta>(request, "/spec/template/metadata", "spec.template.metadata")?
    {
        found.extend(validation::validate_metadata(&metadata, "spec.template.metadata"));
    }
    if found.is_empty() { Ok(Vec::new()) } else { Err(found.into_iter().map(field_error).collect()) }
}

fn part<T: serde::de::DeserializeOwned>(
    request: &Request,
    pointer: &str,
    path: &str,
) -> Result<Option<T>, Vec<FieldError>> {
    let Some(value) = request.object.pointer(pointer) else { return Ok(None) };
    serde_json::from_value(value.clone()).map(Some).map_err(|error| vec![FieldError::new(path, error.to_string())])
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
    if let Some(spec) = object.pointer_mut(TEMPLATE) {
        previous_defaults(spec);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use manager::webhook::Operation;
    use serde_json::json;

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
    fn a_template_with_a_wrong_label_is_denied_by_field() {
        let bad = json!({"spec": {"template": {"metadata": {"labels": {"a": "b c"}}}}});
        let errors = validate(&request(bad), TEMPLATE, "spec.template.spec", true).unwrap_err();
        assert_eq!(errors[0].field, "spec.template.metadata.labels[a]");
    }

    #[test]
    fn only_a_topology_dry_run_is_defaulted() {
        let mut object = json!({"metadata": {"annotations": {}}, "spec": {"template": {"spec": {}}}});
        let before = object.clone();
        default_template(&mut object, &request(before.clone())).unwrap();
        assert_eq!(object, before);
        object["metadata"]["annotations"][TOPOLOGY_DRY_RUN] = json!("");
        let asked = request(object.clone());
        default_template(&mut object, &asked).unwrap();
        assert_eq!(object["spec"]["template"]["spec"]["format"], "cloud-config");
    }
}
