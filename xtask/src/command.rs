//! Running other programs: their last line shown as progress, their whole output shown when they fail.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

use crate::{paths, progress::Stage};

/// The cargo that runs this program, or the one on the path, in the workspace.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::workspace());
    cargo
}

/// How a command is written by a person, for messages.
pub fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end, showing its newest line of output on the stage. Its last lines are in the error.
pub fn run(command: &mut Command, stage: &Stage) -> Result<()> {
    run_for_output(command, stage).map(drop)
}

/// The same; what it printed to its standard output, of which the stage shows nothing.
pub fn run_for_output(command: &mut Command, stage: &Stage) -> Result<String> {
    const KEPT_LINES: usize = 40;
    let shown = display(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let stdout = child.stdout.take().map(|pipe| thread::spawn(move || drain(pipe)));
    let mut kept = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            stage.detail(line.trim());
            kept.push(line);
            if kept.len() > 2 * KEPT_LINES {
                kept.drain(..KEPT_LINES);
            }
        }
    }
    let out = stdout.and_then(|reader| reader.join().ok()).unwrap_or_default();
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    if !status.success() {
        let tail = kept.len().saturating_sub(KEPT_LINES);
        bail!("`{shown}` ended with {status}\n{}\n{}", out.trim_end(), kept[tail..].join("\n"));
    }
    Ok(out)
}

/// Runs a command and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = display(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed something that is not UTF-8"))
}

fn drain(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // A broken pipe only shortens what an error message can show.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
