//! Volumes.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Bytes,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Caller, PAGE, Params, Path, body, params::page, views};
use crate::site::{
    Entity, Result, Site, Volume, codes,
    policy::Release,
    volumes::{VolumeChange, VolumeRequest},
};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/sites/{site}/volumes", get(list).post(create))
        .route("/service/sites/{site}/volumes/{id}", get(one).put(change).delete(remove))
        .route("/service/sites/{site}/volumes/{id}/action/expandVol", post(expand))
        .route("/service/sites/{site}/volumes/queryby/custom-properties", post(by_mark))
        .route("/service/sites/{site}/volumes/properties/custom", post(mark))
}

fn in_scope(site: &Site, volume: &Volume, scope: Option<&str>) -> Result<bool> {
    let Some(urn) = scope else { return Ok(true) };
    let hosts = site.datastores.get(&volume.datastore).map(|datastore| &datastore.hosts);
    match site.parse(urn) {
        Some(Entity::Site) => Ok(true),
        Some(Entity::Datastore(id)) => Ok(volume.datastore == id),
        Some(Entity::Host(id)) => Ok(hosts.is_some_and(|hosts| hosts.contains(&id))),
        Some(Entity::Cluster(id)) => Ok(hosts
            .is_some_and(|hosts| hosts.iter().any(|host| site.hosts.get(host).is_some_and(|host| host.cluster == id)))),
        _ => Err(codes::BAD_URN.because(urn)),
    }
}

async fn list(caller: Caller, params: Params) -> Answer {
    if params.text("limit").is_none() || params.text("offset").is_none() {
        return Err(codes::BAD_PARAMETER.because("limit and offset are required"));
    }
    if params.is_blank("name") {
        return Err(codes::BAD_PARAMETER.because("name must not be empty"));
    }
    params.refuse(&["pciType"], "void on a KVM site; the bus is the attachment's")?;
    if params.text("customProperty").is_some() {
        params.refuse(&["name", "volUrns", "uuid"], "goes not with customProperty")?;
    }
    caller.read(|site| {
        if let Some(urns) = params.urns("volUrns", 50)? {
            let known = urns.iter().filter_map(|urn| match site.parse(urn) {
                Some(Entity::Volume(id)) => site.volumes.get(&id),
                _ => None,
            });
            return params.page("volumes", known, PAGE, |volume| views::volume_in_list(site, volume));
        }
        let known: &[u64] = if site.policy.release == Release::R6 { &[0, 1, 2, 3] } else { &[0, 1] };
        let attached = params.choice("attachstatus", known)?.unwrap_or(0);
        let mut items = vec![];
        for volume in site.volumes.values() {
            let meant = params.fuzzy("name", &volume.name)
                && params.text("uuid").is_none_or(|uuid| volume.uuid == uuid)
                && params.text("customProperty").is_none_or(|part| {
                    volume.custom_properties.values().any(|value| value.to_lowercase().contains(&part.to_lowercase()))
                })
                && match attached {
                    1 | 2 => volume.attachment.is_none(),
                    3 => volume.attachment.is_some(),
                    _ => true,
                };
            if meant && in_scope(site, volume, params.text("scope"))? {
                items.push(volume);
            }
        }
        params.page("volumes", items, PAGE, |volume| views::volume_in_list(site, volume))
    })
}

async fn create(caller: Caller, bytes: Bytes) -> Answer {
    let request: VolumeRequest = body(&bytes)?;
    caller.begin(|site, now, user| site.create_volume(now, user, request))
}

async fn one(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.read(|site| Ok(Json(views::volume(site, site.volume(id)?))))
}

async fn change(caller: Caller, Path((_, id)): Path<(String, u64)>, bytes: Bytes) -> Answer {
    let change: VolumeChange = body(&bytes)?;
    caller.change(|site, _, _| site.change_volume(id, change))?;
    Ok(Json(json!({})))
}

async fn remove(caller: Caller, Path((_, id)): Path<(String, u64)>, params: Params) -> Answer {
    params.choice("isFormat", &[0, 1])?;
    params.choice("isOnlyDelDB", &[0])?;
    caller.begin(|site, now, user| site.delete_volume(now, user, id))
}

#[derive(Deserialize)]
struct Expand {
    size: u64,
}

async fn expand(caller: Caller, Path((_, id)): Path<(String, u64)>, bytes: Bytes) -> Answer {
    let request: Expand = body(&bytes)?;
    caller.begin(|site, now, user| site.expand_volume(now, user, None, id, request.size))
}

#[derive(Deserialize)]
struct ByMark {
    condition: Condition,
    offset: Option<usize>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct Condition {
    name: String,
    value: String,
}

async fn by_mark(caller: Caller, bytes: Bytes) -> Answer {
    let ByMark { condition, offset, limit } = body(&bytes)?;
    caller.read(|site| {
        let is_meant = |volume: &&Volume| volume.custom_properties.get(&condition.name) == Some(&condition.value);
        let found = site.volumes.values().filter(is_meant);
        page("volumes", found, (offset, limit), PAGE, |volume| views::volume_in_list(site, volume))
    })
}

#[derive(Deserialize)]
struct MarkRequest {
    volumes: Vec<VolumeMarks>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMarks {
    volume_urn: String,
    custom_properties: BTreeMap<String, String>,
}

async fn mark(caller: Caller, bytes: Bytes) -> Answer {
    let request: MarkRequest = body(&bytes)?;
    caller.change(|site, _, _| {
        request
            .volumes
            .into_iter()
            .try_for_each(|volume| site.mark_volume(&volume.volume_urn, volume.custom_properties))
    })?;
    Ok(Json(json!({})))
}
