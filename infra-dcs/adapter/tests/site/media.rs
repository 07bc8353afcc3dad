//! Uploads, and every way in which they go wrong.

use std::sync::Arc;

use dcs_adapter::service::Service;
use dcs_proto::{
    MachineError,
    error::{RUNNING_DRIVE, Reason, UPLOAD_DATASTORE, UPLOAD_HOST},
    v1::{self, machine_service_server::MachineService},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tonic::Request;

use super::{
    at, owner, seen,
    stub::{Call, Reply, Stub},
};

async fn put(service: &Service, session: &str) -> Result<v1::BootMedia, MachineError> {
    let request = v1::PutBootMediaRequest {
        session: session.into(),
        owner: Some(owner()),
        datastore_urn: "urn:sites:S:datastores:8".into(),
        format: v1::MediaFormat::Ignition.into(),
        user_data: b"{}".to_vec(),
        file_name: "node-1.iso".into(),
        ..v1::PutBootMediaRequest::default()
    };
    seen(service.put_boot_media(Request::new(request)).await)
}

/// A site and its host in one: `host` answers the upload and says how many bytes lie there afterwards.
async fn site(
    host: impl Fn(&Call, usize) -> (Reply, Option<usize>) + Send + Sync + 'static,
) -> (Stub, Arc<Mutex<Vec<Value>>>) {
    let files = Arc::new(Mutex::new(Vec::new()));
    let uploads = Mutex::new(0);
    let stub = Stub::start({
        let files = Arc::clone(&files);
        move |call| {
            if call.is("POST", "/datastores/8/applyUpload") {
                return Some(Reply::json(json!({"uploadUrl": "/fileupload/1", "token": "ticket-token"})));
            }
            if call.is("PUT", "/fileupload/1") {
                let mut uploads = uploads.lock();
                *uploads += 1;
                let (reply, size) = host(call, *uploads);
                if let Some(size) = size {
                    *files.lock() = vec![json!({"id": 5, "name": "node-1.iso", "size": size})];
                }
                return Some(reply);
            }
            if call.is("DELETE", "/file/5") {
                files.lock().clear();
                return Some(Reply::json(json!({})));
            }
            call.is("GET", "/datastores/8/file").then(|| call.page("files", &files.lock()))
        }
    })
    .await;
    (stub, files)
}

fn stored() -> Reply {
    Reply::json(json!({"fileId": 5}))
}

#[tokio::test]
async fn an_upload_is_done_once() {
    let (stub, _) = site(|call, _| (stored(), Some(call.size))).await;
    let (service, session) = at(&stub).await;
    for _ in 0..2 {
        let media = put(&service, &session).await.unwrap();
        assert_eq!(media.path, "8@node-1.iso");
    }
    let uploads = stub.calls(|call| call.is("PUT", "/fileupload/1"));
    assert_eq!(uploads.len(), 1, "what lies there in full is not sent again");
    assert_eq!(uploads[0].header("X-Auth-Token"), "ticket-token", "a host never sees the site's token");
}

#[tokio::test]
async fn a_host_that_fails_is_given_another_ticket() {
    let (stub, _) = site(|call, number| match number {
        1 => (Reply::html(500), None),
        _ => (stored(), Some(call.size)),
    })
    .await;
    let (service, session) = at(&stub).await;
    put(&service, &session).await.unwrap();
    assert_eq!(stub.count("POST", "/applyUpload"), 2);
}

#[tokio::test]
async fn a_host_that_always_fails_is_named() {
    let (stub, _) = site(|_, _| (Reply::Says(500, Vec::new(), "no: ticket-token".into()), None)).await;
    let (service, session) = at(&stub).await;
    let error = put(&service, &session).await.unwrap_err();
    assert!(error.is_about(UPLOAD_HOST) && error.message.contains("localhost:"), "{error:?}");
    assert!(!error.message.contains("ticket-token"), "{error}");
    assert_eq!(stub.count("POST", "/applyUpload"), 3);
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_named() {
    // Nobody listens on port 1.
    let stub = Stub::start(|call| {
        call.is("POST", "/applyUpload").then(|| Reply::json(json!({"uploadUrl": "http://127.0.0.1:1/x", "token": "t"})))
    })
    .await;
    let (service, session) = at(&stub).await;
    let error = put(&service, &session).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_lost_is_found_out() {
    let (stub, _) = site(|call, _| (Reply::Drop, Some(call.size))).await;
    let (service, session) = at(&stub).await;
    put(&service, &session).await.unwrap();
}

#[tokio::test]
async fn half_a_file_is_no_medium() {
    let (stub, files) = site(|_, _| (stored(), Some(100))).await;
    let (service, session) = at(&stub).await;
    let error = put(&service, &session).await.unwrap_err();
    assert!(error.message.contains("has 100 bytes"), "{error}");
    // The next call clears it away first.
    put(&service, &session).await.unwrap_err();
    assert_eq!((stub.count("DELETE", "/file/5"), files.lock().len()), (1, 1));
}

#[tokio::test]
async fn a_datastore_that_takes_no_upload_is_asked_once() {
    let stub = Stub::start(|call| call.is("POST", "/applyUpload").then(|| Reply::refusal(400, "10410024"))).await;
    let (service, session) = at(&stub).await;
    let error = put(&service, &session).await.unwrap_err();
    assert!(error.resource.is_none() && error.to_string().contains("10410024"), "{error:?}");
    assert_eq!(stub.count("POST", "/applyUpload"), 1);
}

#[tokio::test]
async fn a_kind_of_storage_that_takes_no_files_is_named() {
    for refusal in [Reply::refusal(400, "10410052"), Reply::html(404)] {
        let stub = Stub::start(move |call| call.is("POST", "/applyUpload").then(|| refusal.clone())).await;
        let (service, session) = at(&stub).await;
        let error = put(&service, &session).await.unwrap_err();
        assert!(error.is_about(UPLOAD_DATASTORE), "{error:?}");
        assert_eq!(error.resource.as_ref().map(|(_, urn)| urn.as_str()), Some("urn:sites:S:datastores:8"));
        assert_eq!(stub.count("POST", "/applyUpload"), 1);
    }
}

fn attach_request(session: &str) -> v1::AttachBootMediaRequest {
    v1::AttachBootMediaRequest {
        session: session.to_owned(),
        machine_urn: "urn:sites:S:vms:i-1".into(),
        path: "8@node-1.iso".into(),
        ..v1::AttachBootMediaRequest::default()
    }
}

/// Release 6: another word for the kind of medium, and running machines only.
#[tokio::test]
async fn an_old_drive_is_asked_in_its_own_words_and_needs_power() {
    let running = Arc::new(Mutex::new(false));
    let stub = Stub::start({
        let running = Arc::clone(&running);
        move |call| {
            let attaches = call.is("POST", "/action/attachCdrom");
            attaches.then(|| match (call.body["protocol"].as_str(), *running.lock()) {
                (Some("datastore"), true) => Reply::task(7),
                (Some("datastore"), false) => Reply::refusal(400, "10300015"),
                _ => Reply::refusal(400, "10300343"),
            })
        }
    })
    .await;
    let (service, session) = at(&stub).await;
    let error = seen(service.attach_boot_media(Request::new(attach_request(&session))).await).unwrap_err();
    assert!(error.is_about(RUNNING_DRIVE), "{error:?}");
    *running.lock() = true;
    let task = seen(service.attach_boot_media(Request::new(attach_request(&session))).await).unwrap();
    assert!(task.id.ends_with("/tasks/7"), "{task:?}");
}

#[tokio::test]
async fn what_cannot_be_a_medium_is_refused_by_field() {
    let stub = Stub::start(|_| None).await;
    let (service, session) = at(&stub).await;
    let request = v1::PutBootMediaRequest {
        session,
        datastore_urn: "urn:sites:S:datastores:8".into(),
        format: v1::MediaFormat::Ignition.into(),
        user_data: b"{}".to_vec(),
        file_name: "../etc/x".into(),
        ..v1::PutBootMediaRequest::default()
    };
    let error = seen(service.put_boot_media(Request::new(request)).await).unwrap_err();
    assert!(error.reason == Reason::Invalid && error.message.contains("file_name"), "{error:?}");
}

#[tokio::test]
async fn another_medium_in_the_drive_is_not_taken_for_ours() {
    let stub = Stub::start(|call| match call.path.rsplit('/').next() {
        Some("attachCdrom") => Some(Reply::refusal(400, "10300033")),
        Some("describeCdrom") => Some(Reply::json(json!({"devicePath": "8@node-1.iso"}))),
        _ => None,
    })
    .await;
    let (service, session) = at(&stub).await;
    let attach = |path: &str| v1::AttachBootMediaRequest {
        session: session.clone(),
        machine_urn: "urn:sites:S:vms:i-1".into(),
        path: path.into(),
        ..v1::AttachBootMediaRequest::default()
    };
    seen(service.attach_boot_media(Request::new(attach("8@node-1.iso"))).await).unwrap();
    let error = seen(service.attach_boot_media(Request::new(attach("8@other.iso"))).await).unwrap_err();
    assert!(error.reason == Reason::Conflict && error.message.contains("8@node-1.iso"), "{error:?}");
}
