//! A small bash over a machine without a kernel: the scripts of documents and manifests run in it.
//!
//! ```text
//!  parser/ ──► ast ──► exec ──► expand, arithmetic, pattern, braces
//!                       │  └──► state (variables), files (descriptors)
//!                       ├─ builtins, input, test   what the shell does itself
//!                       ├─ run, service            what a name means; units that systemctl starts
//!                       ├─ programs/               what the image's programs do to the machine
//!                       └─ command                 what somebody else plays: kubeadm
//! ```
//!
//! A pipeline's commands run one after the other, each with all that the one before has written; `&` waits at once.
//! Steps, memory, nesting and the guest's time are bounded: a script that does not end fails.

mod arithmetic;
mod assign;
mod ast;
mod braces;
mod builtins;
mod command;
mod compound;
mod exec;
mod expand;
mod files;
mod input;
mod parser;
mod pattern;
mod programs;
mod redirect;
mod run;
mod service;
mod state;
mod test;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

pub use command::{Call, Commands, Exit, NoCommands};
use exec::{Shell, Stop};
use files::{Console, Files, Stream};
pub use parser::SyntaxError;
pub(super) use programs::{apply_parameters, mount_all, mount_one};
use state::State;

use super::machine::Machine;

/// What a run may use before it is stopped.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commands, and pieces of data that they handle.
    pub steps: u64,
    /// Time of the guest.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Kubernetes' own waits in kubeadm are 4 minutes each; half an hour is what Cluster API's users wait for a node.
        Self { steps: 1_000_000, time: Duration::from_secs(1800) }
    }
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Program and arguments, looked up as by a shell.
    pub argv: &'a [String],
    /// Exported variables.
    pub env: &'a BTreeMap<String, String>,
    /// Working directory.
    pub directory: &'a str,
    /// Who speaks on the console; empty is nobody.
    pub tag: &'a str,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit status.
    pub code: u8,
    /// The last line on standard error.
    pub last_error: String,
    /// Why it was stopped, where it did not end by itself.
    pub stopped: Option<String>,
    /// Line and status of the first command of the script's outermost level that failed, whatever came after.
    pub first_failure: Option<(usize, u8)>,
}

impl Ended {
    /// Whether it ended by itself and well.
    pub fn is_success(&self) -> bool {
        self.code == 0 && self.stopped.is_none()
    }

    /// The failure in one line.
    pub fn reason(&self) -> String {
        match &self.stopped {
            Some(reason) => reason.clone(),
            None if self.last_error.is_empty() => format!("exit status {}", self.code),
            None => format!("exit status {}: {}", self.code, self.last_error),
        }
    }
}

/// The environment of what systemd and cloud-init start.
pub fn base_environment() -> BTreeMap<String, String> {
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8"), ("HOME", "/root")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Whether a pattern of the shell covers a name.
pub(super) fn covers(pattern: &[(char, bool)], name: &str) -> bool {
    pattern::matches(pattern, &name.chars().collect::<Vec<_>>())
}

/// Runs a program to its end; what it says goes to the console.
pub async fn run(job: Job<'_>, limits: Limits, machine: &mut Machine, commands: &mut dyn Commands) -> Ended {
    let (output, error) = (Console::new(job.tag), Console::new(job.tag));
    let files = Files::standard(Stream::Console(output.clone()), Stream::Console(error.clone()));
    let state = State::new(if job.tag.is_empty() { "sh" } else { job.tag }, job.env, job.directory);
    let mut shell = Shell::new(machine, commands, state, files, limits);
    let result = shell.invoke(job.argv.to_vec()).await;
    let first_failure = shell.first_failure;
    let (code, stopped) = match result {
        Ok(code) | Err(Stop::Exit(code) | Stop::Return(code)) => (code, None),
        Err(Stop::Break(_) | Stop::Continue(_)) => (0, None),
        Err(Stop::Fatal(reason)) => (255, Some(reason)),
    };
    output.lock().finish(machine);
    let last_error = error.lock().finish(machine);
    Ended { code, last_error, stopped, first_failure }
}
