//! Routes of the webhook server to the rules in `api`.

use kubeadm::api::validation::Violation;
use manager::{
    Informer, ObjectKey, Webhooks,
    webhook::{FieldError, Operation, Request},
};
use serde_json::Value;

use crate::api::{
    conversion, defaulting,
    v1beta2::{KubeadmControlPlane, KubeadmControlPlaneSpec, KubeadmControlPlaneTemplateSpec},
    validation::{self, Gates},
};

/// The webhooks of this provider. `known` are the control planes that exist, which the request to scale one does not
/// show.
pub fn routes(gates: Gates, known: Informer<KubeadmControlPlane>) -> Webhooks {
    Webhooks::default()
        .mutate("/mutate-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplane", |object, _| {
            defaulting::default(object);
            Ok(())
        })
        .validate("/validate-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplane", move |request| {
            validate(request, gates)
        })
        .validate("/validate-scale-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplane", move |request| {
            let field = |name: &str| request.object["metadata"][name].as_str().unwrap_or_default();
            let scaled = known.get(&ObjectKey::new(field("namespace"), field("name")));
            validate_scale(request, scaled.as_ref().map(|control_plane| &control_plane.spec), gates)
        })
        .validate("/validate-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplanetemplate", move |request| {
            validate_template(request, gates)
        })
        .convert("/convert", |object, desired| conversion::convert(object, desired).map_err(|error| error.to_string()))
}

fn validate(request: &Request, gates: Gates) -> Result<Vec<String>, Vec<FieldError>> {
    // An object that goes must be able to lose its finalizer, whatever its spec says.
    if request.operation == Operation::Delete || !request.object["metadata"]["deletionTimestamp"].is_null() {
        return Ok(Vec::new());
    }
    let spec: KubeadmControlPlaneSpec = parsed(&request.object["spec"], "spec")?;
    let mut found = validation::validate(&spec, gates);
    if request.operation == Operation::Update {
        found.extend(validation::validate_update(&request.old, &request.object));
    }
    answer(found)
}

fn validate_template(request: &Request, gates: Gates) -> Result<Vec<String>, Vec<FieldError>> {
    match request.operation {
        // What cannot change was judged when it came; what came before a rule can still be labelled.
        Operation::Update => answer(validation::validate_template_update(&request.old, &request.object)),
        // A template of metadata alone is one.
        Operation::Create if !request.object["spec"].is_null() => {
            let spec: KubeadmControlPlaneTemplateSpec = parsed(&request.object["spec"], "spec")?;
            answer(validation::validate_template(&spec, gates))
        }
        Operation::Create | Operation::Delete => Ok(Vec::new()),
    }
}

/// `kubectl scale`: the rules of a control plane that say something of its number of machines. One that is not known yet
/// is taken to run etcd itself.
fn validate_scale(
    request: &Request,
    spec: Option<&KubeadmControlPlaneSpec>,
    gates: Gates,
) -> Result<Vec<String>, Vec<FieldError>> {
    let field = "spec.replicas";
    let replicas = request.object["spec"]["replicas"].as_i64().and_then(|replicas| i32::try_from(replicas).ok());
    let Some(replicas) = replicas.filter(|replicas| *replicas > 0) else {
        return Err(vec![FieldError::new(field, "must be greater than 0")]);
    };
    let Some(spec) = spec else {
        let odd = replicas % 2 == 1;
        let message = "must be odd when etcd runs on the machines, which is not known yet: try again";
        return if odd { Ok(Vec::new()) } else { Err(vec![FieldError::new(field, message)]) };
    };
    // What else is wrong with the control plane is no matter of its scale.
    let before: Vec<_> = validation::validate(spec, gates);
    let scaled = KubeadmControlPlaneSpec { replicas: Some(replicas), ..spec.clone() };
    let mut found = validation::validate(&scaled, gates);
    found.retain(|violation| violation.field == field || !before.contains(violation));
    answer(found)
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

    const GATES: Gates = Gates { ignition: true, taints: false };

    fn ours(request: &Request) -> Result<Vec<String>, Vec<FieldError>> {
        validate(request, GATES)
    }

    #[test]
    fn a_scale_follows_the_rules_of_its_control_plane() {
        let scale = |replicas: i64| request(Operation::Update, json!({"spec": {"replicas": replicas}}), Value::Null);
        let spec = |change: &dyn Fn(&mut Value)| -> KubeadmControlPlaneSpec {
            let mut object = control_plane(3);
            change(&mut object["spec"]);
            serde_json::from_value(object["spec"].clone()).unwrap()
        };
        let stacked = spec(&|_| ());
        let external = spec(&|spec| {
            let files = json!({"endpoints": ["https://e:2379"], "caFile": "/a", "certFile": "/b", "keyFile": "/c"});
            spec["kubeadmConfigSpec"] = json!({"clusterConfiguration": {"etcd": {"external": files}}});
        });
        let without_surge = spec(&|spec| {
            spec["rollout"] = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}});
        });
        let allowed = |replicas, spec| validate_scale(&scale(replicas), spec, GATES).is_ok();
        assert!(!allowed(0, None) && !allowed(2, None) && allowed(3, None));
        assert!(!allowed(0, Some(&stacked)) && !allowed(2, Some(&stacked)) && allowed(5, Some(&stacked)));
        assert!(!allowed(0, Some(&external)) && allowed(2, Some(&external)));
        assert!(!allowed(1, Some(&without_surge)) && allowed(3, Some(&without_surge)));
    }

    #[test]
    fn a_template_is_judged_when_it_comes_and_fixed_from_then_on() {
        let template = |config: Value| json!({"spec": {"template": {"spec": {"kubeadmConfigSpec": config}}}});
        let judge = |request: &Request| validate_template(request, GATES);
        let bad = template(json!({"files": [{"path": "/a"}, {"path": "/a"}]}));
        let errors = judge(&request(Operation::Create, bad.clone(), Value::Null)).unwrap_err();
        assert_eq!(errors[0].field, "spec.template.spec.kubeadmConfigSpec.files[1].path");
        let mut labelled = bad.clone();
        labelled["metadata"] = json!({"labels": {"a": "b"}});
        assert!(judge(&request(Operation::Update, labelled, bad.clone())).is_ok());
        let errors = judge(&request(Operation::Update, template(json!({"verbosity": 5})), bad)).unwrap_err();
        assert!(errors.iter().any(|error| error.field == "spec.template.spec.kubeadmConfigSpec.verbosity"));
        assert!(judge(&request(Operation::Create, json!({}), Value::Null)).is_ok());
    }

    #[test]
    fn an_even_number_is_refused_and_an_object_that_goes_is_let_through() {
        let errors = ours(&request(Operation::Create, control_plane(2), Value::Null)).unwrap_err();
        assert_eq!(errors[0].field, "spec.replicas");
        let mut going = control_plane(2);
        going["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert!(ours(&request(Operation::Update, going, control_plane(2))).is_ok());
        assert!(ours(&request(Operation::Create, control_plane(3), Value::Null)).is_ok());
    }
}
