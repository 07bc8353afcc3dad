//! The client side of the machine service against an adapter that does as it is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod stub;

use std::{sync::Arc, time::Duration};

use dcs_controller::site::{Credentials, Site, Sites};
use dcs_proto::{
    MachineError,
    error::{Reason, UPLOAD_HOST},
    v1,
};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use tracing::{Instrument, instrument::WithSubscriber};
use tracing_subscriber::layer::SubscriberExt;

use stub::{Stub, credentials};

async fn read(site: &Site) -> Result<v1::Machine, MachineError> {
    site.call(|mut client, session| async move {
        client.get_machine(v1::GetMachineRequest { session, urn: "urn:vm".into() }).await
    })
    .await
}

async fn upload(site: &Site) -> Result<v1::BootMedia, MachineError> {
    site.upload(|mut client, session| async move {
        client.put_boot_media(v1::PutBootMediaRequest { session, ..v1::PutBootMediaRequest::default() }).await
    })
    .await
}

#[tokio::test]
async fn a_session_is_opened_once_and_again_when_the_adapter_has_started_anew() {
    let stub = Stub::start();
    let sites = stub.sites();
    let all = |sites: &Sites| {
        let calls: Vec<_> = (0..8).map(|_| sites.site(credentials())).collect();
        calls.into_iter().map(|site| tokio::spawn(async move { read(&site).await })).collect::<Vec<_>>()
    };
    for openings in 1..=2 {
        for call in all(&sites) {
            assert_eq!(call.await.unwrap().unwrap().urn, "urn:vm");
        }
        assert_eq!(stub.openings(), openings, "whoever comes meanwhile waits for the one who opens");
        stub.forget_sessions();
    }
}

#[tokio::test]
async fn another_login_is_another_session() {
    let stub = Stub::start();
    let sites = stub.sites();
    read(&sites.site(credentials())).await.unwrap();
    read(&sites.site(Credentials { key: "rotated".to_owned().into(), ..credentials() })).await.unwrap();
    // When the next login may be tried is no part of a login.
    read(&sites.site(Credentials { not_before: 7, ..credentials() })).await.unwrap();
    let keys: Vec<_> = stub.state.lock().openings.iter().map(|opening| opening.key.clone()).collect();
    assert_eq!(keys, ["canary-password", "rotated"]);
}

#[tokio::test]
async fn a_session_that_is_forgotten_at_once_is_no_loop() {
    let stub = Stub::start();
    stub.state.lock().error = Some(MachineError::new(Reason::SessionUnknown, "the session is not known"));
    let error = read(&stub.sites().site(credentials())).await.unwrap_err();
    assert_eq!((error.reason, stub.openings()), (Reason::SessionUnknown, 2));
}

#[tokio::test]
async fn a_lockout_is_told_and_handed_back() {
    let stub = Stub::start();
    let locked = MachineError::new(Reason::LockedOut, "the user is locked")
        .with_code("10100116")
        .retry_after(Duration::from_secs(300));
    stub.state.lock().refusals = vec![locked.clone()];
    let sites = stub.sites();
    assert_eq!(read(&sites.site(credentials())).await.unwrap_err(), locked);
    assert_eq!(stub.state.lock().calls.len(), 0, "nothing is asked without a session");
    // What the controller has recorded of it, it brings along, whichever adapter opens the session.
    read(&sites.site(Credentials { not_before: 1_800_000_300, ..credentials() })).await.unwrap();
    let told: Vec<_> = stub.state.lock().openings.iter().map(|opening| opening.not_before).collect();
    assert_eq!(told, [0, 1_800_000_300]);
}

#[tokio::test]
async fn an_error_arrives_whole() {
    let stub = Stub::start();
    let error = MachineError::new(Reason::Unreachable, "host 10.0.0.21:8443 cannot be reached")
        .with_code("10400004")
        .retry_after(Duration::from_secs(9))
        .about(UPLOAD_HOST, "10.0.0.21:8443");
    stub.state.lock().error = Some(error.clone());
    assert_eq!(upload(&stub.sites().site(credentials())).await.unwrap_err(), error);
}

#[tokio::test]
async fn calls_carry_how_long_they_are_waited_for() {
    let stub = Stub::start();
    let site = stub.sites().site(credentials());
    read(&site).await.unwrap();
    upload(&site).await.unwrap();
    let limit = |name: &str| {
        let state = stub.state.lock();
        let (_, metadata) = state.calls.iter().find(|(call, _)| *call == name).unwrap();
        let text = metadata.get("grpc-timeout").unwrap().to_str().unwrap();
        let (number, unit) = text.split_at(text.len() - 1);
        let number: u64 = number.parse().unwrap();
        match unit {
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            other => panic!("unit {other}"),
        }
    };
    assert_eq!(limit("GetMachine"), Duration::from_secs(30));
    assert_eq!(limit("PutBootMedia"), Duration::from_secs(120));
}

#[tokio::test]
async fn an_answer_that_does_not_come_leaves_the_outcome_open_and_ends_the_work() {
    let stub = Stub::start();
    let site = stub.sites().site(credentials());
    read(&site).await.unwrap();
    stub.state.lock().hangs = true;
    let begun = tokio::time::Instant::now();
    let call = tokio::spawn(async move { read(&site).await });
    stub.until("arrived", |state| state.calls.len() == 2).await;
    // From here on time jumps to the next moment that anybody waits for.
    tokio::time::pause();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::OutcomeUnknown, "it may have been carried out: {error}");
    assert!(begun.elapsed() >= Duration::from_secs(29), "{:?}", begun.elapsed());
    tokio::time::resume();
    stub.until("ended", |state| state.abandoned == 1).await;
}

#[tokio::test]
async fn an_adapter_that_is_not_there_is_named() {
    let stub = Stub::start();
    let nobody = stub.socket.with_file_name("nobody.sock");
    let error = read(&Sites::at_socket(nobody.clone()).site(credentials())).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    assert!(!error.message.contains("canary"), "{error}");
}

#[tokio::test]
async fn ends_of_tasks_are_heard_also_after_the_stream_broke() {
    let stub = Stub::start();
    let sites = stub.sites();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    sites.on_task_end(move |task| hears.lock().push(task.to_owned()));
    read(&sites.site(credentials())).await.unwrap();
    for name in ["task-1", "task-2"] {
        stub.until("watched", |state| !state.watchers.is_empty()).await;
        let watcher = stub.state.lock().watchers.remove(0);
        watcher.send(Ok(v1::Task { id: name.into(), ..v1::Task::default() })).await.unwrap();
        // The stream ends here; the client opens another.
        drop(watcher);
    }
    stub.until("heard", |_| heard.lock().len() == 2).await;
    assert_eq!(*heard.lock(), ["task-1", "task-2"]);
}

#[tokio::test]
async fn a_call_belongs_to_the_trace_of_who_makes_it() {
    let stub = Stub::start();
    let site = stub.sites().site(credentials());
    read(&site).await.unwrap();
    let traces = SdkTracerProvider::builder().build();
    let subscriber =
        tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(traces.tracer("test")));
    let expected = async {
        let own = manager::telemetry::trace_context();
        read(&site).await.unwrap();
        own
    };
    let expected = async { expected.instrument(tracing::info_span!("effect")).await }.with_subscriber(subscriber).await;
    let state = stub.state.lock();
    let told: Vec<_> = state.calls.iter().map(|(_, metadata)| metadata.get("traceparent").cloned()).collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].is_none(), "nothing is traced there");
    assert_eq!(told[1].as_ref().unwrap().to_str().unwrap(), expected["traceparent"]);
}
