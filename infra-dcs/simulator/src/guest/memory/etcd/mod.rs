//! etcd of a workload cluster: members that come and go by etcd's rules, and serve its protocol.
//!
//! ```text
//!  machines ── start, stop, destroy, isolate ─┐
//!  kubeadm  ── client calls, in process ──────┼─► EtcdCluster ──► model   who is a member, who leads, what is refused
//!  clients  ── TLS over a stream ──► service ─┘       └─ waits as long as etcd does where no quorum answers
//! ```
//!
//! Keys are not here: those of a cluster are in its API server, which asks [`EtcdCluster::access_keys`] before it serves.

mod error;
mod identity;
mod model;
pub(in crate::guest::memory) mod service;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    error::{Error, StartError},
    model::{Alarm, Member, MemberId, MemberStatus, Model, Rules},
    service::serve,
};
use super::{
    api_server::{Access, Storage, StorageError},
    time::TimeSource,
};

/// What etcd takes a request to last at most: five seconds and two elections (`config.go`, `ReqTimeout`).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// The keys of a cluster, as far as members tell of them.
pub trait Keys: Send + Sync {
    /// Revision of the last change.
    fn revision(&self) -> u64;
}

impl Keys for kube_model::Server {
    fn revision(&self) -> u64 {
        self.version()
    }
}

struct State {
    model: Model,
    /// Ends what a running member serves.
    serving: HashMap<MemberId, CancellationToken>,
}

/// An etcd cluster. See the [module](self).
pub struct EtcdCluster {
    state: Mutex<State>,
    changes: watch::Sender<()>,
    keys: Arc<dyn Keys>,
    time: TimeSource,
    request_timeout: Duration,
}

impl EtcdCluster {
    /// A cluster in this state. Calls that need a quorum and find none are refused after `request_timeout`, for which etcd
    /// has [`REQUEST_TIMEOUT`].
    pub fn new(model: Model, request_timeout: Duration, time: TimeSource, keys: Arc<dyn Keys>) -> Arc<Self> {
        let state = State { model, serving: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), changes: watch::channel(()).0, keys, time, request_timeout })
    }

    // === machines ===

    /// The first member of a new cluster starts.
    pub fn bootstrap(&self, name: &str, peer_url: &str, client_url: &str) -> Result<MemberId, StartError> {
        self.change(|model, now| model.bootstrap(name, peer_url, client_url, now))
    }

    /// A member that was added before starts for the first time, with the names and peer URLs of `--initial-cluster`,
    /// its own among them.
    pub fn join(
        &self,
        name: &str,
        client_url: &str,
        initial_cluster: &[(String, String)],
    ) -> Result<MemberId, StartError> {
        self.change(|model, now| model.join(name, client_url, initial_cluster, now))
    }

    /// A member starts again on the data that its machine has kept.
    pub fn start(&self, id: MemberId) -> Result<(), StartError> {
        self.change(|model, now| model.start(id, now))
    }

    /// A member's process ends, and with it all that it serves. Its data stays.
    pub fn stop(&self, id: MemberId) {
        self.change(|model, _| model.stop(id));
    }

    /// A member's process and data are gone with its machine. The others keep it as a member until it is removed.
    pub fn destroy(&self, id: MemberId) {
        self.change(|model, _| model.destroy(id));
    }

    // === faults ===

    /// Cuts a member off from its peers, or joins it to them again. Clients still reach it.
    pub fn isolate(&self, id: MemberId, is_isolated: bool) {
        self.change(|model, now| model.isolate(id, is_isolated, now));
    }

    /// Makes each write of a member's disk take so long. A slow leader slows its cluster down.
    pub fn slow_disk(&self, id: MemberId, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.change(|model, _| model.set_write_delay(id, delay));
    }

    /// Sets the size of a member's database in bytes; beyond the quota it raises `NOSPACE`.
    pub fn set_db_size(&self, id: MemberId, bytes: u64) {
        self.change(|model, _| model.set_db_size(id, bytes));
    }

    /// Fills a member's database, or makes room in it and takes back the alarm.
    pub fn set_full(&self, id: MemberId, is_full: bool) {
        self.change(|model, _| model.set_full(id, is_full));
    }

    /// Makes a member's data differ from that of its peers, or the same again and takes back the alarm.
    pub fn set_corrupt(&self, id: MemberId, is_corrupt: bool) {
        self.change(|model, _| model.set_corrupt(id, is_corrupt));
    }

    // === what a machine sees ===

    /// Whether a member's process runs; false also for one that was removed and has heard of it.
    pub fn is_running(&self, id: MemberId) -> bool {
        self.state.lock().model.is_running(id)
    }

    /// Whether any member has raised this alarm.
    pub fn has_alarm(&self, alarm: Alarm) -> bool {
        self.state.lock().model.has_alarm(alarm)
    }

    /// What a member has raised.
    pub fn alarms_of(&self, id: MemberId) -> Vec<Alarm> {
        self.state.lock().model.alarms_of(id)
    }

    /// Tells of every change of members, processes and faults.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The state of the cluster, to be kept.
    pub fn model(&self) -> Model {
        self.state.lock().model.clone()
    }

    /// The members, whoever of them is running.
    pub fn members(&self) -> Vec<Member> {
        self.state.lock().model.members().cloned().collect()
    }

    /// The member that leads; none without a quorum.
    pub fn leader(&self) -> Option<MemberId> {
        self.state.lock().model.leader()
    }

    // === client calls, each through a member ===

    /// Adds a member; gives it and all members.
    pub async fn member_add(
        &self,
        via: MemberId,
        peer_urls: &[String],
        is_learner: bool,
    ) -> Result<(Member, Vec<Member>), Error> {
        let id = self.write(via, |model, now| model.add(via, peer_urls, is_learner, now)).await?;
        let members = self.members();
        let member = members.iter().find(|member| member.id == id).cloned().ok_or(Error::MemberNotFound)?;
        Ok((member, members))
    }

    /// Removes a member; gives those that are left.
    pub async fn member_remove(&self, via: MemberId, id: MemberId) -> Result<Vec<Member>, Error> {
        self.write(via, |model, now| model.remove(via, id, now)).await?;
        Ok(self.members())
    }

    /// Changes a member's peer URLs; gives all members.
    pub async fn member_update(&self, via: MemberId, id: MemberId, peer_urls: &[String]) -> Result<Vec<Member>, Error> {
        self.write(via, |model, _| model.update(via, id, peer_urls)).await?;
        Ok(self.members())
    }

    /// Makes a learner vote; gives all members.
    pub async fn member_promote(&self, via: MemberId, id: MemberId) -> Result<Vec<Member>, Error> {
        self.write(via, |model, now| model.promote(via, id, now)).await?;
        Ok(self.members())
    }

    /// The members: as a quorum knows them, or as this member does.
    pub async fn member_list(&self, via: MemberId, is_linearizable: bool) -> Result<Vec<Member>, Error> {
        self.call(|model, _| model.list(via, is_linearizable)).await
    }

    /// What a member knows of itself.
    pub fn status(&self, via: MemberId) -> Result<MemberStatus, Error> {
        self.state.lock().model.status(via)
    }

    /// Alarms of a kind, or all.
    pub async fn alarms(&self, via: MemberId, kind: Option<Alarm>) -> Result<Vec<(MemberId, Alarm)>, Error> {
        self.call(|model, _| model.alarms(via, kind)).await
    }

    /// Raises an alarm for a member; false when it was raised already.
    pub async fn alarm_activate(&self, via: MemberId, id: MemberId, alarm: Alarm) -> Result<bool, Error> {
        self.write(via, |model, _| model.activate(via, id, alarm)).await
    }

    /// Takes a member's alarm back; false when there was none.
    pub async fn alarm_deactivate(&self, via: MemberId, id: MemberId, alarm: Alarm) -> Result<bool, Error> {
        self.write(via, |model, _| model.deactivate(via, id, alarm)).await
    }

    /// Makes another member lead; only the leader does that.
    pub async fn move_leader(&self, via: MemberId, target: MemberId) -> Result<(), Error> {
        self.call(|model, _| model.move_leader(via, target)).await
    }

    /// Gives back what a member's database does not need.
    pub fn defragment(&self, via: MemberId) -> Result<(), Error> {
        self.change(|model, _| model.defragment(via))
    }

    /// Whether keys can be read, or written, through a member now: waits and refuses as etcd does.
    pub async fn access_keys(&self, via: MemberId, is_write: bool) -> Result<(), Error> {
        if is_write {
            self.write(via, |model, _| model.check_write(via)).await
        } else {
            self.call(|model, _| model.check_read(via)).await
        }
    }

    /// A hash over all keys up to a revision, which all members share whose data does not differ; and that revision.
    fn hash(&self, via: MemberId, revision: i64, current: i64) -> Result<(u32, i64), Error> {
        if revision > current {
            return Err(Error::FutureRevision);
        }
        let model = &self.state.lock().model;
        model.list(via, false)?;
        let is_corrupt = model.process(via).is_some_and(model::Process::is_corrupt);
        let number = u64::try_from(revision).unwrap_or_default() ^ model.cluster_id() ^ u64::from(is_corrupt);
        // Fibonacci hashing: neighbours come out far from each other.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Ok((u32::try_from(spread).unwrap_or_default(), revision))
    }

    // === how ===

    fn change<T>(&self, run: impl FnOnce(&mut Model, u64) -> T) -> T {
        let now = self.time.now();
        let outcome = {
            let State { model, serving } = &mut *self.state.lock();
            let outcome = run(model, now);
            serving.retain(|id, token| {
                let is_running = model.is_running(*id);
                if !is_running {
                    token.cancel();
                }
                is_running
            });
            outcome
        };
        self.changes.send_modify(|()| {});
        outcome
    }

    /// Makes a call; where etcd would wait for a quorum it waits for one.
    async fn call<T>(&self, mut run: impl FnMut(&mut Model, u64) -> Result<T, Error>) -> Result<T, Error> {
        let deadline = tokio::time::Instant::now() + self.request_timeout;
        loop {
            let mut changes = self.changes.subscribe();
            let outcome = {
                let now = self.time.now();
                run(&mut self.state.lock().model, now)
            };
            match outcome {
                Err(error) if error.is_late() => match tokio::time::timeout_at(deadline, changes.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return Err(error),
                },
                outcome => return outcome,
            }
        }
    }

    /// Makes a call that the leader writes to its disk.
    async fn write<T>(
        &self,
        via: MemberId,
        mut run: impl FnMut(&mut Model, u64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let delay = {
            let model = &self.state.lock().model;
            let process = model.process(model.leader().unwrap_or(via));
            Duration::from_millis(process.map_or(0, model::Process::write_delay))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay.min(self.request_timeout)).await;
        }
        if delay >= self.request_timeout {
            return Err(Error::Timeout);
        }
        // Others must see what has changed: it may be a quorum, or a member less.
        self.call(|model, now| run(model, now)).await.inspect(|_| self.change(|_, _| ()))
    }

    /// What ends a member's connections; none when it does not run.
    fn serving(&self, id: MemberId) -> Option<CancellationToken> {
        let State { model, serving } = &mut *self.state.lock();
        model.is_running(id).then(|| serving.entry(id).or_default().clone())
    }
}

/// What an API server says whose etcd does not run.
const UNREACHABLE: &str = "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: \
                           dial tcp 127.0.0.1:2379: connect: connection refused\"";

/// The member through which an API server reaches its keys: the one on its own machine.
pub struct LocalMember {
    /// The cluster.
    pub cluster: Arc<EtcdCluster>,
    /// The member.
    pub id: MemberId,
}

impl Storage for LocalMember {
    fn access(&self, access: Access) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move {
            let outcome = self.cluster.access_keys(self.id, access == Access::Write).await;
            outcome.map_err(|error| match error {
                // Nobody listens there.
                Error::Stopped => StorageError(UNREACHABLE.to_owned()),
                error => StorageError(error.to_string()),
            })
        })
    }

    fn is_healthy(&self) -> bool {
        self.cluster.state.lock().model.check_read(self.id).is_ok()
    }
}
