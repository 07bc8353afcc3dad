//! Compute clusters and their DRS rules.

use axum::{Json, Router, body::Bytes, routing::get};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Caller, Params, Path, body, views};
use crate::site::{Entity, codes, drs::RuleRequest};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/sites/{site}/clusters", get(list))
        .route("/service/sites/{site}/clusters/{id}", get(one).put(change))
        .route("/service/sites/{site}/clusters/{id}/computeresource", get(resources))
}

async fn list(caller: Caller, params: Params) -> Answer {
    caller.read(|site| {
        let parent = params.text("parentObjUrn").filter(|parent| *parent != "default");
        let datastores = match parent.map(|urn| (urn, site.parse(urn))) {
            None | Some((_, Some(Entity::Site))) => None,
            Some((_, Some(Entity::DatastoreCluster(id)))) => Some(id),
            Some((urn, _)) => return Err(codes::BAD_URN.because(urn)),
        };
        let sees = |cluster: u64, group: u64| {
            site.datastores.values().any(|datastore| {
                datastore.cluster == Some(group) && !site.hosts_with(cluster, &[datastore.id]).is_empty()
            })
        };
        let clusters: Vec<_> = site
            .clusters
            .values()
            .filter(|cluster| params.fuzzy("name", &cluster.name))
            .filter(|cluster| datastores.is_none_or(|group| sees(cluster.id, group)))
            .map(|cluster| views::cluster(site, cluster))
            .collect();
        Ok(Json(json!({"clusters": clusters})))
    })
}

async fn one(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.read(|site| Ok(Json(views::cluster_detail(site, site.cluster(id)?))))
}

async fn resources(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.read(|site| {
        let view = views::cluster(site, site.cluster(id)?);
        Ok(Json(json!({"cpuResource": view["cpuResource"], "memResource": view["memResource"]})))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    drs_setting: Option<DrsSetting>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DrsSetting {
    #[serde(default)]
    drs_rules: Vec<RuleRequest>,
}

async fn change(caller: Caller, Path((_, id)): Path<(String, u64)>, bytes: Bytes) -> Answer {
    let change: Change = body(&bytes)?;
    let rules = change.drs_setting.map(|setting| setting.drs_rules).unwrap_or_default();
    caller.change(|site, now, _| site.change_rules(now, id, &rules))?;
    Ok(Json(json!({})))
}
