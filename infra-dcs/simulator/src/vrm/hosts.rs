//! Physical hosts.

use std::collections::BTreeSet;

use axum::{Json, Router, routing::get};
use serde_json::json;

use super::{Answer, Caller, Params, Path, views};
use crate::site::{Entity, Result, Site, codes};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/sites/{site}/hosts", get(list))
        .route("/service/sites/{site}/hosts/{id}", get(one))
        .route("/service/sites/{site}/hosts/{id}/datastores", get(datastores))
}

/// Hosts of a scope: a cluster, datastore, datastore cluster or switch.
fn scope(site: &Site, urn: Option<&str>) -> Result<BTreeSet<u64>> {
    let all = site.hosts.keys().copied().collect();
    let Some(urn) = urn else { return Ok(all) };
    if urn == "default" {
        return Ok(BTreeSet::new());
    }
    match site.parse(urn) {
        Some(Entity::Cluster(id)) => {
            Ok(site.hosts.values().filter(|host| host.cluster == id).map(|host| host.id).collect())
        }
        Some(Entity::Datastore(id)) => site
            .datastores
            .get(&id)
            .map(|datastore| datastore.hosts.clone())
            .ok_or_else(|| codes::DATASTORE_NOT_FOUND.into()),
        Some(Entity::DatastoreCluster(id)) => {
            let members = site.datastores.values().filter(|datastore| datastore.cluster == Some(id));
            Ok(members.flat_map(|datastore| datastore.hosts.clone()).collect())
        }
        Some(Entity::Switch(_)) => Ok(all),
        _ => Err(codes::BAD_URN.because(urn)),
    }
}

async fn list(caller: Caller, params: Params) -> Answer {
    caller.read(|site| {
        let scope = scope(site, params.text("scope"))?;
        let wanted = site.hosts.values().filter(|host| {
            scope.contains(&host.id) && params.fuzzy("name", &host.name) && params.fuzzy("ip", &host.ip)
        });
        params.page("hosts", wanted, usize::MAX, |host| views::host(site, host))
    })
}

async fn one(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.read(|site| {
        let host = site.hosts.get(&id).ok_or_else(|| codes::GONE.because(format!("host {id}")))?;
        Ok(Json(views::host(site, host)))
    })
}

async fn datastores(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.read(|site| {
        if !site.hosts.contains_key(&id) {
            return Err(codes::GONE.because(format!("host {id}")));
        }
        let seen = site.datastores.values().filter(|datastore| datastore.hosts.contains(&id));
        let items: Vec<_> = seen.map(|datastore| views::datastore(site, datastore)).collect();
        Ok(Json(json!({"total": items.len(), "datastores": items})))
    })
}
