//! What a harness relies on beyond what every API server does: faults, bounded memory, steps, determinism.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::Counting;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams as KubeDelete, ListParams as KubeList, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use kube_model::{
    After, ApiError, Before, Call, DeleteParams, Delivery, Faults, FieldError, ListParams, Options, Patch, Registry,
    Resource, Schema, Server, Target, WatchStream, WriteParams, transport::HttpServer,
};
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a request is held back.
const DELAY: Duration = Duration::from_millis(50);

fn server(options: Options) -> Server {
    Server::new(Arc::new(Counting::default()), options)
}

fn maps(name: &str) -> Target {
    Target {
        version: "v1".into(),
        plural: "configmaps".into(),
        namespace: "default".into(),
        name: name.into(),
        ..Target::default()
    }
}

fn put(server: &Server, name: &str, value: &str) -> Arc<Value> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": value}});
    let params = WriteParams { manager: "test".into(), force: Some(true), ..WriteParams::default() };
    server.patch(&maps(name), &Patch::Apply(object), &params).unwrap().0
}

fn watch(server: &Server, version: u64) -> Result<WatchStream, ApiError> {
    let call = Call { verb: "watch", target: maps(""), manager: String::new() };
    server.watch(call, &ListParams { resource_version: version.to_string(), ..ListParams::default() })
}

/// What waits in a watch: type and value of each event; and whether the watch has ended.
fn drain(stream: &mut WatchStream) -> (Vec<String>, bool) {
    let mut events = Vec::new();
    loop {
        match stream.next().now_or_never() {
            Some(Some(line)) => {
                let event: Value = serde_json::from_slice(&line).unwrap();
                let value = event["object"]["data"]["x"].as_str().unwrap_or_default().to_owned();
                events.push(format!("{} {value}", event["type"].as_str().unwrap()));
            }
            Some(None) => return (events, true),
            None => return (events, false),
        }
    }
}

#[test]
fn what_is_forgotten_is_gone() {
    let server = server(Options { history: 2, ..Options::default() });
    let first = server.version();
    (0..4).for_each(|value| drop(put(&server, "a", &value.to_string())));
    let expired = watch(&server, first).err().unwrap();
    assert_eq!((expired.code(), expired.reason()), (410, "Expired"));
    let list = server.list(&maps(""), &ListParams { limit: 1, ..ListParams::default() }).unwrap();
    put(&server, "b", "1");
    let page = server.list(&maps(""), &ListParams { limit: 1, ..ListParams::default() }).unwrap();
    assert_eq!((list.items.len(), page.remaining), (1, Some(1)));
    put(&server, "c", "1");
    server.compact();
    let next = ListParams { limit: 1, continue_token: page.continue_token, ..ListParams::default() };
    let expired = server.list(&maps(""), &next).unwrap_err();
    assert_eq!((expired.code(), expired.reason()), (410, "Expired"));
    // The answer has a token that goes on at the present state.
    let token = expired.0.metadata.continue_.clone().unwrap();
    let rest = server.list(&maps(""), &ListParams { continue_token: token, ..ListParams::default() }).unwrap();
    let names: Vec<_> = rest.items.iter().map(|item| item["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn who_reads_too_slowly_is_dropped() {
    let server = server(Options { watch_queue: 2, ..Options::default() });
    let mut slow = watch(&server, server.version()).unwrap();
    (0..4).for_each(|value| drop(put(&server, "a", &value.to_string())));
    assert_eq!(drain(&mut slow), (vec!["ADDED 0".into(), "MODIFIED 1".into()], true));
}

#[test]
fn bookmarks_come_when_told_and_watches_end_with_a_restart() {
    let server = server(Options::default());
    let call = Call { verb: "watch", target: maps(""), manager: String::new() };
    let params = ListParams { allow_bookmarks: true, ..ListParams::default() };
    let mut stream = server.watch(call, &params).unwrap();
    server.send_bookmarks();
    assert_eq!(drain(&mut stream), (vec!["BOOKMARK ".into()], false));
    server.close_watches();
    assert_eq!(drain(&mut stream), (Vec::new(), true));
}

/// Faults that happen in turn.
#[derive(Default)]
struct Script {
    before: Mutex<Vec<Before>>,
    after: Mutex<Vec<After>>,
    deliver: Mutex<Vec<Delivery>>,
    calls: Mutex<Vec<String>>,
}

fn turn<T>(script: &Mutex<Vec<T>>) -> Option<T> {
    let mut script = script.lock().unwrap();
    if script.is_empty() { None } else { Some(script.remove(0)) }
}

impl Faults for Script {
    fn before(&self, call: &Call) -> BoxFuture<'static, Before> {
        self.calls.lock().unwrap().push(format!("{} {}", call.verb, call.target.plural));
        std::future::ready(turn(&self.before).unwrap_or(Before::Serve)).boxed()
    }

    fn after(&self, _: &Call, _: Option<&ApiError>) -> BoxFuture<'static, After> {
        std::future::ready(turn(&self.after).unwrap_or(After::Answer)).boxed()
    }

    fn deliver(&self, _: &Call) -> Delivery {
        turn(&self.deliver).unwrap_or(Delivery::Once)
    }
}

#[test]
fn events_are_lost_doubled_and_swapped() {
    let script = Script::default();
    *script.deliver.lock().unwrap() =
        vec![Delivery::Lost, Delivery::Twice, Delivery::Late, Delivery::Once, Delivery::Cut];
    let server = server(Options::default()).with_faults(Arc::new(script));
    let mut stream = watch(&server, server.version()).unwrap();
    (0..5).for_each(|value| drop(put(&server, "a", &value.to_string())));
    let told = ["MODIFIED 1", "MODIFIED 1", "MODIFIED 3", "MODIFIED 2"].map(str::to_owned).to_vec();
    assert_eq!(drain(&mut stream), (told, true));
}

fn client(server: Server) -> Api<ConfigMap> {
    Api::namespaced(Client::new(HttpServer::new(Arc::new(server), "v1.36.3"), "default"), "default")
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test]
async fn requests_and_answers_are_lost_refused_and_delayed() {
    let script = Arc::new(Script::default());
    *script.before.lock().unwrap() = vec![
        Before::Lose,
        Before::Refuse(ApiError::too_many_requests("not now", 3)),
        Before::Delay(DELAY),
        Before::Serve,
    ];
    *script.after.lock().unwrap() = vec![After::Answer, After::Lose, After::Replace(ApiError::unavailable("down"))];
    let api = client(server(Options::default()).with_faults(Arc::clone(&script) as Arc<dyn Faults>));
    let create = async |name: &str| api.create(&PostParams::default(), &config_map(name)).await;
    let exists = async |name: &str| api.get_opt(name).await.unwrap().is_some();
    // Lost before anything was done, then refused.
    assert!(matches!(create("a").await, Err(kube::Error::Service(_))));
    let Err(kube::Error::Api(refused)) = create("a").await else { panic!("it was to be refused") };
    assert_eq!((refused.code, refused.details.as_ref().map(|details| details.retry_after_seconds)), (429, Some(3)));
    // Late.
    let start = std::time::Instant::now();
    create("a").await.unwrap();
    assert!(start.elapsed() >= DELAY);
    // Done, but nobody was told, or something else was.
    assert!(create("b").await.is_err());
    let Err(kube::Error::Api(replaced)) = create("c").await else { panic!("another answer was to come") };
    assert_eq!(replaced.code, 503);
    assert!(exists("b").await && exists("c").await);
    assert_eq!(script.calls.lock().unwrap().first().unwrap(), "create configmaps");
}

#[tokio::test]
async fn a_watcher_of_kube_follows_through_an_expiry() {
    let server = Arc::new(server(Options::default()));
    let client = Client::new(HttpServer::new(Arc::clone(&server), "v1.36.3"), "default");
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    put(&server, "a", "1");
    let mut objects = watcher(api.clone(), watcher::Config::default().streaming_lists()).touched_objects().boxed();
    let next = async |objects: &mut futures::stream::BoxStream<'_, _>| {
        tokio::time::timeout(Duration::from_secs(10), objects.next()).await.unwrap()
    };
    let first: Result<ConfigMap, watcher::Error> = next(&mut objects).await.unwrap();
    assert_eq!(first.unwrap().metadata.name.as_deref(), Some("a"));
    // The watch breaks, and what it would go on from is forgotten: it lists again.
    put(&server, "b", "1");
    server.compact();
    server.close_watches();
    put(&server, "c", "1");
    let mut seen = Vec::new();
    while !seen.contains(&"c".to_owned()) {
        if let Ok(object) = next(&mut objects).await.unwrap() {
            seen.push(object.metadata.name.unwrap());
        }
    }
    assert!(seen.contains(&"b".to_owned()), "{seen:?}");
    let pages = api.list(&KubeList::default().limit(2)).await.unwrap();
    assert_eq!((pages.items.len(), pages.metadata.remaining_item_count), (2, Some(1)));
    api.delete("a", &KubeDelete::default()).await.unwrap().right().unwrap();
}

#[test]
fn garbage_is_collected_step_by_step() {
    let server = server(Options { collects_at_once: false, ..Options::default() });
    let owner = put(&server, "owner", "1");
    let child = json!({"metadata": {"name": "child", "ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"],
    }]}});
    server.create(&maps(""), child, &WriteParams::default()).unwrap();
    while server.collect_one() {}
    server.delete(&maps("owner"), &DeleteParams::default()).unwrap();
    assert!(server.get(&maps("child"), false).is_ok());
    assert!(server.collect_one());
    assert_eq!(server.get(&maps("child"), false).unwrap_err().code(), 404);
    assert!(!server.collect_one());
}

/// A definition of two versions, of which the older calls its size otherwise.
fn boxes() -> Value {
    let version = |name: &str, field: &str, is_stored: bool| {
        json!({"name": name, "served": true, "storage": is_stored, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {
                (field): {"type": "integer"}, "note": {"type": "string"},
            }}},
        }}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.model.test"},
        "spec": {"group": "model.test", "scope": "Cluster", "names": {"plural": "boxes", "kind": "Box"},
            "versions": [version("v2", "size", true), version("v1", "width", false)]},
    })
}

#[test]
fn ownership_is_kept_through_conversion() {
    let server = server(Options::default());
    let renamed = |object: &Value, version: &str| {
        let mut object = object.clone();
        let (from, to) = if version == "v1" { ("size", "width") } else { ("width", "size") };
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
            && let Some(value) = spec.remove(from)
        {
            spec.insert(to.into(), value);
        }
        Ok(object)
    };
    assert!(server.install_definition(&boxes(), Arc::new(renamed)));
    let target = |version: &str| Target {
        group: "model.test".into(),
        version: version.into(),
        plural: "boxes".into(),
        name: "b".into(),
        ..Target::default()
    };
    let apply = |version: &str, manager: &str, spec: Value| {
        let object = json!({
            "apiVersion": format!("model.test/{version}"), "kind": "Box", "metadata": {"name": "b"}, "spec": spec,
        });
        let params = WriteParams { manager: manager.into(), ..WriteParams::default() };
        server.patch(&target(version), &Patch::Apply(object), &params)
    };
    apply("v1", "old", json!({"width": 1})).unwrap();
    let conflict = apply("v2", "new", json!({"size": 2})).unwrap_err();
    assert_eq!(conflict.message(), "Apply failed with 1 conflict: conflict with \"old\": .spec.width");
    apply("v2", "new", json!({"note": "n"})).unwrap();
    // Given up in another version than that of the last apply.
    let (object, _) = apply("v2", "old", json!({"note": "n"})).unwrap();
    assert_eq!(object["spec"], json!({"note": "n"}));
    assert_eq!(server.get(&target("v1"), false).unwrap()["apiVersion"], "model.test/v1");
}

#[test]
fn an_installed_kind_has_its_own_rules() {
    let server = server(Options::default());
    let schema = Schema::record([("items", Schema::keyed(["id"], Schema::Plain)), ("words", Schema::Set)]);
    let mut resource = Resource::new("own.test", "v1", "Thing", "things", false, schema);
    resource.default = Some(Arc::new(|thing, _| {
        thing["spec"]["filled"] = json!(true);
        Ok(())
    }));
    resource.prepare = Some(Arc::new(|thing, old| thing["spec"]["writes"] = json!(if old.is_some() { 2 } else { 1 })));
    resource.validate = Some(Arc::new(|thing, _| {
        let is_bad = thing["spec"]["bad"] == true;
        is_bad.then(|| FieldError::forbidden("spec.bad", "it is bad")).into_iter().collect()
    }));
    server.install(resource);
    let target = |name: &str| Target {
        group: "own.test".into(),
        version: "v1".into(),
        plural: "things".into(),
        name: name.into(),
        ..Target::default()
    };
    let thing = |spec: Value| json!({"metadata": {"name": "t"}, "spec": spec});
    let made = server.create(&target(""), thing(json!({})), &WriteParams::default()).unwrap();
    assert_eq!(made["spec"], json!({"filled": true, "writes": 1}));
    let (changed, is_new) = server.update(&target("t"), thing(json!({"x": 1})), &WriteParams::default()).unwrap();
    assert_eq!((&changed["spec"], is_new), (&json!({"x": 1, "filled": true, "writes": 2}), false));
    let refused = server.update(&target("t"), thing(json!({"bad": true})), &WriteParams::default()).unwrap_err();
    assert_eq!(refused.message(), "Thing.own.test \"t\" is invalid: spec.bad: Forbidden: it is bad");
}

#[tokio::test]
async fn it_is_served_over_a_network() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = TowerToHyperService::new(HttpServer::new(Arc::new(server(Options::default())), "v1.36.3"));
    let serving = tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await
    });
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET /api/v1/namespaces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("NamespaceList"), "{answer}");
    serving.await.unwrap().unwrap();
}

fn names(registry: &Registry) -> Vec<String> {
    registry.iter().map(|(_, resource)| resource.plural.clone()).collect()
}

#[test]
fn the_same_requests_make_the_same_server() {
    let run = || {
        let server = server(Options::default());
        let mut stream = watch(&server, server.version()).unwrap();
        (0..5).for_each(|value| drop(put(&server, &format!("m{}", value % 2), &value.to_string())));
        let list = server.list(&maps(""), &ListParams::default()).unwrap().to_json();
        (drain(&mut stream), list, server.version(), names(&server.registry()))
    };
    assert_eq!(run(), run());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Compact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u8..4, 0_u8..3).prop_map(|(name, value)| Step::Put(name, value)),
        3 => (0_u8..4).prop_map(Step::Delete),
        1 => Just(Step::Compact),
    ];
    prop::collection::vec(step, 0..40)
}

fn run(server: &Server, step: &Step) {
    match step {
        Step::Put(name, value) => drop(put(server, &format!("m{name}"), &value.to_string())),
        Step::Delete(name) => {
            drop(server.delete(&maps(&format!("m{name}")), &DeleteParams::default()));
        }
        Step::Compact => server.compact(),
    }
}

fn shown(server: &Server) -> BTreeMap<String, Value> {
    let list = server.list(&maps(""), &ListParams::default()).unwrap();
    let read = |item: &kube_model::Stored| serde_json::from_slice(&item.text()).unwrap();
    list.items.iter().map(|item| (item["metadata"]["name"].to_string(), read(item))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// A list and the events after it are the same as a later list, wherever the watch began.
    #[test]
    fn a_watch_replays_the_difference_of_two_lists(early in steps(), late in steps(), begins_late in any::<bool>()) {
        let server = server(Options::default());
        for step in &early {
            run(&server, step);
        }
        let mut state = shown(&server);
        let version = server.version();
        let late: Vec<_> = late.into_iter().filter(|step| !begins_late || !matches!(step, Step::Compact)).collect();
        let mut stream = (!begins_late).then(|| watch(&server, version).unwrap());
        for step in &late {
            run(&server, step);
        }
        let stream = stream.get_or_insert_with(|| watch(&server, version).unwrap());
        let mut last = version;
        while let Some(Some(line)) = stream.next().now_or_never() {
            let event: Value = serde_json::from_slice(&line).unwrap();
            let object = event["object"].clone();
            let at: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            prop_assert!(at > last, "versions grow");
            last = at;
            let name = object["metadata"]["name"].to_string();
            match event["type"].as_str().unwrap() {
                "ADDED" => prop_assert!(state.insert(name, object).is_none()),
                "MODIFIED" => prop_assert!(state.insert(name, object).is_some()),
                _ => prop_assert!(state.remove(&name).is_some()),
            }
        }
        let mut now = shown(&server);
        // Lists of built-in kinds leave kind and version out only when they are written down.
        now.retain(|_, object| object["kind"] == "ConfigMap");
        prop_assert_eq!(state, now);
    }
}

// === snapshots ===

#[test]
fn a_snapshot_is_served_as_it_was() {
    let server = server(Options::default());
    let definitions = Target {
        group: "apiextensions.k8s.io".into(),
        version: "v1".into(),
        plural: "customresourcedefinitions".into(),
        ..Target::default()
    };
    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    server.create(&definitions, definition, &WriteParams::default()).unwrap();
    let widgets = |name: &str| Target { group: "example.com".into(), plural: "widgets".into(), ..maps(name) };
    let owner = put(&server, "owner", "1");
    let owned = json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "owned", "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"],
        }]},
    });
    server.create(&widgets(""), owned, &WriteParams::default()).unwrap();
    put(&server, "owner", "2");

    let text = serde_json::to_string(&server.snapshot()).unwrap();
    let sources = Arc::new(Counting::default());
    let restored = Server::restored(sources, Options::default(), serde_json::from_str(&text).unwrap());
    assert_eq!(restored.snapshot(), server.snapshot());
    assert_eq!(restored.version(), server.version());
    assert!(watch(&restored, 1).is_err(), "what was before is history");
    // The collector knows who owns what, and versions go on.
    restored.delete(&maps("owner"), &DeleteParams::default()).unwrap();
    assert_eq!(restored.get(&widgets("owned"), false).unwrap_err().code(), 404);
    assert!(restored.version() > server.version());
}

// === evictions ===

fn pods(name: &str, subresource: &str) -> Target {
    Target { plural: "pods".into(), subresource: subresource.into(), ..maps(name) }
}

#[test]
fn evictions_take_from_their_budget() {
    let server = server(Options::default());
    let params = WriteParams::default();
    for name in ["a", "b"] {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "x"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
        });
        server.create(&pods("", ""), pod, &params).unwrap();
        let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        server.patch(&pods(name, "status"), &Patch::Merge(ready), &params).unwrap();
    }
    let budgets = |name: &str, subresource: &str| Target {
        group: "policy".into(),
        plural: "poddisruptionbudgets".into(),
        ..pods(name, subresource)
    };
    let budget = |name: &str| json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "x"}}}});
    server.create(&budgets("", ""), budget("one"), &params).unwrap();
    let evict = |name: &str, is_dry_run: bool| {
        let params = DeleteParams { is_dry_run, ..DeleteParams::default() };
        server.evict(&pods(name, "eviction"), &params)
    };
    let cause =
        |error: &ApiError| error.0.details.as_ref().unwrap().causes.as_ref().unwrap()[0].message.clone().unwrap();
    let early = evict("a", false).unwrap_err();
    assert_eq!(early.code(), 429);
    assert_eq!(cause(&early), "The disruption budget one is still being processed by the server.");

    let allow = |number: u64| {
        let status = json!({"status": {
            "observedGeneration": 1, "disruptionsAllowed": number, "currentHealthy": 2, "desiredHealthy": 1,
        }});
        server.patch(&budgets("one", "status"), &Patch::Merge(status), &params).unwrap();
    };
    allow(1);
    evict("a", true).unwrap();
    evict("a", false).unwrap();
    let evicted = server.get(&pods("a", ""), false).unwrap();
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    assert!(evicted["status"]["conditions"].to_string().contains("EvictionByEvictionAPI"));
    let status = server.get(&budgets("one", ""), false).unwrap()["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["a"].is_string());
    let refused = evict("b", false).unwrap_err();
    assert_eq!(cause(&refused), "The disruption budget one needs 1 healthy pods and has 2 currently");
    evict("a", false).unwrap();

    allow(1);
    server.create(&budgets("", ""), budget("two"), &params).unwrap();
    let twice = evict("b", false).unwrap_err();
    assert!(twice.code() == 500 && twice.message().contains("more than one PodDisruptionBudget"), "{twice:?}");
}
