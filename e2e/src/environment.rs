//! Everything of a run, started in order and taken down in reverse.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use xtask::{paths, progress::Progress, toolchain};

use crate::{
    isolation,
    management::Management,
    process::Process,
    providers::{BOOTSTRAP, CONTROL_PLANE, CORE, DCS, Installed, Places},
    site::{self, Site},
};

/// Where the binaries and images of a run are.
#[derive(Args, Clone)]
pub struct Inputs {
    /// Folder of the Go-built peers
    #[arg(long)]
    pub toolchain: PathBuf,
    /// Folder of Basalt's own binaries
    #[arg(long)]
    pub binaries: PathBuf,
    /// Folder of the guest images
    #[arg(long)]
    pub images: PathBuf,
}

/// A running environment.
pub struct Environment {
    /// The management cluster.
    pub management: Management,
    /// The simulated site.
    pub site: Site,
    /// Folder of the Go-built peers.
    pub toolchain: PathBuf,
    /// Folder with state, logs and dumps of this run.
    pub dir: PathBuf,
    logs: PathBuf,
    inputs: Inputs,
    adapter: Process,
    managers: Vec<(Installed, Process)>,
}

impl Environment {
    /// Starts everything; returns when every manager is ready.
    pub async fn start(name: &str, inputs: &Inputs, balancers: &[String], progress: &Progress) -> Result<Self> {
        let dir = paths::run_dir(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
        }
        let logs = dir.join("logs");
        let scratch = dir.join("rendered");
        for folder in [&dir, &logs, &scratch] {
            fs::create_dir_all(folder)?;
        }
        let stage = progress.stage("network");
        isolation::make_network(site::BRIDGE.0, site::BRIDGE.1).await?;
        stage.done(format!("{} {}", site::BRIDGE.0, site::BRIDGE.1));

        let stage = progress.stage("management cluster");
        let management = Management::start(&inputs.toolchain, &dir, &logs).await?;
        stage.done("etcd, kube-apiserver, kube-controller-manager");

        let stage = progress.stage("simulated DCS site");
        let site = Site::start(&inputs.binaries, &inputs.images, &dir, &logs, balancers).await?;
        let adapter = site::start_adapter(&inputs.binaries, &dir, &logs, &site.ca, &[])?;
        stage.done(site::ENDPOINT);

        let stage = progress.stage("providers");
        let places = Places {
            management: &management,
            toolchain: &inputs.toolchain,
            binaries: &inputs.binaries,
            scratch: &scratch,
            logs: &logs,
        };
        let managers = install(&places, &dir, |name| stage.detail(name)).await?;
        stage.done("core, bootstrap-kubeadm, controlplane-kubeadm, dcs-controller");
        Ok(Self {
            management,
            site,
            toolchain: inputs.toolchain.clone(),
            dir,
            logs,
            inputs: inputs.clone(),
            adapter,
            managers,
        })
    }

    /// Folder of all logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Names of processes that ended by themselves, with how: a healthy run has none.
    pub fn fallen(&mut self) -> Vec<String> {
        let managers = self.managers.iter_mut().map(|(_, process)| process);
        let all = managers.chain([&mut self.adapter, self.site.process()]).chain(self.management.processes());
        all.filter_map(|process| process.ended().map(|status| format!("{} ({status})", process.name()))).collect()
    }

    /// Process ids by process name, for measurements.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let managers = self.managers.iter().map(|(_, process)| process).chain([&self.adapter]);
        managers.filter_map(|process| Some((process.name().to_owned(), process.pid()?))).collect()
    }

    /// Starts one of our processes again, after it fell or was killed, with these environment variables.
    pub async fn restart(&mut self, name: &str, environment: &[(String, String)]) -> Result<()> {
        if name == self.adapter.name() {
            self.adapter.kill().await;
            let ca = self.site.ca.clone();
            self.adapter = site::start_adapter(&self.inputs.binaries, &self.dir, &self.logs, &ca, environment)?;
            return Ok(());
        }
        let manager = self.managers.iter_mut().find(|(_, process)| process.name() == name);
        let (installed, process) = manager.with_context(|| format!("no process is called {name}"))?;
        process.kill().await;
        *process = installed.start(environment)?;
        Ok(())
    }

    /// Takes everything down: providers first, then the site with its guests, then the management cluster.
    pub async fn stop(mut self) {
        for (_, process) in self.managers.iter_mut().rev() {
            process.stop().await;
        }
        self.adapter.stop().await;
        self.site.stop().await;
        self.management.stop().await;
    }
}

async fn install(places: &Places<'_>, dir: &Path, mut detail: impl FnMut(&str)) -> Result<Vec<(Installed, Process)>> {
    let cluster_api = toolchain::MODULES.iter().find(|module| module.folder == "cluster-api");
    let upstream = cluster_api.context("cluster-api is not pinned")?.source_dir()?;
    let ours = paths::workspace();
    let socket = format!("--adapter-socket={}", site::adapter_socket(dir).display());
    let kustomizations = [
        (&CORE, upstream.join("core/config/default"), Vec::new()),
        (&BOOTSTRAP, ours.join("bootstrap-kubeadm/config/default"), Vec::new()),
        (&CONTROL_PLANE, ours.join("controlplane-kubeadm/config/default"), Vec::new()),
        (&DCS, ours.join("infra-dcs/config/default"), vec![socket]),
    ];
    let mut managers = Vec::new();
    for (provider, kustomization, extra) in kustomizations {
        detail(provider.name);
        let installed = Installed::apply(provider, &kustomization, places, extra).await?;
        let process = installed.start(&[])?;
        managers.push((installed, process));
    }
    for (installed, process) in &mut managers {
        detail(installed.provider().name);
        installed.wait_ready(process).await?;
    }
    Ok(managers)
}
