//! Changes of the membership.

use std::sync::Arc;

use super::{Member, MemberId, Model, quorum};
use crate::guest::memory::etcd::{error::Error, identity};

impl Model {
    /// Adds a member. It has no name until it starts.
    pub fn add(&mut self, via: MemberId, peer_urls: &[String], is_learner: bool, now: u64) -> Result<MemberId, Error> {
        self.admit(via)?;
        if peer_urls.is_empty() || !peer_urls.iter().all(|url| is_peer_url(url)) {
            return Err(Error::BadUrls);
        }
        let voters = self.voters().count();
        if !is_learner {
            let started = self.voters().filter(|voter| voter.is_started()).count();
            // One that is alone may always get a second: that is how a lost cluster is built up again.
            if started < quorum(voters + 1) && !(started == 1 && voters == 1) {
                return Err(Error::NotEnoughStarted);
            }
        }
        if voters > 1 && self.connected_voters(via, now) < quorum(voters + 1) {
            return Err(Error::Unhealthy);
        }
        self.require_quorum(via)?;
        let id = identity::added(peer_urls, now);
        if self.removed.contains(&id) {
            return Err(Error::MemberNotFound);
        }
        if self.members.contains_key(&id) {
            return Err(Error::MemberExists);
        }
        if self.is_taken(peer_urls, None) {
            return Err(Error::PeerUrlExists);
        }
        if is_learner && self.members().filter(|member| member.is_learner).count() >= self.rules.max_learners {
            return Err(Error::TooManyLearners);
        }
        let member =
            Member { id, name: String::new(), peer_urls: peer_urls.to_vec(), client_urls: Vec::new(), is_learner };
        Arc::make_mut(&mut self.members).insert(id, member);
        self.changed();
        Ok(id)
    }

    /// Removes a member; its process ends when it hears of it.
    pub fn remove(&mut self, via: MemberId, id: MemberId, now: u64) -> Result<(), Error> {
        self.admit(via)?;
        let is_learner = self.members.get(&id).is_some_and(|member| member.is_learner);
        if !is_learner {
            let (mut left, mut started) = (0, 0);
            for voter in self.voters().filter(|voter| voter.id != id) {
                left += 1;
                started += usize::from(voter.is_started());
            }
            if started < quorum(left) {
                return Err(Error::NotEnoughStarted);
            }
            // One that is down takes no part in the quorum, so that nothing is lost with it.
            let is_active = id == via || self.are_linked(via, id);
            let voters = self.voters().count();
            if is_active && self.connected_voters(via, now).saturating_sub(1) < 1 + voters.saturating_sub(1) / 2 {
                return Err(Error::Unhealthy);
            }
        }
        self.require_quorum(via)?;
        if !self.members.contains_key(&id) {
            return Err(Error::MemberNotFound);
        }
        self.part_from_removed(id);
        Arc::make_mut(&mut self.members).remove(&id);
        self.removed.insert(id);
        self.changed();
        Ok(())
    }

    /// Changes where peers reach a member.
    pub fn update(&mut self, via: MemberId, id: MemberId, peer_urls: &[String]) -> Result<(), Error> {
        self.admit(via)?;
        self.require_quorum(via)?;
        if !self.members.contains_key(&id) {
            return Err(Error::MemberNotFound);
        }
        if self.is_taken(peer_urls, Some(id)) {
            return Err(Error::PeerUrlExists);
        }
        if let Some(member) = Arc::make_mut(&mut self.members).get_mut(&id) {
            member.peer_urls = peer_urls.to_vec();
        }
        self.changed();
        Ok(())
    }

    /// Makes a learner vote.
    pub fn promote(&mut self, via: MemberId, id: MemberId, now: u64) -> Result<(), Error> {
        self.admit(via)?;
        // Whoever is asked hands the call to the leader, who alone knows how far a learner is.
        let leader = self.leader.filter(|_| self.has_quorum(via)).ok_or(Error::NoLeader)?;
        let member = self.members.get(&id).ok_or(Error::MemberNotFound)?;
        let has_data = |process: &super::Process| !member.is_learner || process.caught_up_at <= now;
        if !self.are_linked(leader, id) || !self.processes.get(&id).is_some_and(has_data) {
            return Err(Error::LearnerNotReady);
        }
        let voters = self.voters().count();
        let started = self.voters().filter(|voter| voter.is_started()).count();
        if started + 1 < quorum(voters + 1) {
            return Err(Error::NotEnoughStarted);
        }
        if !member.is_learner {
            return Err(Error::NotLearner);
        }
        if let Some(member) = Arc::make_mut(&mut self.members).get_mut(&id) {
            member.is_learner = false;
        }
        self.changed();
        Ok(())
    }

    fn is_taken(&self, urls: &[String], by_other_than: Option<MemberId>) -> bool {
        let others = self.members().filter(|member| Some(member.id) != by_other_than);
        others.flat_map(|member| &member.peer_urls).any(|url| urls.contains(url))
    }

    /// A removed member that is cut off goes on with what it knows.
    fn part_from_removed(&mut self, id: MemberId) {
        let members = Arc::clone(&self.members);
        if let Some(process) = self.processes.get_mut(&id) {
            process.stale_members.get_or_insert(members);
        }
    }

    fn changed(&mut self) {
        self.index += 1;
        self.settle();
    }
}

/// `client/pkg/types/urls.go`: scheme, host, port, and no path.
fn is_peer_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.host_str().is_some_and(|host| !host.is_empty())
            && text.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok())
            && ["", "/"].contains(&url.path())
    })
}
