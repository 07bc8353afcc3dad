//! `simulation`: runs worlds, or repeats one.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    sync::{
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use simulation::{
    plan::Progress,
    run::{self, Run, Tally},
    scenarios::{self, Scenario},
};

/// A third of a world's time goes into memory that is soon given back.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often a run says how far it has come.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs our controllers in simulated worlds in which everything goes wrong.
#[derive(Parser)]
#[command(name = "simulation", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run worlds of many seeds
    Run {
        /// Only scenarios whose name contains this text
        #[arg(long)]
        filter: Option<String>,
        /// Worlds of each scenario [default: as many as suits it]
        #[arg(long)]
        seeds: Option<u64>,
        /// So many times as many worlds
        #[arg(long, default_value_t = 1)]
        times: u64,
        /// Seed of the first
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Worlds that run beside each other [default: one a processor]
        #[arg(long)]
        threads: Option<usize>,
        /// Failing worlds of a scenario after which it is given up
        #[arg(long, default_value_t = 3)]
        failures: usize,
        /// End after this many seconds, whatever is left
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Repeat one world, and show what happened
    Replay {
        /// The scenario
        #[arg(long)]
        scenario: String,
        /// The seed
        #[arg(long)]
        seed: u64,
        /// Only the faults of these numbers, separated by commas; `none` for none
        #[arg(long, value_name = "NUMBERS")]
        faults: Option<String>,
        /// Also what the processes log
        #[arg(long)]
        log: bool,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { filter, seeds, times, from, threads, failures, seconds } => {
            let threads = threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
            let chosen = |scenario: &&Scenario| filter.as_ref().is_none_or(|text| scenario.name.contains(text));
            let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
            let (mut passed, mut failed) = (0, 0);
            for scenario in scenarios::ALL.iter().filter(chosen) {
                let begun = Instant::now();
                let enough = || end.is_some_and(|end| Instant::now() >= end);
                let worlds = seeds.unwrap_or(scenario.worlds).saturating_mul(times);
                let tally = Tally::default();
                let failures = telling(scenario, &tally, worlds, || {
                    run::many(scenario, from..from.saturating_add(worlds), threads, failures, enough, &tally)
                });
                let ok = tally.passed.load(Ordering::Relaxed);
                let took = begun.elapsed().as_secs_f64();
                println!("{}: {ok} worlds in {took:.1} s", scenario.name);
                let never = tally.never_died_at(scenario);
                if !never.is_empty() {
                    println!("{}: in none of them a process died at {}", scenario.name, never.join(", "));
                }
                for run in &failures {
                    tell(scenario, run);
                }
                passed += ok;
                failed += failures.len();
            }
            println!("simulation: {passed} passed, {failed} failed, 0 skipped");
            // A filter for other tiers may leave nothing to do here.
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Replay { scenario, seed, faults, log } => {
            let Some(scenario) = scenarios::ALL.iter().find(|known| known.name == scenario) else {
                let names: Vec<_> = scenarios::ALL.iter().map(|known| known.name).collect();
                eprintln!("error: there is no scenario {scenario}; there are {}", names.join(", "));
                return ExitCode::FAILURE;
            };
            if log {
                tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
            }
            let only = faults.map(|text| numbers(&text));
            let run = run::one(scenario, seed, only.as_ref());
            show(&run);
            if run.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// Runs something that counts worlds of a scenario, and says now and then how far it has come.
fn telling<T>(scenario: &Scenario, tally: &Tally, worlds: u64, run: impl FnOnce() -> T) -> T {
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while end.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
                println!("{}: {} of {worlds} worlds", scenario.name, tally.passed.load(Ordering::Relaxed));
            }
        });
        let outcome = run();
        drop(ended);
        outcome
    })
}

fn numbers(text: &str) -> BTreeSet<usize> {
    text.split(',').filter_map(|number| number.trim().parse().ok()).collect()
}

/// Tells of a failed world: with as few faults as possible, and how to repeat it.
fn tell(scenario: &Scenario, failed: &Run) {
    let (kept, fewest) = run::minimise(scenario, failed);
    println!(
        "\nFAILED {} seed {}, reduced from {} faults to {}",
        scenario.name,
        failed.seed,
        failed.faults.len(),
        kept.len()
    );
    show(&fewest);
    let numbers = kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let numbers = if numbers.is_empty() { "none".to_owned() } else { numbers };
    let (name, seed) = (scenario.name, failed.seed);
    println!("repeat with: cargo run -p simulation -- replay --scenario {name} --seed {seed} --faults {numbers}");
    println!("all of its faults: cargo run -p simulation -- replay --scenario {name} --seed {seed}\n");
}

fn show(run: &Run) {
    for entry in &run.entries {
        println!("{entry}");
    }
    for fault in &run.faults {
        println!("fault: {fault}");
    }
    let Progress { calls, events, points } = run.progress;
    println!("{:.1} s, {calls} calls, {events} events, {points} crash points", run.lasted.as_secs_f64());
    match &run.violation {
        None => println!("all is well"),
        Some(violation) => println!("violated: {violation}"),
    }
}
