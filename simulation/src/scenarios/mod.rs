//! What users do, in worlds where everything may go wrong.

mod bootstrap;
mod checks;
mod control_plane;
mod dcs;

use futures::future::BoxFuture;

use crate::{journal::Violation, plan::Horizon, world::World};

/// A story that must end well in every world.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, as commands take it.
    pub name: &'static str,
    /// How long a plain run is.
    pub horizon: Horizon,
    /// Worlds that a run of everything gives it: the quicker they are, the more.
    pub worlds: u64,
    /// Every effect of the process that is told of, by the name of its crash points.
    pub effects: fn() -> Vec<&'static str>,
    /// The story: it builds on an empty world.
    pub tell: fn(World) -> BoxFuture<'static, Result<(), Violation>>,
}

/// All of them.
pub const ALL: &[Scenario] = &[bootstrap::SCENARIO, control_plane::SCENARIO, dcs::SCENARIO];

/// Stands in every credential, and nowhere else.
pub const CANARY: &str = "canary-9f3a5c";
