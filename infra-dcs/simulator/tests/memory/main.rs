//! Memory guests from their boot media to Kubernetes clusters, as the site drives them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod boots;
// Of what it can do, tests of guests need a part.
#[allow(dead_code)]
#[path = "../rest/client.rs"]
mod client;
mod clusters;
mod document;
mod faults;
mod fleet;
#[path = "../medium/mod.rs"]
mod medium;
mod restart;
mod site;
