//! Sub-commands that concern guests: made for `#[command(flatten)]` in the program's own.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use super::image;

/// See the variants.
#[derive(Debug, Subcommand)]
pub enum GuestCommand {
    /// Guest images: what sandbox machines boot.
    Image {
        /// What to do.
        #[command(subcommand)]
        command: ImageCommand,
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
        GuestCommand::Image { command: ImageCommand::Build(args) } => {
            let dir: PathBuf = image::build(&args)?;
            println!("{}", dir.display());
        }
    }
    Ok(())
}
