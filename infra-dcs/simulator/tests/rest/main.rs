//! The simulator from outside: REST over TLS, uploads, faults, control API.

// Helpers of tests: a failure in one is the failure of its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod faults;
mod inventory;
mod leftovers;
mod login;
mod machines;
mod refusals;
mod rules;
mod storage;
