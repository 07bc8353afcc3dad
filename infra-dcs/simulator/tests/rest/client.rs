//! A client of a simulator in this process.

use std::{fs, time::Duration};

use dcs_simulator::{Config, Guests, Simulator, site::inventory::SiteFile};
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// The default site's VM template.
pub const TEMPLATE: &str = "i-000004A1";

/// A simulator of its own and somebody who is logged in.
pub struct Client {
    simulator: Option<Simulator>,
    pub http: reqwest::Client,
    pub token: String,
    _dir: tempfile::TempDir,
}

impl Client {
    pub async fn new() -> Self {
        Self::on(SiteFile::default()).await
    }

    /// On a site of one's own choice.
    pub async fn on(site: SiteFile) -> Self {
        Self::with(site, Guests::None).await
    }

    /// With guests.
    pub async fn with(mut site: SiteFile, guests: Guests) -> Self {
        let dir = tempfile::tempdir().unwrap();
        site.latency.scale = 0.01;
        let config = Config { guests, ..Config::local(dir.path(), site) };
        let simulator = Simulator::start(config).await.unwrap();
        let ca = reqwest::Certificate::from_pem(&fs::read(simulator.ca.as_ref().unwrap()).unwrap()).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let mut client = Self { simulator: Some(simulator), http, token: String::new(), _dir: dir };
        client.token =
            client.login("basalt", "Basalt@12345").await.headers()["X-Auth-Token"].to_str().unwrap().to_owned();
        client
    }

    pub fn simulator(&self) -> &Simulator {
        self.simulator.as_ref().unwrap()
    }

    pub async fn login(&self, user: &str, key: &str) -> Response {
        self.raw(Method::POST, "/service/session")
            .header("X-Auth-User", user)
            .header("X-Auth-Key", key)
            .header("X-ENCRYPT-ALGORITHM", "1")
            .send()
            .await
            .unwrap()
    }

    pub fn raw(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("https://{}{path}", self.simulator().address);
        self.http.request(method, url).header("Accept", "application/json;version=8.1;charset=UTF-8")
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.raw(method, &format!("/service/sites/5A1C0D3E{path}")).header("X-Auth-Token", &self.token)
    }

    pub async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    pub async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        self.request(method, path).json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// Sends what must be refused; tells HTTP status and code.
    pub async fn refusal(&self, method: Method, path: &str, body: &Value) -> (u16, String) {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.json(body);
        }
        refused(request.send().await.unwrap()).await
    }

    /// Sends many calls that must be refused.
    pub async fn refuses(&self, calls: &[(Method, &str, Value, u16, &str)]) {
        for (method, path, body, status, code) in calls {
            let found = self.refusal(method.clone(), path, body).await;
            assert_eq!(found, (*status, (*code).to_owned()), "{method} {path} {body}");
        }
    }

    /// Makes a volume of so many GB on the first datastore; tells its URN.
    pub async fn volume(&self, gb: u64) -> String {
        let body = json!({"name": "v", "quantityGB": gb, "datastoreUrn": "urn:sites:5A1C0D3E:datastores:8"});
        self.task(Method::POST, "/volumes", body).await.0["urn"].as_str().unwrap().to_owned()
    }

    /// Puts a file on the first datastore.
    pub async fn upload(&self, name: &str) {
        self.upload_content(name, b"iso!".to_vec()).await;
    }

    /// Puts a file with this content on the first datastore.
    pub async fn upload_content(&self, name: &str, content: Vec<u8>) {
        let apply = json!({"fileName": name, "fileSize": content.len()});
        let ticket = self.send(Method::POST, "/datastores/8/applyUpload", apply).await;
        let url = ticket["uploadUrl"].as_str().unwrap();
        let sent =
            self.http.put(url).header("X-Auth-Token", ticket["token"].as_str().unwrap()).body(content).send().await;
        assert!(sent.unwrap().status().is_success());
    }

    /// Sends, waits for the task, and tells its end.
    pub async fn task(&self, method: Method, path: &str, body: Value) -> (Value, Value) {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let accepted: Value = request.send().await.unwrap().json().await.unwrap();
        let id = accepted["taskUri"]
            .as_str()
            .unwrap_or_else(|| panic!("no task: {accepted}"))
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        for _ in 0..500 {
            let task = self.get(&format!("/tasks/{id}")).await;
            if matches!(task["status"].as_str(), Some("success" | "failed")) {
                return (accepted, task);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("task {id} does not end");
    }

    /// Waits until no task is at work.
    pub async fn settled(&self) {
        for _ in 0..500 {
            let (waiting, running) = (self.get("/tasks?status=waiting").await, self.get("/tasks?status=running").await);
            if waiting["total"] == 0 && running["total"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("tasks do not end");
    }

    pub async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("http://{}{path}", self.simulator().control_address);
        let answer = self.http.request(method, url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    pub async fn machine(&self, name: &str) -> String {
        let (accepted, task) = self
            .task(Method::POST, &format!("/vms/{TEMPLATE}/action/clone"), json!({"name": name, "autoBoot": false}))
            .await;
        assert_eq!(task["status"], "success");
        accepted["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    pub async fn end(mut self) {
        let violations = self.control(Method::GET, "/violations", json!({})).await;
        assert_eq!(violations, json!([]));
        self.simulator.take().unwrap().shutdown().await.unwrap();
    }
}

/// HTTP status and code of a refusal.
pub async fn refused(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.expect("a refusal is JSON");
    (status, body["errorCode"].as_str().unwrap_or_else(|| panic!("not refused: {body}")).to_owned())
}
