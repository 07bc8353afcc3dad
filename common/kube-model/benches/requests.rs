//! What requests to the model cost: `cargo bench -p kube-model`. As tests run it, without `--bench`, it does each once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement fails as tests do")]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, executor::block_on};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use kube_model::{Call, ListParams, Options, Server, Sources, Target, WatchStream, transport::HttpServer};
use serde_json::{Value, json};

/// Objects in the collection that requests are about.
const OBJECTS: usize = 100;
/// Watches of that collection.
const WATCHES: usize = 100;
/// Rounds of a measurement, of which the middle one counts.
const ROUNDS: usize = 9;
/// Least time of a round.
const ROUND: Duration = Duration::from_millis(150);

#[derive(Default)]
struct Counting(AtomicU64);

impl Sources for Counting {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn name_suffix(&self) -> String {
        "bcdfg".to_owned()
    }
}

/// A kind with as much of a schema as kinds of Cluster API have.
fn definition() -> Value {
    let text = json!({"type": "string", "maxLength": 253});
    let condition = json!({"type": "object", "required": ["type", "status"], "properties": {
        "type": text, "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "reason": text, "message": {"type": "string"}, "lastTransitionTime": {"type": "string"},
    }});
    let machine = json!({"type": "object", "properties": {
        "name": text, "image": text, "cpus": {"type": "integer", "minimum": 1}, "memory": {"type": "integer"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "files": {"type": "array", "items": {"type": "object", "properties": {"path": text, "content": text}}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "machines.bench.test"},
        "spec": {
            "group": "bench.test", "scope": "Namespaced", "names": {"kind": "Machine", "plural": "machines"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "replicas": {"type": "integer", "minimum": 0, "default": 1}, "version": text,
                        "machine": machine, "paused": {"type": "boolean"},
                    }},
                    "status": {"type": "object", "properties": {
                        "phase": text, "ready": {"type": "boolean"},
                        "conditions": {
                            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                            "items": condition,
                        },
                    }},
                }}},
            }],
        },
    })
}

fn machine(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "bench.test/v1", "kind": "Machine",
        "metadata": {
            "name": name, "labels": {"cluster.x-k8s.io/cluster-name": "c", "cluster.x-k8s.io/control-plane": ""},
            "annotations": {"bench.test/note": "nothing of importance"},
        },
        "spec": {"version": version, "machine": {
            "name": name, "image": "ubuntu-24.04", "cpus": 4, "memory": 8192, "labels": {"zone": "a"},
            "files": [{"path": "/etc/a", "content": "x"}, {"path": "/etc/b", "content": "y"}],
        }},
    })
}

fn status(message: &str) -> Value {
    let kinds = ["Ready", "Available", "UpToDate", "Paused", "Deleting"];
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "Because", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({"status": {"phase": "Running", "ready": true, "conditions": kinds.map(condition)}})
}

/// A server with objects, and how to speak to it.
struct Bed {
    server: Arc<Server>,
    http: TowerToHyperService<HttpServer>,
}

impl Bed {
    fn new() -> Self {
        let server = Arc::new(Server::new(Arc::new(Counting::default()), Options::default()));
        let bed = Self { http: TowerToHyperService::new(HttpServer::new(Arc::clone(&server), "v1.36.3")), server };
        bed.send(Method::POST, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "", &definition());
        for index in 0..OBJECTS {
            let name = format!("m-{index:03}");
            bed.apply(&name, "v1.34.0");
            bed.status(&name, "");
        }
        bed
    }

    fn send(&self, method: Method, path: &str, content_type: &'static str, body: &Value) -> Bytes {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let content_type = if content_type.is_empty() { "application/json" } else { content_type };
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, content_type);
        let answer = block_on(self.http.call(request.body(Full::new(body)).unwrap())).unwrap();
        let is_success = answer.status().is_success();
        let body = block_on(answer.into_body().collect()).unwrap().to_bytes();
        assert!(is_success, "{path}: {}", String::from_utf8_lossy(&body));
        body
    }

    fn apply(&self, name: &str, version: &str) -> Bytes {
        let path = format!("{}/{name}?fieldManager=bench&force=true", collection());
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", &machine(name, version))
    }

    fn status(&self, name: &str, message: &str) -> Bytes {
        let path = format!("{}/{name}/status?fieldManager=status", collection());
        self.send(Method::PATCH, &path, "application/merge-patch+json", &status(message))
    }

    fn watch(&self) -> WatchStream {
        let target = Target {
            group: "bench.test".into(),
            version: "v1".into(),
            plural: "machines".into(),
            namespace: "default".into(),
            ..Target::default()
        };
        let params = ListParams { resource_version: self.server.version().to_string(), ..ListParams::default() };
        self.server.watch(Call { verb: "watch", target, manager: String::new() }, &params).unwrap()
    }
}

fn collection() -> &'static str {
    "/apis/bench.test/v1/namespaces/default/machines"
}

/// Measures one thing, or does it once.
fn measure(name: &str, is_measured: bool, mut work: impl FnMut(u64)) {
    let mut turn = 0;
    let mut round = |times: u32| {
        let begun = Instant::now();
        for _ in 0..times {
            turn += 1;
            work(turn);
        }
        begun.elapsed()
    };
    if !is_measured {
        round(1);
        return;
    }
    let mut times = 1;
    while round(times) < ROUND {
        times *= 2;
    }
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| round(times) / times).collect();
    rounds.sort();
    println!("{name:<52} {:>10.1} µs", rounds[ROUNDS / 2].as_secs_f64() * 1e6);
}

fn main() {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let bed = Bed::new();
    let one = format!("{}/m-000", collection());
    measure("get", is_measured, |_| drop(black_box(bed.send(Method::GET, &one, "", &Value::Null))));
    measure("list of 100", is_measured, |_| drop(black_box(bed.send(Method::GET, collection(), "", &Value::Null))));
    measure("apply that changes nothing", is_measured, |_| drop(black_box(bed.apply("m-001", "v1.34.0"))));
    measure("apply that changes a field", is_measured, |turn| drop(black_box(bed.apply("m-002", &turn.to_string()))));
    measure("merge patch of a status", is_measured, |turn| drop(black_box(bed.status("m-003", &turn.to_string()))));
    let mut watches: Vec<_> = (0..WATCHES).map(|_| bed.watch()).collect();
    measure("merge patch of a status that 100 watches see", is_measured, |turn| {
        bed.status("m-004", &format!("seen {turn}"));
        for watch in &mut watches {
            black_box(watch.next().now_or_never().flatten().expect("an event for each change"));
        }
    });
}
