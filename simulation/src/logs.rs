//! What the processes of a world log, kept to be searched for secrets (I9).

use std::{io, sync::Arc};

use parking_lot::Mutex;
use tracing::{dispatcher, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Every line of this thread, for as long as it listens.
pub struct Logs {
    lines: Lines,
    _listens: DefaultGuard,
}

impl Logs {
    /// Begins to listen on this thread. Nobody does where the whole program shows its logs: there can be one listener.
    pub fn listen() -> Option<Self> {
        if dispatcher::has_been_set() {
            return None;
        }
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        Some(Self { lines, _listens: tracing::subscriber::set_default(subscriber) })
    }

    /// The first line in which one of these stands.
    pub fn line_with(&self, secrets: &[String]) -> Option<String> {
        let lines = self.lines.0.lock();
        let lines = String::from_utf8_lossy(&lines);
        lines.lines().find(|line| secrets.iter().any(|secret| line.contains(secret))).map(str::to_owned)
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_log_is_found() {
        let secrets = ["hush".to_owned()];
        let logs = Logs::listen().unwrap();
        tracing::debug!(address = "10.0.0.1", "connects");
        assert_eq!(logs.line_with(&secrets), None);
        tracing::info!(key = "hush", "logs in");
        let line = logs.line_with(&secrets).unwrap();
        assert!(line.contains("logs in"), "{line}");
    }
}
