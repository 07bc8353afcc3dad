//! `cargo xtask doctor`: what this machine lacks.

use std::{
    process::{Command, ExitCode},
    thread,
};

use anyhow::Result;
use xtask::{
    command,
    packages::{self, NEEDED},
    paths,
    progress::Progress,
};

/// Prints one line per requirement; fails when something is missing.
pub fn run(fix: bool, progress: &Progress) -> Result<ExitCode> {
    if fix {
        packages::ensure(progress)?;
    }
    let mut complete = true;
    let mut report = |ok: bool, what: &str, detail: &str| {
        complete &= ok;
        println!("{} {what:<20} {detail}", if ok { "✓" } else { "✗" });
    };
    for (tool, arguments) in [("cargo", "--version"), ("go", "version")] {
        match command::output(Command::new(tool).arg(arguments)) {
            Ok(version) => report(true, tool, version.trim()),
            Err(_) => report(false, tool, "not found on PATH; install it from your distribution or its project's page"),
        }
    }
    for (program, package, why) in NEEDED {
        match packages::find(program) {
            Some(path) => report(true, program, &path.display().to_string()),
            None => report(false, program, &format!("package {package}: {why}")),
        }
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("  {:<20} {cores}", "processors");
    println!("  {:<20} {}", "cache", paths::cache().display());
    if !packages::is_root() {
        println!("  {:<20} sandbox guests need root; `cargo xtask demo` and the node tier will say so", "user");
    }
    let missing = packages::missing();
    if !missing.is_empty() {
        println!("\nInstall what is missing with:\n  {}", packages::install_command(&missing));
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
