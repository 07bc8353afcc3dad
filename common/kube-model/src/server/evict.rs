//! Eviction: a deletion that the disruption budgets of a pod allow (`pkg/registry/core/pod/storage/eviction.go`). What a
//! budget allows at present is in its status, which the disruption controller keeps.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::{Value, json};

use super::{Clock, DeleteParams, EVICTION, Server, State, Target, delete::check_preconditions};
use crate::{
    errors::{ApiError, Qualified},
    object,
    selectors::selects,
    storage::{ObjectId, key},
    stored::Stored,
};

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Why a budget refused.
const CAUSE: &str = "DisruptionBudget";
/// Seconds after which to ask again, where the budget is not yet known.
const SOON: i32 = 10;
/// Evictions that a budget remembers at most until it sees the pods go.
const MAX_DISRUPTED: usize = 2000;

impl Server {
    /// Evicts a pod: deletes it if its disruption budget allows.
    pub fn evict(&self, target: &Target, params: &DeleteParams) -> Result<Status, ApiError> {
        if target.subresource != EVICTION {
            return Err(ApiError::method_not_allowed());
        }
        self.change(|state, clock| {
            let found = state.find(target)?;
            let id = (found.id, key(&target.namespace, &target.name));
            let pod = state.store.get(&id).cloned();
            let pod = pod.ok_or_else(|| ApiError::not_found(found.resource.qualified(), &target.name))?;
            if !needs_no_budget(&pod) {
                state.take_from_budget(&pod, params, clock)?;
            }
            check_preconditions(&found.resource, &pod, params)?;
            if !params.is_dry_run {
                state.mark_disrupted(&id, &pod, clock);
            }
            // The pod has another version now than the one that was asked for.
            let params = DeleteParams { resource_version: None, ..params.clone() };
            state.delete(&id, &target.name, &params, clock)?;
            Ok(Status { status: Some("Success".into()), code: Some(201), ..Status::default() })
        })
    }
}

/// Whether nobody is worse off without a pod.
fn needs_no_budget(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    ["Succeeded", "Failed", "Pending"].contains(&phase) || object::is_deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn refused(cause: &str, retry_after_seconds: i32) -> ApiError {
    ApiError::too_many_requests(REFUSED, retry_after_seconds).with_cause(CAUSE, cause, "")
}

/// What a budget says to an eviction: none, where it does not mind, or its status with one disruption fewer.
fn judge(budget: &Value, pod: &Value, now: &str) -> Result<Option<Value>, ApiError> {
    let (spec, status) = (&budget["spec"], &budget["status"]);
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    let (healthy, desired, name) = (number("currentHealthy"), number("desiredHealthy"), object::name(budget));
    if !is_ready(pod) && (spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy >= desired && desired > 0) {
        return Ok(None);
    }
    if number("observedGeneration") < object::meta_number(budget, "generation").unwrap_or_default() {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(&cause, SOON));
    }
    let what = Qualified { group: "policy", resource: "poddisruptionbudget" };
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        return Err(ApiError::forbidden(
            what,
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    match number("disruptionsAllowed") {
        0 => {
            let cause =
                format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
            Err(refused(&cause, 0))
        }
        negative if negative < 0 => Err(ApiError::forbidden(what, name, "pdb disruptions allowed is negative")),
        allowed => {
            let mut status = status.clone();
            status["disruptionsAllowed"] = json!(allowed - 1);
            status["disruptedPods"][object::name(pod)] = json!(now);
            Ok(Some(status))
        }
    }
}

impl State {
    /// Takes a disruption from the budget of a pod, or refuses the eviction.
    fn take_from_budget(&mut self, pod: &Value, params: &DeleteParams, clock: &Clock) -> Result<(), ApiError> {
        let Some(resource) = self.registry.find_kind("policy", "PodDisruptionBudget") else { return Ok(()) };
        let prefix = format!("{}/", object::namespace(pod));
        let labels = &pod["metadata"]["labels"];
        let budgets = self.store.range(resource, &prefix, "");
        let mut found = budgets.filter(|(_, budget)| selects(&budget["spec"]["selector"], labels));
        let Some((key, budget)) = found.next() else { return Ok(()) };
        if found.next().is_some() {
            return Err(ApiError::plain(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        let id: ObjectId = (resource, key.clone());
        let budget = Arc::clone(budget);
        drop(found);
        let Some(status) = judge(&budget, pod, &clock.text())? else { return Ok(()) };
        if !params.is_dry_run {
            let mut fields = budget.fields().as_ref().clone();
            fields["status"] = status;
            self.commit(&id, Some((fields, Arc::clone(budget.managers()))));
        }
        Ok(())
    }

    /// Shows on a pod why it goes.
    fn mark_disrupted(&mut self, id: &ObjectId, pod: &Stored, clock: &Clock) {
        if object::is_deleting(pod) {
            return;
        }
        let mut marked = pod.fields().as_ref().clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": clock.text(),
        });
        let conditions = &mut marked["status"]["conditions"];
        match conditions.as_array_mut() {
            Some(conditions) => {
                conditions.retain(|known| known["type"] != "DisruptionTarget");
                conditions.push(condition);
            }
            None => *conditions = json!([condition]),
        }
        self.commit(id, Some((marked, Arc::clone(pod.managers()))));
    }
}
