//! A simulated Huawei DCS site whose virtual machines boot for real.

use clap::Parser;
use dcs_simulator::{
    guest::cli::{self, GuestCommand},
    serve::{self, ServeArgs},
    site::inventory::SiteFile,
};

/// A simulated Huawei DCS site whose virtual machines boot for real.
#[derive(Debug, Parser)]
#[command(name = "basalt-dcs-simulator", version)]
enum Command {
    /// Runs a site: the VRM REST API, the hosts' upload listener, the control API and, by flag, registry and load
    /// balancers. Ends with SIGTERM or Ctrl-C: machines are powered off and the state is saved.
    Serve(Box<ServeArgs>),
    /// Prints the default site file: what `serve` simulates without `--site-file`. Change names and pass it back.
    Inventory,
    #[command(flatten)]
    Guest(GuestCommand),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve(args) => serve::run(*args),
        Command::Inventory => {
            println!("{}", serde_json::to_string_pretty(&SiteFile::default())?);
            Ok(())
        }
        Command::Guest(command) => cli::run(command),
    }
}
