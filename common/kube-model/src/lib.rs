//! A Kubernetes API server in memory, for tests and simulation.
//!
//! [`Server`] answers get, list, watch, create, update, patch, apply and delete as the real one does: resource versions
//! and conflicts, watches that resume and expire, field ownership with server-side apply, finalizers, garbage
//! collection, and errors worded alike, because clients and people match on them. It has no clock and no randomness of
//! its own: [`Sources`] gives both, so that a simulation that repeats its seed repeats everything.
//!
//! It knows no authentication, no admission webhooks, no CEL, patterns or formats of custom resources, no validation of
//! the specs of built-in kinds and no tables. Of protobuf it reads what controllers write to
//! other clusters, and writes none: clients that ask for it get JSON, which they ask for too.
//!
//! ```text
//!  transport ── faults ──► server ──► apply   who owns which field
//!  (HTTP)                    │        patch   JSON, merge, strategic
//!                            │        meta    rules of metadata
//!                            ▼
//!                          storage ──► watch  one rendering for all who see alike
//!                                 └──► collect  garbage, namespaces
//! ```
//!
//! The suite in `tests/conformance` runs the same checks against this model and, given a kubeconfig, against a real API
//! server.

mod apply;
mod builtin;
mod certificates;
mod crd;
#[cfg(feature = "transport")]
mod discovery;
mod errors;
mod faults;
mod meta;
mod object;
mod patch;
mod registry;
mod selectors;
mod server;
mod storage;
mod stored;
mod structural;
#[cfg(feature = "transport")]
pub mod transport;
mod watch;
mod workloads;

pub use crate::{
    apply::schema::{ListKey, Schema},
    errors::{ApiError, FieldError, Qualified},
    faults::{After, Before, Call, Delivery, Faults},
    patch::Patch,
    registry::{Amend, Behaviour, Convert, Prepare, Registry, Resource, ResourceId, Validate, Version},
    selectors::selects,
    server::{
        DeleteParams, Deleted, List, ListParams, Options, Propagation, Server, Snapshot, Sources, Target, WriteParams,
    },
    stored::Stored,
    watch::WatchStream,
};
