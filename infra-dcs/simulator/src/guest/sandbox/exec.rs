//! Running a command inside a machine, for whoever wants to look.

use std::{ffi::OsString, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{cgroup::SiteGroups, launch};

/// Becomes a command inside a running machine; returns only in failure.
pub fn exec(data_dir: &Path, id: &str, command: Vec<OsString>) -> Result<()> {
    let groups = SiteGroups::find(data_dir)
        .with_context(|| format!("data directory {}", data_dir.display()))?
        .with_context(|| format!("{} is the data directory of no sandbox machines", data_dir.display()))?;
    let init = groups.init_of(id).with_context(|| {
        let running: Vec<_> = groups.machines().into_iter().collect();
        format!("machine `{id}` is not running; running are: {}", running.join(", "))
    })?;
    groups.join(id).context("cannot join the machine's control groups")?;
    // nsenter enters namespaces, not limits: without this the command could set the host's clock.
    launch::drop_capabilities()?;
    let command = if command.is_empty() { vec!["/bin/bash".into()] } else { command };
    let error = Command::new("nsenter")
        .args(["--target", &init.to_string(), "--all", "--"])
        .args(command)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("TERM", std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()))
        .env("KUBECONFIG", "/etc/kubernetes/admin.conf")
        .exec();
    Err(error).context("cannot start nsenter (package util-linux)")
}
