//! Runs of scenarios: one world, or many on several threads.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use manager::fault::Moment;

use crate::{
    chance::Chance,
    journal::{Entry, Journal, Violation},
    logs::Logs,
    plan::{Fault, Plan, Progress},
    process::DIES_AT,
    scenarios::Scenario,
    world::World,
};

/// Longest time of one world, by its own clock.
const LIFE: Duration = Duration::from_secs(8 * 3600);
/// In every so manieth world what the processes log is searched for secrets: to write it down takes time.
const LISTENS: u64 = 16;

/// What became of one world.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// What went wrong in it, on purpose.
    pub faults: Vec<Fault>,
    /// What happened.
    pub entries: Vec<Entry>,
    /// What must never be so, and was.
    pub violation: Option<Violation>,
    /// How long it lasted by its own clock.
    pub lasted: Duration,
    /// What it came to.
    pub progress: Progress,
}

/// The faults of a seed, in a scenario.
pub fn plan_of(scenario: &Scenario, seed: u64) -> Plan {
    Plan::of_seed(&Chance::new(seed), scenario.horizon, &(scenario.effects)())
}

/// Runs one world with all of its faults, or only those of these numbers.
pub fn one(scenario: &Scenario, seed: u64, only: Option<&BTreeSet<usize>>) -> Run {
    let plan = plan_of(scenario, seed);
    let plan = Arc::new(only.map_or_else(|| Plan::of(plan.faults().to_vec()), |numbers| plan.only(numbers)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let violation = Some(Violation::new("harness", format!("no runtime: {error}")));
            return Run {
                seed,
                faults: Vec::new(),
                entries: Vec::new(),
                violation,
                lasted: Duration::ZERO,
                progress: Progress::default(),
            };
        }
    };
    let logs = seed.is_multiple_of(LISTENS).then(Logs::listen).flatten();
    runtime.block_on(async {
        let world = World::new(seed, Arc::clone(&plan));
        let journal = Arc::clone(&world.journal);
        let ended = tokio::select! {
            biased;
            violation = journal.violated() => Err(violation),
            told = (scenario.tell)(world) => told,
            () = tokio::time::sleep(LIFE) => Err(Violation::new("converges", "the story does not end")),
        };
        let ended = ended.and_then(|()| logs.map_or(Ok(()), |logs| tell_no_secret(&logs, &journal)));
        Run {
            seed,
            faults: plan.faults().to_vec(),
            entries: journal.entries(),
            violation: ended.err(),
            lasted: journal.clock().elapsed(),
            progress: plan.progress(),
        }
    })
}

/// I9: no secret in a log.
fn tell_no_secret(logs: &Logs, journal: &Journal) -> Result<(), Violation> {
    let told = logs.line_with(&journal.secrets());
    told.map_or(Ok(()), |line| Err(Violation::new("I9", format!("a secret stands in a log: {line}"))))
}

/// What came of many worlds, as they end.
#[derive(Debug, Default)]
pub struct Tally {
    /// Worlds in which all was well.
    pub passed: AtomicU64,
    /// Crash points at which a process died, by name.
    died_at: Mutex<BTreeSet<String>>,
}

impl Tally {
    fn count(&self, run: &Run) {
        let died =
            run.entries.iter().filter(|entry| entry.is_fault).filter_map(|entry| entry.what.strip_prefix(DIES_AT));
        let known = &mut *self.died_at.lock().unwrap_or_else(PoisonError::into_inner);
        for point in died {
            if !known.contains(point) {
                known.insert(point.to_owned());
            }
        }
    }

    /// Crash points of a scenario's processes at which none died.
    pub fn never_died_at(&self, scenario: &Scenario) -> Vec<String> {
        let known = self.died_at.lock().unwrap_or_else(PoisonError::into_inner);
        let points =
            (scenario.effects)().into_iter().flat_map(|effect| Moment::ALL.map(|moment| moment.file_name(effect)));
        points.filter(|point| !known.contains(point)).collect()
    }
}

/// Runs worlds of consecutive seeds on several threads until too many fail or `enough` says so; answers with those that
/// failed, and tallies all as they end.
pub fn many(
    scenario: &Scenario,
    seeds: std::ops::Range<u64>,
    threads: usize,
    most_failures: usize,
    enough: impl Fn() -> bool + Sync,
    tally: &Tally,
) -> Vec<Run> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failed = failures.lock().unwrap_or_else(PoisonError::into_inner).len();
                    if seed >= seeds.end || failed >= most_failures || enough() {
                        return;
                    }
                    let run = one(scenario, seed, None);
                    tally.count(&run);
                    if run.violation.is_some() {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                    } else {
                        tally.passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The fewest faults by which a run still fails in the same way, by their numbers: first halves, then single faults are
/// left out as long as that changes nothing.
pub fn minimise(scenario: &Scenario, failed: &Run) -> (BTreeSet<usize>, Run) {
    let rule = failed.violation.as_ref().map(|violation| violation.rule);
    let mut kept: BTreeSet<usize> = (0..failed.faults.len()).collect();
    let mut fewest = failed.clone();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let numbers: Vec<_> = kept.iter().copied().collect();
        for left_out in numbers.chunks(size) {
            let fewer: BTreeSet<_> = kept.iter().copied().filter(|number| !left_out.contains(number)).collect();
            let run = one(scenario, failed.seed, Some(&fewer));
            if run.violation.as_ref().map(|violation| violation.rule) == rule {
                (kept, fewest) = (fewer, run);
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    (kept, fewest)
}
