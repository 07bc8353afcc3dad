//! Memory guests from their boot media to Kubernetes clusters, as the site drives them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod boots;
mod clusters;
mod document;
mod fleet;
#[path = "../medium/mod.rs"]
mod medium;
mod restart;
mod site;
