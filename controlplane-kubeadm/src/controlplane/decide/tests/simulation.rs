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
    Pass,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
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
        Self { now: now(), replicas: 1, max_surge, version: 0, hosts, members, made: 0 }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts { now: self.now, replicas: self.replicas, ..settled(0) };
        // Admission allows no rollout without surge for fewer than three.
        facts.max_surge = if self.replicas < 3 { 1 } else { self.max_surge };
        let leader = self.members.iter().find(|member| !member.learner).map_or(0, |member| member.id);
        facts.etcd = Etcd::Known(View { members: self.members.clone(), leader });
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
                let voters = self.hosts.iter().filter(|host| staying(host) && host.phase == Phase::Voter).count();
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
            Event::Pass => {}
        }
    }

    /// A machine that was let go is switched off sooner than it could get any further.
    fn join(&mut self) {
        let first = self.members.is_empty();
        let Some(host) = self.hosts.iter_mut().find(|host| host.phase < Phase::Voter && host.hooked) else { return };
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
        let next = next(&self.facts()).next;
        match &next {
            Ok(Step::Create { init, .. }) => {
                assert_eq!(*init, self.hosts.is_empty());
                assert!(self.members.iter().all(|member| !member.learner), "two join at once");
                assert!(self.hosts.iter().all(|host| host.phase == Phase::Voter), "two join at once");
                self.made += 1;
                let (index, created) = (self.made, self.now);
                let (version, phase) = (self.version, Phase::Booting);
                self.hosts.push(Host { index, created, version, phase, found: false, deleting: None, hooked: true });
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
            Ok(Step::Remediate { .. }) => panic!("nobody is unhealthy here"),
            Ok(Step::Settle) | Err(_) => {}
        }
        next
    }

    fn host(&mut self, machine: &str) -> &mut Host {
        self.hosts.iter_mut().find(|host| format!("m{}", host.index) == machine).unwrap()
    }

    /// I1: the voters that run are a quorum of those that are left.
    fn remove(&mut self, id: u64) {
        self.members.retain(|member| member.id != id);
        let voters: Vec<_> = self.members.iter().filter(|member| !member.learner).collect();
        let runs = |voter: &&&Member| self.hosts.iter().any(|host| format!("n{}", host.index) == voter.name);
        assert!(voters.iter().filter(runs).count() > voters.len() / 2, "{self:?}");
    }

    fn is_done(&self) -> bool {
        let current =
            |host: &Host| host.version == self.version && host.phase == Phase::Voter && host.deleting.is_none();
        self.hosts.len() == self.replicas && self.hosts.iter().all(current) && self.members.len() == self.hosts.len()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    /// Whatever users do and in whatever order things happen, quorum holds after each act, one machine joins at a time,
    /// and when users stop the control plane comes to what they want.
    #[test]
    fn every_history_ends_well(events in prop::collection::vec(event(), 0..120), max_surge in 0..2_usize) {
        let mut world = World::new(max_surge);
        for event in &events {
            world.happens(event);
            let _ = world.act();
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
    }
}
