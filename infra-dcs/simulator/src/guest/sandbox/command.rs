//! Running the host's tools: always to the end, always with a limit.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

use crate::guest::GuestError;

/// The tools called here answer at once; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a command and returns its standard output; a failure carries its standard error.
pub async fn output(command: &mut Command) -> Result<String, GuestError> {
    let what = {
        let command = command.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    };
    let failed = |reason: String| GuestError::Host { what: what.clone(), reason };
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| failed(format!("no end after {LIMIT:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, stderr.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
