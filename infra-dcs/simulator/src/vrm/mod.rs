//! The VRM REST API. Each area of the API has its file; this one has what they share.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Query},
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
mod storage;
mod tasks;
pub mod upload;
pub mod views;
mod vms;
mod volumes;

pub use gate::Dropped;

/// Largest page of any list.
const PAGE: usize = 100;

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
    site.fallback(unknown_path).layer(axum::middleware::from_fn_with_state((engine, "vrm"), gate::gate))
}

async fn unknown_path() -> Response {
    let body = json!({"errorCode": codes::BAD_PARAMETER.to_string(), "errorDes": "There is no such interface."});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
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
    serde_json::from_slice(bytes).map_err(|error| codes::BAD_PARAMETER.because(error.to_string()))
}

/// Query parameters.
struct Params(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = VrmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, state).await;
        query.map(|Query(map)| Self(map)).map_err(|error| codes::BAD_PARAMETER.because(error.to_string()))
    }
}

impl Params {
    /// A parameter that is there and not empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn number(&self, name: &str) -> Result<Option<u64>> {
        let read = |text: &str| text.parse().map_err(|_| codes::BAD_PARAMETER.because(format!("{name}={text}")));
        self.text(name).map(read).transpose()
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(codes::BAD_PARAMETER.because(format!("{name}={other}"))),
        }
    }

    /// Whether `value` contains the parameter `name`, letter case aside; true without the parameter.
    fn fuzzy(&self, name: &str, value: &str) -> bool {
        self.text(name).is_none_or(|wanted| value.to_lowercase().contains(&wanted.to_lowercase()))
    }

    /// A list of URNs: commas between them.
    fn urns(&self, name: &str, most: usize) -> Result<Option<Vec<&str>>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let urns: Vec<&str> = text.split(',').collect();
        if urns.len() > most {
            return Err(codes::BAD_PARAMETER.because(format!("{name}: at most {most}")));
        }
        Ok(Some(urns))
    }

    /// One page of a list under `key`. `without_limit` is the number of items where no limit is asked for.
    fn page(&self, key: &str, items: Vec<Value>, without_limit: usize) -> Answer {
        let limit = match self.number("limit")? {
            Some(limit) if limit == 0 || limit > PAGE as u64 => {
                return Err(codes::BAD_PARAMETER.because("limit: 1…100"));
            }
            Some(limit) => usize::try_from(limit).unwrap_or(PAGE),
            None => without_limit,
        };
        let offset = usize::try_from(self.number("offset")?.unwrap_or(0)).unwrap_or(usize::MAX);
        let total = items.len();
        let page: Vec<Value> = items.into_iter().skip(offset).take(limit).collect();
        Ok(Json(json!({"total": total, key: page})))
    }
}

/// The VM of a path segment.
fn vm_id(text: &str) -> Result<u64> {
    VmId::parse(text).map(|id| id.0).ok_or_else(|| codes::VM_NOT_FOUND.because(text))
}
