//! The process that every provider is.
//!
//! A provider builds a [`Manager`] from its flags, tells it which kinds to cache ([`Informer`]), which controllers to run
//! ([`Reconciler`]) and which webhooks to serve ([`Webhooks`]), and runs it:
//!
//! ```no_run
//! # use manager::{Identity, Informer, Manager, ObjectKey, Outcome, ReconcileError, Reconciler, cli::ManagerArgs};
//! # use k8s_openapi::api::core::v1::ConfigMap;
//! struct Greeter {
//!     greetings: Informer<ConfigMap>,
//! }
//!
//! impl Reconciler for Greeter {
//!     async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
//!         let Some(_greeting) = self.greetings.get(key) else { return Ok(Outcome::Settled) };
//!         Ok(Outcome::Settled)
//!     }
//! }
//!
//! # async fn run(args: ManagerArgs, identity: Identity) -> Result<(), manager::StartError> {
//! let mut manager = Manager::new(args, identity).await?;
//! let greetings = manager.informer(Informer::default());
//! manager.controller("greeter", &greetings, Greeter { greetings: greetings.clone() }, 10);
//! manager.run().await
//! # }
//! ```

pub mod cli;
pub mod client;
pub mod clock;
mod drain;
mod error;
mod floor;
mod gate;
mod health;
pub mod informer;
mod key;
pub mod leader;
mod manager;
pub mod metrics;
mod offload;
pub mod queue;
pub mod random;
pub mod remembered;
mod running;
pub mod secrets;
mod tls;
pub mod webhook;
mod worker;
pub mod workload;
pub mod writer;

pub use ::{fault, process::telemetry};

pub use crate::{
    drain::Drain,
    error::{Category, Outcome, ReconcileError},
    health::Addresses,
    informer::Informer,
    key::ObjectKey,
    manager::{ControllerBuilder, Identity, Manager, Parts, Pod, StartError},
    offload::Offload,
    running::Running,
    webhook::Webhooks,
    worker::{Reconciler, Requeue},
    writer::{Writer, Written},
};
