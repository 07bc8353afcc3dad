//! Datastores, datastore clusters, files, and the first step of an upload.

use axum::{
    Json, Router,
    body::Bytes,
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Caller, PAGE, Params, Path, body, views};
use crate::site::{Datastore, Entity, Result, Site, codes, tasks::Work};

pub(super) fn routes(upload_address: String) -> Router {
    Router::new()
        .route("/service/sites/{site}/datastores", get(list))
        .route("/service/sites/{site}/datastores/{id}", get(one))
        .route("/service/sites/{site}/datastores/action/refresh", post(refresh))
        .route("/service/sites/{site}/datastores/{id}/file", get(files))
        .route("/service/sites/{site}/datastores/{id}/file/{file}", delete(delete_file))
        .route("/service/sites/{site}/datastore-cluster", get(clusters))
        .route(
            "/service/sites/{site}/datastores/{id}/applyUpload",
            post(move |caller: Caller, path: Path<(String, u64)>, bytes: Bytes| {
                let address = upload_address.clone();
                async move { apply(&caller, path.0.1, &bytes, &address) }
            })
            .delete(cancel),
        )
}

fn in_scope(site: &Site, datastore: &Datastore, scope: Option<&str>) -> Result<bool> {
    let Some(urn) = scope else { return Ok(true) };
    match site.parse(urn) {
        Some(Entity::Site) => Ok(true),
        Some(Entity::Cluster(id)) => {
            Ok(datastore.hosts.iter().any(|host| site.hosts.get(host).is_some_and(|host| host.cluster == id)))
        }
        Some(Entity::Host(id)) => Ok(datastore.hosts.contains(&id)),
        Some(Entity::DatastoreCluster(id)) if site.datastore_clusters.contains_key(&id) => {
            Ok(datastore.cluster == Some(id))
        }
        Some(Entity::DatastoreCluster(_)) => codes::DATASTORE_CLUSTER_NOT_FOUND.refuse(),
        _ => Err(codes::BAD_URN.because(urn)),
    }
}

async fn list(caller: Caller, params: Params) -> Answer {
    params
        .refuse(&["exceptDatastoreType", "shareType", "exceptMaintainDs", "accessible"], "not offered by this site")?;
    caller.read(|site| {
        let mut items = vec![];
        for datastore in site.datastores.values() {
            let meant = params.fuzzy("name", &datastore.name)
                && params.text("status").is_none_or(|status| status == datastore.status)
                && params.text("storageType").is_none_or(|kind| kind == datastore.storage_type);
            if meant && in_scope(site, datastore, params.text("scope"))? {
                items.push(datastore);
            }
        }
        params.page("datastores", items, usize::MAX, |datastore| views::datastore(site, datastore))
    })
}

async fn one(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.read(|site| {
        let datastore = site.datastores.get(&id).ok_or(codes::DATASTORE_NOT_FOUND)?;
        Ok(Json(views::datastore(site, datastore)))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    datastore_urns: Vec<String>,
}

async fn refresh(caller: Caller, bytes: Bytes) -> Answer {
    let Refresh { datastore_urns: urns } = body(&bytes)?;
    if urns.is_empty() || urns.len() > PAGE {
        return Err(codes::BAD_PARAMETER.because("datastoreUrns: 1…100"));
    }
    caller.begin(|site, now, user| {
        for urn in &urns {
            match site.parse(urn) {
                Some(Entity::Datastore(id)) if site.datastores.contains_key(&id) => {}
                Some(Entity::Datastore(_)) => return Err(codes::DATASTORE_NOT_FOUND.because(urn)),
                _ => return Err(codes::BAD_URN.because(urn)),
            }
        }
        Ok(site.begin_plain(now, user, Work::RefreshDatastores))
    })
}

async fn clusters(caller: Caller, params: Params) -> Answer {
    caller.read(|site| {
        let wanted = site.datastore_clusters.values().filter(|cluster| params.fuzzy("name", &cluster.name));
        params.page("datastoreClusters", wanted, usize::MAX, |cluster| views::datastore_cluster(site, cluster))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Apply {
    file_name: String,
    file_size: u64,
}

fn apply(caller: &Caller, datastore: u64, bytes: &Bytes, address: &str) -> Answer {
    let request: Apply = body(bytes)?;
    caller.change(|site, now, _| {
        let ticket = site.apply_upload(now, datastore, &request.file_name, request.file_size)?;
        Ok(Json(json!({
            "uploadUrl": format!("https://{address}/fileupload/{}", ticket.path),
            "token": ticket.token, "expire": site.policy.upload_expire_seconds, "hostId": ticket.host,
        })))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel {
    host_id: Option<u64>,
}

async fn cancel(caller: Caller, Path((_, id)): Path<(String, u64)>, bytes: Bytes) -> Answer {
    let request: Cancel = body(&bytes)?;
    let count = caller.change(|site, _, _| site.cancel_uploads(id, request.host_id))?;
    Ok(Json(json!({"errorCode": "00000000", "msg": format!("{count} cancelled")})))
}

async fn files(caller: Caller, Path((_, id)): Path<(String, u64)>, params: Params) -> Answer {
    caller.read(|site| {
        if !site.datastores.contains_key(&id) {
            return codes::DATASTORE_NOT_FOUND.refuse();
        }
        let wanted = site.files.values().filter(|file| file.datastore == id && params.fuzzy("name", &file.name));
        params.page("files", wanted, PAGE, |file| json!({"id": file.id, "name": file.name, "size": file.size}))
    })
}

async fn delete_file(caller: Caller, Path((_, datastore, file)): Path<(String, u64, u64)>) -> Answer {
    caller.change(|site, _, _| site.delete_file(datastore, file))?;
    Ok(Json(json!({})))
}
