//! Binding: a scheduler gives a pod its node (`pkg/registry/core/pod/storage`, `BindingREST`).

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::{Value, json};

use super::{Clock, Server, Target};
use crate::{
    errors::{ApiError, Qualified},
    object,
    storage::key,
};

/// The subresource.
pub const BINDING: &str = "binding";

impl Server {
    /// Gives a pod the node that a `Binding` names.
    pub fn bind(&self, target: &Target, binding: &Value, is_dry_run: bool) -> Result<Status, ApiError> {
        self.change(|state, clock| {
            let found = state.find(target)?;
            let id = (found.id, key(&target.namespace, &target.name));
            let live = state.store.get(&id).cloned();
            let live = live.ok_or_else(|| ApiError::not_found(found.resource.qualified(), &target.name))?;
            let node = binding["target"]["name"].as_str().unwrap_or_default();
            if node.is_empty() {
                return Err(ApiError::bad_request("target.name: Required value"));
            }
            check(&live, &target.name)?;
            if !is_dry_run {
                let mut bound = live.fields().as_ref().clone();
                bound["spec"]["nodeName"] = json!(node);
                for (name, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
                    bound["metadata"]["annotations"][name] = value.clone();
                }
                scheduled(&mut bound, clock);
                state.commit(&id, Some((bound, Arc::clone(live.managers()))));
            }
            Ok(Status { status: Some("Success".into()), code: Some(201), ..Status::default() })
        })
    }
}

/// Refuses a pod that has a node, goes, or waits to be let go.
fn check(pod: &Value, name: &str) -> Result<(), ApiError> {
    let what = Qualified { group: "", resource: "pods/binding" };
    let refused = |why: String| Err(ApiError::conflict(what, name, &why));
    if object::is_deleting(pod) {
        return refused(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        return refused(format!("pod {name} is already assigned to node {node:?}"));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return refused(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}

fn scheduled(pod: &mut Value, clock: &Clock) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": clock.text(),
    });
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(conditions) => {
            conditions.retain(|known| known["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => *conditions = json!([condition]),
    }
}
