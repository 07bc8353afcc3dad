//! `cargo xtask test`: all tests, tier by tier, and one closing line.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use xtask::{command, fleet::name, packages, progress::Progress, toolchain};

use crate::{
    Guests,
    environment::{self, Build, Prepared},
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
    /// Record anew what a cluster of sandbox guests answers (with `--tier node --filter conformance`)
    #[arg(long)]
    record: bool,
    /// Folder with your own etcd, kube-apiserver and kubectl, taken instead of building them
    #[arg(long, env = toolchain::USER_ASSETS, value_name = "DIR")]
    assets: Option<PathBuf>,
}

impl Options {
    fn wants(&self, tier: Tier) -> bool {
        self.tier.is_empty() || self.tier.contains(&tier)
    }
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
    /// The whole stack with guests in memory
    E2e,
    /// The whole stack with real guests
    Node,
}

const TIERS: &[Tier] = &[Tier::Lint, Tier::Unit, Tier::Simulation, Tier::Api, Tier::E2e, Tier::Node];

/// Groups of scenarios of the node tier.
const GROUPS: [&str; 2] = ["growth", "trouble"];

/// Failures told again at the end, of each program: enough to see what is wrong, too few to bury it.
const RECAP: usize = 20;

/// How many tests passed, failed and were skipped, and what was said of those that failed.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    failures: Vec<String>,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

/// Runs the chosen tiers; a failing tier does not keep later ones from running.
pub fn run(options: &Options, progress: &Progress) -> Result<ExitCode> {
    let mut total = Tally::default();
    for tier in TIERS.iter().filter(|tier| options.wants(**tier)) {
        total += match tier {
            Tier::Lint => lint(progress),
            Tier::Unit => unit(options)?,
            Tier::Simulation => simulation(options)?,
            Tier::Api => api(options, progress)?,
            Tier::E2e => {
                let prepared = environment::prepare_processes(options.assets.as_deref(), Build::Debug, progress)?;
                scenarios(&prepared, Guests::Memory, options)?
            }
            Tier::Node => node(options, progress)?,
        };
    }
    println!();
    for failure in &total.failures {
        println!("{failure}");
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
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
                let failure = format!("FAILED {name}: {error:#}");
                println!("{failure}");
                tally.failures.push(failure);
                tally.failed += 1;
            }
        }
    }
    tally
}

fn cargo(arguments: &[&str], progress: &Progress) -> Result<()> {
    let stage = progress.stage(format!("cargo {}", arguments[0]));
    command::run(command::cargo().args(arguments), &stage)?;
    stage.done("");
    Ok(())
}

fn unit(options: &Options) -> Result<Tally> {
    let mut cargo = command::cargo();
    cargo.args(["test", "--locked", "--workspace", "--no-fail-fast", "--all-targets"]);
    if let Some(filter) = &options.filter {
        cargo.args(["--", filter]);
    }
    watch(&mut cargo, "", cargo_tally)
}

/// Worlds that a soak runs, as many times as many: half an hour of them.
const SOAK: u32 = 10;

fn simulation(options: &Options) -> Result<Tally> {
    let mut cargo = command::cargo();
    cargo.args(["run", "--locked", "--quiet", "--package", "simulation", "--profile", "simulation", "--", "run"]);
    if let Some(filter) = &options.filter {
        cargo.args(["--filter", filter]);
    }
    if options.soak {
        cargo.args(["--times", &SOAK.to_string()]);
    }
    watch(&mut cargo, "", e2e_tally)
}

/// Tests of the model API server that need what only this tier has: a real one, and kubectl.
const MODEL_TESTS: &[&str] = &["conformance", "kubectl"];

fn api(options: &Options, progress: &Progress) -> Result<Tally> {
    let mut e2e = environment::prepare_processes(options.assets.as_deref(), Build::Debug, progress)?.e2e();
    e2e.arg("api");
    for executable in environment::build_tests(MODEL_TESTS, progress)? {
        e2e.arg("--model-tests").arg(executable);
    }
    if let Some(filter) = &options.filter {
        e2e.args(["--filter", filter]);
    }
    watch(&mut e2e, "", e2e_tally)
}

fn node(options: &Options, progress: &Progress) -> Result<Tally> {
    let skipped = |reason: &str| {
        println!("skipped the node tier: {reason}");
        Ok(Tally { skipped: 1, ..Tally::default() })
    };
    if !packages::is_root() {
        return skipped("sandbox guests need root");
    }
    let prepared = environment::prepare(options.assets.as_deref(), Build::Debug, progress)?;
    if let Err(reason) = prepared.probe() {
        return skipped(&format!("{reason:#}"));
    }
    scenarios(&prepared, Guests::Sandbox, options)
}

/// Each group of scenarios has an environment of its own; side by side, one works while the other waits.
fn scenarios(prepared: &Prepared, guests: Guests, options: &Options) -> Result<Tally> {
    let groups = thread::scope(|scope| {
        let run = |group| {
            let mut e2e = prepared.e2e();
            e2e.args(["run", "--guests", &name(guests), "--group", group]);
            if let Some(filter) = &options.filter {
                e2e.args(["--filter", filter]);
            }
            if options.soak {
                e2e.arg("--soak");
            }
            if options.record && guests == Guests::Sandbox {
                e2e.arg("--record");
            }
            scope.spawn(move || watch(&mut e2e, &format!("{group:<8}"), e2e_tally))
        };
        GROUPS.map(run).map(|group| group.join().unwrap_or_else(|_| Err(anyhow!("watching a group panicked"))))
    });
    let mut total = Tally::default();
    for group in groups {
        total += group?;
    }
    Ok(total)
}

/// Runs a test program, passing each line of its output on with a prefix and adding up what `read` finds in them.
/// A program that fails without a failed test, such as one that does not compile, is a failure all the same.
fn watch(command: &mut Command, prefix: &str, read: fn(&str) -> Option<Tally>) -> Result<Tally> {
    let shown = command::display(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut tally, mut errors) = (Tally::default(), Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            lines(stderr, |line| {
                eprintln!("{prefix}{line}");
                errors.extend(failure(line));
            });
        });
        lines(stdout, |line| {
            println!("{prefix}{line}");
            tally.failures.extend(failure(line));
            if let Some(found) = read(line) {
                tally += found;
            }
        });
    });
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    if status.success() {
        return Ok(Tally { failures: Vec::new(), ..tally });
    }
    if tally.failed == 0 {
        tally.failed = 1;
        errors.push(format!("`{shown}` ended with {status}"));
    }
    tally.failures.extend(errors);
    tally.failures.truncate(RECAP);
    tally.failures.iter_mut().for_each(|line| line.insert_str(0, prefix));
    Ok(tally)
}

/// A line in which a test program says what failed, cut where it goes into detail.
fn failure(line: &str) -> Option<String> {
    const LONGEST: usize = 1000;
    let is_failure = line.starts_with("FAILED") || line.starts_with("error") || line.ends_with(" ... FAILED");
    is_failure.then(|| line.chars().take(LONGEST).collect())
}

fn lines(pipe: Option<impl Read>, mut take: impl FnMut(&str)) {
    for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok)) {
        take(&line);
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn cargo_tally(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    tally(counts, "; ", ["passed", "failed", "ignored"])
}

/// `node: 3 passed, 0 failed, 1 skipped`, and the same of the other tiers of the end-to-end program.
fn e2e_tally(line: &str) -> Option<Tally> {
    let counts = ["simulation: ", "api: ", "e2e: ", "node: "].iter().find_map(|tier| line.strip_prefix(tier))?;
    tally(counts, ", ", ["passed", "failed", "skipped"])
}

fn tally(counts: &str, separator: &str, names: [&str; 3]) -> Option<Tally> {
    let count = |name: &str| {
        let mut parts = counts.split(separator);
        parts.find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok())
    };
    Some(Tally { passed: count(names[0])?, failed: count(names[1])?, skipped: count(names[2])?, failures: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        let found = cargo_tally(line).unwrap();
        assert_eq!((found.passed, found.failed, found.skipped), (12, 3, 1));
        for tier in ["node", "e2e", "api"] {
            let found = e2e_tally(&format!("{tier}: 5 passed, 0 failed, 2 skipped")).unwrap();
            assert_eq!((found.passed, found.failed, found.skipped), (5, 0, 2));
        }
        assert!(cargo_tally("test foo ... ok").is_none());
    }

    #[test]
    fn the_end_tells_again_what_failed_and_what_ended_before_it_could_say() {
        let run = |script: &str| watch(Command::new("sh").args(["-c", script]), "growth  ", e2e_tally).unwrap();
        let found = run(
            "echo 'ok      one (3 s)'; echo 'FAILED  two (4 s): no node'; echo 'e2e: 1 passed, 1 failed, 0 skipped'; exit 1",
        );
        assert_eq!((found.passed, found.failed), (1, 1));
        assert_eq!(found.failures, ["growth  FAILED  two (4 s): no node"]);

        let found = run("echo 'error: the port is taken' >&2; exit 1");
        assert_eq!((found.passed, found.failed), (0, 1));
        assert_eq!(found.failures[0], "growth  error: the port is taken");
        assert!(found.failures[1].ends_with("ended with exit status: 1"), "{:?}", found.failures);

        assert!(run("echo 'error: none that counts' >&2").failures.is_empty());
    }
}
