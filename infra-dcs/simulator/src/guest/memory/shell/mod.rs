//! The shell of memory guests.

mod command;

pub use command::{Call, Commands, Exit, NoCommands};
