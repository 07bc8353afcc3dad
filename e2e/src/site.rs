//! The simulated DCS site: its process, its inventory, its control API, and the adapter that speaks to it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::{crash_points::CrashPoints, process::Process};

/// Bridge of the fabric inside the run's network namespace, and its address there.
pub const BRIDGE: (&str, &str) = ("br0", "10.77.0.1/16");
/// VRM's REST listener, as the credential Secret names it.
pub const ENDPOINT: &str = "https://127.0.0.1:7443";
const CONTROL: &str = "127.0.0.1:7480";

/// A running simulator.
pub struct Site {
    process: Process,
    /// Certificate authority of its REST listeners.
    pub ca: PathBuf,
    http: reqwest::Client,
}

impl Site {
    /// Starts the simulator. `balancers` are `address:port=backend,backend` of the site's load balancer.
    pub async fn start(binaries: &Path, images: &Path, dir: &Path, logs: &Path, balancers: &[String]) -> Result<Self> {
        let data = dir.join("site");
        fs::create_dir_all(&data)?;
        let mut simulator = Command::new(binaries.join("basalt-dcs-simulator"));
        simulator
            .args(["serve", "--guests=sandbox", "--bridge", BRIDGE.0])
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--image-dir={}", images.display()))
            .args(["--listen=127.0.0.1:7443", "--upload-listen=127.0.0.1:8443"])
            .arg(format!("--control-listen={CONTROL}"))
            .args(balancers.iter().map(|balancer| format!("--load-balancer={balancer}")));
        let mut process = Process::start("dcs-simulator", &mut simulator, logs)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let probe = http.clone();
        process
            .wait_until("ready", Duration::from_secs(60), async move || {
                matches!(probe.get(format!("http://{CONTROL}/healthz")).send().await, Ok(answer) if answer.status().is_success())
            })
            .await?;
        Ok(Self { process, ca: data.join("ca.crt"), http })
    }

    /// A document of the control API, e.g. `vms`, `volumes`, `files`, `audit`.
    pub async fn control(&self, what: &str) -> Result<Value> {
        let answer = self.http.get(format!("http://{CONTROL}/{what}")).send().await?.error_for_status()?;
        answer.json().await.with_context(|| format!("control API: {what}"))
    }

    /// Stages something that a user of the site could not: `POST` to the control API.
    pub async fn stage(&self, method: reqwest::Method, what: &str, body: &Value) -> Result<()> {
        let request = self.http.request(method, format!("http://{CONTROL}/{what}")).json(body);
        let answer = request.send().await?;
        if let Err(error) = answer.error_for_status_ref() {
            bail!("control API: {what}: {error}: {}", answer.text().await.unwrap_or_default());
        }
        Ok(())
    }

    /// The simulator's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Powers everything off and ends the simulator.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }
}

/// Socket on which the adapter serves the controller.
pub fn adapter_socket(dir: &Path) -> PathBuf {
    dir.join("adapter").join("machine.sock")
}

/// Starts the adapter; `ca` is the site's certificate authority, trusted by flag as a platform team would.
pub fn start_adapter(
    binaries: &Path,
    dir: &Path,
    logs: &Path,
    ca: &Path,
    crash_points: &CrashPoints,
) -> Result<Process> {
    let mut adapter = Command::new(binaries.join("basalt-dcs-adapter"));
    adapter
        .arg("serve")
        .arg(format!("--socket={}", adapter_socket(dir).display()))
        .arg(format!("--ca-file={}", ca.display()))
        .env(fault::VARIABLE, crash_points.folder());
    Process::start("dcs-adapter", &mut adapter, logs)
}
