//! A platform with its machines, and a client of their clusters.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use dcs_simulator::{
    fabric::signals::Signals,
    guest::{
        GuestDisk, GuestEvent, GuestNic, GuestPlatform, GuestSpec, StopReason,
        memory::{
            cluster::{Around, Pace},
            host::Settings,
            platform::MemoryGuests,
        },
    },
};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{document, medium};

/// How long a test waits for what comes at once on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Site {
    pub guests: MemoryGuests,
    pub directory: TempDir,
    pub signals: Signals,
    network: u8,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
pub struct Told {
    pub tools: HashMap<String, String>,
    pub stopped: Vec<(String, StopReason)>,
}

impl Site {
    pub fn new(pace: f64) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (sender, mut events) = mpsc::channel(1024);
        let settings = Settings { wait_scale: pace, strict_kubeadm: true, ..Settings::default() };
        let pace = Pace { scale: pace, slow_disk: Duration::from_millis(100) };
        let around = Around { pace, ..Around::default() };
        let signals = around.signals.clone();
        let guests = MemoryGuests::new(settings, around, sender);
        let told: Arc<Mutex<Told>> = Arc::default();
        let kept = Arc::clone(&told);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    GuestEvent::ToolsRunning { id, hostname, .. } => drop(kept.lock().tools.insert(id, hostname)),
                    GuestEvent::Stopped { id, reason } => kept.lock().stopped.push((id, reason)),
                    GuestEvent::Console { .. } => {}
                }
            }
        });
        // Tests run side by side.
        Self { guests, directory: tempfile::tempdir().unwrap(), signals, network: rand::random_range(1..=250), told }
    }

    /// The n-th address of the site.
    pub fn address(&self, number: u16) -> String {
        let [high, low] = number.to_be_bytes();
        format!("127.{}.{high}.{low}", self.network)
    }

    pub fn told(&self) -> parking_lot::MutexGuard<'_, Told> {
        self.told.lock()
    }

    /// A machine with a system disk, a NIC and this document in its drive.
    pub fn spec(&self, id: &str, document: &Value) -> GuestSpec {
        let path = |name: &str| self.directory.path().join(name);
        let system = path(&format!("{id}.img"));
        if !Path::new(&system).exists() {
            File::create(&system).unwrap().set_len(40 << 30).unwrap();
        }
        let cdrom = path(&format!("{id}.iso"));
        medium::write(&cdrom, document);
        GuestSpec {
            id: id.to_owned(),
            name: id.to_owned(),
            image: "node-v1.36.3".into(),
            cpus: 2,
            memory_mb: 4096,
            disks: vec![GuestDisk {
                sequence: 1,
                path: system,
                size_bytes: 40 << 30,
                volume_id: String::new(),
                system: true,
            }],
            nics: vec![GuestNic { index: 0, mac: "28:6e:d4:00:00:01".into(), port_group: "pg".into() }],
            cdrom: Some(cdrom),
        }
    }

    pub async fn power_on(&self, id: &str, document: &Value) {
        self.guests.power_on(self.spec(id, document)).await.unwrap();
    }

    /// Makes a cluster of one control plane machine, `cp-1` on VM `i-1`; returns its administrator and what it booted from.
    pub async fn alone(&self) -> (Admin, Value) {
        let pki = document::Pki::new();
        let endpoint = format!("{}:6443", self.address(1));
        let admin = Admin::new(&pki, &endpoint);
        let document = document::machine("cp-1", &self.address(1), "init", &document::init(&endpoint), Some(&pki));
        self.power_on("i-1", &document).await;
        self.says("i-1", "initialized successfully!").await;
        admin.node_is("cp-1", "True").await;
        (admin, document)
    }

    pub fn console(&self, id: &str) -> String {
        self.guests.console(id, 1000).join("\n")
    }

    /// Waits until a machine's console holds a text; a machine that stops meanwhile fails the test.
    pub async fn says(&self, id: &str, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let console = self.console(id);
            assert!(!self.told().stopped.iter().any(|(stopped, _)| stopped == id), "{id} stopped:\n{console}");
            if console.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "{id} never says {text:?}:\n{console}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client as an administrator has it.
pub struct Admin {
    client: reqwest::Client,
    server: String,
}

impl Admin {
    /// With a certificate that the cluster's authority issues.
    pub fn new(pki: &document::Pki, endpoint: &str) -> Self {
        let identity = pki.administrator();
        let client = reqwest::Client::builder()
            .tls_backend_rustls()
            .tls_certs_only([reqwest::Certificate::from_pem(pki.authority.as_bytes()).unwrap()])
            .identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap())
            .build()
            .unwrap();
        Self { client, server: format!("https://{endpoint}") }
    }

    /// An object; null where there is none, or no answer.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.server)).timeout(Duration::from_secs(20)).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => answer.json().await.unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// Writes an object; how long that took, or none where it was refused or there is no answer.
    pub async fn create(&self, path: &str, object: &Value) -> Option<Duration> {
        let begun = Instant::now();
        let answer = self.client.post(format!("{}{path}", self.server)).json(object).send().await.ok()?;
        answer.status().is_success().then(|| begun.elapsed())
    }

    /// What the API server says to a write that it refuses.
    pub async fn refused(&self, path: &str, object: &Value) -> (u16, String) {
        let answer = self.client.post(format!("{}{path}", self.server)).json(object).send().await.unwrap();
        let code = answer.status().as_u16();
        let status: Value = answer.json().await.unwrap();
        (code, status["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for a node's condition `Ready`.
    pub async fn node_is(&self, name: &str, status: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let node = self.get(&format!("/api/v1/nodes/{name}")).await;
            let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
            if conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == status) {
                return;
            }
            assert!(Instant::now() < end, "{name} is never {status}: {node}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
