//! Independent, persistent volumes.

use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{
        AttachVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest, DetachVolumeRequest, FindVolumesRequest,
        FindVolumesResponse, Task, Volume,
    },
};
use reqwest::Method;
use serde_json::json;

use super::{machines::accept, tasks};
use crate::{
    fault,
    session::Session,
    vrm::{codes, codes::done, path_of, wire},
};

pub(super) async fn create(session: &Session, request: CreateVolumeRequest) -> Result<Task, MachineError> {
    if request.name.is_empty() || request.size_gib == 0 {
        return Err(MachineError::new(Reason::Invalid, "name and size_gib: must be set"));
    }
    let found = by_name(session, &request.name).await?;
    match found.as_slice() {
        [] => {}
        [one] if one.indep_disk == Some(true) && one.persistent_disk == Some(true) => return Ok(tasks::done(&one.urn)),
        [one] => {
            let message =
                format!("volume {} exists as {} and is not independent and persistent", request.name, one.urn);
            return Err(MachineError::new(Reason::Conflict, message));
        }
        several => {
            let urns: Vec<_> = several.iter().map(|volume| volume.urn.as_str()).collect();
            let message = format!("volume {}: {} have this name", request.name, urns.join(" and "));
            return Err(MachineError::new(Reason::Ambiguous, message));
        }
    }
    let owner = request.owner.unwrap_or_default();
    let mut body = json!({
        "name": request.name,
        "quantityGB": request.size_gib,
        "datastoreUrn": request.datastore_urn,
        "type": "normal",
        "indepDisk": true,
        "persistentDisk": true,
        "customProperties": {"capi-dcs": owner.resource},
    });
    if let Some(thin) = request.thin {
        body["isThin"] = json!(thin);
    }
    let path = format!("{}/volumes", session.site_path);
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    let started = fault::around("vrm-create-volume", sent).await?;
    Ok(tasks::started(session, &started, ""))
}

async fn by_name(session: &Session, name: &str) -> Result<Vec<wire::Volume>, MachineError> {
    let path = format!("{}/volumes", session.site_path);
    let found: Vec<wire::Volume> = session.vrm.list(&path, &[("name", name)], "volumes").await?;
    Ok(found.into_iter().filter(|volume| volume.name == name).collect())
}

pub(super) async fn find(session: &Session, request: FindVolumesRequest) -> Result<FindVolumesResponse, MachineError> {
    let found = if request.urn.is_empty() {
        by_name(session, &request.name).await?
    } else {
        match session.vrm.get::<wire::Volume>(&path_of(&request.urn)?, &[]).await {
            Ok(volume) => vec![volume],
            Err(error) if error.reason == Reason::NotFound => Vec::new(),
            Err(error) => return Err(error),
        }
    };
    let mut volumes = Vec::new();
    for volume in found {
        let holders = holders(session, &volume.urn).await?;
        volumes.push(Volume {
            usable: volume.status == "USE",
            urn: volume.urn,
            name: volume.name,
            size_gib: volume.quantity_gb,
            datastore_urn: volume.datastore_urn.unwrap_or_default(),
            independent: volume.indep_disk == Some(true),
            persistent: volume.persistent_disk == Some(true),
            machine_urns: holders,
            status_text: volume.status,
        });
    }
    Ok(FindVolumesResponse { volumes })
}

/// Machines that hold a volume.
async fn holders(session: &Session, urn: &str) -> Result<Vec<String>, MachineError> {
    let path = format!("{}/vms", session.site_path);
    let machines: Vec<wire::Named> = session.vrm.list(&path, &[("scope", urn)], "vms").await?;
    Ok(machines.into_iter().map(|machine| machine.urn).collect())
}

pub(super) async fn attach(session: &Session, request: AttachVolumeRequest) -> Result<Task, MachineError> {
    let path = format!("{}/action/attachvol", path_of(&request.machine_urn)?);
    let bus = if request.bus.is_empty() { "VIRTIO" } else { &request.bus };
    let body = json!({"volUrn": request.volume_urn, "pciType": bus, "sequenceNum": request.sequence});
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    match fault::around("vrm-attach-volume", sent).await {
        Ok(started) => Ok(tasks::started(session, &started, &request.machine_urn)),
        // "Attached already" is success only where it is attached to this machine.
        Err(error) if codes::is(&error, done::ATTACHED) => {
            let holders = holders(session, &request.volume_urn).await?;
            if holders.contains(&request.machine_urn) { Ok(tasks::done(&request.machine_urn)) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn detach(session: &Session, request: DetachVolumeRequest) -> Result<Task, MachineError> {
    let path = format!("{}/action/detachvol", path_of(&request.machine_urn)?);
    let body = json!({"volUrn": request.volume_urn, "isFormat": false});
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    accept(session, fault::around("vrm-detach-volume", sent).await, done::DETACHED, &request.machine_urn)
}

pub(super) async fn delete(session: &Session, request: DeleteVolumeRequest) -> Result<Task, MachineError> {
    let path = path_of(&request.urn)?;
    match session.vrm.get::<wire::Volume>(&path, &[]).await {
        Ok(volume) if volume.name != request.name => {
            let message = format!("{} is called {}, not {}: it is left alone", request.urn, volume.name, request.name);
            return Err(MachineError::new(Reason::Conflict, message));
        }
        Ok(_) => {}
        Err(error) if error.reason == Reason::NotFound => return Ok(tasks::done(&request.urn)),
        Err(error) => return Err(error),
    }
    let sent = session.vrm.send::<wire::Started>(Method::DELETE, &path, &[], None);
    accept(session, fault::around("vrm-delete-volume", sent).await, done::VOLUME_GONE, &request.urn)
}
