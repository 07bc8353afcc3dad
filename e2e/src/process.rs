//! The processes of an environment: started with a log file each, watched, ended in reverse order.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// One running process of the environment.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; both its outputs go to `<logs>/<name>.log`, appended.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Its own group: Ctrl-C ends the environment in order, not all processes at once.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.as_std().get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended; with how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `ready` answers true; fails with the log's last lines when the process ends or time runs out.
    pub async fn wait_until<F>(&mut self, what: &str, limit: Duration, mut ready: F) -> Result<()>
    where
        F: AsyncFnMut() -> bool,
    {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                bail!("{} ended with {status} before it was {what}; its last lines:\n{}", self.name, self.tail(15));
            }
            if ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is not {what} after {} s; its last lines:\n{}", self.name, limit.as_secs(), self.tail(15));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until it ends by itself, well; fails with the log's last lines otherwise.
    pub async fn finish(&mut self, limit: Duration) -> Result<()> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let how = match ended {
            Ok(status) => match status? {
                status if status.success() => return Ok(()),
                status => format!("ended with {status}"),
            },
            Err(_) => format!("takes longer than {} s", limit.as_secs()),
        };
        bail!("{} {how}; the last lines of {}:\n{}", self.name, self.log.display(), self.tail(40))
    }

    /// Ends it: SIGTERM, then SIGKILL after [`GRACE`].
    pub async fn stop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap_or_default())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Its log's last lines.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

/// Last lines of a text file; empty where it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    const WINDOW: u64 = 32 * 1024;
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |meta| meta.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)));
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs a program to its end and returns its standard output; `input` goes to its standard input.
pub async fn output(command: &mut Command, input: Option<&[u8]>) -> Result<String> {
    use tokio::io::AsyncWriteExt;
    let shown = xtask::command::display(command.as_std());
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let spawned = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = spawned.with_context(|| format!("cannot start `{shown}`"))?;
    if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(bytes).await.with_context(|| format!("`{shown}` did not read its input"))?;
    }
    let output = tokio::time::timeout(Duration::from_secs(180), child.wait_with_output());
    let output = output.await.with_context(|| format!("`{shown}` takes longer than 180 s"))??;
    if !output.status.success() {
        bail!("`{shown}` ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
