//! The seam to programs that the shell does not play itself.

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use crate::guest::memory::machine::Machine;

/// A program's call.
pub struct Call<'a> {
    /// Name and arguments; never empty.
    pub argv: &'a [String],
    /// Everything that its standard input gives.
    pub stdin: &'a [u8],
    /// Exported variables.
    pub env: &'a BTreeMap<String, String>,
    /// Working directory.
    pub directory: &'a str,
    /// The machine on which it runs.
    pub machine: &'a mut Machine,
}

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit status; 0 is success.
    pub code: u8,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Exit {
    /// Success with an output.
    pub fn ok(stdout: impl Into<Vec<u8>>) -> Self {
        Self { stdout: stdout.into(), ..Self::default() }
    }

    /// An end without words.
    pub fn code(code: u8) -> Self {
        Self { code, ..Self::default() }
    }

    /// A failure with a line on standard error.
    pub fn fail(code: u8, message: impl AsRef<str>) -> Self {
        Self { code, stderr: format!("{}\n", message.as_ref()).into_bytes(), ..Self::default() }
    }
}

/// Programs of the image that somebody else plays, kubeadm above all.
pub trait Commands: Send {
    /// Whether the image has a program of this name.
    fn has(&self, name: &str) -> bool;
    /// Runs one. Called only for names that it [has](Commands::has).
    fn run<'a>(&'a mut self, call: Call<'a>) -> BoxFuture<'a, Exit>;
}

/// An image without further programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCommands;

impl Commands for NoCommands {
    fn has(&self, _name: &str) -> bool {
        false
    }

    fn run<'a>(&'a mut self, call: Call<'a>) -> BoxFuture<'a, Exit> {
        Box::pin(std::future::ready(Exit::fail(127, format!("{}: command not found", call.argv[0]))))
    }
}
