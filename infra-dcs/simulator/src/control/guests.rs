//! Accidents of machines: per VM, and the same for all machines of a Kubernetes cluster.
//!
//! | Route | |
//! |---|---|
//! | `GET /vms/{vm}/guest` | what the machine suffers from |
//! | `PUT /vms/{vm}/guest` | `{"partitioned": bool, "slowDisk": bool, "clockSkewMs": number, "etcdNoSpace": bool, "etcdCorrupt": bool}`; what is not named stays |
//! | `POST /vms/{vm}/crash` | the guest dies; VRM shows a stopped VM |
//! | `POST /vms/{vm}/reboot` | the guest starts anew from its disks; VRM shows nothing |
//! | `GET /guest-clusters` | id, pin of the authority, whether an API server answers, machines that are on, members of etcd with their alarms |
//! | `PUT /guest-clusters/{id}/guest` | what all its machines suffer from: also those that are off, and those that join later |
//! | `POST /guest-clusters/{id}/crash`, `POST …/reboot` | the same for all machines that are on |
//!
//! Only memory guests take them.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{Answer, App, Refusal, body, done, find_vm};
use crate::{
    engine::Engine,
    guest::faults::{Accident, AfflictionsChange},
    site::VmId,
};

fn id_of(engine: &Engine, vm: &str) -> Result<String, Refusal> {
    engine.with(|site, _| find_vm(site, vm)).map(|id| VmId(id).to_string())
}

fn unknown(cluster: &str) -> Refusal {
    Refusal(format!("there is no guest cluster {cluster:?}; GET /guest-clusters lists them"))
}

pub(super) async fn show(State(engine): App, Path(vm): Path<String>) -> Answer {
    let id = id_of(&engine, &vm)?;
    Ok(Json(serde_json::to_value(engine.staging().afflictions(&id)?)?))
}

pub(super) async fn afflict(State(engine): App, Path(vm): Path<String>, bytes: Bytes) -> Answer {
    let change: AfflictionsChange = body(&bytes)?;
    let id = id_of(&engine, &vm)?;
    Ok(Json(serde_json::to_value(engine.staging().afflict(&id, change)?)?))
}

pub(super) async fn crash(State(engine): App, Path(vm): Path<String>) -> Answer {
    strike(&engine, &vm, Accident::Crash).await
}

pub(super) async fn reboot(State(engine): App, Path(vm): Path<String>) -> Answer {
    strike(&engine, &vm, Accident::Reboot).await
}

async fn strike(engine: &Engine, vm: &str, accident: Accident) -> Answer {
    let id = id_of(engine, vm)?;
    engine.staging().strike(&id, accident).await?;
    done()
}

pub(super) async fn clusters(State(engine): App) -> Json<Value> {
    Json(json!(engine.staging().clusters()))
}

pub(super) async fn afflict_cluster(State(engine): App, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let change: AfflictionsChange = body(&bytes)?;
    let now = engine.staging().afflict_cluster(&id, change)?;
    let now = now.ok_or_else(|| unknown(&id))?;
    Ok(Json(serde_json::to_value(now)?))
}

pub(super) async fn crash_cluster(State(engine): App, Path(id): Path<String>) -> Answer {
    strike_cluster(&engine, &id, Accident::Crash).await
}

pub(super) async fn reboot_cluster(State(engine): App, Path(id): Path<String>) -> Answer {
    strike_cluster(&engine, &id, Accident::Reboot).await
}

async fn strike_cluster(engine: &Engine, cluster: &str, accident: Accident) -> Answer {
    if engine.staging().strike_cluster(cluster, accident).await? { done() } else { Err(unknown(cluster)) }
}
