//! Independent, persistent volumes.

use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{
        AdoptVolumeRequest, AdoptVolumeResponse, AttachVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest,
        DetachVolumeRequest, FindVolumesRequest, FindVolumesResponse, Owner, Task, Volume,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{machines::accept, tasks};
use crate::{
    fault,
    session::Session,
    vrm::{codes, codes::done, path_of, wire},
};

/// Property of a volume that names the resource it belongs to.
const MARK: &str = "capi-dcs";
/// Property of a volume that holds the UID of the management cluster.
const MANAGEMENT: &str = "capi-dcs-management";

pub(super) async fn create(session: &Session, request: CreateVolumeRequest) -> Result<Task, MachineError> {
    if request.name.is_empty() || request.size_gib == 0 {
        return Err(MachineError::new(Reason::Invalid, "name and size_gib: must be set"));
    }
    let owner = request.owner.unwrap_or_default();
    // Names may repeat at the site: this look is what keeps a repeated call from making a second volume.
    match by_name(session, &request.name).await?.as_slice() {
        [] => {}
        [one] => return taken(one, &owner).map(|()| tasks::done(&one.urn)),
        several => {
            let urns: Vec<_> = several.iter().map(|volume| volume.urn.as_str()).collect();
            let message = format!("volume {}: {} have this name", request.name, urns.join(" and "));
            return Err(MachineError::new(Reason::Ambiguous, message));
        }
    }
    let mut body = json!({
        "name": request.name,
        "quantityGB": request.size_gib,
        "datastoreUrn": request.datastore_urn,
        "type": "normal",
        "indepDisk": true,
        "persistentDisk": true,
        "customProperties": marks(&owner),
    });
    if let Some(thin) = request.thin {
        body["isThin"] = json!(thin);
    }
    let path = format!("{}/volumes", session.site_path);
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    let started = fault::around("vrm-create-volume", sent).await?;
    Ok(tasks::started(session, &started, ""))
}

/// Whether a volume that has the name already may be taken for the one that was to be made.
fn taken(volume: &wire::Volume, owner: &Owner) -> Result<(), MachineError> {
    let conflict = |what: String| {
        let message = format!("volume {} exists as {} and {what}", volume.name, volume.urn);
        Err(MachineError::new(Reason::Conflict, message))
    };
    match mark_of(volume) {
        Some(other) if other.resource != owner.resource || other.management_cluster != owner.management_cluster => {
            conflict(format!("belongs to {}", other.resource))
        }
        _ if volume.indep_disk != Some(true) || volume.persistent_disk != Some(true) => {
            conflict("is not independent and persistent".to_owned())
        }
        _ => Ok(()),
    }
}

fn marks(owner: &Owner) -> Value {
    json!({MARK: owner.resource, MANAGEMENT: owner.management_cluster})
}

fn mark_of(volume: &wire::Volume) -> Option<Owner> {
    let properties = volume.custom_properties.as_ref()?;
    let text = |key: &str| properties.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let resource = text(MARK);
    (!resource.is_empty()).then(|| Owner { resource, management_cluster: text(MANAGEMENT), ..Owner::default() })
}

async fn by_name(session: &Session, name: &str) -> Result<Vec<wire::Volume>, MachineError> {
    let found = named_like(session, name).await?;
    Ok(found.into_iter().filter(|volume| volume.name == name).collect())
}

/// Volumes whose names contain a text, letter case aside.
async fn named_like(session: &Session, text: &str) -> Result<Vec<wire::Volume>, MachineError> {
    session.vrm.list(&format!("{}/volumes", session.site_path), &[("name", text)], "volumes").await
}

async fn by_urn(session: &Session, urn: &str) -> Result<Option<wire::Volume>, MachineError> {
    match session.vrm.get::<wire::Volume>(&path_of(urn)?, &[]).await {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if error.reason == Reason::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn find(session: &Session, request: FindVolumesRequest) -> Result<FindVolumesResponse, MachineError> {
    let mut volumes = Vec::new();
    if !request.urn.is_empty() {
        if let Some(mut volume) = by_urn(session, &request.urn).await? {
            // Only lists tell whether it is bound, which it is before its machine shows it.
            let listed = by_name(session, &volume.name).await?;
            volume.bind_to_vm = listed.into_iter().find(|other| other.urn == volume.urn).and_then(|it| it.bind_to_vm);
            volumes.push(in_detail(session, volume).await?);
        }
    } else if !request.name.is_empty() {
        for volume in by_name(session, &request.name).await? {
            volumes.push(in_detail(session, volume).await?);
        }
    } else if !request.name_prefix.is_empty() {
        for volume in named_like(session, &request.name_prefix).await? {
            if !volume.name.starts_with(&request.name_prefix) {
                continue;
            }
            volumes.push(match bound(&volume) {
                Some(bound) => translate(volume, bound, Vec::new()),
                // A release whose lists do not tell: each is looked at.
                None => in_detail(session, volume).await?,
            });
        }
    } else {
        return Err(MachineError::new(Reason::Invalid, "one of name, urn and name_prefix must be set"));
    }
    Ok(FindVolumesResponse { volumes })
}

/// A volume with the machines that hold it, and the names of its datastore and datastore cluster.
async fn in_detail(session: &Session, volume: wire::Volume) -> Result<Volume, MachineError> {
    let holders = holders(session, &volume.urn).await?;
    let store: wire::Datastore = match volume.datastore_urn.as_deref() {
        Some(urn) if !urn.is_empty() => match session.vrm.get(&path_of(urn)?, &[]).await {
            Err(error) if error.reason == Reason::NotFound => wire::Datastore::default(),
            read => read?,
        },
        _ => wire::Datastore::default(),
    };
    let bound = bound(&volume).unwrap_or(false) || !holders.is_empty();
    let mut volume = translate(volume, bound, holders);
    volume.datastore_name = store.name;
    volume.datastore_cluster_name = store.datastore_cluster_name.unwrap_or_default();
    Ok(volume)
}

/// Whether a machine holds a volume, where the document tells.
fn bound(volume: &wire::Volume) -> Option<bool> {
    let number = match volume.bind_to_vm.as_ref()? {
        Value::String(text) => text.parse().ok()?,
        value => value.as_i64()?,
    };
    Some(number == 3)
}

fn translate(volume: wire::Volume, bound: bool, machine_urns: Vec<String>) -> Volume {
    Volume {
        owner: mark_of(&volume),
        usable: volume.status == "USE",
        urn: volume.urn,
        name: volume.name,
        size_gib: volume.quantity_gb,
        datastore_urn: volume.datastore_urn.unwrap_or_default(),
        datastore_name: volume.datastore_name.unwrap_or_default(),
        datastore_cluster_name: String::new(),
        independent: volume.indep_disk == Some(true),
        persistent: volume.persistent_disk == Some(true),
        machine_urns,
        bound,
        status_text: volume.status,
    }
}

/// Machines that hold a volume.
async fn holders(session: &Session, urn: &str) -> Result<Vec<String>, MachineError> {
    let path = format!("{}/vms", session.site_path);
    let machines: Vec<wire::Named> = session.vrm.list(&path, &[("scope", urn)], "vms").await?;
    Ok(machines.into_iter().map(|machine| machine.urn).collect())
}

pub(super) async fn adopt(session: &Session, request: AdoptVolumeRequest) -> Result<AdoptVolumeResponse, MachineError> {
    let Some(volume) = by_urn(session, &request.urn).await? else {
        return Err(MachineError::new(Reason::NotFound, format!("volume {} does not exist", request.urn)));
    };
    let owner = request.owner.unwrap_or_default();
    if let Some(other) = mark_of(&volume).filter(|other| other.resource != owner.resource) {
        let message = format!("volume {} belongs to {}: it is left alone", volume.name, other.resource);
        return Err(MachineError::new(Reason::Conflict, message));
    }
    let holders = holders(session, &request.urn).await?;
    if !holders.is_empty() {
        let message = format!("volume {} is attached to {}: it is left alone", volume.name, holders.join(", "));
        return Err(MachineError::new(Reason::Conflict, message));
    }
    let body = json!({"name": request.name, "indepDisk": true, "persistentDisk": true});
    let path = path_of(&request.urn)?;
    let sent = session.vrm.send::<Value>(Method::PUT, &path, &[], Some(&body));
    fault::around("vrm-adopt-volume", sent).await?;
    let body = json!({"volumes": [{"volumeUrn": request.urn, "customProperties": marks(&owner)}]});
    let path = format!("{}/volumes/properties/custom", session.site_path);
    let sent = session.vrm.send::<Value>(Method::POST, &path, &[], Some(&body));
    match fault::around("vrm-mark-volume", sent).await {
        // Older releases keep no marks: name, size and datastore must do.
        Err(error) if !matches!(error.reason, Reason::NotFound | Reason::Unsupported) => Err(error),
        _ => Ok(AdoptVolumeResponse {}),
    }
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
    let Some(volume) = by_urn(session, &request.urn).await? else { return Ok(tasks::done(&request.urn)) };
    let conflict = |what: String| Err(MachineError::new(Reason::Conflict, format!("{what}: it is left alone")));
    if volume.name != request.name {
        return conflict(format!("{} is called {}, not {}", request.urn, volume.name, request.name));
    }
    let owner = request.owner.unwrap_or_default();
    if let Some(other) = mark_of(&volume).filter(|other| other.resource != owner.resource) {
        return conflict(format!("volume {} belongs to {}", volume.name, other.resource));
    }
    // This look is the last line before data is lost.
    let holders = holders(session, &request.urn).await?;
    if !holders.is_empty() {
        return conflict(format!("volume {} is attached to {}", volume.name, holders.join(", ")));
    }
    let path = path_of(&request.urn)?;
    let sent = session.vrm.send::<wire::Started>(Method::DELETE, &path, &[("isFormat", "0")], None);
    accept(session, fault::around("vrm-delete-volume", sent).await, done::VOLUME_GONE, &request.urn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(document: Value) -> wire::Volume {
        serde_json::from_value(document).unwrap()
    }

    fn owner(resource: &str, management: &str) -> Owner {
        Owner { resource: resource.into(), management_cluster: management.into(), ..Owner::default() }
    }

    #[test]
    fn a_volume_of_the_same_name_is_taken_only_when_it_is_ours_and_outlives_machines() {
        let mine = owner("ns/pool/10.0.0.7/0", "mc");
        let made = |owner: &Owner, independent: bool| {
            volume(json!({"urn": "v", "name": "n", "indepDisk": independent, "persistentDisk": true,
                "customProperties": marks(owner)}))
        };
        assert!(taken(&made(&mine, true), &mine).is_ok());
        for (other, independent) in [
            (owner("other/pool/10.0.0.7/0", "mc"), true),
            (owner("ns/pool/10.0.0.7/0", "mc2"), true),
            (mine.clone(), false),
        ] {
            assert_eq!(taken(&made(&other, independent), &mine).unwrap_err().reason, Reason::Conflict);
        }
        let unmarked = volume(json!({"urn": "v", "name": "n", "indepDisk": true, "persistentDisk": true}));
        assert!(taken(&unmarked, &mine).is_ok(), "sites that keep no marks leave the judgement to the caller");
    }

    #[test]
    fn whether_it_is_bound_is_read_from_numbers_and_texts_alike() {
        let bound_as = |value: Value| bound(&volume(json!({"bindToVm": value})));
        assert_eq!(
            (bound_as(json!(3)), bound_as(json!("3")), bound_as(json!(2)), bound(&volume(json!({})))),
            (Some(true), Some(true), Some(false), None)
        );
    }
}
