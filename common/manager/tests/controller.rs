//! A whole process over an API server whose answers the test gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod stub;

use std::{collections::HashMap, sync::Arc, time::Duration};

use clap::Parser;
use k8s_openapi::api::core::v1::ConfigMap;
use manager::{
    Category, Identity, Informer, Manager, ObjectKey, Offload, Outcome, Parts, Pod, ReconcileError, Reconciler,
    Running, Writer,
    cli::ManagerArgs,
    client::{self, Clients},
    clock::SystemClock,
    metrics::Metrics,
    random::SystemRandom,
};
use parking_lot::Mutex;
use serde_json::json;
use stub::{Stub, object, stub};
use tokio::time::Instant;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    manager: ManagerArgs,
}

/// What a pass over an object of this name does.
#[derive(Clone, Copy)]
enum Act {
    Settle,
    Take(Duration),
    Fail(Category),
    Panic,
    Write,
}

#[derive(Clone)]
struct Recorder {
    acts: Arc<Mutex<HashMap<&'static str, Act>>>,
    passes: Arc<Mutex<Vec<(String, Instant)>>>,
    ended: Arc<Mutex<Vec<String>>>,
    writer: Writer,
}

impl Reconciler for Recorder {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        self.passes.lock().push((key.name.clone(), Instant::now()));
        let act = self.acts.lock().get(key.name.as_str()).copied().unwrap_or(Act::Settle);
        match act {
            Act::Settle => {}
            Act::Take(time) => tokio::time::sleep(time).await,
            Act::Fail(category) => return Err(ReconcileError::new(category, "as the test wants it")),
            Act::Panic => panic!("as the test wants it"),
            Act::Write => {
                self.writer.merge_anyway::<ConfigMap>(key, &json!({"data": {"by": "us"}})).await?;
            }
        }
        self.ended.lock().push(key.name.clone());
        Ok(Outcome::Settled)
    }
}

struct Process {
    running: Running,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    stub: Stub,
}

async fn process(flags: &[&str], acts: &[(&'static str, Act)]) -> Process {
    let (client, stub) = stub();
    let basic = ["test", "--health-addr=127.0.0.1:0", "--diagnostics-address=127.0.0.1:0", "--insecure-diagnostics"];
    let args = Cli::parse_from(basic.iter().chain(flags)).manager;
    let identity = Identity { name: "test", provider: "test", version: "1", lease: "lease", field_manager: "test" };
    let metrics = Arc::new(Metrics::default());
    let own = client.clone();
    let parts = Parts {
        pod: Pod { name: "test".into(), namespace: "default".into() },
        clients: Clients { call: client.clone(), stream: client },
        own_client: Arc::new(move || Ok(own.clone())),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        dial: client::dial("test"),
        offload: Offload::default(),
        crashes: None,
        metrics: Arc::clone(&metrics),
    };
    let mut manager = Manager::with_parts(args, identity, parts);
    let recorder = Recorder {
        acts: Arc::new(Mutex::new(acts.iter().copied().collect())),
        passes: Arc::default(),
        ended: Arc::default(),
        writer: manager.writer(),
    };
    let objects = manager.informer(Informer::<ConfigMap>::default());
    manager.controller("test", &objects, recorder.clone(), 1);
    let running = manager.start().await.unwrap();
    Process { running, recorder, metrics, stub }
}

impl Process {
    fn passes(&self) -> Vec<String> {
        self.recorder.passes.lock().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Time between the first two passes over an object.
    fn pause(&self, name: &str) -> Duration {
        let passes = self.recorder.passes.lock();
        let at: Vec<_> = passes.iter().filter(|(passed, _)| passed == name).map(|(_, at)| *at).collect();
        at[1] - at[0]
    }
}

async fn after(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_user_just_made_comes_before_what_the_start_found() {
    let mut process = process(&[], &[("a", Act::Take(Duration::from_secs(5)))]).await;
    let watch = process.stub.next().await.list(&[object("a", 1), object("b", 2), object("c", 3)], 3);
    after(1.0).await;
    watch.event("ADDED", &object("new", 4));
    after(10.0).await;
    assert_eq!(process.passes(), ["a", "new", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_worked_on_before_the_first_list_is_complete() {
    let mut process = process(&[], &[]).await;
    let watch = process.stub.next().await.watch();
    watch.event("ADDED", &object("a", 1));
    after(40.0).await;
    assert!(process.passes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_category_of_error_has_its_pause() {
    let minute = Duration::from_secs(60);
    let acts = [
        ("conflict", Act::Fail(Category::Conflict)),
        ("throttled", Act::Fail(Category::Throttled(minute))),
        ("terminal", Act::Fail(Category::Terminal)),
        ("transient", Act::Fail(Category::Transient)),
    ];
    let mut process = process(&["--sync-period=10m"], &acts).await;
    let objects: Vec<_> = acts.iter().zip(1..).map(|((name, _), version)| object(name, version)).collect();
    let watch = process.stub.next().await.list(&objects, 9);
    after(700.0).await;
    assert_eq!(process.pause("conflict").as_millis() / 10, 10);
    assert!(process.pause("transient") < Duration::from_millis(60));
    assert!((minute..minute * 2).contains(&process.pause("throttled")));
    assert!(process.pause("terminal") >= minute * 10);
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_its_own_object_only() {
    let mut process = process(&[], &[("a", Act::Panic)]).await;
    let _watch = process.stub.next().await.list(&[object("a", 1), object("b", 2)], 2);
    after(5.0).await;
    assert_eq!(process.passes(), ["a", "b"]);
    assert!(process.metrics.render().contains(r#"controller_runtime_reconcile_panics_total{controller="test"} 1"#));
    after(70.0).await;
    assert_eq!(process.passes(), ["a", "b", "a"], "it is tried again, slowly");
}

#[tokio::test(start_paused = true)]
async fn a_pass_waits_until_the_cache_shows_what_the_last_one_wrote() {
    let mut process = process(&[], &[("a", Act::Write)]).await;
    let watch = process.stub.next().await.list(&[object("a", 1)], 1);
    let write = process.stub.next().await;
    assert_eq!(write.method, "PATCH");
    write.json(&object("a", 7));
    after(0.1).await;
    watch.event("MODIFIED", &object("a", 5));
    after(20.0).await;
    assert_eq!(process.passes(), ["a"], "version 5 is older than what was written");
    watch.event("MODIFIED", &object("a", 7));
    let write = process.stub.next().await;
    write.json(&object("a", 7));
    assert_eq!(process.passes(), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_met_anothers_is_repeated_quietly() {
    let mut process = process(&[], &[("a", Act::Write)]).await;
    let _watch = process.stub.next().await.list(&[object("a", 1)], 1);
    process.stub.next().await.fail(409, "Conflict", 0);
    process.stub.next().await.fail(429, "TooManyRequests", 30);
    process.stub.next().await.json(&object("a", 2));
    let passes = process.recorder.passes.lock().clone();
    assert!(passes[1].1 - passes[0].1 < Duration::from_millis(200));
    assert!(passes[2].1 - passes[1].1 >= Duration::from_secs(30), "as long as the server asked");
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_instance_is_left_alone() {
    let mut process = process(&["--watch-filter=mine"], &[]).await;
    let mut ours = object("ours", 1);
    ours["metadata"]["labels"] = json!({"cluster.x-k8s.io/watch-filter": "mine"});
    let watch = process.stub.next().await.list(&[ours, object("others", 2)], 2);
    watch.event("MODIFIED", &object("others", 3));
    after(1.0).await;
    assert_eq!(process.passes(), ["ours"]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_under_way_may_end_and_no_new_one_begins() {
    let mut process = process(&[], &[("a", Act::Take(Duration::from_secs(5)))]).await;
    let _watch = process.stub.next().await.list(&[object("a", 1), object("b", 2)], 2);
    after(1.0).await;
    process.running.drain().begin();
    process.running.ended().await.unwrap();
    assert_eq!(*process.recorder.ended.lock(), ["a"]);
    assert_eq!(process.recorder.passes.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_does_not_end_is_abandoned_before_the_pod_is_killed() {
    let mut process = process(&[], &[("a", Act::Take(Duration::from_secs(100)))]).await;
    let _watch = process.stub.next().await.list(&[object("a", 1)], 1);
    after(1.0).await;
    let began = Instant::now();
    process.running.drain().begin();
    process.running.ended().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(process.recorder.ended.lock().is_empty());
}
