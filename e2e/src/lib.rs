//! The embedded environment and the end-to-end scenarios.
