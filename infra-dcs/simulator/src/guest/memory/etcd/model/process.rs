//! Processes of members: starting, stopping, and what a test does to them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Alarm, Member, MemberId, Members, Model};
use crate::guest::memory::etcd::{error::StartError, identity};

/// A member's data directory, and the process on it while it runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Process {
    /// Name that it publishes.
    pub(super) name: String,
    /// URLs that it publishes.
    pub(super) client_urls: Vec<String>,
    pub(super) is_running: bool,
    /// Cut off from its peers.
    pub(super) is_isolated: bool,
    /// When it last began to reach its peers, in milliseconds.
    pub(super) linked_since: u64,
    /// When it has the leader's data, in milliseconds.
    pub(super) caught_up_at: u64,
    /// The members as it knew them when it lost its peers.
    pub(super) stale_members: Option<Arc<Members>>,
    /// Bytes of its database, where a test has set them.
    pub(super) db_size: Option<u64>,
    /// Milliseconds that its disk takes for a write.
    pub(super) write_delay: u64,
    /// Its data differs from that of its peers.
    pub(super) is_corrupt: bool,
    /// Its database is full of what it holds, so that nothing gives room back.
    #[serde(default)]
    pub(super) is_full: bool,
}

impl Process {
    fn new(name: &str, client_url: &str, now: u64, catch_up: u64) -> Self {
        Self {
            name: name.to_owned(),
            client_urls: vec![client_url.to_owned()],
            is_running: true,
            is_isolated: false,
            linked_since: now,
            caught_up_at: now.saturating_add(catch_up),
            stale_members: None,
            db_size: None,
            write_delay: 0,
            is_corrupt: false,
            is_full: false,
        }
    }

    /// Whether its database is larger than it may be.
    pub(super) fn exceeds(&self, quota: u64) -> bool {
        self.db_size.is_some_and(|bytes| bytes > quota)
    }

    /// Milliseconds that its disk takes for a write.
    pub fn write_delay(&self) -> u64 {
        self.write_delay
    }

    /// Whether its data differs from that of its peers.
    pub fn is_corrupt(&self) -> bool {
        self.is_corrupt
    }
}

impl Model {
    /// The first member of a new cluster starts.
    pub fn bootstrap(
        &mut self,
        name: &str,
        peer_url: &str,
        client_url: &str,
        now: u64,
    ) -> Result<MemberId, StartError> {
        if !self.members.is_empty() {
            return Err(StartError::Bootstrapped);
        }
        let id = identity::bootstrapped(peer_url);
        self.cluster_id = identity::cluster(&[id]);
        let member = Member {
            id,
            name: String::new(),
            peer_urls: vec![peer_url.to_owned()],
            client_urls: Vec::new(),
            is_learner: false,
        };
        self.members = Arc::new(Members::from([(id, member)]));
        self.processes.insert(id, Process::new(name, client_url, now, 0));
        self.settle();
        Ok(id)
    }

    /// A member that was added before starts for the first time, with `--initial-cluster-state=existing` and the names
    /// and peer URLs of `--initial-cluster`. Its own URL tells which member it is.
    pub fn join(
        &mut self,
        name: &str,
        client_url: &str,
        initial_cluster: &[(String, String)],
        now: u64,
    ) -> Result<MemberId, StartError> {
        let own = initial_cluster.iter().find(|(listed, _)| listed == name).map(|(_, url)| url);
        let not_added = || StartError::NotAdded { name: name.to_owned() };
        let own = own.ok_or_else(not_added)?;
        let is_reachable =
            |id: &MemberId| self.processes.get(id).is_some_and(|process| process.is_running && !process.is_isolated);
        if !self.members.keys().any(is_reachable) {
            return Err(StartError::Unreachable);
        }
        if initial_cluster.len() != self.members.len() {
            return Err(StartError::CountUnequal);
        }
        let found = |url: &String| self.members().find(|member| member.peer_urls.contains(url)).map(|member| member.id);
        if let Some((_, url)) = initial_cluster.iter().find(|(_, url)| found(url).is_none()) {
            return Err(StartError::Unmatched { url: url.clone() });
        }
        let id = found(own).ok_or_else(not_added)?;
        let catch_up = self.rules.learner_catch_up;
        self.processes.insert(id, Process::new(name, client_url, now, catch_up));
        self.settle();
        Ok(id)
    }

    /// A member starts again on its data.
    pub fn start(&mut self, id: MemberId, now: u64) -> Result<(), StartError> {
        let is_removed = self.removed.contains(&id);
        let catch_up = self.rules.learner_catch_up;
        let process = self.processes.get_mut(&id).ok_or(StartError::NoData(id))?;
        if is_removed {
            return Err(StartError::Removed);
        }
        if !process.is_running {
            process.is_running = true;
            process.linked_since = now;
            process.caught_up_at = now.saturating_add(catch_up);
            self.settle();
        }
        Ok(())
    }

    /// A member's process ends; its data stays.
    pub fn stop(&mut self, id: MemberId) {
        self.part(id);
        if let Some(process) = self.processes.get_mut(&id) {
            process.is_running = false;
        }
        self.settle();
    }

    /// The same after every machine has lost its power: data stays, and nothing runs, nor is anything broken any more.
    #[must_use]
    pub fn without_power(mut self) -> Self {
        let ids: Vec<MemberId> = self.processes.keys().copied().collect();
        for id in ids {
            self.part(id);
            self.set_full(id, false);
            self.set_corrupt(id, false);
            if let Some(process) = self.processes.get_mut(&id) {
                (process.is_running, process.is_isolated, process.write_delay) = (false, false, 0);
            }
        }
        self.settle();
        self
    }

    /// A member's process and its data are gone. The cluster keeps it as a member until it is removed.
    pub fn destroy(&mut self, id: MemberId) {
        self.processes.remove(&id);
        self.settle();
    }

    /// Cuts a member off from its peers, or joins it to them again.
    pub fn isolate(&mut self, id: MemberId, is_isolated: bool, now: u64) {
        self.part(id);
        if let Some(process) = self.processes.get_mut(&id) {
            if process.is_isolated && !is_isolated {
                process.linked_since = now;
            }
            process.is_isolated = is_isolated;
        }
        self.settle();
    }

    /// Remembers what a member knows before it is cut off; settling makes it forget that when it was not.
    fn part(&mut self, id: MemberId) {
        let members = Arc::clone(&self.members);
        if let Some(process) = self.processes.get_mut(&id) {
            process.stale_members.get_or_insert(members);
        }
    }

    /// Sets the size of a member's database in bytes; beyond the quota it raises its alarm.
    pub fn set_db_size(&mut self, id: MemberId, bytes: u64) {
        let quota = self.rules.quota;
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.db_size = Some(bytes);
        if bytes > quota {
            self.alarms.insert((id, Alarm::NoSpace));
        }
    }

    /// Fills a member's database, which raises its alarm, or makes room in it and takes the alarm back.
    pub fn set_full(&mut self, id: MemberId, is_full: bool) {
        let full = self.rules.quota.saturating_add(1);
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.is_full != is_full) else { return };
        process.is_full = is_full;
        process.db_size = is_full.then_some(full);
        self.set_alarm(id, Alarm::NoSpace, is_full);
    }

    /// Makes a member's data differ from that of its peers, which raises its alarm, or the same again and takes the alarm
    /// back.
    pub fn set_corrupt(&mut self, id: MemberId, is_corrupt: bool) {
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.is_corrupt != is_corrupt) else {
            return;
        };
        process.is_corrupt = is_corrupt;
        self.set_alarm(id, Alarm::Corrupt, is_corrupt);
    }

    fn set_alarm(&mut self, id: MemberId, alarm: Alarm, is_raised: bool) {
        if is_raised {
            self.alarms.insert((id, alarm));
        } else {
            self.alarms.remove(&(id, alarm));
        }
    }

    /// Slows a member's disk down: milliseconds that each write takes.
    pub fn set_write_delay(&mut self, id: MemberId, milliseconds: u64) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.write_delay = milliseconds;
        }
    }
}
