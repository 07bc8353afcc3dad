//! Caches against an API server that behaves badly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod stub;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use manager::{Informer, ObjectKey, random::SystemRandom};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stub::{Stub, object, stub};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

struct Cache {
    informer: Informer<ConfigMap>,
    /// What subscribers heard: name, old and new version, whether it was of the first list.
    heard: Arc<Mutex<Vec<(String, String, bool)>>>,
    stop: CancellationToken,
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cache {
    fn start() -> (Self, Stub) {
        let (client, stub) = stub();
        let (informer, stop) = (Informer::<ConfigMap>::default(), CancellationToken::new());
        let heard: Arc<Mutex<Vec<_>>> = Arc::default();
        let (hearing, seen) = (Arc::clone(&heard), informer.clone());
        informer.subscribe(move |change| {
            let version = |object: &Option<Arc<ConfigMap>>| {
                object.as_ref().and_then(|object| object.resource_version()).unwrap_or_else(|| "-".to_owned())
            };
            let cached = seen.get(&change.key);
            assert_eq!(version(&cached), version(&change.new), "the store is changed before anybody hears of it");
            let what = format!("{}>{}", version(&change.old), version(&change.new));
            hearing.lock().push((change.key.name.clone(), what, change.initial));
        });
        tokio::spawn(informer.clone().run(client, None, None, Arc::new(SystemRandom), stop.clone()));
        (Self { informer, heard, stop }, stub)
    }

    /// What was heard since the last time, in short.
    async fn heard(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.heard.lock().drain(..).map(|(name, what, _)| format!("{name} {what}")).collect()
    }

    fn names(&self) -> Vec<String> {
        self.informer.all().iter().map(|object| object.name_any()).collect()
    }
}

fn page(objects: &[Value], version: u64, more: &str) -> Value {
    json!({"kind": "ConfigMapList", "apiVersion": "v1", "items": objects,
        "metadata": {"resourceVersion": version.to_string(), "continue": more}})
}

#[tokio::test(start_paused = true)]
async fn a_list_is_followed_by_its_changes() {
    let (cache, mut stub) = Cache::start();
    assert!(!cache.informer.is_ready());
    let watch = stub.next().await.list(&[object("a", 1), object("b", 2)], 5);
    cache.informer.ready().await;
    assert_eq!(cache.heard().await, ["a ->1", "b ->2"]);
    watch.event("MODIFIED", &object("a", 6));
    watch.event("DELETED", &object("b", 7));
    watch.event("ADDED", &object("c", 8));
    watch.event("MODIFIED", &object("a", 6));
    assert_eq!(cache.heard().await, ["a 1>6", "b 2>-", "c ->8"], "what did not change is not told");
    assert_eq!(cache.names(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn only_the_first_list_is_told_as_such() {
    let (cache, mut stub) = Cache::start();
    let watch = stub.next().await.list(&[object("a", 1)], 1);
    cache.informer.ready().await;
    watch.event("ADDED", &object("b", 2));
    watch.gone();
    let _watch = stub.next().await.list(&[object("a", 1), object("b", 2), object("c", 3)], 3);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let initial: Vec<_> = cache.heard.lock().iter().map(|(name, _, initial)| (name.clone(), *initial)).collect();
    assert_eq!(initial, [("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), false)]);
}

#[tokio::test(start_paused = true)]
async fn a_list_anew_tells_what_changed_and_what_vanished() {
    let (cache, mut stub) = Cache::start();
    let watch = stub.next().await.list(&[object("changed", 1), object("gone", 2), object("same", 3)], 3);
    cache.informer.ready().await;
    cache.heard().await;
    watch.gone();
    let watch = stub.next().await.watch();
    watch.event("ADDED", &object("changed", 9));
    assert_eq!(cache.heard().await, Vec::<String>::new(), "half a list is none");
    assert_eq!(cache.names(), ["changed", "gone", "same"]);
    watch.event("ADDED", &object("same", 3));
    watch.event("ADDED", &object("new", 8));
    watch.event(
        "BOOKMARK",
        &json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata":
        {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}}),
    );
    assert_eq!(cache.heard().await, ["gone 2>-", "changed 1>9", "new ->8"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_when_the_watch_starts_is_not_asked_for_again() {
    let (cache, mut stub) = Cache::start();
    drop(stub.next().await.list(&[object("a", 1)], 1));
    cache.informer.ready().await;
    let resumed = stub.next().await;
    assert!(resumed.query.contains("resourceVersion=1") && !resumed.is_streamed_list(), "{}", resumed.query);
    resumed.fail(410, "Expired", 0);
    let listed = stub.next().await;
    assert!(listed.is_streamed_list(), "{}", listed.query);
    let _watch = listed.list(&[object("a", 4)], 4);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(cache.informer.get(&ObjectKey::new("ns", "a")).unwrap().resource_version().unwrap(), "4");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_stream_lists_is_asked_for_pages() {
    for refusal in [400, 422] {
        let (cache, mut stub) = Cache::start();
        stub.next().await.fail(refusal, "Invalid", 0);
        let first = stub.next().await;
        assert!(first.query.contains("limit=50") && !first.query.contains("watch=true"), "{}", first.query);
        first.json(&page(&[object("a", 1)], 7, "more"));
        let second = stub.next().await;
        assert!(second.query.contains("continue=more"), "{}", second.query);
        assert!(!cache.informer.is_ready());
        second.json(&page(&[object("b", 2)], 7, ""));
        let watch = stub.next().await;
        assert!(watch.query.contains("resourceVersion=7"), "{}", watch.query);
        assert_eq!(cache.names(), ["a", "b"]);
        watch.watch().gone();
        assert!(!stub.next().await.is_streamed_list(), "it is not asked to stream again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_list_is_waited_for_and_a_silent_one_given_up() {
    let (cache, mut stub) = Cache::start();
    let watch = stub.next().await.watch();
    for version in 1..=5 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        watch.event("ADDED", &object("a", version));
    }
    assert!(stub.is_quiet_for(Duration::from_secs(59)).await && !cache.informer.is_ready());
    let _watch = stub.next().await.list(&[object("b", 9)], 9);
    cache.informer.ready().await;
    assert_eq!(cache.names(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_watch_goes_on_where_the_last_bookmark_was() {
    let (cache, mut stub) = Cache::start();
    let watch = stub.next().await.list(&[object("a", 1)], 1);
    cache.informer.ready().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    watch.bookmark(40);
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(watch);
    let before = Instant::now();
    let resumed = stub.next().await;
    assert!(resumed.query.contains("resourceVersion=40"), "{}", resumed.query);
    assert!(before.elapsed() < Duration::from_millis(10), "a watch that had lasted is opened again at once");
    assert_eq!(cache.heard().await, ["a ->1"], "nothing is listed anew");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_as_it_begins_is_not_opened_in_a_hurry() {
    let (cache, mut stub) = Cache::start();
    let _ = stub.next().await.list(&[], 1);
    cache.informer.ready().await;
    let began = Instant::now();
    for _ in 0..10 {
        drop(stub.next().await.watch());
    }
    assert!(began.elapsed() > Duration::from_secs(60), "ten tries took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_taken_for_dead() {
    let (cache, mut stub) = Cache::start();
    let _silent = stub.next().await.list(&[object("a", 1)], 3);
    cache.informer.ready().await;
    assert!(stub.is_quiet_for(Duration::from_secs(299)).await);
    assert!(stub.next().await.query.contains("resourceVersion=3"));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_is_left_alone_as_long_as_it_asks() {
    let (_cache, mut stub) = Cache::start();
    stub.next().await.fail(429, "TooManyRequests", 17);
    let began = Instant::now();
    stub.next().await.fail(500, "InternalError", 0);
    assert!(began.elapsed() >= Duration::from_secs(17));
    let began = Instant::now();
    let _watch = stub.next().await.list(&[], 1);
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn an_object_of_a_wrong_shape_hides_no_other_and_keeps_its_last_good_state() {
    let (cache, mut stub) = Cache::start();
    let broken = |name: &str, version: u64| {
        let mut broken = object(name, version);
        broken["data"] = json!("not a map");
        broken
    };
    let watch = stub.next().await.list(&[object("a", 1), broken("b", 2), object("c", 3)], 3);
    cache.informer.ready().await;
    assert_eq!(cache.names(), ["a", "c"]);
    watch.event("MODIFIED", &broken("a", 4));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(cache.informer.get(&ObjectKey::new("ns", "a")).unwrap().resource_version().unwrap(), "1");
    assert_eq!(cache.informer.invalid().len(), 2);
    watch.event("MODIFIED", &object("a", 5));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(cache.informer.get(&ObjectKey::new("ns", "a")).unwrap().resource_version().unwrap(), "5");
    assert_eq!(cache.informer.invalid().len(), 1);
}
