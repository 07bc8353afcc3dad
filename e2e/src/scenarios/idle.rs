//! What a settled cluster costs: nothing is written, and the site is hardly asked.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use xtask::progress::Progress;

use crate::{
    cluster::Shape,
    environment::Environment,
    measure::{self, Audit, Requests, Usage},
    providers::CORE,
    tree,
};

/// How long is looked on.
pub const SPAN: Duration = Duration::from_secs(60);
/// A cluster about which nothing has been written for so long has settled: details of a status wait for up to 20 s.
const QUIET: Duration = Duration::from_secs(23);

/// What happened while nothing was to do.
pub struct Idle {
    /// Requests to the management API server, by provider.
    pub requests: BTreeMap<&'static str, Requests>,
    /// Reads at the site.
    pub site_reads: u64,
    /// What each process used at the end, with the processor time of the span alone.
    pub processes: Vec<Usage>,
}

impl Idle {
    /// Looks on for [`SPAN`], from when the last word about the cluster has been written.
    pub async fn watch(environment: &mut Environment, shape: &Shape) -> Result<Self> {
        settled(environment, shape).await?;
        let audit = Audit::from_now(environment.logs())?;
        environment.site.stage(reqwest::Method::POST, "counters/reset", &json!({})).await?;
        let before = measure::processes(environment)?;
        tokio::time::sleep(SPAN).await;
        environment.keep_up()?;
        let mut processes = measure::processes(environment)?;
        for (after, before) in processes.iter_mut().zip(before) {
            after.cpu -= before.cpu;
        }
        let site = environment.site.control("counters").await?;
        let site_reads = site["reads"].as_u64().context("the site does not count reads")?;
        Ok(Self { requests: audit.requests()?, site_reads, processes })
    }

    /// One line a process.
    pub fn lines(&self) -> Vec<String> {
        let line = |process: &Usage| {
            let none = Requests::default();
            let requests = self.requests.get(process.name.as_str()).unwrap_or(&none);
            format!(
                "{:<22} {:>5.1} MiB, {:>5.1} at most; {:>5.1} mCPU; {} writes, {} reads, {} of its lease",
                process.name,
                process.rss,
                process.peak,
                process.cpu * 1000.0 / SPAN.as_secs_f64(),
                requests.writes(),
                requests.reads(),
                requests.leases,
            )
        };
        self.processes.iter().map(line).collect()
    }
}

/// Waits until the site has put the control plane's VMs on hosts of their own and none of our providers has written
/// anything for [`QUIET`].
async fn settled(environment: &mut Environment, shape: &Shape) -> Result<()> {
    let deadline = Instant::now() + 2 * SPAN;
    let resource = ("infrastructure.cluster.x-k8s.io", "v1beta1", "DCSCluster");
    let infras = tree::api(&environment.management.client, &shape.namespace, resource);
    while infras.get(&shape.name).await?.data["status"]["conditions"].to_string().contains("PlacementNotConverged") {
        if Instant::now() > deadline {
            bail!("the control plane's VMs still share a host after {} s", 2 * SPAN.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    loop {
        let audit = Audit::from_now(environment.logs())?;
        tokio::time::sleep(QUIET).await;
        let requests = audit.requests()?;
        let mut ours = requests.iter().filter(|(name, _)| **name != CORE.name);
        let Some((name, busy)) = ours.find(|(_, requests)| requests.writes() > 0) else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("{name} has not stopped writing after {} s: {:?}", 2 * SPAN.as_secs(), busy.by_kind);
        }
    }
}

/// For [`SPAN`] none of our providers writes anything but its lease, and the site is read at most once per machine.
pub async fn costs_nothing(environment: &mut Environment, shape: &Shape, progress: &Progress) -> Result<()> {
    let stage = progress.stage(format!("leaving {} alone", shape.name));
    let idle = Idle::watch(environment, shape).await?;
    for line in idle.lines() {
        progress.line(format!("    {line}"));
    }
    for (name, requests) in idle.requests.iter().filter(|(name, _)| **name != CORE.name) {
        if requests.writes() > 0 {
            bail!("{name} writes while nothing is to do: {:?}", requests.by_kind);
        }
    }
    let machines = u64::from(shape.control_plane + shape.workers);
    if idle.site_reads > machines {
        bail!("{} reads at the site in {} s for {machines} machines", idle.site_reads, SPAN.as_secs());
    }
    stage.done(format!("no writes of ours, {} reads at the site in {} s", idle.site_reads, SPAN.as_secs()));
    Ok(())
}
