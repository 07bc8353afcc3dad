//! Everything of a run, started in order and taken down in reverse.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::future::try_join_all;
use xtask::{fleet::Managers, paths, progress::Progress, toolchain};

use crate::{
    crash_points::CrashPoints,
    ground::{Ground, Guests},
    isolation,
    management::Management,
    process::Process,
    providers::{BOOTSTRAP, CONTROL_PLANE, CORE, DCS, Installed, Places, UPSTREAM_BOOTSTRAP, UPSTREAM_CONTROL_PLANE},
    run_folder::RunFolder,
    site::{self, Site},
};

const SIGKILL: i32 = 9;
/// How long managers may take to tell their metrics, where they die meanwhile.
const METRICS_LIMIT: Duration = Duration::from_secs(60);
/// What the published manifests need of upstream's kubeadm providers, where it is off by default.
const IGNITION_GATE: &str = "--feature-gates=KubeadmBootstrapFormatIgnition=true";

/// Where the binaries and images of a run are.
#[derive(Args, Clone)]
pub struct Inputs {
    /// Folder of the Go-built peers
    #[arg(long)]
    pub toolchain: PathBuf,
    /// Folder of Basalt's own binaries
    #[arg(long)]
    pub binaries: PathBuf,
    /// Folder of the guest images, for sandbox guests
    #[arg(long)]
    pub images: PathBuf,
}

/// What an environment may differ in.
#[derive(Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Whose kubeadm providers run.
    pub kubeadm: Managers,
    /// File with what the site consists of.
    pub inventory: Option<&'a Path>,
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
    /// Where our processes are asked to crash.
    pub crash_points: CrashPoints,
    /// What it stands on.
    pub ground: Ground,
    /// Held until the end.
    _folder: RunFolder,
    logs: PathBuf,
    inputs: Inputs,
    adapter: Process,
    managers: Vec<(Installed, Process)>,
}

impl Environment {
    /// Starts everything; returns when every manager is ready.
    pub async fn start(
        name: &str,
        ground: Ground,
        inputs: &Inputs,
        balancers: &[String],
        progress: &Progress,
    ) -> Result<Self> {
        Self::start_with(name, ground, inputs, balancers, Setup::default(), progress).await
    }

    /// The same with a setup of its own.
    pub async fn start_with(
        name: &str,
        ground: Ground,
        inputs: &Inputs,
        balancers: &[String],
        setup: Setup<'_>,
        progress: &Progress,
    ) -> Result<Self> {
        let folder = RunFolder::take(paths::run_dir(name))?;
        let dir = folder.path().to_owned();
        let logs = dir.join("logs");
        let scratch = dir.join("rendered");
        for folder in [&logs, &scratch] {
            fs::create_dir_all(folder)?;
        }
        if ground.guests == Guests::Sandbox {
            let stage = progress.stage("network");
            let address = format!("{}/16", ground.address(0, 1));
            isolation::make_network(site::BRIDGE, &address).await?;
            stage.done(format!("{} {address}", site::BRIDGE));
        }

        let stage = progress.stage("management cluster");
        let management = Management::start(&inputs.toolchain, &dir, &logs, ground.management).await?;
        stage.done("etcd, kube-apiserver, kube-controller-manager");

        let stage = progress.stage("simulated DCS site");
        let site = Site::start(&ground, inputs, &dir, &logs, balancers, setup.inventory).await?;
        let crash_points = CrashPoints::create(dir.join("crash-points"))?;
        let adapter = site::start_adapter(ground.guests, &inputs.binaries, &dir, &logs, &site.ca, &crash_points)?;
        stage.done(ground.endpoint());

        let stage = progress.stage("providers");
        let places = Places {
            management: &management,
            toolchain: &inputs.toolchain,
            binaries: &inputs.binaries,
            scratch: &scratch,
            logs: &logs,
            crash_points: &crash_points,
            first_port: ground.managers,
        };
        let managers = install(&places, setup.kubeadm, &dir, |name| stage.detail(name)).await?;
        stage.done("core, bootstrap-kubeadm, controlplane-kubeadm, dcs-controller");
        Ok(Self {
            management,
            site,
            toolchain: inputs.toolchain.clone(),
            dir,
            crash_points,
            ground,
            _folder: folder,
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

    /// Starts again what ended at a crash point; fails when a process ended for any other reason.
    pub fn keep_up(&mut self) -> Result<()> {
        let crashing = self.crash_points.is_armed();
        let crashed = |status: ExitStatus| crashing && status.signal() == Some(SIGKILL);
        let mut fallen = Vec::new();
        for (installed, process) in &mut self.managers {
            match process.ended() {
                Some(status) if crashed(status) => *process = installed.start()?,
                Some(status) => fallen.push(format!("{} ({status})", process.name())),
                None => {}
            }
        }
        match self.adapter.ended() {
            Some(status) if crashed(status) => {
                let (guests, binaries) = (self.ground.guests, &self.inputs.binaries);
                let (logs, ca) = (&self.logs, &self.site.ca);
                self.adapter = site::start_adapter(guests, binaries, &self.dir, logs, ca, &self.crash_points)?;
            }
            Some(status) => fallen.push(format!("{} ({status})", self.adapter.name())),
            None => {}
        }
        for process in [self.site.process()].into_iter().chain(self.management.processes()) {
            if let Some(status) = process.ended() {
                fallen.push(format!("{} ({status})", process.name()));
            }
        }
        if fallen.is_empty() { Ok(()) } else { bail!("processes ended by themselves: {}", fallen.join(", ")) }
    }

    /// Waits until every manager is ready again, after crashes.
    async fn settle(&mut self) -> Result<()> {
        self.keep_up()?;
        for (installed, process) in &mut self.managers {
            installed.wait_ready(process).await?;
        }
        Ok(())
    }

    /// Ends what [`CrashPoints::arm`] began; returns the names of the crash points that no process came to.
    pub async fn disarm(&mut self) -> Result<BTreeSet<String>> {
        // Whoever is being started again must not be seen as fallen once nobody is asked to crash.
        let settled = self.settle().await;
        let left = self.crash_points.disarm()?;
        settled.map(|()| left)
    }

    /// Metrics of our managers, by their names. One that dies at a crash point meanwhile is started again and asked anew.
    pub async fn metrics(&mut self) -> Result<Vec<(&'static str, String)>> {
        let deadline = Instant::now() + METRICS_LIMIT;
        loop {
            self.settle().await?;
            let ours = self.managers.iter().map(|(installed, _)| installed);
            let ours = ours.filter(|installed| installed.provider().name != CORE.name);
            let asked = ours.map(async |installed| Ok((installed.provider().name, installed.metrics().await?)));
            match try_join_all(asked).await {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                answered => return answered,
            }
        }
    }

    /// Process ids by process name, for measurements.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let managers = self.managers.iter().map(|(_, process)| process).chain([&self.adapter]);
        managers.filter_map(|process| Some((process.name().to_owned(), process.pid()?))).collect()
    }

    /// The same with those that are not ours.
    pub fn all_pids(&self) -> Vec<(String, u32)> {
        let others = self.management.running().chain([self.site.running()]);
        let others = others.filter_map(|process| Some((process.name().to_owned(), process.pid()?)));
        others.chain(self.pids()).collect()
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

async fn install(
    places: &Places<'_>,
    kubeadm: Managers,
    dir: &Path,
    mut detail: impl FnMut(&str),
) -> Result<Vec<(Installed, Process)>> {
    let cluster_api = toolchain::MODULES.iter().find(|module| module.folder == "cluster-api");
    let upstream = cluster_api.context("cluster-api is not pinned")?.source_dir()?;
    let ours = paths::workspace();
    let socket = format!("--adapter-socket={}", site::adapter_socket(dir).display());
    let [bootstrap, control_plane] = match kubeadm {
        Managers::Basalt => [
            (&BOOTSTRAP, ours.join("bootstrap-kubeadm/config/default"), Vec::new()),
            (&CONTROL_PLANE, ours.join("controlplane-kubeadm/config/default"), Vec::new()),
        ],
        Managers::Upstream => [
            (&UPSTREAM_BOOTSTRAP, upstream.join("bootstrap/kubeadm/config/default"), vec![IGNITION_GATE.to_owned()]),
            (
                &UPSTREAM_CONTROL_PLANE,
                upstream.join("controlplane/kubeadm/config/default"),
                vec![IGNITION_GATE.to_owned()],
            ),
        ],
    };
    let kustomizations = [
        (&CORE, upstream.join("core/config/default"), Vec::new()),
        bootstrap,
        control_plane,
        (&DCS, ours.join("infra-dcs/config/default"), vec![socket]),
    ];
    let mut managers = Vec::new();
    for (provider, kustomization, extra) in kustomizations {
        detail(provider.name);
        let installed = Installed::apply(provider, &kustomization, places, extra).await?;
        let process = installed.start()?;
        managers.push((installed, process));
    }
    for (installed, process) in &mut managers {
        detail(installed.provider().name);
        installed.wait_ready(process).await?;
    }
    Ok(managers)
}
