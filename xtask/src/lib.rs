//! What the developer commands and the end-to-end environment share: where things are, how commands are run, how
//! progress is shown, which peers are built from Go modules, and which system packages a run needs.

pub mod command;
pub mod fleet;
pub mod packages;
pub mod paths;
pub mod progress;
pub mod toolchain;
