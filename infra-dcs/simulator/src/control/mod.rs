//! The control API: plain HTTP on loopback, for tests and for the page that people watch. It sees and stages what
//! nobody could on a real site: faults, accidents, time.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    middleware::Next,
    response::{Html, IntoResponse, Response},
    routing::{delete, get, post, put},
};
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

mod guests;

use crate::{
    audit::Record,
    engine::Engine,
    faults::FaultRule,
    site::{
        Site, VmId, VmStatus,
        inventory::{DatastoreFile, PortGroupFile, TemplateFile},
        policy::{Latency, Policy},
        sessions::Account,
        tasks::TaskFault,
    },
    vrm::views,
};

type App = State<Arc<Engine>>;
type Answer = Result<Json<Value>, Refusal>;

/// The control API of a site.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/healthz", get(async || "ok"))
        .route("/vms", get(vms))
        .route("/vms/{vm}", delete(lose_vm))
        .route("/vms/{vm}/power-off", post(cut_power))
        .route("/vms/{vm}/status", put(set_status))
        .route("/vms/{vm}/guest", get(guests::show).put(guests::afflict))
        .route("/vms/{vm}/crash", post(guests::crash))
        .route("/vms/{vm}/reboot", post(guests::reboot))
        .route("/guest-clusters", get(guests::clusters))
        .route("/guest-clusters/{id}/guest", put(guests::afflict_cluster))
        .route("/guest-clusters/{id}/crash", post(guests::crash_cluster))
        .route("/guest-clusters/{id}/reboot", post(guests::reboot_cluster))
        .route("/volumes", get(volumes))
        .route("/volumes/{id}", delete(lose_volume))
        .route("/tasks", get(tasks))
        .route("/tasks/resume", post(resume))
        .route("/files", get(files))
        .route("/rules", get(rules))
        .route("/hosts/{name}", put(set_host))
        .route("/console/{vm}", get(console))
        .route("/audit", get(audit))
        .route("/counters", get(counters))
        .route("/counters/reset", post(reset_counters))
        .route("/violations", get(violations))
        .route("/faults", get(list_faults).post(add_fault).delete(clear_faults))
        .route("/faults/{id}", delete(remove_fault))
        .route("/task-faults", get(list_task_faults).post(add_task_fault).delete(clear_task_faults))
        .route("/latency", get(latency).put(set_latency))
        .route("/policy", get(policy).patch(set_policy))
        .route("/templates", post(add_template))
        .route("/datastores", get(datastores).post(add_datastore))
        .route("/datastores/{name}", put(set_datastore))
        .route("/port-groups", post(add_port_group))
        .route("/folders", post(add_folder))
        .route("/users/{name}", put(set_user))
        .route("/sessions/expire", post(expire_sessions))
        .route("/restart", post(restart))
        .route("/clock/advance", post(advance_clock))
        .route("/state/save", post(save))
        .route("/state/load", post(load))
        .layer(axum::middleware::from_fn_with_state(engine.clone(), record))
        .with_state(engine)
}

/// A control call that cannot be done.
struct Refusal(String);

impl<E: std::fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({"error": self.0}))).into_response()
    }
}

/// Control calls that change something are part of the story that the audit tells.
async fn record(State(engine): App, request: Request, next: Next) -> Response {
    let (begun, time, method, path) =
        (Instant::now(), engine.clock.now(), request.method().to_string(), request.uri().to_string());
    let response = next.run(request).await;
    if method != "GET" {
        engine.audit.write(Record {
            seq: 0,
            time,
            listener: "control",
            user: String::new(),
            method,
            path,
            status: response.status().as_u16(),
            code: None,
            effects: 0,
            task: None,
            fault: None,
            took: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }
    response
}

fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    Ok(serde_json::from_slice(bytes)?)
}

/// A VM by id or, where that is unique, by name.
fn find_vm(site: &Site, text: &str) -> Result<u64, Refusal> {
    if let Some(VmId(id)) = VmId::parse(text).filter(|id| site.vms.contains_key(&id.0)) {
        return Ok(id);
    }
    let mut named = site.vms.values().filter(|vm| vm.name == text);
    match (named.next(), named.next()) {
        (Some(vm), None) => Ok(vm.id),
        (Some(_), Some(_)) => Err(Refusal(format!("several VMs are named {text:?}; give the id"))),
        (None, _) => Err(Refusal(format!("there is no VM {text:?}"))),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it is the answer of handlers")]
fn done() -> Answer {
    Ok(Json(json!({})))
}

async fn vms(State(engine): App) -> Json<Value> {
    engine.with(|site, _| {
        let view = |vm: &crate::site::Vm| {
            let mut view = views::vm_detail(site, vm, true);
            view["id"] = VmId(vm.id).to_string().into();
            view["boots"] = vm.boots.into();
            view["bootFailure"] = vm.boot_failure.clone().into();
            view["medium"] = vm.medium.as_ref().map(|medium| medium.path.clone()).into();
            view["image"] = vm.image.clone().into();
            view
        };
        Json(site.vms.values().map(view).collect())
    })
}

async fn volumes(State(engine): App) -> Json<Value> {
    engine.with(|site, _| {
        let view = |volume: &crate::site::Volume| {
            let mut view = views::volume_in_list(site, volume);
            view["id"] = volume.id.into();
            view["vm"] = volume.attachment.map(|at| VmId(at.vm).to_string()).into();
            view["sequenceNum"] = volume.attachment.map(|at| at.sequence).into();
            view
        };
        Json(site.volumes.values().map(view).collect())
    })
}

async fn tasks(State(engine): App) -> Json<Value> {
    engine.with(|site, _| Json(site.tasks.values().map(|task| views::task(site, task)).collect()))
}

async fn datastores(State(engine): App) -> Json<Value> {
    engine.with(|site, _| Json(site.datastores.values().map(|store| views::datastore(site, store)).collect()))
}

async fn files(State(engine): App) -> Json<Value> {
    engine.with(|site, _| {
        let store = |id: u64| site.datastores.get(&id).map(|store| store.name.clone());
        let view = |file: &crate::site::files::File| {
            json!({
                "id": file.id, "name": file.name, "size": file.size, "datastore": store(file.datastore),
                "created": file.created, "path": engine.file_path(file.id),
                "vm": site.drive_with(file.id).map(|vm| VmId(vm).to_string()),
            })
        };
        Json(site.files.values().map(view).collect())
    })
}

async fn rules(State(engine): App) -> Json<Value> {
    engine.with(|site, _| {
        let of_cluster = |cluster: &crate::site::ComputeCluster| {
            let view = |rule: &crate::site::drs::Rule| {
                let vms: Vec<_> = rule.vms.iter().map(|vm| VmId(*vm).to_string()).collect();
                json!({"cluster": cluster.name, "index": rule.index, "name": rule.name, "kind": rule.kind, "vms": vms})
            };
            cluster.rules.iter().map(view).collect::<Vec<_>>()
        };
        Json(site.clusters.values().flat_map(of_cluster).collect())
    })
}

async fn console(State(engine): App, Path(vm): Path<String>, Query(query): Query<HashMap<String, String>>) -> Answer {
    let lines = query.get("lines").map_or(Ok(200), |lines| lines.parse())?;
    let (id, failure) = engine.with(|site, _| {
        let id = find_vm(site, &vm)?;
        Ok::<_, Refusal>((id, site.vms[&id].boot_failure.clone()))
    })?;
    Ok(Json(json!({"vm": VmId(id).to_string(), "lines": engine.console(id, lines), "bootFailure": failure})))
}

async fn audit(State(engine): App, Query(query): Query<HashMap<String, String>>) -> Answer {
    let number = |name: &str, absent: u64| query.get(name).map_or(Ok(absent), |text| text.parse());
    let limit = usize::try_from(number("limit", u64::MAX)?).unwrap_or(usize::MAX);
    Ok(Json(serde_json::to_value(engine.audit.since(number("since", 0)?, limit))?))
}

/// Calls by method, route and outcome since the last reset: what tests of idle cost and login counts look at.
async fn counters(State(engine): App) -> Json<Value> {
    let records = engine.audit.since(0, usize::MAX);
    let calls: Vec<&Record> = records.iter().filter(|record| record.listener != "control").collect();
    let login = |record: &&&Record| record.method == "POST" && record.path == "/service/session";
    Json(json!({
        "calls": calls.len(),
        "reads": calls.iter().filter(|record| record.method == "GET").count(),
        "logins": calls.iter().filter(login).count(),
        "failedLogins": calls.iter().filter(login).filter(|record| record.code.is_some()).count(),
        "refused": calls.iter().filter(|record| record.code.is_some()).count(),
        "effects": calls.iter().map(|record| record.effects).sum::<u64>(),
    }))
}

async fn reset_counters(State(engine): App) -> Answer {
    engine.audit.forget();
    done()
}

async fn violations(State(engine): App) -> Json<Value> {
    engine.with(|site, _| Json(site.violations().into()))
}

async fn list_faults(State(engine): App) -> Answer {
    Ok(Json(serde_json::to_value(engine.faults.lock().list())?))
}

async fn add_fault(State(engine): App, bytes: Bytes) -> Answer {
    let rule: FaultRule = body(&bytes)?;
    if !(0.0..=1.0).contains(&rule.probability) {
        return Err(Refusal("probability: 0 to 1".to_owned()));
    }
    let id = engine.faults.lock().add(engine.clock.now(), rule);
    Ok(Json(json!({"id": id})))
}

async fn remove_fault(State(engine): App, Path(id): Path<u64>) -> Answer {
    Ok(Json(json!({"removed": engine.faults.lock().remove(Some(id))})))
}

async fn clear_faults(State(engine): App) -> Answer {
    Ok(Json(json!({"removed": engine.faults.lock().remove(None)})))
}

async fn list_task_faults(State(engine): App) -> Answer {
    Ok(Json(serde_json::to_value(engine.with(|site, _| site.task_faults.clone()))?))
}

async fn add_task_fault(State(engine): App, bytes: Bytes) -> Answer {
    let fault: TaskFault = body(&bytes)?;
    engine.with(|site, _| site.task_faults.push(fault));
    done()
}

async fn clear_task_faults(State(engine): App) -> Answer {
    engine.with(|site, _| site.task_faults.clear());
    done()
}

#[derive(Deserialize)]
struct Which {
    task: Option<u64>,
}

async fn resume(State(engine): App, bytes: Bytes) -> Answer {
    let which: Which = body(&bytes)?;
    Ok(Json(json!({"resumed": engine.with(|site, now| site.resume_stalled(now, which.task))})))
}

async fn latency(State(engine): App) -> Answer {
    Ok(Json(serde_json::to_value(engine.with(|site, _| site.latency.clone()))?))
}

async fn set_latency(State(engine): App, bytes: Bytes) -> Answer {
    let latency: Latency = body(&bytes)?;
    engine.with(|site, _| site.latency = latency);
    done()
}

async fn policy(State(engine): App) -> Answer {
    Ok(Json(serde_json::to_value(engine.with(|site, _| site.policy.clone()))?))
}

/// Changes the switches that are named; the others stay.
async fn set_policy(State(engine): App, bytes: Bytes) -> Answer {
    let changes: serde_json::Map<String, Value> = body(&bytes)?;
    engine.with(|site, _| {
        let mut merged = serde_json::to_value(&site.policy)?;
        for (name, value) in changes {
            merged[name] = value;
        }
        site.policy = serde_json::from_value::<Policy>(merged)?;
        done()
    })
}

async fn add_template(State(engine): App, bytes: Bytes) -> Answer {
    let file: TemplateFile = body(&bytes)?;
    let id = engine.with(|site, now| site.add_template(&file, now))?;
    Ok(Json(json!({"id": VmId(id).to_string()})))
}

async fn add_datastore(State(engine): App, bytes: Bytes) -> Answer {
    let file: DatastoreFile = body(&bytes)?;
    let id = engine.with(|site, _| site.add_datastore(&file))?;
    Ok(Json(json!({"id": id})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DatastoreState {
    status: Option<String>,
    used_gb: Option<u64>,
    uploads: Option<bool>,
}

async fn set_datastore(State(engine): App, Path(name): Path<String>, bytes: Bytes) -> Answer {
    let change: DatastoreState = body(&bytes)?;
    engine.with(|site, _| {
        let store = site.datastores.values_mut().find(|store| store.name == name);
        let store = store.ok_or_else(|| Refusal(format!("there is no datastore {name:?}")))?;
        store.status = change.status.unwrap_or_else(|| store.status.clone());
        store.base_used_gb = change.used_gb.unwrap_or(store.base_used_gb);
        store.uploads = change.uploads.unwrap_or(store.uploads);
        done()
    })
}

#[derive(Deserialize)]
struct HostState {
    status: Option<String>,
    maintaining: Option<bool>,
}

async fn set_host(State(engine): App, Path(name): Path<String>, bytes: Bytes) -> Answer {
    let change: HostState = body(&bytes)?;
    engine.with(|site, _| {
        let host = site.hosts.values_mut().find(|host| host.name == name);
        let host = host.ok_or_else(|| Refusal(format!("there is no host {name:?}")))?;
        host.status = change.status.unwrap_or_else(|| host.status.clone());
        host.maintaining = change.maintaining.unwrap_or(host.maintaining);
        done()
    })
}

#[derive(Deserialize)]
struct NewPortGroup {
    switch: String,
    #[serde(flatten)]
    group: PortGroupFile,
}

async fn add_port_group(State(engine): App, bytes: Bytes) -> Answer {
    let new: NewPortGroup = body(&bytes)?;
    let id = engine.with(|site, _| site.add_port_group(&new.switch, &new.group));
    Ok(Json(json!({"id": id})))
}

#[derive(Deserialize)]
struct NewFolder {
    path: String,
}

async fn add_folder(State(engine): App, bytes: Bytes) -> Answer {
    let new: NewFolder = body(&bytes)?;
    Ok(Json(json!({"id": engine.with(|site, _| site.add_folder_path(&new.path))})))
}

#[derive(Deserialize)]
struct UserState {
    password: Option<String>,
    account: Option<Account>,
    /// Takes an automatic lock away.
    #[serde(default)]
    unlock: bool,
}

async fn set_user(State(engine): App, Path(name): Path<String>, bytes: Bytes) -> Answer {
    let change: UserState = body(&bytes)?;
    engine.with(|site, _| {
        let user = site.users.get_mut(&name).ok_or_else(|| Refusal(format!("there is no user {name:?}")))?;
        user.file.account = change.account.unwrap_or(user.file.account);
        if change.unlock {
            (user.failures, user.locked_until) = (0, None);
        }
        if let Some(password) = change.password {
            user.file.password = password;
            // A new password ends the sessions made with the old one.
            site.sessions.retain(|_, session| session.user != name);
        }
        done()
    })
}

async fn expire_sessions(State(engine): App) -> Answer {
    engine.with(|site, _| site.sessions.clear());
    done()
}

async fn restart(State(engine): App) -> Answer {
    engine.with(Site::restart);
    done()
}

#[derive(Deserialize)]
struct Advance {
    ms: u64,
}

async fn advance_clock(State(engine): App, bytes: Bytes) -> Answer {
    let Advance { ms } = body(&bytes)?;
    engine.clock.advance(ms);
    Ok(Json(json!({"now": engine.with(|_, now| now)})))
}

/// Somebody deletes the VM in the portal, disks and all.
async fn lose_vm(State(engine): App, Path(vm): Path<String>) -> Answer {
    engine.with(|site, _| {
        let id = find_vm(site, &vm)?;
        site.remove_vm(id, false);
        done()
    })
}

/// Somebody switches the VM off in the portal, the hard way.
async fn cut_power(State(engine): App, Path(vm): Path<String>) -> Answer {
    engine.with(|site, now| {
        let id = find_vm(site, &vm)?;
        let accepted = site.stop(now, "portal", id, false)?;
        Ok(Json(json!({"task": accepted.task})))
    })
}

#[derive(Deserialize)]
struct NewStatus {
    status: VmStatus,
}

/// Shows another state of a VM than it has, as a site does whose host cannot be reached.
async fn set_status(State(engine): App, Path(vm): Path<String>, bytes: Bytes) -> Answer {
    let new: NewStatus = body(&bytes)?;
    engine.with(|site, _| {
        let id = find_vm(site, &vm)?;
        if let Some(vm) = site.vms.get_mut(&id) {
            vm.status = new.status;
        }
        done()
    })
}

/// The volume vanishes.
async fn lose_volume(State(engine): App, Path(id): Path<u64>) -> Answer {
    engine.with(|site, _| site.lose_volume(id))?;
    done()
}

#[derive(Deserialize)]
struct StatePath {
    path: Option<PathBuf>,
}

async fn save(State(engine): App, bytes: Bytes) -> Answer {
    let StatePath { path } = body(&bytes)?;
    let path = path.unwrap_or_else(|| engine.data_dir().join("state.json"));
    let saved = path.clone();
    tokio::task::spawn_blocking(move || engine.save(&saved)).await??;
    Ok(Json(json!({"path": path})))
}

async fn load(State(engine): App, bytes: Bytes) -> Answer {
    let StatePath { path } = body(&bytes)?;
    let path = path.unwrap_or_else(|| engine.data_dir().join("state.json"));
    engine.load(&path).await?;
    done()
}
