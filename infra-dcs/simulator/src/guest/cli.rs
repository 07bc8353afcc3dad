//! Sub-commands that concern guests: made for `#[command(flatten)]` in the program's own.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Result, bail};
use clap::Subcommand;

use super::{
    image,
    sandbox::{clean, exec, launch, probe},
};

/// See the variants.
#[derive(Debug, Subcommand)]
pub enum GuestCommand {
    /// Guest images: what sandbox machines boot.
    Image {
        /// What to do.
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Tells whether sandbox guests can run here, and what is missing where they cannot.
    Probe {
        /// Only what no package could bring.
        #[arg(long)]
        kernel_only: bool,
    },
    /// Removes what a killed simulator left of its machines: processes, control groups, loop devices.
    Clean {
        /// The data directory that was given to `serve`.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Runs a command inside a running machine, as its root; without one, a shell.
    Exec {
        /// The data directory that was given to `serve`.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Id of the machine, for example `i-00000001`.
        machine: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// First stage of a machine's first process.
    #[command(hide = true)]
    GuestEnter {
        /// The machine's directory.
        machine: PathBuf,
    },
    /// Second stage of a machine's first process.
    #[command(hide = true)]
    GuestInit {
        /// The machine's directory.
        machine: PathBuf,
    },
}

/// Sub-commands of `image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Builds the guest image and the container images, unless they are there; prints the image's directory.
    Build(image::BuildArgs),
}

/// Runs one of the sub-commands to its end.
pub fn run(command: GuestCommand) -> Result<()> {
    match command {
        GuestCommand::Image { command: ImageCommand::Build(args) } => println!("{}", image::build(&args)?.display()),
        GuestCommand::Probe { kernel_only } => {
            let obstacles = probe::obstacles(kernel_only);
            if !obstacles.is_empty() {
                bail!("sandbox guests cannot run here: {}", obstacles.join("; "));
            }
            println!("sandbox guests can run here");
        }
        GuestCommand::Clean { data_dir } => {
            let _claim = crate::claim(&data_dir)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            for line in runtime.block_on(clean::clean(&data_dir))? {
                println!("{line}");
            }
        }
        GuestCommand::Exec { data_dir, machine, command } => exec::exec(&data_dir, &machine, command)?,
        GuestCommand::GuestEnter { machine } => launch::enter(&machine)?,
        GuestCommand::GuestInit { machine } => {
            if launch::init(&machine).is_err() {
                // It has said why, on the console and in the machine's directory.
                std::process::exit(launch::BOOT_FAILED);
            }
        }
    }
    Ok(())
}
