//! Boot media: an image is built, uploaded in two steps, attached, detached, deleted.

use dcs_proto::{
    MachineError,
    error::{RUNNING_DRIVE, Reason, UPLOAD_DATASTORE, UPLOAD_HOST},
    v1::{
        AttachBootMediaRequest, BootMedia, DeleteBootMediaRequest, DeleteBootMediaResponse, DetachBootMediaRequest,
        PutBootMediaRequest, Task,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    machines::{accept, media_of},
    tasks,
};
use crate::{
    fault, iso,
    session::Session,
    vrm::{codes, codes::done, path_of, wire},
};

/// Tries of an upload, each with a ticket of its own: another host may take it.
const TRIES: u32 = 3;

pub(super) async fn put(session: &Session, request: PutBootMediaRequest) -> Result<BootMedia, MachineError> {
    let image = iso::build(&request).map_err(|error| MachineError::new(Reason::Invalid, error.to_string()))?;
    let size = image.len() as u64;
    let name = &request.file_name;
    if name.is_empty() || name.contains(['/', '@', '\\']) {
        return Err(MachineError::new(Reason::Invalid, format!("file_name: {name:?} is no file name")));
    }
    let media = BootMedia {
        path: device_path(&request.datastore_urn, name),
        datastore_urn: request.datastore_urn.clone(),
        size_bytes: size,
    };
    // The name is unique per content: one of that name and size is this one.
    if let Some(file) = find(session, &request.datastore_urn, name).await? {
        if file.size == Some(size) {
            return Ok(media);
        }
        remove(session, &request.datastore_urn, &file).await?;
    }
    let mut outcome = Ok(());
    for _ in 0..TRIES {
        outcome = fault::around("vrm-upload", upload(session, &request.datastore_urn, name, &image)).await;
        // Another ticket may name another host; what the site itself refuses, it refuses again.
        if !outcome.as_ref().is_err_and(|error| error.is_about(UPLOAD_HOST)) {
            break;
        }
    }
    // What counts is what lies there: a host's answer may be lost, and what a try left is refused to the next.
    match (find(session, &request.datastore_urn, name).await?, outcome) {
        (Some(file), _) if file.size == Some(size) => Ok(media),
        (_, Err(error)) => Err(error),
        (Some(file), Ok(())) => {
            let message = format!("{name} has {} bytes at the site, {size} were sent", file.size.unwrap_or_default());
            Err(MachineError::new(Reason::Unreachable, message))
        }
        (None, Ok(())) => {
            Err(MachineError::new(Reason::OutcomeUnknown, format!("{name} was sent, and the site does not list it")))
        }
    }
}

fn device_path(datastore_urn: &str, name: &str) -> String {
    format!("{}@{name}", datastore_urn.rsplit(':').next().unwrap_or_default())
}

async fn upload(session: &Session, datastore_urn: &str, name: &str, image: &[u8]) -> Result<(), MachineError> {
    let path = format!("{}/applyUpload", path_of(datastore_urn)?);
    let body = json!({"fileName": name, "fileSize": image.len()});
    let ticket: wire::UploadTicket =
        session.vrm.send(Method::POST, &path, &[], Some(&body)).await.map_err(|error| {
            if takes_no_upload(&error) { error.about(UPLOAD_DATASTORE, datastore_urn) } else { error }
        })?;
    session.vrm.upload(&ticket.upload_url, &ticket.token, image.to_vec()).await
}

/// Whether a refused ticket says that this datastore takes no files this way: some kinds of storage do not, and some
/// releases have no such call.
fn takes_no_upload(error: &MachineError) -> bool {
    codes::is(error, codes::NOT_FOR_FILES)
        || (!codes::has_code(error) && matches!(error.reason, Reason::NotFound | Reason::Unsupported))
}

async fn find(session: &Session, datastore_urn: &str, name: &str) -> Result<Option<wire::File>, MachineError> {
    let path = format!("{}/file", path_of(datastore_urn)?);
    let files: Vec<wire::File> = session.vrm.list(&path, &[], "files").await?;
    Ok(files.into_iter().find(|file| file.name == name))
}

async fn remove(session: &Session, datastore_urn: &str, file: &wire::File) -> Result<(), MachineError> {
    let id = file
        .id()
        .ok_or_else(|| MachineError::new(Reason::Unsupported, format!("file {} has no id at the site", file.name)))?;
    let path = format!("{}/file/{id}", path_of(datastore_urn)?);
    let sent = session.vrm.send::<Value>(Method::DELETE, &path, &[], None);
    match fault::around("vrm-delete-media", sent).await {
        Ok(_) => Ok(()),
        Err(error) if codes::is(&error, done::FILE_GONE) || error.reason == Reason::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn attach(session: &Session, request: AttachBootMediaRequest) -> Result<Task, MachineError> {
    let machine = path_of(&request.machine_urn)?;
    let path = format!("{machine}/action/attachCdrom");
    let body = json!({"devicePath": request.path, "protocol": "file", "attachAtPowerOn": true});
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
    let mut sent = fault::around("vrm-attach-media", sent).await;
    if sent.as_ref().is_err_and(|error| codes::is(error, codes::PROTOCOL_REFUSED)) {
        // Release 6 has another word for a file on a datastore, and cannot wait for the power-on.
        let body = json!({"devicePath": request.path, "protocol": "datastore"});
        let again = session.vrm.send::<wire::Started>(Method::POST, &path, &[], Some(&body));
        sent = fault::around("vrm-attach-media", again).await;
    }
    match sent {
        Err(error) if codes::is(&error, codes::WRONG_POWER) => Err(error.about(RUNNING_DRIVE, &request.machine_urn)),
        Ok(started) => Ok(tasks::started(session, &started, &request.machine_urn)),
        Err(error) if codes::is(&error, done::MEDIA_ATTACHED) => {
            let present = media_of(session, &machine).await?;
            if present == request.path {
                return Ok(tasks::done(&request.machine_urn));
            }
            Err(MachineError::new(Reason::Conflict, format!("another medium is in the drive: {present}")))
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn detach(session: &Session, request: DetachBootMediaRequest) -> Result<Task, MachineError> {
    let path = format!("{}/action/detachCdrom", path_of(&request.machine_urn)?);
    let sent = session.vrm.send::<wire::Started>(Method::POST, &path, &[], None);
    accept(session, fault::around("vrm-detach-media", sent).await, done::MEDIA_DETACHED, &request.machine_urn)
}

pub(super) async fn delete(
    session: &Session,
    request: DeleteBootMediaRequest,
) -> Result<DeleteBootMediaResponse, MachineError> {
    let name = request.path.split_once('@').map_or(request.path.as_str(), |(_, name)| name);
    if let Some(file) = find(session, &request.datastore_urn, name).await? {
        remove(session, &request.datastore_urn, &file).await?;
    }
    Ok(DeleteBootMediaResponse {})
}
