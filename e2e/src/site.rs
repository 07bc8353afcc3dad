//! The simulated DCS site: its process, its inventory, its control API, and the adapter that speaks to it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    crash_points::CrashPoints,
    environment::Inputs,
    ground::{Ground, Guests},
    process::Process,
};

/// Bridge of the fabric inside the run's network namespace.
pub const BRIDGE: &str = "br0";

/// A running simulator.
pub struct Site {
    process: Process,
    /// Certificate authority of its REST listeners.
    pub ca: PathBuf,
    http: reqwest::Client,
    control: String,
}

impl Site {
    /// Starts the simulator. `balancers` are `address:port=backend,backend` of the site's load balancer; `inventory` is a
    /// file with what the site consists of, where its default is too small.
    pub async fn start(
        ground: &Ground,
        inputs: &Inputs,
        dir: &Path,
        logs: &Path,
        balancers: &[String],
        inventory: Option<&Path>,
    ) -> Result<Self> {
        let data = dir.join("site");
        fs::create_dir_all(&data)?;
        let control = format!("http://127.0.0.1:{}", ground.site + 2);
        let mut simulator = Command::new(inputs.binaries.join("basalt-dcs-simulator"));
        simulator
            .arg("serve")
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen=127.0.0.1:{}", ground.site))
            .arg(format!("--upload-listen=127.0.0.1:{}", ground.site + 1))
            .arg(format!("--control-listen=127.0.0.1:{}", ground.site + 2))
            .args(balancers.iter().map(|balancer| format!("--load-balancer={balancer}")));
        if let Some(file) = inventory {
            simulator.arg("--site-file").arg(file);
        }
        match ground.guests {
            // Machines that boot at once would only wait for the site.
            Guests::Memory => simulator.args(["--guests=memory", "--latency-scale=0.02", "--strict-kubeadm"]),
            Guests::Sandbox => {
                simulator.args(["--guests=sandbox", "--bridge", BRIDGE]).arg("--image-dir").arg(&inputs.images)
            }
        };
        let mut process = Process::start("dcs-simulator", &mut simulator, logs)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let probe = http.get(format!("{control}/healthz"));
        process
            .wait_until("ready", Duration::from_secs(60), async move || {
                let Some(probe) = probe.try_clone() else { return false };
                matches!(probe.send().await, Ok(answer) if answer.status().is_success())
            })
            .await?;
        Ok(Self { process, ca: data.join("ca.crt"), http, control })
    }

    /// A document of the control API, e.g. `vms`, `volumes`, `files`, `audit`.
    pub async fn control(&self, what: &str) -> Result<Value> {
        let answer = self.http.get(format!("{}/{what}", self.control)).send().await?.error_for_status()?;
        answer.json().await.with_context(|| format!("control API: {what}"))
    }

    /// Stages something that a user of the site could not: `POST` to the control API.
    pub async fn stage(&self, method: reqwest::Method, what: &str, body: &Value) -> Result<()> {
        let request = self.http.request(method, format!("{}/{what}", self.control)).json(body);
        let answer = request.send().await?;
        if let Err(error) = answer.error_for_status_ref() {
            bail!("control API: {what}: {error}: {}", answer.text().await.unwrap_or_default());
        }
        Ok(())
    }

    /// The simulator's process.
    pub fn running(&self) -> &Process {
        &self.process
    }

    /// The same, to look after it.
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
    guests: Guests,
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
    if guests == Guests::Memory {
        // This site is nobody's to share, and its machines do not take the minutes that hide the pace of a real one.
        adapter.arg("--calls-per-second=100");
    }
    Process::start("dcs-adapter", &mut adapter, logs)
}
