//! The ends of tasks are told; the site is asked no more than it takes.

use std::{sync::Arc, time::Duration};

use dcs_proto::{
    error::Reason,
    v1::{self, TaskState, machine_service_server::MachineService},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::Request;

use super::{
    at, seen,
    stub::{Reply, Stub},
    write,
};

fn task(number: u32, status: &str) -> Value {
    json!({"urn": format!("urn:sites:S:tasks:{number}"), "uri": format!("/service/sites/S/tasks/{number}"),
        "entityUrn": "urn:sites:S:vms:i-1", "status": status, "progress": 50, "reason": "10300016", "reasonDes": "no room"})
}

#[tokio::test]
async fn ends_are_told_to_who_watches() {
    let states = Arc::new(Mutex::new(["running", "running", "running"]));
    let started = Mutex::new(0);
    let stub = Stub::start({
        let states = Arc::clone(&states);
        move |call| {
            if call.is("POST", "/action/start") {
                let mut started = started.lock();
                *started += 1;
                return Some(Reply::task(*started));
            }
            let known: Vec<Value> = states.lock().iter().zip(1..).map(|(state, number)| task(number, state)).collect();
            if call.is("GET", "/tasks") {
                let urns = call.query("taskUrns");
                // The third is forgotten: lists leave it out.
                let asked = known[..2].iter().filter(|task| urns.contains(task["urn"].as_str().unwrap_or_default()));
                return Some(call.page("tasks", &asked.cloned().collect::<Vec<_>>()));
            }
            let number = call.path.strip_prefix("/service/sites/S/tasks/")?.parse::<usize>().ok()?;
            Some(if number == 3 { Reply::refusal(400, "10000008") } else { Reply::json(known[number - 1].clone()) })
        }
    })
    .await;
    let (service, session) = at(&stub).await;
    let watch = v1::WatchTasksRequest { session: session.clone() };
    let mut ends = service.watch_tasks(Request::new(watch)).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stub.calls(|call| call.path.contains("/tasks")).len(), 0, "nothing runs, nothing is asked");
    for _ in 0..3 {
        assert_eq!(write(&service, &session).await.unwrap().state(), TaskState::Running);
    }
    *states.lock() = ["success", "failed", ""];
    let mut told = Vec::new();
    for _ in 0..3 {
        let end = tokio::time::timeout(Duration::from_secs(5), ends.next()).await.unwrap().unwrap().unwrap();
        told.push((end.id.rsplit('/').next().unwrap().to_owned(), end.state()));
    }
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [TaskState::Done, TaskState::Failed, TaskState::Unknown];
    assert_eq!(told, ["1", "2", "3"].map(str::to_owned).into_iter().zip(expected).collect::<Vec<_>>());
    let asked = stub.calls(|call| call.path.contains("/tasks")).len();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let get = async |number| {
        let id = format!("/service/sites/S/tasks/{number}");
        seen(service.get_task(Request::new(v1::GetTaskRequest { session: session.clone(), id })).await).unwrap()
    };
    assert_eq!((get(1).await.state(), get(2).await.state()), (TaskState::Done, TaskState::Failed));
    assert_eq!(stub.calls(|call| call.path.contains("/tasks")).len(), asked, "all ended, nothing is asked");
}

#[tokio::test]
async fn a_running_task_that_is_watched_costs_nothing_more_to_get() {
    let stub = Stub::start(|call| {
        let task = || Reply::json(task(1, "running"));
        match call.path.as_str() {
            path if path.ends_with("/start") => Some(Reply::task(1)),
            path => (path == "/service/sites/S/tasks/1").then(task),
        }
    })
    .await;
    let (service, session) = at(&stub).await;
    let id = write(&service, &session).await.unwrap().id;
    for _ in 0..20 {
        let get = v1::GetTaskRequest { session: session.clone(), id: id.clone() };
        assert_eq!(seen(service.get_task(Request::new(get)).await).unwrap().state(), TaskState::Running);
    }
    assert_eq!(stub.calls(|call| call.path.contains("/tasks")).len(), 0, "its start has just been seen");
}

#[tokio::test]
async fn a_failure_is_told_with_its_reason_and_a_forgotten_task_is_neither() {
    let stub = Stub::start(|call| match call.path.as_str() {
        "/service/sites/S/tasks/1" => Some(Reply::json(task(1, "failed"))),
        "/service/sites/S/tasks/2" => Some(Reply::refusal(400, "10000008")),
        _ => None,
    })
    .await;
    let (service, session) = at(&stub).await;
    let of = |id: &str| v1::GetTaskRequest { session: session.clone(), id: id.into() };
    let failed = seen(service.get_task(Request::new(of("/service/sites/S/tasks/1"))).await).unwrap();
    let failure = failed.failure.unwrap();
    assert_eq!(
        (failure.reason(), failure.code.as_str(), failure.message.as_str()),
        (Reason::Capacity, "10300016", "no room")
    );
    let forgotten = seen(service.get_task(Request::new(of("/service/sites/S/tasks/2"))).await).unwrap();
    assert_eq!(forgotten.state(), TaskState::Unknown);
    for wrong in ["", "/service/sites/S/vms/i-1", "/service/sites/S/tasks/../vms", "/service/sites/T/tasks/1"] {
        let error = seen(service.get_task(Request::new(of(wrong))).await).unwrap_err();
        assert_eq!(error.reason, Reason::Invalid, "{wrong}");
    }
}

#[tokio::test]
async fn a_session_that_is_not_known_is_said_so() {
    let stub = Stub::start(|_| None).await;
    let (service, _) = at(&stub).await;
    assert_eq!(write(&service, "from before a restart").await.unwrap_err().reason, Reason::SessionUnknown);
    let watch = v1::WatchTasksRequest { session: "from before a restart".into() };
    let refused = service.watch_tasks(Request::new(watch)).await.err().unwrap();
    assert_eq!(dcs_proto::MachineError::from(refused).reason, Reason::SessionUnknown);
}
