//! Leader election against an API server that is slow, contended or away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod stub;

use std::{sync::Arc, time::Duration};

use manager::{
    clock::SystemClock,
    leader::{Elector, LeaderConfig},
    random::SystemRandom,
};
use serde_json::{Value, json};
use stub::{Asked, Stub, stub};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(15);
const DEADLINE: Duration = Duration::from_secs(10);

fn config() -> LeaderConfig {
    LeaderConfig {
        namespace: "ns".to_owned(),
        name: "lease".to_owned(),
        identity: "me".to_owned(),
        lease_duration: LEASE,
        renew_deadline: DEADLINE,
        retry_period: Duration::from_secs(2),
    }
}

fn lease(holder: &str, renewed: u32, version: u64) -> Value {
    json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": "lease", "namespace": "ns", "resourceVersion": version.to_string()},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "renewTime": format!("2020-01-01T00:00:{renewed:02}.000000Z")}})
}

fn contend() -> (JoinHandle<bool>, Stub, CancellationToken) {
    let (client, stub) = stub();
    let stop = CancellationToken::new();
    let mut elector = Elector::new(client, config(), Arc::new(SystemClock), Arc::new(SystemRandom));
    let until = stop.clone();
    (tokio::spawn(async move { elector.acquire(&until).await && elector.hold(&until).await }), stub, stop)
}

/// Answers a read and the write after it as a server does that agrees; returns the write.
async fn agree(stub: &mut Stub, held: &Value) -> Value {
    stub.next().await.json(held);
    let write = stub.next().await;
    let written = write.body.clone();
    assert_eq!(write.method, "PUT");
    assert_eq!(
        written["metadata"]["resourceVersion"], held["metadata"]["resourceVersion"],
        "others' writes are not lost"
    );
    write.json(&written);
    written
}

async fn read(stub: &mut Stub) -> Asked {
    let asked = stub.next().await;
    assert_eq!(asked.method, "GET");
    asked
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_its_holder_renews_is_left_and_one_that_it_does_not_is_taken() {
    let (_leader, mut stub, _stop) = contend();
    let began = Instant::now();
    // Its times lie years back: they are never compared with our clock.
    while began.elapsed() < Duration::from_secs(30) {
        let renewed = u32::try_from(began.elapsed().as_secs() / 4).unwrap();
        read(&mut stub).await.json(&lease("other", renewed, 5));
    }
    let silent = Instant::now();
    let taken = loop {
        let asked = stub.next().await;
        if asked.method == "PUT" {
            break asked;
        }
        asked.json(&lease("other", 59, 9));
    };
    assert!(silent.elapsed() >= LEASE, "taken after {:?}", silent.elapsed());
    assert_eq!(taken.body["spec"]["holderIdentity"], "me");
    assert_eq!(taken.body["spec"]["leaseTransitions"], 4);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_up_is_taken_at_once_and_given_up_at_the_end() {
    let (leader, mut stub, stop) = contend();
    agree(&mut stub, &lease("", 1, 5)).await;
    agree(&mut stub, &lease("me", 2, 6)).await;
    stop.cancel();
    let given_up = agree(&mut stub, &lease("me", 3, 7)).await;
    assert_eq!(given_up["spec"]["holderIdentity"], "");
    assert!(leader.await.unwrap(), "it ended in peace");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_holds_is_lost() {
    let (leader, mut stub, _stop) = contend();
    agree(&mut stub, &lease("", 1, 5)).await;
    read(&mut stub).await.json(&lease("other", 2, 9));
    assert!(!leader.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_met_anothers_is_repeated_before_anything_is_lost() {
    let (leader, mut stub, stop) = contend();
    agree(&mut stub, &lease("", 1, 5)).await;
    read(&mut stub).await.json(&lease("me", 2, 6));
    stub.next().await.fail(409, "Conflict", 0);
    agree(&mut stub, &lease("me", 2, 7)).await;
    stop.cancel();
    agree(&mut stub, &lease("me", 3, 8)).await;
    assert!(leader.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_hanging_call_does_not_cost_the_lease() {
    let (leader, mut stub, stop) = contend();
    agree(&mut stub, &lease("", 1, 5)).await;
    let _hanging = stub.next().await;
    agree(&mut stub, &lease("me", 2, 6)).await;
    agree(&mut stub, &lease("me", 3, 7)).await;
    stop.cancel();
    agree(&mut stub, &lease("me", 4, 8)).await;
    assert!(leader.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_costs_the_lease_before_it_runs_out() {
    let (leader, mut stub, _stop) = contend();
    agree(&mut stub, &lease("", 1, 5)).await;
    let began = Instant::now();
    let mut hanging = Vec::new();
    tokio::pin!(leader);
    let kept = loop {
        tokio::select! {
            biased; // The loser of a lease drops its client too: its verdict comes before the end of its requests.
            kept = &mut leader => break kept.unwrap(),
            asked = stub.next() => hanging.push(asked),
        }
    };
    assert!(!kept && began.elapsed() >= Duration::from_secs(9) && began.elapsed() <= DEADLINE, "{:?}", began.elapsed());
    assert!(hanging.len() >= 2, "more than one try was made");
}

#[test]
fn times_that_let_two_lead_are_refused_by_the_flags_names() {
    assert!(config().check().is_ok());
    let error = LeaderConfig { renew_deadline: LEASE, ..config() }.check().unwrap_err();
    assert!(error.contains("--leader-elect-lease-duration") && error.contains("--leader-elect-renew-deadline"));
    assert!(LeaderConfig { retry_period: DEADLINE, ..config() }.check().is_err());
}
