//! The adapter's process.

use std::process::ExitCode;

use clap::Parser;
use dcs_adapter::server::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    match server::run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
