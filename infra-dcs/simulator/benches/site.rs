//! What calls to a large site cost: `cargo bench -p dcs-simulator`. As tests run it, without `--bench`, the site is small
//! and each call is made once.
#![allow(clippy::unwrap_used, reason = "a measurement fails as tests do")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
};
use dcs_simulator::{
    clock::Clock,
    engine::Engine,
    guest::none::NoGuests,
    site::{Site, inventory::SiteFile},
    vrm,
};
use futures::executor::block_on;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

/// VMs of a thousand clusters of one control plane machine and one worker, each with a persistent disk.
const VMS: usize = 2_000;
/// VMs for which a host of the default site has memory.
const VMS_A_HOST: usize = 100;
/// Rounds of a measurement, of which the middle one counts.
const ROUNDS: usize = 9;
/// Least time of a round.
const ROUND: Duration = Duration::from_millis(150);
/// The default site's VM template.
const TEMPLATE: &str = "i-000004A1";

/// A site whose tasks end at once, and somebody who is logged in.
struct Bed {
    engine: Arc<Engine>,
    router: Router,
    token: String,
    _dir: tempfile::TempDir,
}

impl Bed {
    fn new(vms: usize) -> Self {
        let mut file = SiteFile::default();
        file.latency.scale = 0.0;
        file.policy.token_validity_ms = u64::MAX / 4;
        for datastore in &mut file.datastores {
            datastore.capacity_gb = 10_000_000;
        }
        let hosts = &mut file.clusters[0].hosts;
        for number in hosts.len()..=vms / VMS_A_HOST {
            let mut host = hosts[0].clone();
            (host.name, host.ip) = (format!("CNA-{number}"), format!("10.20.1.{number}"));
            hosts.push(host);
        }
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Clock::default());
        let site = Site::build(&file, clock.now()).unwrap();
        let guests = Arc::new(NoGuests::new(tokio::sync::mpsc::channel(1).0));
        let engine = Engine::new(site, dir.path(), guests, false, clock).unwrap();
        let router = vrm::router(Arc::clone(&engine), "127.0.0.1:1".to_owned());
        let mut bed = Self { engine, router, token: String::new(), _dir: dir };
        bed.token = bed.login();
        let (datastores, _) = bed.get("/datastores?limit=1&offset=0");
        let datastore = datastores["datastores"][0]["urn"].clone();
        for number in 0..vms {
            let vm = bed.clone(&format!("fleet-{number:04}"));
            let disk = json!({"name": format!("pool-{number:04}"), "quantityGB": 10, "datastoreUrn": datastore});
            let disk = bed.post("/volumes", &disk)["urn"].clone();
            bed.post(&format!("{vm}/action/attachvol"), &json!({"volUrn": disk}));
        }
        bed
    }

    fn send(&self, request: http::request::Builder, body: &Value) -> http::Response<Body> {
        let request = request.header(header::ACCEPT, "application/json;version=8.1;charset=UTF-8");
        let request = request.header("X-Auth-Token", &self.token).header(header::CONTENT_TYPE, "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        block_on(self.router.clone().oneshot(request.body(body).unwrap())).unwrap()
    }

    fn login(&self) -> String {
        let request = Request::builder().method(Method::POST).uri("/service/session");
        let request = request.header("X-Auth-User", "basalt").header("X-Auth-Key", "Basalt@12345");
        let answer = self.send(request.header("X-ENCRYPT-ALGORITHM", "1"), &Value::Null);
        answer.headers()["X-Auth-Token"].to_str().unwrap().to_owned()
    }

    fn call(&self, method: Method, path: &str, body: &Value) -> Bytes {
        let request = Request::builder().method(method).uri(format!("/service/sites/5A1C0D3E{path}"));
        let answer = self.send(request, body);
        let status = answer.status();
        let text = block_on(answer.into_body().collect()).unwrap().to_bytes();
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&text));
        text
    }

    /// An object or a list, and how many objects there are.
    fn get(&self, path: &str) -> (Value, u64) {
        let answer: Value = serde_json::from_slice(&self.call(Method::GET, path, &Value::Null)).unwrap();
        let total = answer["total"].as_u64().unwrap_or(1);
        (answer, total)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        serde_json::from_slice(&self.call(Method::POST, path, body)).unwrap()
    }

    /// Makes a VM; returns its path.
    fn clone(&self, name: &str) -> String {
        let made = self.post(&format!("/vms/{TEMPLATE}/action/clone"), &json!({"name": name, "autoBoot": false}));
        made["uri"].as_str().unwrap().trim_start_matches("/service/sites/5A1C0D3E").to_owned()
    }
}

/// Measures one thing, or does it once.
fn measure(name: &str, is_measured: bool, mut work: impl FnMut()) {
    let mut round = |times: u32| {
        let begun = Instant::now();
        (0..times).for_each(|_| work());
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
    let vms = if is_measured { VMS } else { 3 };
    let bed = Bed::new(vms);
    let (list, total) = bed.get("/vms?limit=100&offset=0&isTemplate=false");
    assert_eq!(total, u64::try_from(vms).unwrap());
    let uuid = list["vms"][0]["uuid"].as_str().unwrap();
    let one = list["vms"][0]["uri"].as_str().unwrap().trim_start_matches("/service/sites/5A1C0D3E").to_owned();
    let (tasks, _) = bed.get("/tasks?limit=1&offset=0");
    let task = tasks["tasks"][0]["uri"].as_str().unwrap().trim_start_matches("/service/sites/5A1C0D3E").to_owned();
    let measured = |name: &str, path: &str| {
        measure(name, is_measured, || drop(black_box(bed.call(Method::GET, path, &Value::Null))));
    };
    measured("VM", &one);
    measured("VM by its UUID", &format!("/vms?uuid={uuid}&limit=100&offset=0"));
    measured("VM by its name", "/vms?name=fleet-0001&limit=100&offset=0");
    measured("list of VMs: a page of 100", "/vms?limit=100&offset=0");
    measured("volume by its name", "/volumes?name=pool-0001&limit=100&offset=0");
    measured("task", &task);
    measured("datastores", "/datastores?limit=100&offset=0");
    measure("advance with nothing to do", is_measured, || bed.engine.with(Site::advance));
    measure("make and delete a VM", is_measured, || {
        let vm = bed.clone("another");
        bed.call(Method::DELETE, &vm, &Value::Null);
    });
}
