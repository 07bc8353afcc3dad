//! Managers as processes: upstream's core and ours, each started exactly as the other, with its own service account.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    crash_points::CrashPoints,
    ground::PORTS_PER_MANAGER,
    management::Management,
    manifests::{self, Components},
    process::Process,
};

/// How a provider is installed and reached.
#[derive(Clone, Copy)]
pub struct Provider {
    /// Name of its process and log.
    pub name: &'static str,
    /// File name of its manager.
    pub binary: &'static str,
    /// Namespace and service account of its Deployment.
    pub account: (&'static str, &'static str),
    /// Its place among the managers of an environment, which gives it its ports.
    pub place: u16,
}

/// Upstream's core manager.
pub const CORE: Provider =
    Provider { name: "core", binary: "capi-manager", account: ("capi-system", "capi-manager"), place: 0 };

/// Our kubeadm bootstrap provider.
pub const BOOTSTRAP: Provider = Provider {
    name: "bootstrap-kubeadm",
    binary: "basalt-bootstrap-kubeadm",
    account: ("capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-manager"),
    place: 1,
};

/// Our kubeadm control plane provider.
pub const CONTROL_PLANE: Provider = Provider {
    name: "controlplane-kubeadm",
    binary: "basalt-controlplane-kubeadm",
    account: ("capi-kubeadm-control-plane-system", "capi-kubeadm-control-plane-manager"),
    place: 2,
};

/// Upstream's kubeadm bootstrap provider, in place of ours.
pub const UPSTREAM_BOOTSTRAP: Provider = Provider { binary: "capi-kubeadm-bootstrap-manager", ..BOOTSTRAP };

/// Upstream's kubeadm control plane provider, in place of ours.
pub const UPSTREAM_CONTROL_PLANE: Provider = Provider { binary: "capi-kubeadm-control-plane-manager", ..CONTROL_PLANE };

/// Our DCS infrastructure provider.
pub const DCS: Provider = Provider {
    name: "dcs-controller",
    binary: "basalt-dcs-controller",
    account: ("capdcs-system", "capdcs-manager"),
    place: 3,
};

/// A provider whose manifests are applied; its manager can be started, killed and started again.
pub struct Installed {
    provider: Provider,
    /// First of three ports: webhooks, health, diagnostics.
    port: u16,
    binary: PathBuf,
    kubeconfig: PathBuf,
    arguments: Vec<String>,
    extra: Vec<String>,
    webhook_certificates: PathBuf,
    logs: PathBuf,
    crash_points: PathBuf,
}

impl Installed {
    /// Applies a provider's kustomization and prepares its start. `extra` is added to the Deployment's arguments.
    pub async fn apply(
        provider: &Provider,
        kustomization: &Path,
        places: &Places<'_>,
        extra: Vec<String>,
    ) -> Result<Self> {
        let port = places.first_port + provider.place * PORTS_PER_MANAGER;
        let objects = manifests::render(places.toolchain, kustomization, places.scratch).await?;
        let Components { objects, arguments } = manifests::for_processes(objects, port, &places.management.pki.ca())?;
        let (definitions, rest): (Vec<Value>, Vec<Value>) = objects
            .into_iter()
            .partition(|object| matches!(object["kind"].as_str(), Some("Namespace" | "CustomResourceDefinition")));
        places.management.apply(&manifests::list(&definitions)).await?;
        places.management.apply(&manifests::list(&rest)).await?;
        let (namespace, account) = provider.account;
        Ok(Self {
            provider: *provider,
            port,
            binary: places.binary(provider),
            kubeconfig: places.management.service_account_kubeconfig(namespace, account).await?,
            arguments,
            extra,
            webhook_certificates: places.management.pki.webhook_dir(),
            logs: places.logs.to_path_buf(),
            crash_points: places.crash_points.folder().to_path_buf(),
        })
    }

    /// The provider's description.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Adds to the arguments of every later start.
    pub fn add_arguments(&mut self, arguments: Vec<String>) {
        self.extra.extend(arguments);
    }

    /// Starts the manager.
    pub fn start(&self) -> Result<Process> {
        let port = self.port;
        let mut manager = Command::new(&self.binary);
        manager
            .args(&self.arguments)
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            .arg(format!("--webhook-port={port}"))
            .arg(format!("--webhook-cert-dir={}", self.webhook_certificates.display()))
            .arg(format!("--health-addr=127.0.0.1:{}", port + 1))
            .arg(format!("--diagnostics-address=127.0.0.1:{}", port + 2))
            .arg("--insecure-diagnostics=true")
            .args(&self.extra)
            .env("POD_IP", "127.0.0.1")
            .env("POD_NAMESPACE", self.provider.account.0)
            .env(fault::VARIABLE, &self.crash_points);
        Process::start(self.provider.name, &mut manager, &self.logs)
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.port + 2);
        let read = async || reqwest::get(&url).await?.error_for_status()?.text().await;
        read().await.with_context(|| format!("metrics of {}", self.provider.name))
    }

    /// Waits until a started manager answers its readiness probe.
    pub async fn wait_ready(&self, process: &mut Process) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/readyz", self.port + 1);
        let client = reqwest::Client::new();
        process
            .wait_until(
                "ready",
                Duration::from_secs(60),
                async move || matches!(client.get(&url).send().await, Ok(answer) if answer.status().is_success()),
            )
            .await
    }
}

/// What installing a provider needs to know of the environment.
pub struct Places<'a> {
    /// The management cluster.
    pub management: &'a Management,
    /// Folder of the Go-built peers.
    pub toolchain: &'a Path,
    /// Folder of our binaries.
    pub binaries: &'a Path,
    /// Folder for rendered files.
    pub scratch: &'a Path,
    /// Folder of the logs.
    pub logs: &'a Path,
    /// Where the managers are asked to crash.
    pub crash_points: &'a CrashPoints,
    /// First port of the managers.
    pub first_port: u16,
}

impl Places<'_> {
    fn binary(&self, provider: &Provider) -> PathBuf {
        let ours = self.binaries.join(provider.binary);
        if ours.is_file() { ours } else { self.toolchain.join(provider.binary) }
    }
}
