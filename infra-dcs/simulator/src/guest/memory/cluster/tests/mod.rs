//! Whole clusters of machines that were not booted: their files are written, and kubeadm is run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod faults;
mod fixture;
mod flags;
mod init;
mod join;
mod saved;
mod workloads;
