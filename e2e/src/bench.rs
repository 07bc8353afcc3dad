//! `cargo xtask bench`: how long a cluster takes, and what it costs, with release builds.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use xtask::progress::Progress;

use crate::{
    cluster::{BootFormat, NAMESPACE, Replicas, Shape},
    demo,
    environment::{Environment, Inputs},
    ground::Ground,
    measure::{self, Audit, Requests},
    providers::{BOOTSTRAP, CONTROL_PLANE, DCS},
    scenarios::{
        idle::{self, Idle},
        steps,
    },
};

/// Makes a cluster, leaves it alone, deletes it; prints a figure a line.
pub async fn run(inputs: &Inputs, replicas: &Replicas, progress: &Progress) -> Result<()> {
    let shape = Shape {
        name: "bench".into(),
        namespace: NAMESPACE.into(),
        index: 0,
        control_plane: replicas.control_plane,
        workers: replicas.workers,
        version: demo::pinned_version()?,
        boot: BootFormat::Ignition,
        ground: Ground::ISOLATED,
    };
    let mut environment = Environment::start("bench", shape.ground, inputs, &[shape.balancer()], progress).await?;
    let result = tokio::select! {
        result = figures(&mut environment, &shape, &inputs.binaries, progress) => result,
        () = ::process::terminated() => Err(anyhow::anyhow!("interrupted")),
    };
    environment.stop().await;
    println!("\n{}", result?);
    Ok(())
}

async fn figures(environment: &mut Environment, shape: &Shape, binaries: &Path, progress: &Progress) -> Result<String> {
    let audit = Audit::from_now(environment.logs())?;
    let took = steps::create(environment, shape, progress).await?;
    let creation = audit.requests()?;
    let used = measure::processes(environment)?;
    let stage = progress.stage(format!("leaving {} alone", shape.name));
    let idle = Idle::watch(environment, shape).await?;
    stage.done("");
    let started = std::time::Instant::now();
    steps::delete(environment, shape, progress).await?;
    let mut text = format!(
        "{} + {} machines: Available after {:.1} s, deleted after {:.1} s\n\nUntil Available:\n",
        shape.control_plane,
        shape.workers,
        took.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    for process in &used {
        let requests = requests_of(&creation, &process.name);
        text.push_str(&format!(
            "  {:<22} {:>5.1} MiB at most; {:>5.2} s CPU{requests}\n",
            process.name, process.peak, process.cpu
        ));
    }
    text.push_str(&format!("\nIn {} s after that ({} reads at the site):\n", idle::SPAN.as_secs(), idle.site_reads));
    idle.lines().iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    text.push_str("\nBinaries:\n");
    for binary in [BOOTSTRAP.binary, CONTROL_PLANE.binary, DCS.binary, "basalt-dcs-adapter"] {
        let path = binaries.join(binary);
        let size = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        #[allow(clippy::cast_precision_loss, reason = "a file's size in MiB, with one digit")]
        text.push_str(&format!("  {binary:<28} {:>5.1} MiB\n", size as f64 / 1_048_576.0));
    }
    Ok(text)
}

fn requests_of(all: &BTreeMap<&'static str, Requests>, name: &str) -> String {
    all.get(name).map_or_else(String::new, |requests| {
        format!("; {} writes, {} reads, {} conflicts", requests.writes(), requests.reads(), requests.conflicts)
    })
}
