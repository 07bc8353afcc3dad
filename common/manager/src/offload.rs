//! Computing that takes long: making keys.

use crate::{Category, ReconcileError};

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
            Self::Beside => tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| ReconcileError::new(Category::Bug, error.to_string())),
        }
    }
}
