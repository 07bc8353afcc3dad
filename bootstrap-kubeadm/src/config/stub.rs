//! A small API server for tests of effects: objects by path, creation, replacement, merge patches, deletion; each write can
//! be refused, or performed and its answer lost.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is refused.
    Refused,
    /// It is performed, and the answer is an error.
    Lost,
}

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    requests: Vec<String>,
    version: u64,
    writes: usize,
    /// The write, counted from 0, that fails, and everything after it.
    failing: Option<(usize, Failure)>,
}

/// The server; cheap to clone.
#[derive(Clone, Default)]
pub struct Stub {
    store: Arc<Mutex<Store>>,
}

impl Stub {
    /// Serves on a port of its own, and returns the URL.
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    /// Puts an object at a path.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut store = self.store.lock().unwrap();
        store.version += 1;
        object["metadata"]["resourceVersion"] = json!(store.version.to_string());
        store.objects.insert(path.to_owned(), object);
    }

    /// Puts something at a path that is no object.
    pub fn put_document(&self, path: &str, document: Value) {
        self.store.lock().unwrap().objects.insert(path.to_owned(), document);
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.store.lock().unwrap().objects.get(path).cloned()
    }

    /// Removes what is at a path.
    pub fn remove(&self, path: &str) {
        self.store.lock().unwrap().objects.remove(path);
    }

    /// Paths below a folder.
    pub fn paths(&self, folder: &str) -> Vec<String> {
        let store = self.store.lock().unwrap();
        store.objects.keys().filter(|path| path.starts_with(folder)).cloned().collect()
    }

    /// From this write on, counted from 0 and from now, everything fails.
    pub fn fail_at(&self, write: usize, failure: Failure) {
        let mut store = self.store.lock().unwrap();
        store.failing = Some((store.writes + write, failure));
    }

    /// Nothing fails any more. Returns whether something did.
    pub fn mend(&self) -> bool {
        let mut store = self.store.lock().unwrap();
        let writes = store.writes;
        store.failing.take().is_some_and(|(at, _)| writes > at)
    }

    /// What was asked since the last time, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.store.lock().unwrap().requests)
    }
}

impl Store {
    fn handle(&mut self, method: &Method, path: &str, body: &[u8]) -> Result<Value, (StatusCode, &'static str)> {
        let path = path.strip_suffix("/status").unwrap_or(path);
        let given: Value = serde_json::from_slice(body).unwrap_or_default();
        let missing = (StatusCode::NOT_FOUND, "NotFound");
        if *method == Method::GET {
            return self.objects.get(path).cloned().ok_or(missing);
        }
        let at = if *method == Method::POST {
            format!("{path}/{}", given["metadata"]["name"].as_str().unwrap_or_default())
        } else {
            path.to_owned()
        };
        let present = self.objects.get(&at).cloned();
        let mut object = match (method.as_str(), present) {
            ("POST", Some(_)) => return Err((StatusCode::CONFLICT, "AlreadyExists")),
            ("POST", None) => {
                let mut object = given;
                object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
                object
            }
            (_, None) => return Err(missing),
            ("DELETE", Some(object)) => {
                self.objects.remove(&at);
                return Ok(object);
            }
            (method, Some(present)) => {
                let version = given.pointer("/metadata/resourceVersion").filter(|version| !version.is_null());
                if version.is_some_and(|version| *version != present["metadata"]["resourceVersion"]) {
                    return Err((StatusCode::CONFLICT, "Conflict"));
                }
                let mut object = if method == "PUT" { given.clone() } else { present };
                match serde_json::from_value::<json_patch::Patch>(given.clone()) {
                    Ok(operations) => json_patch::patch(&mut object, &operations)
                        .map_err(|_| (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"))?,
                    Err(_) => json_patch::merge(&mut object, &given),
                }
                object
            }
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(at, object.clone());
        Ok(object)
    }
}

async fn answer(State(stub): State<Stub>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut store = stub.store.lock().unwrap();
    store.requests.push(format!("{method} {}", uri.path()));
    let is_write = method != Method::GET;
    // Reads before the write that fails are answered, nothing after it is.
    let failure = store.failing.filter(|(at, _)| store.writes + usize::from(is_write) > *at);
    store.writes += usize::from(is_write);
    let broken = Err((StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
    let outcome = match failure {
        None => store.handle(&method, uri.path(), &body),
        // Only the write that is asked for is performed; the process would be dead at the next.
        Some((at, Failure::Lost)) if is_write && store.writes == at + 1 => {
            let _ = store.handle(&method, uri.path(), &body);
            broken
        }
        Some(_) => broken,
    };
    match outcome {
        Ok(object) => Json(object).into_response(),
        Err((code, reason)) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code.as_u16()});
            (code, Json(status)).into_response()
        }
    }
}
