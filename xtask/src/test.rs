//! `cargo xtask test`: all tests, tier by tier, and one closing line.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use xtask::{command, packages, paths, progress::Progress, toolchain};

use crate::{
    environment::{self, Build},
    generate,
};

/// What `cargo xtask test` runs.
#[derive(Args)]
pub struct Options {
    /// Run only these tiers [default: all]
    #[arg(long, value_enum)]
    tier: Vec<Tier>,
    /// Run only tests and scenarios whose name contains this text
    #[arg(long)]
    filter: Option<String>,
    /// Also run what CI's budget cannot hold
    #[arg(long)]
    soak: bool,
    /// Folder with your own etcd, kube-apiserver and kubectl, taken instead of building them
    #[arg(long, env = toolchain::USER_ASSETS, value_name = "DIR")]
    assets: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Formatting, clippy, generated files
    Lint,
    /// Pure functions, tables, properties, snapshots; servers in the test's own process
    Unit,
    /// Each controller in thousands of simulated worlds
    Simulation,
    /// Kinds, webhooks and rights against a real etcd and API server
    Api,
    /// The whole stack with real guests
    Node,
}

const TIERS: &[Tier] = &[Tier::Lint, Tier::Unit, Tier::Simulation, Tier::Api, Tier::Node];

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the chosen tiers; a failing tier does not keep later ones from running.
pub fn run(options: &Options, progress: &Progress) -> Result<ExitCode> {
    let mut total = Tally::default();
    for tier in TIERS.iter().filter(|tier| options.tier.is_empty() || options.tier.contains(tier)) {
        total += match tier {
            Tier::Lint => lint(progress),
            Tier::Unit => unit(options)?,
            Tier::Simulation => simulation(options)?,
            Tier::Api => api(options, progress)?,
            Tier::Node => node(options, progress)?,
        };
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(if total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn lint(progress: &Progress) -> Tally {
    let mut tally = Tally::default();
    let mut checks: Vec<(&str, Box<dyn Fn() -> Result<()>>)> = Vec::new();
    checks.push(("formatting", Box::new(|| cargo(&["fmt", "--all", "--check"], progress))));
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    checks.push(("clippy", Box::new(move || cargo(&clippy, progress))));
    checks.push(("generated files", Box::new(|| generate::run(true, progress))));
    for (name, check) in checks {
        match check() {
            Ok(()) => tally.passed += 1,
            Err(error) => {
                println!("FAILED {name}: {error:#}");
                tally.failed += 1;
            }
        }
    }
    tally
}

fn cargo(arguments: &[&str], progress: &Progress) -> Result<()> {
    let stage = progress.stage(format!("cargo {}", arguments[0]));
    let mut cargo = cargo_command();
    cargo.args(arguments);
    command::run(&mut cargo, &stage)?;
    stage.done("");
    Ok(())
}

fn cargo_command() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::workspace());
    cargo
}

fn unit(options: &Options) -> Result<Tally> {
    let mut cargo = cargo_command();
    cargo.args(["test", "--locked", "--workspace", "--no-fail-fast", "--all-targets"]);
    if let Some(filter) = &options.filter {
        cargo.args(["--", filter]);
    }
    let (tally, success) = watch(&mut cargo, cargo_tally)?;
    // A target that does not compile fails no test and is a failure all the same.
    Ok(if success || tally.failed > 0 { tally } else { Tally { failed: tally.failed + 1, ..tally } })
}

/// Worlds that a soak runs, as many times as many.
const SOAK: u32 = 50;

fn simulation(options: &Options) -> Result<Tally> {
    let mut cargo = cargo_command();
    cargo.args(["run", "--locked", "--quiet", "--package", "simulation", "--profile", "simulation", "--", "run"]);
    if let Some(filter) = &options.filter {
        cargo.args(["--filter", filter]);
    }
    if options.soak {
        cargo.args(["--times", &SOAK.to_string()]);
    }
    let (tally, success) = watch(&mut cargo, tier_tally)?;
    Ok(if success || tally.failed > 0 { tally } else { Tally { failed: 1, ..tally } })
}

fn api(options: &Options, progress: &Progress) -> Result<Tally> {
    let mut e2e = environment::prepare_processes(options.assets.as_deref(), Build::Debug, progress)?.e2e();
    e2e.arg("api");
    if let Some(filter) = &options.filter {
        e2e.args(["--filter", filter]);
    }
    let (tally, success) = watch(&mut e2e, tier_tally)?;
    Ok(if success || tally.failed > 0 { tally } else { Tally { failed: 1, ..tally } })
}

fn node(options: &Options, progress: &Progress) -> Result<Tally> {
    let skipped = Tally { skipped: 1, ..Tally::default() };
    if !packages::is_root() {
        println!("skipped the node tier: sandbox guests need root");
        return Ok(skipped);
    }
    let prepared = environment::prepare(options.assets.as_deref(), Build::Debug, progress)?;
    if let Err(reason) = prepared.probe() {
        println!("skipped the node tier: {reason:#}");
        return Ok(skipped);
    }
    let mut e2e = prepared.e2e();
    e2e.arg("run");
    if let Some(filter) = &options.filter {
        e2e.args(["--filter", filter]);
    }
    if options.soak {
        e2e.arg("--soak");
    }
    let (tally, success) = watch(&mut e2e, tier_tally)?;
    Ok(if success || tally.failed > 0 { tally } else { Tally { failed: 1, ..tally } })
}

/// Runs a test program, passing its output on and adding up what `read` finds in it.
fn watch(command: &mut Command, read: fn(&str) -> Option<Tally>) -> Result<(Tally, bool)> {
    let shown = command::display(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            if let Some(found) = read(&line) {
                tally += found;
            }
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    Ok((tally, status.success()))
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn cargo_tally(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    tally(counts, "; ", ["passed", "failed", "ignored"])
}

/// `node: 3 passed, 0 failed, 1 skipped`, and the same of the tiers `api` and `simulation`.
fn tier_tally(line: &str) -> Option<Tally> {
    let counts = ["node: ", "api: ", "simulation: "].iter().find_map(|tier| line.strip_prefix(tier))?;
    tally(counts, ", ", ["passed", "failed", "skipped"])
}

fn tally(counts: &str, separator: &str, names: [&str; 3]) -> Option<Tally> {
    let count = |name: &str| {
        let mut parts = counts.split(separator);
        parts.find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok())
    };
    Some(Tally { passed: count(names[0])?, failed: count(names[1])?, skipped: count(names[2])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        let found = cargo_tally(line).unwrap();
        assert_eq!((found.passed, found.failed, found.skipped), (12, 3, 1));
        for tier in ["node", "api", "simulation"] {
            let found = tier_tally(&format!("{tier}: 5 passed, 0 failed, 2 skipped")).unwrap();
            assert_eq!((found.passed, found.failed, found.skipped), (5, 0, 2));
        }
        assert!(cargo_tally("test foo ... ok").is_none());
    }
}
