//! An API server as the checks see it: raw requests and answers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use kube_model::{Options, Server, transport::HttpServer};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::common::Counting;

/// How long an effect of a controller, or an event, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The API server that is asked.
#[derive(Clone)]
pub struct Subject {
    client: Client,
    store: Store,
}

/// Where its objects are.
#[derive(Clone)]
enum Store {
    Model(Arc<Server>),
    /// An etcd that this etcdctl reaches, with the variables of its environment.
    Etcd(PathBuf),
}

impl Subject {
    /// A fresh model.
    pub fn model() -> Self {
        let server = Arc::new(Server::new(Arc::new(Counting::default()), Options::default()));
        let client = Client::new(HttpServer::new(Arc::clone(&server), "v1.36.3"), "default");
        Self { client, store: Store::Model(server) }
    }

    /// A real API server.
    pub fn real(client: Client, etcdctl: PathBuf) -> Self {
        Self { client, store: Store::Etcd(etcdctl) }
    }
}

/// A check's own corner of a cluster.
#[derive(Clone)]
pub struct Cluster {
    subject: Subject,
    /// Its namespace.
    pub namespace: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// What came with it.
    pub body: Value,
    /// Warnings beside it.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The object of a request that must have worked.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.code < 300, "{self:?}");
        self.body
    }

    /// Checks code, reason and message of a refusal.
    #[track_caller]
    pub fn refused(&self, code: u16, reason: &str, message: &str) {
        let shown = |name: &str| self.body[name].as_str().unwrap_or_default().to_owned();
        assert_eq!((self.code, shown("reason"), shown("message")), (code, reason.into(), message.into()));
        assert_eq!(self.body["kind"], "Status");
        assert_eq!(self.body["code"], code);
    }
}

/// Definition of the custom resource that the checks use most: status, keyed and atomic lists, defaults.
fn widget_definition() -> Value {
    let condition = json!({"type": "object", "required": ["type", "status"], "properties": {
        "type": {"type": "string"}, "status": {"type": "string"}, "message": {"type": "string"},
    }});
    let port = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"}, "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"},
    }});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 1},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
            "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"]},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "atoms": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "texts": {"type": "object", "additionalProperties": {"type": "string"}},
        }},
        "status": {"type": "object", "properties": {
            "phase": {"type": "string"},
            "conditions": {"type": "array", "items": condition, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"]},
        }},
    }});
    let version = |name: &str, storage: bool, columns: Value| {
        json!({
            "name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}}, "selectableFields": [{"jsonPath": ".spec.mode"}],
            "additionalPrinterColumns": columns,
        })
    };
    let column = |name: &str, kind: &str, path: &str, priority: i64| json!({"name": name, "type": kind, "jsonPath": path, "priority": priority});
    let columns = json!([
        column("Size", "integer", ".spec.size", 0),
        column("Mode", "string", ".spec.mode", 0),
        column("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status", 0),
        column("First Port", "integer", ".spec.ports[0].port", 0),
        column("Tags", "string", ".spec.tags", 1),
        column("Last Atom", "string", ".spec.atoms[-1:]", 1),
        column("Dotted", "string", ".metadata.annotations.model\\.test/dotted", 0),
        column("Open", "boolean", ".spec.open.flag", 0),
        column("Since", "date", ".spec.texts.since", 0),
        column("Age", "date", ".metadata.creationTimestamp", 0),
    ]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.model.test"},
        "spec": {
            "group": "model.test", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [version("v1", true, columns), version("v1beta1", false, json!([]))],
        },
    })
}

/// Definition of a custom resource without a status subresource.
fn plain_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "plains.model.test"},
        "spec": {
            "group": "model.test", "scope": "Namespaced",
            "names": {"plural": "plains", "singular": "plain", "kind": "Plain", "listKind": "PlainList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    })
}

/// Makes the custom resources and waits until they are served.
pub async fn install(subject: &Subject) {
    let cluster = Cluster { subject: subject.clone(), namespace: "default".into() };
    for definition in [widget_definition(), plain_definition()] {
        let answer = cluster.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
        assert!(answer.code == 201 || answer.code == 409, "{answer:?}");
    }
    for plural in ["widgets", "plains"] {
        let path = format!("/apis/model.test/v1/namespaces/default/{plural}");
        cluster.eventually(|| async { cluster.get(&path).await.code == 200 }).await;
    }
}

impl Cluster {
    /// A fresh namespace for a check.
    pub async fn prepare(subject: Subject, run: &str, check: &str) -> Self {
        let namespace = format!("{run}-{}", check.replace('_', "-"));
        let cluster = Self { subject, namespace: namespace.clone() };
        cluster.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await.ok();
        cluster
    }

    /// Whether no controllers run beside the server, which make service accounts.
    pub fn is_model(&self) -> bool {
        matches!(self.subject.store, Store::Model(_))
    }

    /// Makes the server forget its past, as it does by itself every few minutes. It is everybody's past. A real server goes on
    /// answering from its cache until it looks at what was compacted, every 15 seconds.
    pub async fn forget_history(&self) {
        let etcdctl = match &self.subject.store {
            Store::Model(server) => return server.compact(),
            Store::Etcd(etcdctl) => etcdctl,
        };
        let list = self.get(&self.core("configmaps")).await.ok();
        let now = version(&list);
        // API servers write here what they are about to compact, and hear from each other by it.
        for arguments in [&["put", "compact_rev_key", now][..], &["compaction", now]] {
            let output = Command::new(etcdctl).args(arguments).output().await.expect("etcdctl starts");
            let said = String::from_utf8_lossy(&output.stderr);
            let is_done = output.status.success() || said.contains("required revision has been compacted");
            assert!(is_done, "etcdctl {arguments:?}: {said}");
        }
    }

    /// Removes what a check has made.
    pub async fn clean(&self) {
        self.delete(&format!("/api/v1/namespaces/{}", self.namespace), &json!({})).await;
    }

    /// Path of a collection of core objects, or of one object, in the namespace.
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// The same for widgets.
    pub fn widgets(&self, rest: &str) -> String {
        format!("/apis/model.test/v1/namespaces/{}/widgets{rest}", self.namespace)
    }

    async fn send(&self, method: Method, path: &str, kind: &str, accept: &str, body: Vec<u8>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .header("accept", accept)
            .header("user-agent", "conformance/1.0")
            .body(Body::from(body))
            .expect("a request");
        let response = self.subject.client.send(request).await.expect("an answer");
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|warning| warning.to_str().expect("a text").to_owned()).collect();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(text)), warnings }
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Answer {
        self.get_as(path, "application/json").await
    }

    /// Reads in another form.
    pub async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Method::GET, path, "application/json", accept, Vec::new()).await
    }

    /// Creates.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", "application/json", body.to_string().into_bytes()).await
    }

    /// Creates, with a body of another form.
    pub async fn post_raw(&self, path: &str, kind: &str, body: Vec<u8>) -> Answer {
        self.send(Method::POST, path, kind, "application/json", body).await
    }

    /// Creates, and reads the answer in another form.
    pub async fn post_as(&self, path: &str, accept: &str, body: Vec<u8>) -> Answer {
        self.send(Method::POST, path, "application/json", accept, body).await
    }

    /// Replaces.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, "application/json", "application/json", body.to_string().into_bytes()).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::DELETE, path, "application/json", "application/json", body.to_string().into_bytes()).await
    }

    /// Patches; `kind` is `json`, `merge` or `strategic-merge`.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let kind = format!("application/{kind}-patch+json");
        self.send(Method::PATCH, path, &kind, "application/json", body.to_string().into_bytes()).await
    }

    /// Applies as a manager, with further query parameters.
    pub async fn apply(&self, path: &str, manager: &str, more: &str, body: &Value) -> Answer {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}fieldManager={manager}{more}");
        let body = body.to_string().into_bytes();
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", "application/json", body).await
    }

    /// Sends a body of a given type.
    pub async fn patch_raw(&self, path: &str, kind: &str, body: &str) -> Answer {
        self.send(Method::PATCH, path, kind, "application/json", body.as_bytes().to_vec()).await
    }

    /// Reads so many events of a watch, as type and object; fewer when the watch ends.
    pub async fn watch(&self, path: &str, events: usize) -> Vec<(String, Value)> {
        self.watch_while(path, events, async {}).await
    }

    /// The same, in another form.
    pub async fn watch_as(&self, path: &str, events: usize, accept: &str) -> Vec<(String, Value)> {
        self.watched(path, events, accept, async {}).await
    }

    /// The same, while something else happens after the watch has begun.
    pub async fn watch_while(
        &self,
        path: &str,
        events: usize,
        meanwhile: impl Future<Output = ()>,
    ) -> Vec<(String, Value)> {
        self.watched(path, events, "application/json", meanwhile).await
    }

    async fn watched(
        &self,
        path: &str,
        events: usize,
        accept: &str,
        meanwhile: impl Future<Output = ()>,
    ) -> Vec<(String, Value)> {
        let request = Request::get(path).header("accept", accept).body(Body::empty()).expect("a request");
        let response = self.subject.client.send(request).await.expect("a watch");
        assert_eq!(response.status(), 200);
        let mut chunks = response.into_body().into_data_stream();
        meanwhile.await;
        let mut text = Vec::new();
        let mut found = Vec::new();
        while found.len() < events {
            let Some(chunk) = tokio::time::timeout(PATIENCE, chunks.next()).await.expect("an event in time") else {
                break;
            };
            text.extend_from_slice(&chunk.expect("a chunk"));
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).expect("an event");
                // A real server sends bookmarks whenever it likes; only that of the end of a list has its place.
                if event["type"] == "BOOKMARK" && event["object"]["metadata"]["annotations"].is_null() {
                    continue;
                }
                found.push((event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take()));
            }
        }
        found
    }

    /// Waits until something holds.
    pub async fn eventually<F: Future<Output = bool>>(&self, mut holds: impl FnMut() -> F) {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it holds in time");
    }
}

/// A widget.
pub fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "model.test/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A config map.
pub fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// Resource version of an object.
pub fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a resource version")
}

/// An object without what every write changes.
pub fn settled(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for name in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "namespace", "selfLink"] {
        metadata.remove(name);
    }
    object
}

/// Who owns what, by name: manager, operation, subresource and fields.
pub fn owners(object: &Value) -> Vec<Value> {
    let mut entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.sort_by_key(|entry| json!([entry["manager"], entry["subresource"]]).to_string());
    entries
        .iter()
        .map(|entry| json!([entry["manager"], entry["operation"], entry["subresource"], entry["fieldsV1"]]))
        .collect()
}
