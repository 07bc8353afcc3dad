//! The VRM REST API. Each area of the API has its file; this one has what they share.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    engine::Engine,
    site::{Entity, Result, Site, VmId, VrmError, codes, tasks::Accepted},
};

mod auth;
mod clusters;
mod folders;
mod gate;
mod hosts;
mod network;
mod params;
mod storage;
mod tasks;
pub mod upload;
pub mod views;
mod vms;
mod volumes;

pub use gate::Dropped;
use params::{PAGE, Params, Path};

/// The answer of a call.
type Answer = Result<Json<Value>>;

/// The REST API of a site.
pub fn router(engine: Arc<Engine>, upload_address: String) -> Router {
    let site = Router::new()
        .merge(auth::routes())
        .merge(clusters::routes())
        .merge(folders::routes())
        .merge(hosts::routes())
        .merge(network::routes())
        .merge(storage::routes(upload_address))
        .merge(tasks::routes())
        .merge(vms::routes())
        .merge(volumes::routes());
    site.fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(axum::middleware::from_fn_with_state((engine, "vrm"), gate::gate))
}

async fn unknown_path() -> Response {
    no_interface(StatusCode::NOT_FOUND)
}

async fn unknown_method() -> Response {
    no_interface(StatusCode::METHOD_NOT_ALLOWED)
}

fn no_interface(status: StatusCode) -> Response {
    let body = json!({"errorCode": codes::BAD_PARAMETER.to_string(), "errorDes": "There is no such interface."});
    (status, Json(body)).into_response()
}

impl IntoResponse for VrmError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
        let body = Json(json!({"errorCode": self.code.to_string(), "errorDes": self.to_string()}));
        let mut response = (status, body).into_response();
        response.extensions_mut().insert(self.code);
        response
    }
}

/// Who calls, and the way to the site.
#[derive(Clone)]
pub struct Caller {
    engine: Arc<Engine>,
    user: String,
    effects: Arc<AtomicU64>,
    task: Arc<AtomicU64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = VrmError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| codes::TOKEN.into())
    }
}

impl Caller {
    /// Reads the site.
    fn read<T>(&self, work: impl FnOnce(&Site) -> Result<T>) -> Result<T> {
        self.engine.with(|site, _| work(site))
    }

    /// Changes the site, if the user may; counts the changes for the audit.
    fn change<T>(&self, work: impl FnOnce(&mut Site, u64, &str) -> Result<T>) -> Result<T> {
        self.engine.with(|site, now| {
            site.may_change(&self.user)?;
            let before = site.changes;
            let result = work(site, now, &self.user);
            self.effects.fetch_add(site.changes - before, Ordering::Relaxed);
            result
        })
    }

    /// Begins work that ends later, and answers with object and task.
    fn begin(&self, work: impl FnOnce(&mut Site, u64, &str) -> Result<Accepted>) -> Answer {
        let (accepted, site) = self.change(|site, now, user| Ok((work(site, now, user)?, site.id.clone())))?;
        self.task.store(accepted.task, Ordering::Relaxed);
        let task = Entity::Task(accepted.task);
        Ok(Json(json!({
            "urn": accepted.entity.urn(&site), "uri": accepted.entity.uri(&site),
            "taskUrn": task.urn(&site), "taskUri": task.uri(&site),
        })))
    }
}

/// Reads a body leniently: an empty one has no fields, unknown fields are ignored.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T> {
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    // To the decoder a list of values is a struct too; to the API it is not.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(codes::BAD_PARAMETER.because("a body is an object"));
    }
    serde_json::from_slice(bytes).map_err(|error| codes::BAD_PARAMETER.because(error.to_string()))
}

/// The VM of a path segment.
fn vm_id(text: &str) -> Result<u64> {
    VmId::parse(text).map(|id| id.0).ok_or_else(|| codes::VM_NOT_FOUND.because(text))
}
