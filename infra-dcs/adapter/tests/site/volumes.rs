//! Volumes: never a second one of a name, nobody else's, none deleted that a machine holds.

use std::sync::Arc;

use dcs_adapter::service::Service;
use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, TaskState, machine_service_server::MachineService},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tonic::Request;

use super::{
    at, seen,
    stub::{Call, Reply, Stub},
};

const URN: &str = "urn:sites:S:volumes:7";
const NAME: &str = "pool-48fbf301";

fn owner() -> v1::Owner {
    v1::Owner { management_cluster: "mc".into(), resource: "ns/pool/10.0.0.7/0".into(), ..v1::Owner::default() }
}

fn volume(name: &str, resource: &str, bound: bool) -> Value {
    json!({"urn": URN, "name": name, "quantityGB": 40, "status": "USE", "datastoreUrn": "urn:sites:S:datastores:8",
        "indepDisk": true, "persistentDisk": true, "bindToVm": if bound { 3 } else { 2 },
        "customProperties": {"capi-dcs": resource, "capi-dcs-management": "mc"}})
}

/// A site with these volumes, whose name filter is as fuzzy as VRM's, and one holder of any that is bound.
fn site(call: &Call, volumes: &[Value]) -> Option<Reply> {
    if call.is("GET", "/volumes") {
        let wanted = call.query("name").to_lowercase();
        let fits = |volume: &&Value| volume["name"].as_str().unwrap_or_default().to_lowercase().contains(&wanted);
        return Some(call.page("volumes", &volumes.iter().filter(fits).cloned().collect::<Vec<_>>()));
    }
    if call.is("GET", "/volumes/7") {
        // Its own call does not tell whether it is bound.
        let one = volumes.iter().find(|volume| volume["urn"] == URN).cloned();
        return Some(one.map_or_else(
            || Reply::refusal(400, "10420004"),
            |mut one| {
                one.as_object_mut().unwrap().remove("bindToVm");
                Reply::json(one)
            },
        ));
    }
    if call.is("DELETE", "/volumes/7") {
        return Some(Reply::task(1));
    }
    if call.is("GET", "/vms") && call.query("scope") == URN {
        let bound = volumes.iter().any(|volume| volume["urn"] == URN && volume["bindToVm"] == 3);
        let holders = if bound { vec![json!({"urn": "urn:sites:S:vms:i-2", "name": "other"})] } else { Vec::new() };
        return Some(call.page("vms", &holders));
    }
    if call.is("GET", "/datastores/8") {
        return Some(Reply::json(json!({"urn": "urn:sites:S:datastores:8", "name": "ds-1", "status": "NORMAL",
            "datastoreClusterName": "dsc"})));
    }
    None
}

async fn stub_with(volumes: Vec<Value>) -> Stub {
    Stub::start(move |call| site(call, &volumes)).await
}

async fn create(service: &Service, session: &str) -> Result<v1::Task, MachineError> {
    let request = v1::CreateVolumeRequest {
        session: session.into(),
        owner: Some(owner()),
        name: NAME.into(),
        size_gib: 40,
        datastore_urn: "urn:sites:S:datastores:8".into(),
        ..v1::CreateVolumeRequest::default()
    };
    seen(service.create_volume(Request::new(request)).await)
}

async fn find(service: &Service, request: v1::FindVolumesRequest) -> Vec<v1::Volume> {
    seen(service.find_volumes(Request::new(request)).await).unwrap().volumes
}

#[tokio::test]
async fn a_volume_whose_answer_was_lost_is_found_by_its_name_and_not_made_again() {
    let volumes = Arc::new(Mutex::new(vec![volume(&NAME.to_uppercase(), "someone", false)]));
    let stub = Stub::start({
        let volumes = Arc::clone(&volumes);
        move |call| {
            if call.is("POST", "/volumes") {
                let mut made = call.body.clone();
                (made["urn"], made["status"]) = (json!("urn:sites:S:volumes:8"), json!("USE"));
                volumes.lock().push(made);
                return Some(Reply::Drop);
            }
            site(call, &volumes.lock())
        }
    })
    .await;
    let (service, session) = at(&stub).await;
    assert_eq!(create(&service, &session).await.unwrap_err().reason, Reason::OutcomeUnknown);
    let task = create(&service, &session).await.unwrap();
    assert_eq!((task.state(), task.entity_urn.as_str()), (TaskState::Done, "urn:sites:S:volumes:8"));
    let made = stub.calls(|call| call.is("POST", "/volumes"));
    assert_eq!(made.len(), 1);
    let body = &made[0].body;
    assert_eq!(
        (&body["indepDisk"], &body["persistentDisk"], &body["type"]),
        (&json!(true), &json!(true), &json!("normal"))
    );
    assert!(body.get("isThin").is_none(), "what is not declared is left to the site");
    assert_eq!(body["customProperties"]["capi-dcs"], "ns/pool/10.0.0.7/0");
}

#[tokio::test]
async fn a_volume_of_somebody_else_is_neither_taken_nor_changed_nor_deleted() {
    let stub = stub_with(vec![volume(NAME, "other/pool/10.0.0.7/0", false)]).await;
    let (service, session) = at(&stub).await;
    assert_eq!(create(&service, &session).await.unwrap_err().reason, Reason::Conflict);
    let adopt = v1::AdoptVolumeRequest {
        session: session.clone(),
        urn: URN.into(),
        name: NAME.into(),
        owner: Some(owner()),
        ..v1::AdoptVolumeRequest::default()
    };
    let adopted = seen(service.adopt_volume(Request::new(adopt)).await);
    assert_eq!(adopted.unwrap_err().reason, Reason::Conflict);
    assert_eq!(delete(&service, &session, NAME).await.unwrap_err().reason, Reason::Conflict);
    assert!(stub.calls(|call| call.method != "GET" && !call.path.ends_with("/session")).is_empty());
}

async fn delete(service: &Service, session: &str, name: &str) -> Result<v1::Task, MachineError> {
    let request = v1::DeleteVolumeRequest {
        session: session.into(),
        urn: URN.into(),
        name: name.into(),
        owner: Some(owner()),
        ..v1::DeleteVolumeRequest::default()
    };
    seen(service.delete_volume(Request::new(request)).await)
}

#[tokio::test]
async fn only_a_free_volume_of_the_right_name_is_deleted() {
    for (known, name, expected) in [
        (vec![volume(NAME, "ns/pool/10.0.0.7/0", true)], NAME, Some(Reason::Conflict)),
        (vec![volume(NAME, "ns/pool/10.0.0.7/0", false)], "another-name", Some(Reason::Conflict)),
        (vec![volume(NAME, "ns/pool/10.0.0.7/0", false)], NAME, None),
        (Vec::new(), NAME, None),
    ] {
        let stub = stub_with(known.clone()).await;
        let (service, session) = at(&stub).await;
        let outcome = delete(&service, &session, name).await;
        assert_eq!(outcome.as_ref().err().map(|error| error.reason), expected, "{outcome:?}");
        let deleted = stub.count("DELETE", "/volumes/7");
        assert_eq!(deleted, usize::from(expected.is_none() && !known.is_empty()));
    }
}

#[tokio::test]
async fn volumes_are_found_by_the_beginning_of_their_names_in_one_list() {
    let stub = stub_with(vec![
        volume(NAME, "ns/pool/10.0.0.7/0", true),
        volume("POOL-x", "", false),
        volume("vm-pool-0001", "", true),
    ])
    .await;
    let (service, session) = at(&stub).await;
    let by_prefix = v1::FindVolumesRequest {
        session: session.clone(),
        name_prefix: "pool-".into(),
        ..v1::FindVolumesRequest::default()
    };
    let found = find(&service, by_prefix).await;
    assert_eq!(found.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>(), [NAME]);
    assert!(found[0].bound && found[0].usable && found[0].machine_urns.is_empty());
    assert_eq!(found[0].owner.as_ref().map(|owner| owner.resource.as_str()), Some("ns/pool/10.0.0.7/0"));
    assert_eq!(stub.calls(|call| call.path.contains("/volumes") || call.path.ends_with("/vms")).len(), 1);

    let by_urn = v1::FindVolumesRequest { session, urn: URN.into(), ..v1::FindVolumesRequest::default() };
    let found = find(&service, by_urn).await;
    assert_eq!(found[0].machine_urns, ["urn:sites:S:vms:i-2"]);
    let store = (found[0].datastore_name.as_str(), found[0].datastore_cluster_name.as_str());
    assert_eq!((store, found[0].bound), (("ds-1", "dsc"), true));
}

#[tokio::test]
async fn attached_already_counts_only_where_it_is_attached_to_that_machine() {
    let volumes = vec![volume(NAME, "ns/pool/10.0.0.7/0", true)];
    let stub = Stub::start(move |call| {
        if call.is("POST", "/action/attachvol") { Some(Reply::refusal(400, "10300074")) } else { site(call, &volumes) }
    })
    .await;
    let (service, session) = at(&stub).await;
    let attach = async |vm: &str| {
        let request = v1::AttachVolumeRequest {
            session: session.clone(),
            machine_urn: vm.into(),
            volume_urn: URN.into(),
            sequence: 5,
            ..v1::AttachVolumeRequest::default()
        };
        seen(service.attach_volume(Request::new(request)).await)
    };
    assert_eq!(attach("urn:sites:S:vms:i-2").await.unwrap().state(), TaskState::Done);
    assert_eq!(attach("urn:sites:S:vms:i-1").await.unwrap_err().reason, Reason::Conflict);
    let body = &stub.calls(|call| call.is("POST", "/action/attachvol"))[0].body;
    assert_eq!(*body, json!({"volUrn": URN, "pciType": "VIRTIO", "sequenceNum": 5}));
}

#[tokio::test]
async fn a_volume_is_adopted_with_name_properties_and_mark_and_sites_without_marks_will_do() {
    for marks in [true, false] {
        let mut own = volume("c1-cp-1-0005", "", false);
        (own["customProperties"], own["indepDisk"]) = (Value::Null, json!(false));
        let stub = Stub::start(move |call| {
            if call.is("PUT", "/volumes/7") {
                return Some(Reply::json(json!({})));
            }
            if call.is("POST", "/properties/custom") {
                return Some(if marks { Reply::json(json!({})) } else { Reply::refusal(404, "") });
            }
            site(call, std::slice::from_ref(&own))
        })
        .await;
        let (service, session) = at(&stub).await;
        let request = v1::AdoptVolumeRequest {
            session,
            urn: URN.into(),
            name: NAME.into(),
            owner: Some(owner()),
            ..v1::AdoptVolumeRequest::default()
        };
        assert!(seen(service.adopt_volume(Request::new(request)).await).is_ok());
        let put = &stub.calls(|call| call.is("PUT", "/volumes/7"))[0].body;
        assert_eq!(*put, json!({"name": NAME, "indepDisk": true, "persistentDisk": true}));
        let marked = &stub.calls(|call| call.is("POST", "/properties/custom"))[0].body;
        assert_eq!(marked["volumes"][0]["customProperties"]["capi-dcs"], "ns/pool/10.0.0.7/0");
    }
}
