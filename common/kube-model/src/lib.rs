//! A Kubernetes API server in memory, for tests and simulation.
//!
//! [`Server`] answers get, list, watch, create, update, patch, apply and delete as the real one does: resource versions
//! and conflicts, watches that resume and expire, field ownership with server-side apply, finalizers, garbage
//! collection, and errors worded alike, because clients and people match on them. It has no clock and no randomness of
//! its own: [`Sources`] gives both, so that a simulation that repeats its seed repeats everything.
//!
//! It is enough for an unmodified kubectl: tables, OpenAPI documents and checks of fields are there. Objects of built-in
//! kinds are decoded, filled in and checked for what people get wrong. It knows no authentication, no admission webhooks,
//! and no CEL, patterns or formats of custom resources. Of protobuf it reads what
//! controllers write to other clusters, and writes nothing but the OpenAPI document: clients that ask for it get JSON,
//! which they ask for too.
//!
//! ```text
//!  transport ── faults ──► server ──► apply   who owns which field
//!  (HTTP)                    │        patch   JSON, merge, strategic
//!    │ table                 │        meta    rules of metadata
//!    │ openapi ──────────────┼──────► schemas which fields there are
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
mod defaults;
#[cfg(feature = "transport")]
mod discovery;
mod errors;
mod faults;
mod go;
mod meta;
mod object;
#[cfg(feature = "transport")]
mod openapi;
mod patch;
mod quantity;
mod registry;
mod schemas;
mod selectors;
mod server;
mod storage;
mod stored;
mod structural;
#[cfg(feature = "transport")]
mod table;
#[cfg(feature = "transport")]
pub mod transport;
mod validation;
mod watch;
mod workloads;

pub use crate::{
    apply::schema::{ListKey, Schema},
    errors::{ApiError, FieldError, Qualified},
    faults::{After, Before, Call, Delivery, Faults},
    patch::Patch,
    registry::{
        Admit, Amend, Behaviour, Convert, Others, Prepare, Registry, Resource, ResourceId, Subresource, Validate,
        ValidateUpdate, Version,
    },
    selectors::selects,
    server::{
        DeleteParams, Deleted, FieldChecks, FieldValidation, List, ListParams, Options, Propagation, Server, Snapshot,
        Sources, Target, Veto, WriteParams,
    },
    stored::Stored,
    watch::WatchStream,
};
