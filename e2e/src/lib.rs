//! The embedded environment — etcd, kube-apiserver, upstream's core Cluster API, the simulated DCS site and our
//! providers, with sandbox guests in a network namespace of their own — and the scenarios that run in it.

pub mod api_tier;
pub mod bench;
pub mod cluster;
pub mod conformance;
pub mod crash_points;
pub mod demo;
pub mod environment;
pub mod fleet;
pub mod ground;
pub mod invariants;
pub mod isolation;
pub mod management;
pub mod manifests;
pub mod measure;
pub mod process;
pub mod providers;
mod run_folder;
pub mod scenarios;
pub mod site;
pub mod tree;
