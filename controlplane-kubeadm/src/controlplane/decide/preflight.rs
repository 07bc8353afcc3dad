//! What must hold before a machine is added or removed.

use super::{
    super::{
        facts::{Facts, MachineFact},
        names::machine,
    },
    projection::{Change, control_plane_survives, etcd_survives},
};

/// What holds up a change of scale. Users see it in the conditions `ScalingUp` and `ScalingDown`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// The topology will ask for this version first.
    pub pending_version: Option<String>,
    /// A certificate Secret is missing or unknown.
    pub certificates_missing: bool,
    /// A machine is being deleted.
    pub machine_deleting: bool,
    /// A static pod is not healthy.
    pub components_unhealthy: bool,
    /// An etcd member is not healthy.
    pub etcd_unhealthy: bool,
}

impl Blocked {
    /// Whether anything holds it up.
    pub fn is_blocked(&self) -> bool {
        *self != Self::default()
    }

    /// For people: one line a cause.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(version) = &self.pending_version {
            lines.push(format!("* waiting for a version upgrade to {version} to be propagated"));
        }
        let causes = [
            (self.machine_deleting, "* waiting for a control plane Machine to complete deletion"),
            (self.certificates_missing, "* waiting for cluster certificates, which are missing or unknown"),
            (self.components_unhealthy, "* waiting for control plane components to become healthy"),
            (self.etcd_unhealthy, "* waiting for etcd cluster to become healthy"),
        ];
        lines.extend(causes.iter().filter(|(holds, _)| *holds).map(|(_, line)| (*line).to_owned()));
        lines
    }
}

/// Whether one machine may be added.
pub fn scale_up(facts: &Facts) -> Blocked {
    let blocked = check(facts, true, None);
    let unhealthy = blocked.components_unhealthy || blocked.etcd_unhealthy;
    // Replacing one broken machine must not wait for a second broken one, as long as the rest carries the new one.
    let relaxed = unhealthy
        && facts.remediation.is_some()
        && control_plane_survives(facts, Change::Add)
        && (!facts.managed_etcd() || has_members(facts) && etcd_survives(facts, Change::Add));
    if relaxed { Blocked { components_unhealthy: false, etcd_unhealthy: false, ..blocked } } else { blocked }
}

/// Whether this machine may be removed.
pub fn scale_down(facts: &Facts, leaving: &str) -> Blocked {
    check(facts, false, Some(leaving))
}

fn has_members(facts: &Facts) -> bool {
    facts.etcd.view().is_some_and(|view| !view.members.is_empty())
}

/// The first thing that does not hold.
fn check(facts: &Facts, adds: bool, except: Option<&str>) -> Blocked {
    if facts.machines.is_empty() {
        return Blocked::default();
    }
    if facts.pending_version.is_some() {
        return Blocked { pending_version: facts.pending_version.clone(), ..Blocked::default() };
    }
    if adds && !facts.certificates_available {
        return Blocked { certificates_missing: true, ..Blocked::default() };
    }
    if facts.machines.iter().any(|machine| machine.deleting.is_some()) {
        return Blocked { machine_deleting: true, ..Blocked::default() };
    }
    let staying: Vec<_> = facts.machines.iter().filter(|machine| except != Some(machine.name.as_str())).collect();
    let managed = facts.managed_etcd();
    let etcd_is_healthy =
        |machine: &MachineFact| machine.is_true(machine::ETCD_POD) && machine.is_true(machine::ETCD_MEMBER);
    Blocked {
        components_unhealthy: staying.iter().any(|machine| machine.node.is_none() || !machine.has_healthy_pods(false)),
        etcd_unhealthy: managed && staying.iter().any(|machine| machine.node.is_none() || !etcd_is_healthy(machine)),
        ..Blocked::default()
    }
}
