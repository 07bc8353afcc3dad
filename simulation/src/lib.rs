//! Our controllers under every bad timing: each runs unchanged over a model API server, in worlds whose time and chance come
//! from a seed. What goes wrong is decided before a world begins, so that every run can be repeated, and with less.
//!
//! ```text
//!  seed ──► plan (faults)        chance ──► delays, names, tokens
//!             │                                │
//!  instance ──wire──► kube-model ◄──store── models of core, infrastructure, kubeadm, the site
//!  (ours, unchanged)      │
//!                         └──► journal ──► invariants after each step; timeline
//! ```
//!
//! Everything of a world runs on one thread, on one runtime whose clock stands still while anybody has something to do. So
//! the same seed gives the same timeline, to the last entry; worlds of different seeds run beside each other.

pub mod chance;
pub mod clock;
pub mod journal;
pub mod kinds;
mod logs;
pub mod models;
pub mod plan;
pub mod process;
pub mod run;
pub mod scenarios;
pub mod store;
pub mod wire;
pub mod world;
