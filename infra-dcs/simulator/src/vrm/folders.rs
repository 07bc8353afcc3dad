//! VM folders.

use axum::{
    Json, Router,
    body::Bytes,
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Caller, Params, Path, body, views};
use crate::site::{Entity, VmId, codes};

/// Items without a limit.
const DEFAULT_PAGE: usize = 120;

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/sites/{site}/folder", get(list).post(create))
        .route("/service/sites/{site}/folder/{id}", delete(remove))
        .route("/service/sites/{site}/folder/action/move-into-folder", post(move_into))
}

async fn list(caller: Caller, params: Params) -> Answer {
    // Type 1 is VM folders; without it a site lists its cluster folders, of which this one has none.
    let kind = params.choice("type", &[0, 1, 2])?.unwrap_or(0);
    caller.read(|site| {
        let parent = site.folder_parent(params.text("parentObjUrn"))?;
        let name = params.text("folderName").map(str::to_lowercase);
        let below = |mut id: Option<u64>| loop {
            match id {
                other if other == parent => return true,
                None => return false,
                Some(known) => id = site.folders.get(&known).and_then(|folder| folder.parent),
            }
        };
        let wanted = site.folders.values().filter(|folder| match &name {
            // A search by name goes through all levels, a list only through the first.
            Some(name) => folder.name.to_lowercase().contains(name) && below(folder.parent),
            None => folder.parent == parent,
        });
        params.page("folders", wanted.filter(|_| kind == 1), DEFAULT_PAGE, |folder| views::folder(site, folder))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    name: String,
    parent_obj_urn: Option<String>,
    #[serde(rename = "type")]
    kind: Option<u8>,
}

async fn create(caller: Caller, bytes: Bytes) -> Answer {
    let request: Create = body(&bytes)?;
    if request.kind != Some(1) {
        return Err(codes::FOLDER_TYPE.because("this site has VM folders (type 1) only"));
    }
    caller.change(|site, _, _| {
        let parent = site.folder_parent(request.parent_obj_urn.as_deref())?;
        let id = site.create_folder(&request.name, parent)?;
        Ok(Json(json!({"urn": site.urn(Entity::Folder(id)), "uri": Entity::Folder(id).uri(&site.id)})))
    })
}

async fn remove(caller: Caller, Path((_, id)): Path<(String, u64)>) -> Answer {
    caller.change(|site, _, _| site.delete_folder(id))?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MoveInto {
    element_type: Option<u8>,
    element_urns: Vec<String>,
    parent_folder_urn: String,
}

async fn move_into(caller: Caller, bytes: Bytes) -> Answer {
    let request: MoveInto = body(&bytes)?;
    if request.element_type.is_some_and(|kind| kind != 1) {
        return Err(codes::FOLDER_TYPE.because("elementType: VMs (1) only"));
    }
    caller.change(|site, _, _| {
        let folder = site.folder_parent(Some(&request.parent_folder_urn))?;
        let (mut moved, mut failed) = (vec![], vec![]);
        for urn in &request.element_urns {
            match site.move_vm(urn, folder) {
                Ok(id) => moved.push(json!({"vmName": site.vms[&id].name, "vmId": VmId(id).to_string()})),
                Err(error) => failed.push(json!({
                    "vmName": null, "vmId": urn.rsplit(':').next(),
                    "errorCode": error.code.to_string(), "errorDes": error.to_string(),
                })),
            }
        }
        Ok(Json(json!({"taskUrn": null, "moveVmsSucceededList": moved, "moveVmsFaileddList": failed})))
    })
}
