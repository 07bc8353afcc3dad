//! The model API server of `common/kube-model` against the real one: its ignored tests, for which this tier has what they need.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::{Check, check};
use crate::{
    management::Management,
    process::{self, Process},
};

/// How long one test may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Every ignored test of these executables. They make a namespace for each of their own checks, and compact the store.
pub async fn checks<'a>(
    management: &'a Management,
    toolchain: &'a Path,
    logs: &'a Path,
    executables: &[PathBuf],
) -> Result<Vec<Check<'a>>> {
    let mut checks = Vec::new();
    for executable in executables {
        let listed =
            process::output(Command::new(executable).args(["--list", "--ignored", "--format=terse"]), None).await?;
        let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        ensure!(!tests.is_empty(), "{} has no ignored tests", executable.display());
        for test in tests {
            let (executable, test) = (executable.clone(), test.to_owned());
            checks.push(check(format!("model API server: {test}"), async move {
                let mut command = Command::new(&executable);
                command
                    .args(["--ignored", "--exact", &test, "--show-output"])
                    .env("KUBE_MODEL_CONFORMANCE_KUBECONFIG", &management.kubeconfig)
                    .env("KUBE_MODEL_CONFORMANCE_ETCDCTL", toolchain.join("etcdctl"))
                    .env("KUBE_MODEL_KUBECTL", toolchain.join("kubectl"))
                    .envs(management.etcdctl_variables())
                    // The last lines are for what was found, not for where.
                    .env("RUST_BACKTRACE", "0");
                Process::start(&test, &mut command, logs)?.finish(LIMIT).await
            }));
        }
    }
    Ok(checks)
}
