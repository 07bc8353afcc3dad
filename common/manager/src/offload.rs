//! Computing that takes long: making keys.

use std::{sync::LazyLock, thread};

use tokio::sync::Semaphore;

use crate::{Category, ReconcileError};

/// As many computations at once as there are processors: more would take turns with the workers, which serve everyone, and
/// each would leave a thread with memory of its own.
static PROCESSORS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(thread::available_parallelism().map_or(1, usize::from)));

/// Where a process computes what takes long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// On a thread beside the workers, which serve everyone.
    #[default]
    Beside,
    /// Right here: in a simulation a thread beside would come back at a moment that no seed decides.
    InPlace,
}

impl Offload {
    /// Runs this work.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReconcileError> {
        match self {
            Self::InPlace => Ok(work()),
            Self::Beside => {
                let bug = |error: String| ReconcileError::new(Category::Bug, error);
                let _turn = PROCESSORS.acquire().await.map_err(|error| bug(error.to_string()))?;
                tokio::task::spawn_blocking(work).await.map_err(|error| bug(error.to_string()))
            }
        }
    }
}
