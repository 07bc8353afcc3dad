//! Accidents of machines, as a test stages them: beside the API, as nobody could on a real site.

use futures::future::{BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};

use super::GuestError;

/// What a machine suffers from until it is taken away again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Afflictions {
    /// Its network cable is pulled: connections stall, new ones do not come about.
    pub partitioned: bool,
    /// Its disk is slow: etcd's writes take half a second where it leads.
    pub slow_disk: bool,
    /// Its clock is wrong by this many milliseconds.
    pub clock_skew_ms: i64,
    /// The database of its member of etcd is full: the member raises `NOSPACE`, and again with each write after a client has
    /// taken the alarm back.
    pub etcd_no_space: bool,
    /// The data of its member of etcd differs from that of the others: the member has raised `CORRUPT`.
    pub etcd_corrupt: bool,
}

/// A change of [`Afflictions`]: what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AfflictionsChange {
    /// See [`Afflictions::partitioned`].
    pub partitioned: Option<bool>,
    /// See [`Afflictions::slow_disk`].
    pub slow_disk: Option<bool>,
    /// See [`Afflictions::clock_skew_ms`].
    pub clock_skew_ms: Option<i64>,
    /// See [`Afflictions::etcd_no_space`].
    pub etcd_no_space: Option<bool>,
    /// See [`Afflictions::etcd_corrupt`].
    pub etcd_corrupt: Option<bool>,
}

impl Afflictions {
    /// With a change made.
    #[must_use]
    pub fn changed(self, change: AfflictionsChange) -> Self {
        Self {
            partitioned: change.partitioned.unwrap_or(self.partitioned),
            slow_disk: change.slow_disk.unwrap_or(self.slow_disk),
            clock_skew_ms: change.clock_skew_ms.unwrap_or(self.clock_skew_ms),
            etcd_no_space: change.etcd_no_space.unwrap_or(self.etcd_no_space),
            etcd_corrupt: change.etcd_corrupt.unwrap_or(self.etcd_corrupt),
        }
    }

    /// The change that brings somebody else to suffer from the same, beside what that one has of its own; none where this
    /// is nothing.
    pub fn inflicted(self) -> Option<AfflictionsChange> {
        let change = AfflictionsChange {
            partitioned: self.partitioned.then_some(true),
            slow_disk: self.slow_disk.then_some(true),
            clock_skew_ms: (self.clock_skew_ms != 0).then_some(self.clock_skew_ms),
            etcd_no_space: self.etcd_no_space.then_some(true),
            etcd_corrupt: self.etcd_corrupt.then_some(true),
        };
        (self != Self::default()).then_some(change)
    }
}

/// What happens to a machine once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// The guest dies; the site sees a machine that is off.
    Crash,
    /// The guest starts anew from its disks; the site sees nothing.
    Reboot,
}

/// A Kubernetes cluster that lives on machines of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestCluster {
    /// Identity of its data.
    pub id: String,
    /// Pin of its certificate authority: `sha256:` and the hash of its public key.
    pub authority: String,
    /// Whether an API server answers.
    pub serving: bool,
    /// Ids of its machines that are powered on, sorted.
    pub machines: Vec<String>,
    /// Its etcd members.
    pub members: Vec<GuestMember>,
}

/// An etcd member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestMember {
    /// Its name, that of its node; empty until it has started once.
    pub name: String,
    /// Whether it only listens, and does not vote.
    pub is_learner: bool,
    /// Whether its process runs.
    pub running: bool,
    /// Alarms that it has raised: `NOSPACE`, `CORRUPT`.
    pub alarms: Vec<&'static str>,
}

/// What tests can do to guests. Platforms that cannot do it say so.
pub trait Staging: Send + Sync {
    /// What a machine suffers from.
    fn afflictions(&self, id: &str) -> Result<Afflictions, GuestError> {
        let _ = id;
        Err(unstaged())
    }

    /// Changes what a machine suffers from; it stays over power cycles.
    fn afflict(&self, id: &str, change: AfflictionsChange) -> Result<Afflictions, GuestError> {
        let _ = (id, change);
        Err(unstaged())
    }

    /// Changes what all machines of a cluster suffer from, those that are off and those that join it later too. The cluster
    /// is named by its id or the pin of its authority; none where there is no such cluster.
    fn afflict_cluster(&self, cluster: &str, change: AfflictionsChange) -> Result<Option<Afflictions>, GuestError> {
        let _ = (cluster, change);
        Err(unstaged())
    }

    /// Lets something happen to a machine.
    fn strike<'a>(&'a self, id: &'a str, accident: Accident) -> BoxFuture<'a, Result<(), GuestError>> {
        let _ = (id, accident);
        std::future::ready(Err(unstaged())).boxed()
    }

    /// Lets something happen to all machines of a cluster that are on. The cluster is named by its id or the pin of its
    /// authority; false where there is no such cluster.
    fn strike_cluster<'a>(&'a self, cluster: &'a str, accident: Accident) -> BoxFuture<'a, Result<bool, GuestError>> {
        let _ = (cluster, accident);
        std::future::ready(Err(unstaged())).boxed()
    }

    /// The clusters on the site's machines.
    fn clusters(&self) -> Vec<GuestCluster> {
        Vec::new()
    }
}

/// A platform that takes no faults.
#[derive(Clone, Copy, Debug)]
pub struct Unstaged;

impl Staging for Unstaged {}

fn unstaged() -> GuestError {
    GuestError::Host {
        what: "fault of a guest".into(),
        reason: "only memory guests take faults from here; start the simulator with --guests memory".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let now = Afflictions { partitioned: true, clock_skew_ms: 5, etcd_corrupt: true, ..Afflictions::default() };
        let change: AfflictionsChange = serde_json::from_str(r#"{"slowDisk": true, "etcdNoSpace": true}"#).unwrap();
        assert_eq!(now.changed(change), Afflictions { slow_disk: true, etcd_no_space: true, ..now });
        assert!(serde_json::from_str::<AfflictionsChange>(r#"{"slow": true}"#).is_err());
    }

    #[test]
    fn who_inherits_keeps_what_is_its_own() {
        let own = Afflictions { slow_disk: true, ..Afflictions::default() };
        let all = Afflictions { partitioned: true, ..Afflictions::default() };
        assert_eq!(own.changed(all.inflicted().unwrap()), Afflictions { partitioned: true, ..own });
        assert_eq!(Afflictions::default().inflicted(), None);
    }
}
