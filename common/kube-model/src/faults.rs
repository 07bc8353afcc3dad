//! Where a harness makes a server fail: before and after each request, and at each event of a watch.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::{errors::ApiError, server::Target};

/// A request, as faults see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// What it is about.
    pub target: Target,
    /// Field manager of a write.
    pub manager: String,
}

/// What happens to a request before it is looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    /// It is served.
    Serve,
    /// It is refused, and changes nothing.
    Refuse(ApiError),
    /// It is lost: the client sees a broken connection, nothing changes.
    Lose,
    /// It is served later.
    Delay(Duration),
}

/// What happens to an answer; whatever it is, the change has been made.
#[derive(Clone, Debug, PartialEq)]
pub enum After {
    /// It arrives.
    Answer,
    /// It is lost: the client sees a broken connection.
    Lose,
    /// Another answer arrives in its stead.
    Replace(ApiError),
}

/// What happens to an event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrives once.
    Once,
    /// It arrives twice.
    Twice,
    /// It never arrives.
    Lost,
    /// It arrives after the next one.
    Late,
    /// The watch ends before it.
    Cut,
}

/// A source of faults. Both hooks of a request may wait as long as they like: a harness that never lets `after` return
/// has crashed its client between the commit and the answer.
pub trait Faults: Send + Sync {
    /// Called before a request is looked at.
    fn before(&self, call: &Call) -> BoxFuture<'static, Before> {
        let _ = call;
        Box::pin(std::future::ready(Before::Serve))
    }

    /// Called when a request was served, well or not.
    fn after(&self, call: &Call, refused: Option<&ApiError>) -> BoxFuture<'static, After> {
        let _ = (call, refused);
        Box::pin(std::future::ready(After::Answer))
    }

    /// Called for each event and each watch that it is for.
    fn deliver(&self, watch: &Call) -> Delivery {
        let _ = watch;
        Delivery::Once
    }
}

/// No faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faultless;

impl Faults for Faultless {}
