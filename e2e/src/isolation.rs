//! A network, mount and PID namespace around a whole run.
//!
//! The first process makes the network namespace and starts itself again inside. Everything that the run starts is
//! in one PID namespace: when its first process ends, however that comes about, the kernel ends all of them, guests
//! included, and with the mount namespace goes every mount. The outer process stays only to remove what has a name.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::run_folder;

/// Set for the process that runs inside.
const INSIDE: &str = "BASALT_E2E_INSIDE";

/// Whether this process already runs inside its namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this same program with the same arguments inside a network namespace called `name`; returns its exit code.
pub async fn reenter(name: &str) -> Result<ExitCode> {
    // Names of network namespaces are the machine's, whoever's folder a run is in.
    let _lock = run_folder::lock(&PathBuf::from("/run").join(name).with_extension("lock"))?;
    let handle = PathBuf::from("/run/netns").join(name);
    if handle.exists() {
        take_away_left(name).await?;
    }
    ip(&["netns", "add", name]).await?;
    let result = run_inside(&handle).await;
    ip(&["netns", "delete", name]).await?;
    result
}

/// Removes a namespace that a killed run left, unless something still lives in it.
async fn take_away_left(name: &str) -> Result<()> {
    let living = ip(&["netns", "pids", name]).await?;
    let living: Vec<&str> = living.split_whitespace().collect();
    if !living.is_empty() {
        bail!("a run that was killed left {} processes in network namespace {name}: cargo xtask clean", living.len());
    }
    ip(&["netns", "delete", name]).await?;
    Ok(())
}

async fn run_inside(handle: &std::path::Path) -> Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut inside = Command::new("nsenter")
        .arg({
            let mut option = OsString::from("--net=");
            option.push(handle);
            option
        })
        .args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(program)
        .args(arguments)
        .env(INSIDE, "1")
        .kill_on_drop(true)
        .spawn()
        .context("cannot start nsenter (package util-linux)")?;
    // Ctrl-C reaches the inner process too, which takes the environment down in order; it is given the time. SIGTERM
    // reaches only this process: everything inside ends with the first process there.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let status = loop {
        tokio::select! {
            status = inside.wait() => break status?,
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {
                inside.start_kill()?;
                break inside.wait().await?;
            }
        }
    };
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Brings up loopback and the bridge to which the simulator plugs its guests.
pub async fn make_network(bridge: &str, address: &str) -> Result<()> {
    ip(&["link", "set", "lo", "up"]).await?;
    ip(&["link", "add", bridge, "type", "bridge"]).await?;
    ip(&["address", "add", address, "dev", bridge]).await?;
    ip(&["link", "set", bridge, "up"]).await?;
    Ok(())
}

async fn ip(arguments: &[&str]) -> Result<String> {
    let call = Command::new("ip").args(arguments).output();
    let output = tokio::time::timeout(Duration::from_secs(10), call).await.context("`ip` hangs")??;
    if !output.status.success() {
        bail!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
