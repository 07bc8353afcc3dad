//! `cargo xtask clean`: finds and removes what a killed run left.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use xtask::{command, paths, progress::Progress};

/// Network namespaces that runs make.
const NAMESPACES: &[&str] =
    &["basalt-demo", "basalt-bench", "basalt-test", "basalt-test-growth", "basalt-test-trouble"];

/// Ends processes in the runs' network namespaces and on loopback, then removes the namespaces and what the guests left.
pub fn run(progress: &Progress) -> Result<()> {
    let mut found = Vec::new();
    for name in NAMESPACES {
        let handle = Path::new("/run/netns").join(name);
        if !handle.exists() {
            continue;
        }
        let pids = command::output(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
        for pid in pids.split_whitespace() {
            // It may have ended since it was listed.
            let _ = command::output(Command::new("kill").args(["-KILL", pid]));
        }
        command::output(Command::new("ip").args(["netns", "delete", name]))?;
        found.push(format!("network namespace {name} with {} processes", pids.split_whitespace().count()));
    }
    for (pid, name) in of_runs(&paths::run_dir("")) {
        // It may have ended since it was found.
        let _ = command::output(Command::new("kill").args(["-KILL", &pid]));
        found.push(format!("process {pid}, {name}"));
    }
    let built = ["debug", "release"].map(|folder| paths::target().join(folder).join("basalt-dcs-simulator"));
    let simulator = built.into_iter().find(|path| path.exists());
    for run in fs::read_dir(paths::run_dir("")).into_iter().flatten().filter_map(Result::ok) {
        let data = run.path().join("site");
        if let Some(simulator) = simulator.as_ref().filter(|_| data.exists()) {
            let report = command::output(Command::new(simulator).arg("clean").arg("--data-dir").arg(&data))?;
            found.extend(report.lines().map(str::to_owned));
        }
    }
    if found.is_empty() {
        progress.line("Nothing was left.");
    }
    for thing in found {
        progress.line(format!("removed {thing}"));
    }
    Ok(())
}

/// Processes that were started with a file of a run as the value of a flag, `--flag=FILE`, as only a run starts them:
/// number and program.
fn of_runs(runs: &Path) -> Vec<(String, String)> {
    let value = format!("={}", runs.display());
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let pid = process.file_name().to_string_lossy().into_owned();
        let Ok(arguments) = fs::read(process.path().join("cmdline")) else { continue };
        let arguments = String::from_utf8_lossy(&arguments);
        if arguments.split('\0').any(|argument| argument.starts_with("--") && argument.contains(&value)) {
            found.push((pid, arguments.split('\0').next().unwrap_or_default().to_owned()));
        }
    }
    found
}
