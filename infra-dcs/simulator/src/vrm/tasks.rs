//! Tasks.

use axum::{
    Json, Router,
    routing::{get, post},
};
use serde_json::json;

use super::{Answer, Caller, PAGE, Params, Path, views};
use crate::site::{Entity, codes};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/sites/{site}/tasks", get(list))
        .route("/service/sites/{site}/tasks/{id}", get(one))
        .route("/service/sites/{site}/tasks/{id}/cancel", post(cancel))
}

async fn one(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.read(|site| Ok(Json(views::task(site, site.task(id)?))))
}

async fn list(caller: Caller, params: Params) -> Answer {
    caller.read(|site| {
        if let Some(urns) = params.urns("taskUrns", PAGE)? {
            let known = urns.iter().filter_map(|urn| match site.parse(urn) {
                Some(Entity::Task(id)) => site.tasks.get(&id),
                _ => None,
            });
            return params.page("tasks", known, PAGE, |task| views::task(site, task));
        }
        let known =
            |entity: &Entity| matches!(entity, Entity::Site | Entity::Cluster(_) | Entity::Host(_) | Entity::Vm(_));
        let scope = match params.text("scope") {
            None => None,
            Some(urn) => Some(site.parse(urn).filter(known).ok_or_else(|| codes::BAD_URN.because(urn))?),
        };
        let status = params.word("status", &["waiting", "running", "success", "failed", "cancelling"])?;
        let (after, before) = (params.number("startTime")?, params.number("finishTime")?);
        let wanted = site.tasks.values().rev().filter(|task| {
            scope.is_none_or(|scope| match scope {
                Entity::Site => true,
                Entity::Cluster(id) => {
                    task.work.vm().and_then(|vm| site.vms.get(&vm)).is_some_and(|vm| vm.cluster == id)
                }
                Entity::Host(id) => {
                    task.work.vm().and_then(|vm| site.vms.get(&vm)).is_some_and(|vm| vm.host == Some(id))
                }
                other => task.entity == other,
            }) && params.text("type").is_none_or(|kind| task.word == kind)
                && params.text("user").is_none_or(|user| task.user == user)
                && status.is_none_or(|status| task.status.word() == status)
                && after.is_none_or(|after| task.created >= after)
                && before.is_none_or(|before| task.finished.is_some_and(|finished| finished <= before))
        });
        params.page("tasks", wanted, PAGE, |task| views::task(site, task))
    })
}

async fn cancel(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.change(|site, now, _| site.cancel_task(now, id))?;
    Ok(Json(json!({})))
}
