//! What a run came to, as text. Pure.

use std::collections::BTreeMap;

use super::{
    record::{Phase, Run},
    requests::Counters,
    run::phase,
    statistics::{Spread, number, percent},
};
use crate::{
    measure::Requests,
    providers::{BOOTSTRAP, CONTROL_PLANE, CORE, DCS},
};

const MEBIBYTE: f64 = 1_048_576.0;
/// Managers, in the order in which they are shown; other processes follow.
const MANAGERS: &[&str] = &[CORE.name, BOOTSTRAP.name, CONTROL_PLANE.name, DCS.name];
/// Managers that a run with upstream's providers replaces.
const REPLACED: &[&str] = &[BOOTSTRAP.name, CONTROL_PLANE.name];
/// Kinds of requests that are listed.
const LISTED: usize = 12;

/// All figures of one run.
pub fn one(run: &Run) -> String {
    let mut text = format!("{} clusters of {}, {} kubeadm providers\n\n", run.clusters, run.shape, run.managers);
    text.push_str(&phases(run));
    if let Some(create) = run.phase(phase::CREATE) {
        text.push_str(&format!("\nUntil all are Available:\n{}", costs(create, usize::from(run.clusters))));
        text.push_str(&server(&create.server));
    }
    if let Some(idle) = run.phase(phase::IDLE) {
        text.push_str(&format!("\nLeft alone for {:.0} s:\n{}", idle.seconds, idleness(idle)));
        text.push_str(&server(&idle.server));
    }
    if let Some(last) = run.phases.last() {
        text.push_str(&format!("\nUntil the end of {}:\n", last.name));
        text.push_str(&costs(&whole(run), usize::from(run.clusters)));
    }
    if let Some(foreign) = &run.foreign_secrets {
        text.push_str(&format!("\n{} Secrets of others, resident MiB before and after:\n", foreign.number));
        for name in ordered(&foreign.resident_mib) {
            let [before, after] = foreign.resident_mib[name];
            text.push_str(&format!("  {name:<24} {before:>8.1} {after:>8.1} {:>+8.1}\n", after - before));
        }
    }
    text
}

fn phases(run: &Run) -> String {
    let mut text =
        format!("{:<24} {:>10} {:>9} {:>9} {:>9} {:>9}\n", "phase", "clusters", "seconds", "p50", "p99", "max");
    for phase in &run.phases {
        let of = if phase.wanted > 0 { format!("{}/{}", phase.each.len(), phase.wanted) } else { String::new() };
        text.push_str(&format!("{:<24} {of:>10} {:>9.1}", phase.name, phase.seconds));
        if let Some(Spread { p50, p99, max }) = Spread::of(&phase.each) {
            text.push_str(&format!(" {p50:>9.1} {p99:>9.1} {max:>9.1}"));
        }
        text.push('\n');
    }
    text
}

/// All phases as one.
fn whole(run: &Run) -> Phase {
    let mut whole = Phase::default();
    for phase in &run.phases {
        for (name, used) in &phase.processes {
            let sum = whole.processes.entry(name.clone()).or_default();
            sum.cpu_seconds += used.cpu_seconds;
            (sum.resident_mib, sum.peak_mib) = (used.resident_mib, used.peak_mib);
        }
        for (name, requests) in &phase.requests {
            let sum = whole.requests.entry(name.clone()).or_default();
            for (kind, count) in &requests.by_kind {
                *sum.by_kind.entry(kind.clone()).or_default() += count;
            }
            sum.leases += requests.leases;
            sum.conflicts += requests.conflicts;
            sum.throttled += requests.throttled;
        }
    }
    whole
}

/// Processes and what the managers asked for.
fn costs(phase: &Phase, clusters: usize) -> String {
    let mut text = format!(
        "  {:<24} {:>8} {:>9} {:>9} {:>9} {:>12} {:>10} {:>6} {:>6}\n",
        "", "CPU s", "peak MiB", "reads", "writes", "per cluster", "conflicts", "%", "429"
    );
    for name in ordered(&phase.processes) {
        let used = phase.processes[name];
        text.push_str(&format!("  {name:<24} {:>8.2} {:>9.1}", used.cpu_seconds, used.peak_mib));
        if let Some(requests) = phase.requests.get(name) {
            text.push_str(&format!(
                " {:>9} {:>9} {:>12.1} {:>10} {:>6.2} {:>6}",
                requests.reads(),
                requests.writes(),
                per_cluster(requests, clusters),
                requests.conflicts,
                percent(requests.conflicts, requests.writes()),
                requests.throttled
            ));
        }
        text.push('\n');
    }
    for name in MANAGERS.iter().filter(|name| phase.requests.contains_key(**name)) {
        let counts = phase.requests[*name].by_kind.iter().map(|(kind, count)| (kind, *count));
        text.push_str(&format!("  {name}: {}\n", most(counts)));
    }
    text
}

fn idleness(idle: &Phase) -> String {
    let mut text = format!("  {:<24} {:>8} {:>9} {:>9} {:>9} {:>9}\n", "", "mCPU", "MiB", "reads", "writes", "leases");
    for name in ordered(&idle.processes) {
        let used = idle.processes[name];
        text.push_str(&format!("  {name:<24} {:>8.1} {:>9.1}", millicpu(idle, name), used.resident_mib));
        if let Some(requests) = idle.requests.get(name) {
            text.push_str(&format!(" {:>9} {:>9} {:>9}", requests.reads(), requests.writes(), requests.leases));
        }
        text.push('\n');
    }
    for (name, requests) in idle.requests.iter().filter(|(_, requests)| !requests.by_kind.is_empty()) {
        text.push_str(&format!("  {name}: {}\n", most(requests.by_kind.iter().map(|(kind, count)| (kind, *count)))));
    }
    text
}

/// What the API server had to do, for everybody.
fn server(counters: &Counters) -> String {
    let all: u64 = counters.requests.values().sum();
    let counts = counters.requests.iter().map(|(kind, count)| (kind, usize::try_from(*count).unwrap_or(usize::MAX)));
    let events: u64 = counters.watched.values().map(|watched| watched.events).sum();
    let code = |code: &str| counters.codes.get(code).copied().unwrap_or_default();
    format!(
        "  API server: {all} requests ({} answered 409, {} answered 429, {} answered 5xx): {}\n  watches: {events} events, \
         {:.1} MiB; etcd's file {:.0} MiB\n",
        code("409"),
        code("429"),
        counters.codes.iter().filter(|(code, _)| code.starts_with('5')).map(|(_, count)| count).sum::<u64>(),
        most(counts),
        mebibytes(counters.watch_bytes()),
        mebibytes(counters.store),
    )
}

/// The most frequent kinds of requests.
fn most<'a>(counts: impl Iterator<Item = (&'a String, usize)>) -> String {
    let mut counts: Vec<(&String, usize)> = counts.collect();
    counts.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    let shown: Vec<String> = counts.iter().take(LISTED).map(|(kind, count)| format!("{count} {kind}")).collect();
    if counts.len() > LISTED { format!("{} …", shown.join(", ")) } else { shown.join(", ") }
}

/// Both runs, figure by figure, and what ours is of theirs.
pub fn side_by_side(ours: &Run, theirs: &Run) -> String {
    let mut text = format!(
        "{} clusters of {}\n{:<44} {:>12} {:>12} {:>7}\n",
        ours.clusters, ours.shape, "", ours.managers, theirs.managers, "ratio"
    );
    let mut row = |label: &str, value: &dyn Fn(&Run) -> Option<f64>| {
        let (Some(one), Some(other)) = (value(ours), value(theirs)) else { return };
        let ratio = if other > 0.0 { format!("{:.2}", one / other) } else { "-".to_owned() };
        text.push_str(&format!("{label:<44} {one:>12.1} {other:>12.1} {ratio:>7}\n"));
    };
    for name in phase::WAITED_FOR {
        row(&format!("{name}: all, s"), &|run| run.phase(name).map(|phase| phase.seconds));
        row(&format!("{name}: p50, s"), &|run| Some(Spread::of(&run.phase(name)?.each)?.p50));
        row(&format!("{name}: p99, s"), &|run| Some(Spread::of(&run.phase(name)?.each)?.p99));
        row(&format!("{name}: max, s"), &|run| Some(Spread::of(&run.phase(name)?.each)?.max));
    }
    let create = |run: &Run| run.phase(phase::CREATE).cloned();
    for name in REPLACED {
        row(&format!("{name}: CPU until Available, s"), &|run| Some(create(run)?.processes.get(*name)?.cpu_seconds));
        row(&format!("{name}: peak until Available, MiB"), &|run| Some(create(run)?.processes.get(*name)?.peak_mib));
        row(&format!("{name}: writes per cluster"), &|run| {
            Some(per_cluster(create(run)?.requests.get(*name)?, usize::from(run.clusters)))
        });
        row(&format!("{name}: reads per cluster"), &|run| {
            Some(number(create(run)?.requests.get(*name)?.reads()) / f64::from(run.clusters))
        });
        row(&format!("{name}: conflicts, % of writes"), &|run| {
            let create = create(run)?;
            let requests = create.requests.get(*name)?;
            Some(percent(requests.conflicts, requests.writes()))
        });
        row(&format!("{name}: CPU in its whole life, s"), &|run| Some(whole(run).processes.get(*name)?.cpu_seconds));
        row(&format!("{name}: peak in its whole life, MiB"), &|run| Some(whole(run).processes.get(*name)?.peak_mib));
        row(&format!("{name}: idle, mCPU"), &|run| Some(millicpu(run.phase(phase::IDLE)?, name)));
        row(&format!("{name}: idle, writes"), &|run| {
            Some(run.phase(phase::IDLE)?.requests.get(*name).map_or(0.0, |requests| number(requests.writes())))
        });
    }
    for name in [CORE.name, DCS.name, "kube-apiserver", "etcd", "dcs-simulator"] {
        row(&format!("{name}: CPU until Available, s"), &|run| Some(create(run)?.processes.get(name)?.cpu_seconds));
        row(&format!("{name}: peak until Available, MiB"), &|run| Some(create(run)?.processes.get(name)?.peak_mib));
    }
    row("watches: sent until Available, MiB", &|run| Some(mebibytes(create(run)?.server.watch_bytes())));
    text
}

fn per_cluster(requests: &Requests, clusters: usize) -> f64 {
    number(requests.writes()) / number(clusters.max(1))
}

fn millicpu(idle: &Phase, name: &str) -> f64 {
    idle.processes.get(name).map_or(0.0, |used| 1000.0 * used.cpu_seconds / idle.seconds.max(f64::EPSILON))
}

#[allow(clippy::cast_precision_loss, reason = "sizes in MiB with one digit")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MEBIBYTE
}

/// Names of processes: managers first.
fn ordered<V>(processes: &BTreeMap<String, V>) -> Vec<&str> {
    let managers = MANAGERS.iter().copied().filter(|name| processes.contains_key(*name));
    let others = processes.keys().map(String::as_str).filter(|name| !MANAGERS.contains(name));
    managers.chain(others).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use xtask::fleet::{Managers, Options, Shape};

    use super::*;
    use crate::fleet::record::{ForeignSecrets, Sample, Used};

    /// A run of two clusters with a manager and the API server.
    pub fn example(managers: Managers, cpu: f64) -> Run {
        let options = Options {
            clusters: 2,
            shape: Shape::OneAndOne,
            managers,
            beside_upstream: false,
            idle: 300,
            short: false,
            foreign_secrets: 10,
        };
        let requests = |writes: usize, conflicts| Requests {
            by_kind: [("patch machines".to_owned(), writes), ("get machines".to_owned(), 3)].into(),
            leases: 1,
            conflicts,
            throttled: 0,
        };
        let used = |cpu_seconds| Used { cpu_seconds, resident_mib: 20.0, peak_mib: 25.0 };
        let phase = |name: &str, each: Vec<f64>, writes| Phase {
            name: name.to_owned(),
            from: 0.0,
            seconds: 100.0,
            wanted: each.len(),
            each,
            processes: [(BOOTSTRAP.name.to_owned(), used(cpu)), ("kube-apiserver".to_owned(), used(9.0))].into(),
            requests: [(BOOTSTRAP.name.to_owned(), requests(writes, writes / 10))].into(),
            server: Counters::default(),
        };
        let mut run = Run::new(&options, managers);
        run.phases = vec![
            phase(phase::CREATE, vec![40.0, 60.0], 50),
            phase(phase::IDLE, vec![], 0),
            phase(phase::DELETE, vec![10.0, 12.0], 10),
        ];
        run.foreign_secrets =
            Some(ForeignSecrets { number: 10, resident_mib: [(BOOTSTRAP.name.to_owned(), [15.0, 15.5])].into() });
        let sample = |at: f64| Sample {
            at,
            available: 1,
            machines_available: 2,
            processes: [(BOOTSTRAP.name.to_owned(), [at / 10.0, 20.0])].into(),
            requests: [(BOOTSTRAP.name.to_owned(), [1, 2, 0])].into(),
        };
        run.samples = (0..20).map(|index| sample(f64::from(index))).collect();
        run
    }

    /// The words of the line that begins so.
    fn line<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.trim_start().starts_with(start));
        line.map(|line| line.trim_start()[start.len()..].split_whitespace().collect()).unwrap_or_default()
    }

    #[test]
    fn a_report_tells_times_and_costs() {
        let text = one(&example(Managers::Basalt, 2.0));
        assert_eq!(line(&text, "create"), ["2/2", "100.0", "40.0", "60.0", "60.0"]);
        assert_eq!(line(&text, "bootstrap-kubeadm "), ["2.00", "25.0", "3", "50", "25.0", "5", "10.00", "0"]);
        assert_eq!(line(&text, "kube-apiserver"), ["9.00", "25.0"]);
        let idle = text.split("Left alone for 100 s").nth(1).unwrap();
        assert_eq!(line(idle, "bootstrap-kubeadm "), ["20.0", "20.0", "3", "0", "1"]);
        let whole = text.split("Until the end of delete").nth(1).unwrap();
        assert_eq!(line(whole, "bootstrap-kubeadm "), ["6.00", "25.0", "9", "60", "30.0", "6", "10.00", "0"]);
        assert_eq!(text.lines().last().unwrap().split_whitespace().last(), Some("+0.5"));
    }

    #[test]
    fn two_runs_are_set_side_by_side() {
        let text = side_by_side(&example(Managers::Basalt, 2.0), &example(Managers::Upstream, 8.0));
        assert_eq!(line(&text, "bootstrap-kubeadm: CPU until Available, s"), ["2.0", "8.0", "0.25"]);
        assert_eq!(line(&text, "bootstrap-kubeadm: idle, writes"), ["0.0", "0.0", "-"]);
        assert!(!text.contains("controlplane-kubeadm: CPU"), "what was not measured is not told");
    }
}
