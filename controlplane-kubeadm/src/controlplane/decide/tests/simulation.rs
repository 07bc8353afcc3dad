//! Decisions over time, in a world of machines that join, leave and are found by core at their own pace.

use super::*;

/// How far a machine is on its way into etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Booting,
    /// Its learner was added and has not started.
    Added,
    Learner,
    Voter,
}

#[derive(Clone, Debug)]
struct Host {
    index: usize,
    created: Timestamp,
    version: u8,
    phase: Phase,
    /// Core knows its node.
    found: bool,
    deleting: Option<Timestamp>,
    hooked: bool,
    alive: bool,
}

#[derive(Clone, Debug)]
struct World {
    now: Timestamp,
    replicas: usize,
    max_surge: usize,
    version: u8,
    hosts: Vec<Host>,
    members: Vec<Member>,
    made: usize,
    remediation: Option<Remediation>,
}

#[derive(Clone, Debug)]
enum Event {
    /// The machine that joins gets one phase further.
    Join,
    /// Core finds the nodes.
    Find,
    /// A machine that was let go is gone.
    Vanish,
    Scale(usize),
    Change,
    /// A user deletes a machine.
    Delete(usize),
    /// A machine breaks for good, which a health check sees.
    Break(usize),
    Pass,
}

fn event(breaks: u32) -> impl Strategy<Value = Event> {
    prop_oneof![
        breaks => (0..8_usize).prop_map(Event::Break),
        4 => Just(Event::Join),
        2 => Just(Event::Find),
        2 => Just(Event::Vanish),
        1 => prop::sample::select(vec![1_usize, 3, 5]).prop_map(Event::Scale),
        1 => Just(Event::Change),
        1 => (0..8_usize).prop_map(Event::Delete),
        1 => Just(Event::Pass),
    ]
}

impl World {
    fn new(max_surge: usize) -> Self {
        let (hosts, members) = (Vec::new(), Vec::new());
        Self { now: now(), replicas: 1, max_surge, version: 0, hosts, members, made: 0, remediation: None }
    }

    /// Whether a member's machine runs.
    fn runs(&self, member: &Member) -> bool {
        self.hosts.iter().any(|host| host.alive && self::member(host.index).id == member.id)
    }

    /// Voters that run, and as many as are needed.
    fn quorum(&self) -> (usize, usize) {
        let voters: Vec<_> = self.members.iter().filter(|member| !member.learner).collect();
        (voters.iter().filter(|voter| self.runs(voter)).count(), voters.len() / 2 + 1)
    }

    fn facts(&self) -> Facts {
        let mut facts =
            Facts { now: self.now, replicas: self.replicas, remediation: self.remediation.clone(), ..settled(0) };
        // Admission allows no rollout without surge for fewer than three.
        facts.max_surge = if self.replicas < 3 { 1 } else { self.max_surge };
        let leader =
            self.members.iter().find(|member| !member.learner && self.runs(member)).map_or(0, |member| member.id);
        let (running, needed) = self.quorum();
        facts.etcd = if running < needed {
            Etcd::Unknown("no quorum answers".to_owned())
        } else {
            Etcd::Known(View { members: self.members.clone(), leader })
        };
        let named = |host: &&Host| host.phase >= Phase::Learner;
        facts.nodes = Ok(self
            .hosts
            .iter()
            .filter(named)
            .map(|host| NodeFact { created: host.created, ..node(host.index, 0) })
            .collect());
        facts.machines = self.hosts.iter().map(|host| self.fact(host)).collect();
        facts
    }

    fn fact(&self, host: &Host) -> MachineFact {
        let mut machine = MachineFact { created: host.created, deleting: host.deleting, ..healthy(host.index, 0) };
        if !host.found {
            machine.node = None;
            machine.conditions.clear();
        } else if host.phase < Phase::Voter {
            set(&mut machine, machine::ETCD_MEMBER, false, "NotHealthy");
        }
        machine.serves_etcd = host.alive;
        if !host.alive {
            if host.found {
                for type_ in HEALTH {
                    set(&mut machine, type_, false, "Failed");
                }
            }
            unhealthy(&mut machine);
        }
        if !host.hooked {
            machine.annotations.remove(CLEANUP_HOOK);
        }
        if host.version != self.version {
            machine.outdated.push("Version".to_owned());
        }
        if host.deleting.is_some() {
            for type_ in HEALTH {
                set(&mut machine, type_, false, "Deleting");
            }
            set(&mut machine, "Deleting", true, "WaitingForPreTerminateHook");
        }
        machine
    }

    fn happens(&mut self, event: &Event) {
        self.now += 5.seconds();
        match event {
            Event::Join => self.join(),
            Event::Find => {
                self.hosts.iter_mut().filter(|host| host.phase >= Phase::Learner).for_each(|host| host.found = true);
            }
            Event::Vanish => self.hosts.retain(|host| host.hooked),
            Event::Scale(replicas) => self.replicas = *replicas,
            Event::Change => self.version = self.version.wrapping_add(1),
            Event::Delete(index) => {
                let staying = |host: &Host| host.deleting.is_none();
                let voters = self.hosts.iter().filter(|host| staying(host) && host.alive && host.phase == Phase::Voter);
                let voters = voters.count();
                let now = self.now;
                // Who deletes the last voter loses the cluster; that is no decision of ours.
                if let Some(host) = self
                    .hosts
                    .get_mut(*index)
                    .filter(|host| staying(host) && (voters > 1 || host.phase != Phase::Voter))
                {
                    host.deleting = Some(now);
                }
            }
            Event::Break(index) => {
                // Without a machine that runs and stays there is nothing to decide: who deletes all others loses the cluster.
                let lasts = |host: &Host| host.alive && host.phase == Phase::Voter && host.deleting.is_none();
                let lasting = self.hosts.iter().filter(|host| lasts(host)).count();
                let is_needed = |host: &Host| lasting <= usize::from(lasts(host));
                if let Some(host) = self.hosts.get_mut(*index).filter(|host| !is_needed(host)) {
                    host.alive = false;
                }
            }
            Event::Pass => {}
        }
    }

    /// A machine that was let go is switched off sooner than it could get any further.
    fn join(&mut self) {
        let first = self.members.is_empty();
        let Some(host) = self.hosts.iter_mut().find(|host| host.phase < Phase::Voter && host.hooked && host.alive)
        else {
            return;
        };
        let known = self.members.iter_mut().find(|known| known.id == member(host.index).id);
        host.phase = match (host.phase, known) {
            (Phase::Booting, _) if first => {
                self.members.push(member(host.index));
                Phase::Voter
            }
            (Phase::Booting, _) => {
                self.members.push(Member { name: String::new(), learner: true, ..member(host.index) });
                Phase::Added
            }
            (Phase::Added, Some(known)) => {
                known.name = format!("n{}", host.index);
                Phase::Learner
            }
            (_, Some(known)) => {
                known.learner = false;
                Phase::Voter
            }
            // Its member was removed: `kubeadm join` has failed.
            (phase, None) => phase,
        };
    }

    /// One pass of ours.
    fn act(&mut self) -> Result<Step, Wait> {
        let decision = next(&self.facts());
        if decision.forget_remediation {
            self.remediation = None;
        }
        let next = decision.next;
        match &next {
            Ok(Step::Create { init, .. }) => {
                assert_eq!(*init, self.hosts.is_empty());
                assert!(self.members.iter().all(|member| !member.learner), "two join at once");
                assert!(self.hosts.iter().all(|host| host.phase == Phase::Voter || !host.alive), "two join at once");
                self.remediation = None;
                self.made += 1;
                let (index, created) = (self.made, self.now);
                let (version, phase) = (self.version, Phase::Booting);
                self.hosts.push(Host {
                    index,
                    created,
                    version,
                    phase,
                    found: false,
                    deleting: None,
                    hooked: true,
                    alive: true,
                });
            }
            Ok(Step::Delete { machine, .. }) => {
                let now = self.now;
                let host = self.host(machine);
                assert!(
                    host.phase == Phase::Voter || now.duration_since(host.created) >= SignedDuration::from_mins(10)
                );
                host.deleting = Some(now);
            }
            Ok(Step::RemoveStray { id, .. }) => self.remove(*id),
            Ok(Step::LetGo { machine, exit }) => {
                if let Some(exit) = exit {
                    self.remove(exit.id);
                }
                self.host(machine).hooked = false;
                let id = member(self.host(machine).index).id;
                let alone = self.hosts.len() == 1;
                assert!(alone || self.members.iter().all(|member| member.id != id), "{machine} leaves a member behind");
            }
            Ok(Step::Remediate { record, .. }) => {
                self.remediation = Some(record.clone());
                let now = self.now;
                let host = self.host(&record.machine);
                assert!(!host.alive, "a machine is replaced that runs");
                host.deleting = Some(now);
            }
            Ok(Step::Settle) | Err(_) => {}
        }
        next
    }

    fn host(&mut self, machine: &str) -> &mut Host {
        self.hosts.iter_mut().find(|host| format!("m{}", host.index) == machine).unwrap()
    }

    /// I1: the voters that run are a quorum of those that are left.
    fn remove(&mut self, id: u64) {
        let voted = self.members.iter().any(|member| member.id == id && !member.learner);
        self.members.retain(|member| member.id != id);
        let (running, needed) = self.quorum();
        assert!(!voted || running >= needed, "{running} of {needed}: {self:?}");
    }

    fn is_done(&self) -> bool {
        let current = |host: &Host| {
            host.version == self.version && host.phase == Phase::Voter && host.deleting.is_none() && host.alive
        };
        self.hosts.len() == self.replicas && self.hosts.iter().all(current) && self.members.len() == self.hosts.len()
    }
}

/// Runs a history and then, without further trouble, until nothing is left to do.
fn runs_to_its_end(events: &[Event], max_surge: usize) -> Result<(), TestCaseError> {
    let mut world = World::new(max_surge);
    for event in events {
        world.happens(event);
        let _ = world.act();
    }
    let (running, needed) = world.quorum();
    if running < needed && !world.members.is_empty() {
        return Ok(()); // Lost before we could do anything; people must help.
    }
    let mut last = world.act();
    for _ in 0..600 {
        for event in [Event::Join, Event::Find, Event::Vanish] {
            world.happens(&event);
            last = world.act();
        }
        if world.is_done() {
            break;
        }
    }
    prop_assert!(world.is_done(), "stuck with {last:?}: {world:?}");
    prop_assert_eq!(world.act(), Ok(Step::Settle));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Whatever users do and in whatever order things happen, quorum holds after each act, one machine joins at a time,
    /// and when users stop the control plane comes to what they want.
    #[test]
    fn every_history_ends_well(events in prop::collection::vec(event(0), 0..120), max_surge in 0..2_usize) {
        runs_to_its_end(&events, max_surge)?;
    }

    /// The same where machines break, as long as etcd has its quorum.
    #[test]
    fn broken_machines_are_replaced(events in prop::collection::vec(event(1), 0..120), max_surge in 0..2_usize) {
        runs_to_its_end(&events, max_surge)?;
    }
}
