//! The etcd of a workload cluster: members, learners, a leader, and quorum that is really needed. Pure.

use std::collections::BTreeSet;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity.
    pub id: u64,
    /// Host that it is for.
    pub host: String,
    /// Whether it has started: only then it has a name.
    pub is_started: bool,
    /// Whether it does not vote yet.
    pub is_learner: bool,
}

/// Why something is not done (`etcdserver/api/v3rpc/rpctypes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too few voters run.
    #[error("etcdserver: no leader")]
    NoQuorum,
    /// One learner is all that etcd takes at a time.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// What remains could not decide anything.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Who is asked does not lead.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// There is none such.
    #[error("etcdserver: member not found")]
    NotFound,
}

/// The members of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Etcd {
    members: Vec<Member>,
    leader: u64,
    next: u64,
}

impl Etcd {
    /// The first member makes the cluster.
    pub fn begin(&mut self, host: &str) {
        let id = self.new_id();
        self.members = vec![Member { id, host: host.to_owned(), is_started: true, is_learner: false }];
        self.leader = id;
    }

    fn new_id(&mut self) -> u64 {
        self.next += 1;
        // Identities are hashes: above what a float holds.
        0x8e9e_05c5_2164_694d ^ self.next
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Identity of the leader; 0 while there is none.
    pub fn leader(&self) -> u64 {
        self.leader
    }

    /// The member of a host.
    pub fn of_host(&self, host: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.host == host)
    }

    /// Voters, and how many of them run.
    pub fn voters(&self, running: &BTreeSet<String>) -> (usize, usize) {
        let voters = self.members.iter().filter(|member| !member.is_learner);
        let (mut all, mut healthy) = (0, 0);
        for voter in voters {
            all += 1;
            healthy += usize::from(running.contains(&voter.host));
        }
        (all, healthy)
    }

    /// Whether enough voters run.
    pub fn has_quorum(&self, running: &BTreeSet<String>) -> bool {
        let (all, healthy) = self.voters(running);
        all > 0 && healthy > all / 2
    }

    /// Elects a leader among those that run, where the present one does not.
    pub fn elect(&mut self, running: &BTreeSet<String>) {
        let may_lead = |member: &&Member| !member.is_learner && running.contains(&member.host);
        if !self.has_quorum(running) {
            self.leader = 0;
        } else if !self.members.iter().filter(may_lead).any(|member| member.id == self.leader) {
            self.leader = self.members.iter().find(may_lead).map_or(0, |member| member.id);
        }
    }

    /// Adds a learner for a host.
    pub fn add_learner(&mut self, host: &str, running: &BTreeSet<String>) -> Result<(), Refusal> {
        if !self.has_quorum(running) {
            return Err(Refusal::NoQuorum);
        }
        if self.members.iter().any(|member| member.is_learner) {
            return Err(Refusal::TooManyLearners);
        }
        let id = self.new_id();
        self.members.push(Member { id, host: host.to_owned(), is_started: false, is_learner: true });
        Ok(())
    }

    /// A host's member starts.
    pub fn start(&mut self, host: &str) {
        self.members.iter_mut().filter(|member| member.host == host).for_each(|member| member.is_started = true);
    }

    /// A host's learner becomes a voter.
    pub fn promote(&mut self, host: &str, running: &BTreeSet<String>) -> Result<(), Refusal> {
        if !self.has_quorum(running) {
            return Err(Refusal::NoQuorum);
        }
        let member = self.members.iter_mut().find(|member| member.host == host).ok_or(Refusal::NotFound)?;
        member.is_learner = false;
        Ok(())
    }

    /// Removes a member (strict reconfiguration check as in `etcdserver.mayRemoveMember`).
    pub fn remove(&mut self, id: u64, running: &BTreeSet<String>) -> Result<Member, Refusal> {
        if !self.has_quorum(running) {
            return Err(Refusal::NoQuorum);
        }
        let index = self.members.iter().position(|member| member.id == id).ok_or(Refusal::NotFound)?;
        let mut left = self.clone();
        let removed = left.members.remove(index);
        if !removed.is_learner && running.contains(&removed.host) && !left.has_quorum(running) {
            return Err(Refusal::NotEnoughStarted);
        }
        *self = left;
        self.elect(running);
        Ok(removed)
    }

    /// The leader hands over.
    pub fn move_leader(&mut self, from: &str, to: u64, running: &BTreeSet<String>) -> Result<(), Refusal> {
        if self.of_host(from).is_none_or(|member| member.id != self.leader) {
            return Err(Refusal::NotLeader);
        }
        let heir = self.members.iter().find(|member| member.id == to && !member.is_learner).ok_or(Refusal::NotFound)?;
        if !running.contains(&heir.host) {
            return Err(Refusal::NoQuorum);
        }
        self.leader = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(hosts: &[&str]) -> BTreeSet<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    fn three() -> Etcd {
        let mut etcd = Etcd::default();
        etcd.begin("a");
        for host in ["b", "c"] {
            etcd.add_learner(host, &running(&["a", "b", "c"])).unwrap();
            etcd.promote(host, &running(&["a", "b", "c"])).unwrap();
        }
        etcd
    }

    #[test]
    fn one_learner_at_a_time_and_nothing_without_quorum() {
        let mut etcd = three();
        etcd.add_learner("d", &running(&["a", "b"])).unwrap();
        assert_eq!(etcd.add_learner("e", &running(&["a", "b"])), Err(Refusal::TooManyLearners));
        assert_eq!(etcd.promote("d", &running(&["a"])), Err(Refusal::NoQuorum));
        etcd.elect(&running(&["a"]));
        assert_eq!(etcd.leader(), 0);
    }

    #[test]
    fn a_member_that_others_need_stays() {
        let mut etcd = three();
        let ids: Vec<_> = etcd.members().iter().map(|member| member.id).collect();
        assert_eq!(etcd.remove(ids[0], &running(&["a", "b"])), Err(Refusal::NotEnoughStarted));
        assert_eq!(etcd.remove(ids[2], &running(&["a", "b"])).map(|gone| gone.host), Ok("c".to_owned()));
        assert_eq!(etcd.move_leader("b", ids[0], &running(&["a", "b"])), Err(Refusal::NotLeader));
        assert_eq!(etcd.move_leader("a", ids[1], &running(&["a", "b"])), Ok(()));
    }
}
