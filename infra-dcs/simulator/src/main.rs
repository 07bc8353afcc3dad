//! A simulated Huawei DCS site whose virtual machines boot for real.

use clap::Parser;
use dcs_simulator::guest::cli::{self, GuestCommand};

/// A simulated Huawei DCS site whose virtual machines boot for real.
#[derive(Debug, Parser)]
#[command(name = "basalt-dcs-simulator", version)]
enum Command {
    #[command(flatten)]
    Guest(GuestCommand),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Guest(command) => cli::run(command),
    }
}
