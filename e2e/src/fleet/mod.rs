//! `cargo xtask bench fleet`: many clusters on memory guests through the whole stack, what each phase of their life takes,
//! and what it costs whom. Perhaps a second time with upstream's kubeadm providers in place of ours.

mod census;
mod orders;
mod plan;
mod plot;
mod record;
mod report;
mod requests;
mod run;
mod statistics;
mod watch;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit};
use tokio::process::Command;
use xtask::{
    fleet::{Managers, Options, name},
    paths,
    progress::Progress,
};

use crate::{
    demo,
    environment::{Environment, Inputs, Setup},
    ground::Ground,
    process,
};
use plan::Plan;
use record::Run;

/// Does what the options ask for and prints what came out; series and plots are left in `target/bench`.
pub async fn run(inputs: &Inputs, options: &Options, progress: &Progress) -> Result<()> {
    let mut runs = Vec::new();
    for managers in options.runs() {
        progress.line(format!(
            "{} clusters of {}, {} kubeadm providers",
            options.clusters,
            name(options.shape),
            name(managers)
        ));
        runs.push(one(inputs, options, managers, progress).await?);
    }
    if let [ours, theirs] = runs.as_slice() {
        println!("\n{}", report::side_by_side(ours, theirs));
    }
    Ok(())
}

/// One run in an environment of its own. What was measured until an error is shown and kept all the same.
async fn one(inputs: &Inputs, options: &Options, managers: Managers, progress: &Progress) -> Result<Run> {
    let ground = Ground::loopback()?;
    let plan = Plan::new(options, &demo::pinned_version()?, ground)?;
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit < plan.open_files() {
        bail!(
            "the simulator may need {} open files and may open {limit}: raise the hard limit (ulimit -Hn), or ask for \
             fewer clusters",
            plan.open_files()
        );
    }
    let files = Files::new(options, managers)?;
    let mut simulator = Command::new(inputs.binaries.join("basalt-dcs-simulator"));
    let inventory = process::output(simulator.arg("inventory"), None).await?;
    fs::write(&files.inventory, plan.inventory(&inventory)?)?;
    let setup = Setup { kubeadm: managers, inventory: Some(&files.inventory) };
    let environment_name = format!("fleet-{}", name(managers));
    let balancers = plan.balancers();
    let mut environment =
        Environment::start_with(&environment_name, ground, inputs, &balancers, setup, progress).await?;
    let mut record = Run::new(options, managers);
    let result = tokio::select! {
        result = run::run(&mut environment, &plan, options, &mut record, progress) => result,
        () = ::process::terminated() => Err(anyhow::anyhow!("interrupted")),
    };
    let stage = progress.stage("taking everything down");
    environment.stop().await;
    stage.done("");
    fs::write(&files.series, serde_json::to_vec(&record)?)?;
    fs::write(&files.plot, plot::svg(&record)?)?;
    println!("\n{}", report::one(&record));
    println!("series: {}\nplot:   {}", files.series.display(), files.plot.display());
    result.map(|()| record)
}

/// Name of a run's files: runs that differ in anything do not overwrite each other's.
fn stem(options: &Options, managers: Managers) -> String {
    let mut stem = format!("fleet-{}x{}-{}", options.clusters, name(options.shape), name(managers));
    stem.push_str(&format!("-idle{}", options.idle));
    if options.foreign_secrets > 0 {
        stem.push_str(&format!("-secrets{}", options.foreign_secrets));
    }
    if options.short {
        stem.push_str("-short");
    }
    stem
}

/// What a run leaves.
struct Files {
    inventory: PathBuf,
    series: PathBuf,
    plot: PathBuf,
}

impl Files {
    fn new(options: &Options, managers: Managers) -> Result<Self> {
        let dir = paths::target().join("bench");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let stem = stem(options, managers);
        let file = |ending: &str| dir.join(format!("{stem}.{ending}"));
        Ok(Self { inventory: file("site.json"), series: file("json"), plot: file("svg") })
    }
}
