//! Machines: never a second one, never one too few, nobody else's.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use dcs_adapter::service::Service;
use dcs_proto::{
    MachineError,
    error::{FOREIGN_MACHINE, Reason},
    v1::{self, PowerState, TaskState, machine_service_server::MachineService},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tonic::Request;

use super::{
    at, owner, seen,
    stub::{Call, Reply, Stub},
};

const ATTEMPT: &str = "0b7c1f0e-8d2f-4a39-9c1a-2f6d3b5a9e10";
const MARK: &str = "capi-dcs ns/m uid=u1 cluster=ns/c management=mc attempt=0b7c1f0e-8d2f-4a39-9c1a-2f6d3b5a9e10";

fn vm(uuid: &str, name: &str, description: &str) -> Value {
    json!({"urn": "urn:sites:S:vms:i-1", "uuid": uuid, "name": name, "description": description, "status": "stopped"})
}

/// A site with these machines, whose filters are as fuzzy as VRM's; the UUID's is exact.
fn listed(call: &Call, machines: &[Value]) -> Option<Reply> {
    let fuzzy = |machine: &Value, field: &str, filter: &str| {
        let wanted = call.query(filter).to_lowercase();
        machine[field].as_str().unwrap_or_default().to_lowercase().contains(&wanted)
    };
    let uuid = call.query("uuid");
    let fitting: Vec<Value> = machines
        .iter()
        .filter(|machine| (uuid.is_empty() || machine["uuid"] == uuid.as_str()) && fuzzy(machine, "name", "name"))
        .cloned()
        .collect();
    if call.is("GET", "/vms") {
        return Some(call.page("vms", &fitting));
    }
    let one = machines.iter().find(|machine| {
        let id = machine["urn"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default();
        call.method == "GET" && call.path.ends_with(&format!("/vms/{id}"))
    });
    one.map(|machine| Reply::json(machine.clone()))
}

async fn create(service: &Service, session: &str) -> Result<v1::Task, MachineError> {
    let request = v1::CreateMachineRequest {
        session: session.into(),
        attempt: ATTEMPT.into(),
        owner: Some(owner()),
        name: "node-1".into(),
        template_urn: "urn:sites:S:vms:i-T".into(),
        boot_media_path: "8@node-1.iso".into(),
        ..v1::CreateMachineRequest::default()
    };
    seen(service.create_machine(Request::new(request)).await)
}

fn template() -> Value {
    json!({"urn": "urn:sites:S:vms:i-T", "name": "image", "isTemplate": true})
}

/// A site that makes a machine and loses the answer, the first time.
async fn losing(uuid: &'static str, lost: Reply) -> (Stub, Arc<Mutex<Vec<Value>>>) {
    let machines = Arc::new(Mutex::new(vec![template()]));
    let stub = Stub::start({
        let machines = Arc::clone(&machines);
        move |call| {
            if call.is("POST", "/action/clone") {
                let description = call.body["description"].as_str().unwrap_or_default();
                machines.lock().push(vm(uuid, "node-1", description));
                return Some(lost.clone());
            }
            listed(call, &machines.lock())
        }
    })
    .await;
    (stub, machines)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_clone_makes_no_second_machine() {
    // The site may know the machine by the UUID that it was given, or only by the mark in its description.
    for (uuid, lost) in [(ATTEMPT, Reply::Drop), (ATTEMPT, Reply::html(504)), ("the-sites-own", Reply::Drop)] {
        let (stub, machines) = losing(uuid, lost).await;
        let (service, session) = at(&stub).await;
        assert_eq!(create(&service, &session).await.unwrap_err().reason, Reason::OutcomeUnknown);
        for _ in 0..2 {
            let again = create(&service, &session).await.unwrap();
            assert_eq!((again.entity_urn.as_str(), again.state()), ("urn:sites:S:vms:i-1", TaskState::Done));
        }
        assert_eq!((stub.count("POST", "/action/clone"), machines.lock().len()), (1, 2), "{uuid}");
    }
}

#[tokio::test]
async fn a_uuid_that_exists_is_the_attempts_own_machine() {
    let made = Arc::new(AtomicBool::new(false));
    let stub = Stub::start({
        let made = Arc::clone(&made);
        move |call| {
            if call.is("POST", "/action/clone") {
                // An earlier call came through between our look and ours.
                made.store(true, Ordering::SeqCst);
                return Some(Reply::refusal(400, "10300451"));
            }
            let all = [template(), vm(ATTEMPT, "node-1", MARK)];
            listed(call, if made.load(Ordering::SeqCst) { &all } else { &all[..1] })
        }
    })
    .await;
    let (service, session) = at(&stub).await;
    assert_eq!(create(&service, &session).await.unwrap().entity_urn, "urn:sites:S:vms:i-1");
}

#[tokio::test]
async fn a_machine_of_that_name_that_is_not_ours_is_left_alone() {
    for description in ["made by hand", "capi-dcs other/m uid=u9 cluster=other/c management=mc attempt=another"] {
        let stub = Stub::start(move |call| listed(call, &[template(), vm("u", "node-1", description)])).await;
        let (service, session) = at(&stub).await;
        let error = create(&service, &session).await.unwrap_err();
        assert!(error.reason == Reason::Conflict && error.is_about(FOREIGN_MACHINE), "{error:?}");
        assert!(error.message.contains("urn:sites:S:vms:i-1"), "{error}");
        assert_eq!(stub.count("POST", "/action/clone"), 0);
    }
    // A name that only resembles ours is nobody's business.
    let stub = Stub::start(|call| {
        let clone = call.is("POST", "/action/clone").then(|| Reply::task(1));
        clone.or_else(|| listed(call, &[template(), vm("u", "node-10", "made by hand")]))
    })
    .await;
    let (service, session) = at(&stub).await;
    assert_eq!(create(&service, &session).await.unwrap().state(), TaskState::Running);
    let clone = stub.calls(|call| call.is("POST", "/action/clone")).remove(0).body;
    assert_eq!((&clone["autoBoot"], &clone["description"]), (&json!(false), &json!(MARK)));
    assert_eq!((&clone["cdRomDevicePath"], &clone["cdRomAttachAtPowerOn"]), (&json!("8@node-1.iso"), &json!(true)));
}

#[tokio::test]
async fn a_list_that_shifts_between_its_pages_hides_nothing() {
    let asked = Arc::new(Mutex::new(0));
    let stub = Stub::start({
        let asked = Arc::clone(&asked);
        move |call| {
            if !call.is("GET", "/vms") {
                let is_one = call.path.ends_with("/vms/i-100");
                return is_one.then(|| Reply::json(json!({"urn": "urn:sites:S:vms:i-100", "name": "n"})));
            }
            let mut asked = asked.lock();
            *asked += 1;
            let all: Vec<Value> =
                (0..150).map(|number| json!({"urn": format!("urn:sites:S:vms:i-{number}"), "name": "n"})).collect();
            let name = |number: usize| if number == 100 { "n" } else { "nn" };
            let mut all: Vec<Value> = all
                .into_iter()
                .enumerate()
                .map(|(number, mut machine)| {
                    machine["name"] = json!(name(number));
                    machine
                })
                .collect();
            if *asked > 1 {
                // One of the first page is deleted: the first of the second page moves there.
                all.remove(7);
            }
            Some(call.page("vms", &all))
        }
    })
    .await;
    let (service, session) = at(&stub).await;
    let request = v1::FindMachinesRequest { session, name: "n".into(), ..v1::FindMachinesRequest::default() };
    let found = seen(service.find_machines(Request::new(request)).await).unwrap().machines;
    assert_eq!(found.len(), 1, "found once, though it was listed on either page or on none");
}

#[tokio::test]
async fn a_machine_is_not_deleted_with_what_must_survive_it() {
    let disk = json!({"sequenceNum": 3, "volumeUrn": "urn:v", "diskName": "pool-1", "indepDisk": true, "persistentDisk": true});
    let mut with_disk = vm(ATTEMPT, "node-1", MARK);
    with_disk["vmConfig"] = json!({"disks": [disk]});
    let mut by_name = vm(ATTEMPT, "node-1", MARK);
    by_name["vmConfig"] = json!({"disks": [{"sequenceNum": 3, "volumeUrn": "urn:w", "diskName": "pool-2"}]});
    let foreign = vm("u", "node-1", "capi-dcs other/m uid=u9 cluster=other/c management=mc attempt=x");
    for (machine, says) in [(with_disk, "pool-1"), (by_name, "pool-2"), (foreign, "belongs to other/m")] {
        let stub = Stub::start(move |call| listed(call, std::slice::from_ref(&machine))).await;
        let (service, session) = at(&stub).await;
        let request = v1::DeleteMachineRequest {
            session,
            urn: "urn:sites:S:vms:i-1".into(),
            owner: Some(owner()),
            surviving_volume_names: vec!["pool-2".into()],
            ..v1::DeleteMachineRequest::default()
        };
        let error = seen(service.delete_machine(Request::new(request)).await).unwrap_err();
        assert!(error.reason == Reason::Conflict && error.message.contains(says), "{error:?}");
        assert_eq!(stub.count("DELETE", "/vms/i-1"), 0);
    }
}

#[tokio::test]
async fn what_is_so_already_is_done() {
    let stub = Stub::start(|call| match call.path.rsplit('/').next() {
        Some("start") => Some(Reply::refusal(400, "10300094")),
        Some("stop") => Some(Reply::refusal(400, "10300092")),
        Some("expandvol") => Some(Reply::refusal(400, "10300323")),
        Some("detachCdrom") => Some(Reply::refusal(400, "10300034")),
        _ => None,
    })
    .await;
    let (service, session) = at(&stub).await;
    let (urn, session) = (|| "urn:sites:S:vms:i-1".to_owned(), || session.clone());
    let on = v1::PowerOnRequest { session: session(), urn: urn(), ..Default::default() };
    let off = v1::PowerOffRequest { session: session(), urn: urn(), ..Default::default() };
    let grow = v1::GrowDiskRequest { session: session(), machine_urn: urn(), size_gib: 80, ..Default::default() };
    let detach = v1::DetachBootMediaRequest { session: session(), machine_urn: urn(), ..Default::default() };
    let delete = v1::DeleteMachineRequest { session: session(), urn: urn(), ..Default::default() };
    for task in [
        seen(service.power_on(Request::new(on)).await),
        seen(service.power_off(Request::new(off)).await),
        seen(service.grow_disk(Request::new(grow)).await),
        seen(service.detach_boot_media(Request::new(detach)).await),
        seen(service.delete_machine(Request::new(delete)).await),
    ] {
        let task = task.unwrap();
        assert_eq!((task.state(), task.id.as_str()), (TaskState::Done, ""));
    }
    assert_eq!(stub.calls(|call| call.is("POST", "expandvol"))[0].body["size"], 80 * 1024, "sizes are MB there");
}

#[tokio::test]
async fn a_console_is_read_where_the_site_gives_it() {
    let stub = Stub::start(|call| {
        call.is("POST", "/i-1/action/getConsoleOutput").then(|| Reply::json(json!({"output": "last words"})))
    })
    .await;
    let (service, session) = at(&stub).await;
    let of =
        |id: &str| v1::GetConsoleRequest { session: session.clone(), urn: format!("urn:sites:S:vms:{id}"), lines: 9 };
    assert_eq!(seen(service.get_console(Request::new(of("i-1"))).await).unwrap().output, "last words");
    assert_eq!(stub.calls(|call| call.is("POST", "getConsoleOutput"))[0].body, json!({"length": 9}));
    assert!(seen(service.get_console(Request::new(of("i-2"))).await).is_err());
}

#[tokio::test]
async fn states_that_are_not_known_are_waited_for() {
    for (word, state) in [
        ("running", PowerState::Running),
        ("stopped", PowerState::Stopped),
        ("creating", PowerState::Creating),
        ("hibernated", PowerState::Transition),
        ("a word of a later release", PowerState::Transition),
    ] {
        let machine = json!({"urn": "urn:sites:S:vms:i-1", "status": word});
        let stub = Stub::start(move |call| call.is("GET", "/vms/i-1").then(|| Reply::json(machine.clone()))).await;
        let (service, session) = at(&stub).await;
        let machine = super::read(&service, &session).await.unwrap();
        assert_eq!((machine.state(), machine.state_text.as_str()), (state, word));
    }
}

fn move_request(session: &str) -> v1::MoveMachineRequest {
    v1::MoveMachineRequest {
        session: session.to_owned(),
        urn: "urn:sites:S:vms:i-1".into(),
        folder_urn: "urn:sites:S:folders:391".into(),
        ..v1::MoveMachineRequest::default()
    }
}

/// The answer's lists decide, not its status.
#[tokio::test]
async fn a_move_is_done_when_the_site_says_whom_it_moved() {
    let moved = |vm: &str| json!({"moveVmsSucceededList": [{"vmName": "m", "vmId": vm}], "moveVmsFaileddList": []});
    let failed = json!({"moveVmsSucceededList": [],
        "moveVmsFaileddList": [{"vmId": "i-1", "errorCode": "10300001", "errorDes": "gone"}]});
    for (answer, expected) in [
        (moved("i-1"), Ok(())),
        (moved("i-2"), Err(Reason::OutcomeUnknown)),
        (failed, Err(Reason::NotFound)),
        (json!({"taskUrn": "urn:sites:S:tasks:7"}), Ok(())),
        (json!({}), Err(Reason::OutcomeUnknown)),
    ] {
        let shown = answer.to_string();
        let stub =
            Stub::start(move |call| call.is("POST", "/move-into-folder").then(|| Reply::json(answer.clone()))).await;
        let (service, session) = at(&stub).await;
        let outcome = seen(service.move_machine(Request::new(move_request(&session))).await);
        assert_eq!(outcome.map(drop).map_err(|error| error.reason), expected, "{shown}");
        let asked = stub.calls(|call| call.is("POST", "/move-into-folder"));
        assert_eq!(
            asked[0].body,
            json!({"elementType": 1, "elementUrns": ["urn:sites:S:vms:i-1"], "parentFolderUrn": "urn:sites:S:folders:391"})
        );
    }
}

#[tokio::test]
async fn a_machine_shows_its_folder_where_the_site_tells() {
    for (params, expected) in [
        (json!({"parentObjUrn": "urn:sites:S:folders:391"}), Some("urn:sites:S:folders:391")),
        (json!({"parentObjUrn": null}), None),
        (Value::Null, None),
    ] {
        let mut machine = vm(ATTEMPT, "m", MARK);
        machine["params"] = params;
        let stub = Stub::start(move |call| listed(call, std::slice::from_ref(&machine))).await;
        let (service, session) = at(&stub).await;
        assert_eq!(super::read(&service, &session).await.unwrap().folder_urn.as_deref(), expected);
    }
}
