//! The cluster as a state machine: who its members are, who of them runs and reaches whom, and what etcd does about it.
//!
//! Decisions only: time comes in as milliseconds. The rules are those of etcd 3.5 and 3.6 with `--strict-reconfig-check`,
//! their default (`server/etcdserver/server.go`, `util.go`, `api/membership/cluster.go`). Elections take no time, and the
//! member that has been up for longest wins.

mod change;
mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use self::process::Process;
use super::error::Error;

/// Identity of a member; above what JSON numbers can hold exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Member {
    /// Identity.
    pub id: MemberId,
    /// Name; empty until it has started for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it only follows: it does not vote yet.
    pub is_learner: bool,
}

impl Member {
    /// Whether it has ever started.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// What a member complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Alarm {
    /// Its database is full.
    NoSpace,
    /// Its data differs from its peers'.
    Corrupt,
}

impl Alarm {
    /// etcd's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        }
    }
}

/// Sizes and delays of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rules {
    /// Version that members report, such as `3.6.6`.
    pub version: String,
    /// Milliseconds that a learner needs to catch up after it has started.
    pub learner_catch_up: u64,
    /// Milliseconds for which peers must have been connected to count when the membership changes. etcd: 5,000.
    pub health_interval: u64,
    /// Learners at a time. etcd: 1.
    pub max_learners: usize,
    /// Bytes after which a database is full. etcd: 2 GiB.
    pub quota: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            version: "3.6.6".to_owned(),
            learner_catch_up: 200,
            health_interval: 5_000,
            max_learners: 1,
            quota: 2 << 30,
        }
    }
}

/// What a member knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its version.
    pub version: String,
    /// Whom it believes to lead.
    pub leader: Option<MemberId>,
    /// Term of the leader.
    pub term: u64,
    /// Last committed entry.
    pub index: u64,
    /// Whether it only follows.
    pub is_learner: bool,
    /// Bytes of its database, where a test has set them.
    pub db_size: Option<u64>,
    /// Bytes after which it is full.
    pub quota: u64,
    /// Alarms of all members.
    pub alarms: Vec<(MemberId, Alarm)>,
}

type Members = BTreeMap<MemberId, Member>;

/// A cluster. See the [module](self).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Model {
    rules: Rules,
    cluster_id: u64,
    members: Arc<Members>,
    removed: BTreeSet<MemberId>,
    processes: BTreeMap<MemberId, Process>,
    alarms: BTreeSet<(MemberId, Alarm)>,
    leader: Option<MemberId>,
    term: u64,
    index: u64,
}

/// Votes that decide.
fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl Model {
    /// A cluster without members.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            cluster_id: 0,
            members: Arc::default(),
            removed: BTreeSet::new(),
            processes: BTreeMap::new(),
            alarms: BTreeSet::new(),
            leader: None,
            term: 1,
            index: 0,
        }
    }

    /// Identity of the cluster.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Term of the last election.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The member that leads; none without a quorum.
    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// The members, whoever knows of them, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether a member's process runs.
    pub fn is_running(&self, id: MemberId) -> bool {
        self.processes.get(&id).is_some_and(|process| process.is_running)
    }

    /// A process, running or not.
    pub fn process(&self, id: MemberId) -> Option<&Process> {
        self.processes.get(&id)
    }

    fn running(&self, id: MemberId) -> Result<&Process, Error> {
        self.processes.get(&id).filter(|process| process.is_running).ok_or(Error::Stopped)
    }

    fn is_voter(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(|member| !member.is_learner)
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_learner)
    }

    /// Whether two processes reach each other.
    fn are_linked(&self, one: MemberId, other: MemberId) -> bool {
        let open = |id| self.processes.get(&id).is_some_and(|process| process.is_running && !process.is_isolated);
        self.is_running(one) && (one == other || (open(one) && open(other)))
    }

    /// Whether a process and those whom it reaches are enough to decide.
    fn has_quorum(&self, id: MemberId) -> bool {
        let linked = self.voters().filter(|voter| self.are_linked(id, voter.id)).count();
        linked >= quorum(self.voters().count())
    }

    /// Voters that a process has been connected to for long enough, itself included.
    fn connected_voters(&self, id: MemberId, now: u64) -> usize {
        let since = now.saturating_sub(self.rules.health_interval);
        let own = self.processes.get(&id).map_or(now, |process| process.linked_since);
        let is_connected = |voter: &&Member| {
            voter.id == id
                || self.are_linked(id, voter.id)
                    && self.processes.get(&voter.id).is_some_and(|peer| peer.linked_since.max(own) <= since)
        };
        self.voters().filter(is_connected).count()
    }

    /// What every call checks first: the member runs, and learners serve nothing but their status.
    fn admit(&self, via: MemberId) -> Result<(), Error> {
        self.running(via)?;
        let is_learner = self.view(via).get(&via).is_some_and(|member| member.is_learner);
        if is_learner { Err(Error::NotSupportedForLearner) } else { Ok(()) }
    }

    fn require_quorum(&self, via: MemberId) -> Result<(), Error> {
        if self.has_quorum(via) { Ok(()) } else { Err(Error::Timeout) }
    }

    /// The members as a process knows them: one that is cut off knows those of then.
    fn view(&self, id: MemberId) -> &Members {
        self.processes.get(&id).and_then(|process| process.stale_members.as_deref()).unwrap_or(&self.members)
    }

    /// The members as a member tells them.
    pub fn list(&self, via: MemberId, is_linearizable: bool) -> Result<Vec<Member>, Error> {
        self.admit(via)?;
        if is_linearizable {
            self.require_quorum(via)?;
        }
        Ok(self.view(via).values().cloned().collect())
    }

    /// What a member knows of itself. Learners tell it too.
    pub fn status(&self, via: MemberId) -> Result<MemberStatus, Error> {
        let process = self.running(via)?;
        Ok(MemberStatus {
            version: self.rules.version.clone(),
            leader: self.leader.filter(|_| self.has_quorum(via)),
            term: self.term,
            index: self.index,
            is_learner: self.view(via).get(&via).is_some_and(|member| member.is_learner),
            db_size: process.db_size,
            quota: self.rules.quota,
            alarms: self.alarms.iter().copied().collect(),
        })
    }

    /// Alarms of a kind, or all.
    pub fn alarms(&self, via: MemberId, kind: Option<Alarm>) -> Result<Vec<(MemberId, Alarm)>, Error> {
        self.admit(via)?;
        self.require_quorum(via)?;
        Ok(self.alarms.iter().copied().filter(|(_, alarm)| kind.is_none_or(|kind| kind == *alarm)).collect())
    }

    /// Raises an alarm; false when it was raised already.
    pub fn activate(&mut self, via: MemberId, id: MemberId, alarm: Alarm) -> Result<bool, Error> {
        self.admit(via)?;
        self.require_quorum(via)?;
        self.index += 1;
        Ok(self.alarms.insert((id, alarm)))
    }

    /// Takes an alarm back; false when there was none. What caused it raises it again.
    pub fn deactivate(&mut self, via: MemberId, id: MemberId, alarm: Alarm) -> Result<bool, Error> {
        self.admit(via)?;
        self.require_quorum(via)?;
        self.index += 1;
        Ok(self.alarms.remove(&(id, alarm)))
    }

    /// Whether any member has raised this alarm.
    pub fn has_alarm(&self, wanted: Alarm) -> bool {
        self.alarms.iter().any(|(_, alarm)| *alarm == wanted)
    }

    /// What a member has raised.
    pub fn alarms_of(&self, id: MemberId) -> Vec<Alarm> {
        self.alarms.iter().filter(|(member, _)| *member == id).map(|(_, alarm)| *alarm).collect()
    }

    /// Whether keys can be read through a member (`apply.go`: nobody trusts corrupt data).
    pub fn check_read(&self, via: MemberId) -> Result<(), Error> {
        self.admit(via)?;
        self.require_quorum(via)?;
        if self.has_alarm(Alarm::Corrupt) { Err(Error::Corrupt) } else { Ok(()) }
    }

    /// Whether keys can be written through a member. A member whose database is full raises its alarm with each write that it
    /// is asked for (`v3rpc/quota.go`), and while any has, nothing is written anywhere (`apply.go`).
    pub fn check_write(&mut self, via: MemberId) -> Result<(), Error> {
        self.check_read(via)?;
        if self.running(via)?.exceeds(self.rules.quota) {
            self.alarms.insert((via, Alarm::NoSpace));
        }
        if self.has_alarm(Alarm::NoSpace) { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// Compacts a member's database to what it holds.
    pub fn defragment(&mut self, via: MemberId) -> Result<(), Error> {
        self.admit(via)?;
        if let Some(process) = self.processes.get_mut(&via).filter(|process| !process.is_full) {
            process.db_size = None;
        }
        Ok(())
    }

    /// Makes another member lead.
    pub fn move_leader(&mut self, via: MemberId, target: MemberId) -> Result<(), Error> {
        self.admit(via)?;
        if self.leader != Some(via) || !self.has_quorum(via) {
            return Err(Error::NotLeader);
        }
        if !self.is_voter(target) {
            return Err(Error::BadTransferee);
        }
        if !self.are_linked(via, target) {
            return Err(Error::TransferTimeout);
        }
        if target != via {
            self.leader = Some(target);
            self.term += 1;
        }
        Ok(())
    }

    /// Brings leadership, names and views up to date after processes or members have changed.
    fn settle(&mut self) {
        let removed: Vec<_> = self.processes.keys().copied().filter(|id| self.removed.contains(id)).collect();
        for id in removed {
            // A peer tells it, if it reaches one; only then does it know.
            let is_told = self.processes.keys().any(|peer| *peer != id && self.are_linked(id, *peer));
            if let Some(process) = self.processes.get_mut(&id).filter(|_| is_told) {
                process.is_running = false;
            }
        }
        let may_lead = |id: &MemberId| self.is_voter(*id) && self.is_running(*id) && self.has_quorum(*id);
        if !self.leader.as_ref().is_some_and(may_lead) {
            let up = |id: &MemberId| self.processes.get(id).map(|process| (process.linked_since, *id));
            let elected = self.members.keys().copied().filter(may_lead).min_by_key(up);
            if elected.is_some() {
                self.term += 1;
                self.index += 1;
            }
            self.leader = elected;
        }
        let Some(leader) = self.leader else { return };
        let followers: Vec<_> = self.processes.keys().copied().filter(|id| self.are_linked(leader, *id)).collect();
        for id in followers {
            let Some(process) = self.processes.get_mut(&id) else { continue };
            process.stale_members = None;
            let (name, urls) = (process.name.clone(), process.client_urls.clone());
            if let Some(member) = Arc::make_mut(&mut self.members).get_mut(&id)
                && (member.name != name || member.client_urls != urls)
            {
                member.name = name;
                member.client_urls = urls;
                self.index += 1;
            }
        }
    }
}
