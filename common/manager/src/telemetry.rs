//! Logs: text for people, JSON for machines, level by flag or `RUST_LOG`.

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::LoggingFormat;

/// Installs the log of this process; a second call changes nothing.
pub fn init(format: LoggingFormat, verbosity: u8) {
    let level = match verbosity {
        0 | 1 => "info,hyper=warn,kube=warn,tower=warn",
        2..=4 => "debug,hyper=info,h2=info,rustls=info,tower=info,kube=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let registry = tracing_subscriber::registry().with(filter);
    let result = match format {
        LoggingFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
        LoggingFormat::Text => registry.with(fmt::layer().with_ansi(false).with_writer(std::io::stderr)).try_init(),
    };
    drop(result);
}
