//! The `api` tier: our CRDs, webhooks and rights, and what the model API server imitates, against a real etcd and API server.
//!
//! Our managers run as replicas that do not lead: they serve webhooks and conversions for real, and no controller
//! touches the objects of a check. Everything listens on free ports of loopback; neither root nor a guest is needed.

mod access;
mod conversion;
mod model;
mod objects;
mod published;
mod refusals;
mod self_managed;
mod server;
mod writing;

use std::{
    fs,
    path::{Path, PathBuf},
    pin::Pin,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use xtask::{paths, progress::Progress, toolchain};

use self::server::Server;
use crate::{
    crash_points::CrashPoints,
    environment::Inputs,
    ground::Ground,
    management::Management,
    manifests,
    process::Process,
    providers::{BOOTSTRAP, CONTROL_PLANE, DCS, Installed, Places},
    run_folder::RunFolder,
};

/// Which checks run.
#[derive(Args, Clone)]
pub struct Options {
    /// Run only checks whose name contains this text
    #[arg(long)]
    filter: Option<String>,
    /// Test executable of the model API server, whose ignored tests run too
    #[arg(long, value_name = "FILE")]
    model_tests: Vec<PathBuf>,
}

/// One thing that must hold.
struct Check<'a> {
    name: String,
    run: Pin<Box<dyn Future<Output = Result<()>> + 'a>>,
}

/// A check from its name and what it does.
fn check<'a>(name: impl Into<String>, run: impl Future<Output = Result<()>> + 'a) -> Check<'a> {
    Check { name: name.into(), run: Box::pin(run) }
}

/// Runs the chosen checks, a line each; returns how many passed, failed and were skipped.
pub async fn run(inputs: &Inputs, options: &Options, progress: &Progress) -> Result<(usize, usize, usize)> {
    let folder = RunFolder::take(paths::run_dir("api"))?;
    let checked = async {
        let stage = progress.stage("etcd and API server");
        let mut tier = Tier::start(inputs, folder.path(), |detail| stage.detail(detail)).await?;
        stage.done("with the webhooks of the three providers");
        let result = tier.check(inputs, &folder.path().join("logs"), options).await;
        tier.stop().await;
        result
    };
    // What is dropped unfinished ends the processes that it started.
    tokio::select! {
        result = checked => result,
        () = ::process::terminated() => bail!("interrupted"),
    }
}

/// What the checks run against.
struct Tier {
    management: Management,
    managers: Vec<(Installed, Process)>,
}

impl Tier {
    async fn start(inputs: &Inputs, dir: &Path, mut detail: impl FnMut(&str)) -> Result<Self> {
        let (logs, scratch) = (dir.join("logs"), dir.join("rendered"));
        for folder in [&logs, &scratch] {
            fs::create_dir_all(folder)?;
        }
        detail("starting");
        let ground = Ground::loopback()?;
        let management = Management::start(&inputs.toolchain, dir, &logs, ground.management).await?;
        detail("kinds of the core");
        management.apply(&core_definitions()?).await?;
        let crash_points = CrashPoints::create(dir.join("crash-points"))?;
        let places = Places {
            management: &management,
            toolchain: &inputs.toolchain,
            binaries: &inputs.binaries,
            scratch: &scratch,
            logs: &logs,
            crash_points: &crash_points,
            first_port: ground.managers,
        };
        let ours = paths::workspace();
        let socket = format!("--adapter-socket={}", dir.join("no-adapter.sock").display());
        let mut started = Vec::new();
        for (provider, config, lease, extra) in [
            (BOOTSTRAP, "bootstrap-kubeadm", "kubeadm-bootstrap-manager-leader-election-capi", None),
            (CONTROL_PLANE, "controlplane-kubeadm", "kubeadm-control-plane-manager-leader-election-capi", None),
            (DCS, "infra-dcs", "controller-leader-election-capdcs", Some(socket)),
        ] {
            detail(provider.name);
            let extra = extra.into_iter().chain(LEAVE_TO_LEADER.map(str::to_owned)).collect();
            let installed =
                Installed::apply(&provider, &ours.join(config).join("config/default"), &places, extra).await?;
            management.apply(&held_lease(provider.account.0, lease)).await?;
            let process = installed.start()?;
            started.push((installed, process));
        }
        let mut managers = Vec::new();
        for (installed, mut process) in started {
            installed.wait_ready(&mut process).await?;
            managers.push((installed, process));
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": objects::NAMESPACE}});
        management.apply(&manifests::list(&[namespace])).await?;
        Ok(Self { management, managers })
    }

    async fn check(&mut self, inputs: &Inputs, logs: &Path, options: &Options) -> Result<(usize, usize, usize)> {
        let model = model::checks(&self.management, &inputs.toolchain, logs, &options.model_tests).await?;
        let server = Server::new(&self.management);
        let checks = refusals::checks(&server)
            .into_iter()
            .chain(writing::checks(&server))
            .chain(conversion::checks(&server))
            .chain(access::checks(&server))
            .chain(published::checks(&server)?)
            .chain(model)
            .chain([check(
                "managers without cert-manager make their webhook certificates known",
                self_managed::certificates_are_made_known(&server, &self.management, inputs, &mut self.managers),
            )]);
        let (mut passed, mut failed) = (0, 0);
        for check in checks {
            if options.filter.as_ref().is_some_and(|text| !check.name.contains(text.as_str())) {
                continue;
            }
            match check.run.await {
                Ok(()) => {
                    passed += 1;
                    println!("ok      {}", check.name);
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED  {}: {error:#}", check.name);
                }
            }
        }
        let managers = self.managers.iter_mut().map(|(_, process)| process);
        let processes = managers.chain(self.management.processes());
        for (name, status) in processes.filter_map(|process| Some((process.name().to_owned(), process.ended()?))) {
            failed += 1;
            println!("FAILED  {name} ended during the checks: {status}");
        }
        Ok((passed, failed, 0))
    }

    async fn stop(mut self) {
        for (_, process) in &mut self.managers {
            process.stop().await;
        }
        self.management.stop().await;
    }
}

/// The kinds that our managers read, as upstream defines them, without its webhooks.
fn core_definitions() -> Result<String> {
    let folder = toolchain::source_of("cluster-api")?.join("core/config/crd/bases");
    let mut definitions = Vec::new();
    for plural in ["clusters", "machinepools", "machines"] {
        let file = folder.join(format!("cluster.x-k8s.io_{plural}.yaml"));
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        definitions.extend(manifests::documents(&text)?);
    }
    Ok(manifests::list(&definitions))
}

/// A manager takes a lease over that is not renewed for as long as its own flag says.
const LEAVE_TO_LEADER: [&str; 2] = ["--leader-elect=true", "--leader-elect-lease-duration=10h"];

/// A lease that someone else holds for the whole run: the managers wait for it and serve webhooks meanwhile.
fn held_lease(namespace: &str, name: &str) -> String {
    let now = time::OffsetDateTime::now_utc();
    let now = format!("{}T{:02}:{:02}:{:02}.000000Z", now.date(), now.hour(), now.minute(), now.second());
    manifests::list(&[json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"holderIdentity": "checks", "leaseDurationSeconds": 36_000, "acquireTime": now, "renewTime": now},
    })])
}
