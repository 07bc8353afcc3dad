//! Which machine goes, and where a new one is placed.

use std::cmp::Reverse;

use cluster_api::labels;

use super::super::{
    facts::{Facts, MachineFact},
    names::machine,
};

/// The failure domain for a new machine: the one with the fewest up-to-date machines, then the fewest machines; empty
/// where there are none.
pub fn failure_domain_for_new(facts: &Facts) -> String {
    let load = |domain: &String| {
        let there = || facts.machines.iter().filter(|machine| &machine.failure_domain == domain);
        let current = there().filter(|machine| machine.is_up_to_date() && machine.deleting.is_none()).count();
        (current, there().count())
    };
    rotated(&facts.failure_domains, facts.tie).min_by_key(|domain| load(domain)).cloned().unwrap_or_default()
}

/// The machine to remove.
pub fn leaving(facts: &Facts) -> Option<&MachineFact> {
    let eligible = eligible(facts);
    let domain = failure_domain_to_relieve(facts, &eligible);
    eligible.into_iter().filter(|machine| machine.failure_domain == domain).min_by_key(|machine| age_order(machine))
}

fn age_order(machine: &MachineFact) -> (jiff::Timestamp, &str) {
    (machine.created, &machine.name)
}

/// The first group that is not empty: what users marked and is outdated, what users marked, what is outdated and broken,
/// what is outdated, all.
fn eligible(facts: &Facts) -> Vec<&MachineFact> {
    let health =
        [machine::API_SERVER, machine::CONTROLLER_MANAGER, machine::SCHEDULER, machine::ETCD_POD, machine::ETCD_MEMBER];
    let marked = |machine: &MachineFact| machine.has(labels::DELETE_MACHINE);
    let outdated = |machine: &MachineFact| !machine.is_up_to_date();
    let broken = |machine: &MachineFact| health.iter().any(|type_| machine.is_false(type_));
    let groups: [&dyn Fn(&MachineFact) -> bool; 5] = [
        &|machine| marked(machine) && outdated(machine),
        &marked,
        &|machine| outdated(machine) && broken(machine),
        &outdated,
        &|_| true,
    ];
    let staying = || facts.machines.iter().filter(|machine| machine.deleting.is_none());
    let members =
        |group: &&dyn Fn(&MachineFact) -> bool| staying().filter(|machine| group(machine)).collect::<Vec<_>>();
    groups.iter().map(members).find(|group| !group.is_empty()).unwrap_or_default()
}

/// A domain that is no longer offered is left first; else the one with the most eligible machines, then the most.
fn failure_domain_to_relieve(facts: &Facts, eligible: &[&MachineFact]) -> String {
    let unknown = |machine: &&&MachineFact| !facts.failure_domains.contains(&machine.failure_domain);
    if let Some(astray) = eligible.iter().filter(unknown).min_by_key(|machine| age_order(machine)) {
        return astray.failure_domain.clone();
    }
    let load = |domain: &String| {
        let candidates = eligible.iter().filter(|machine| &machine.failure_domain == domain).count();
        let all = facts.machines.iter().filter(|machine| &machine.failure_domain == domain).count();
        Reverse((candidates, all))
    };
    rotated(&facts.failure_domains, facts.tie).min_by_key(|domain| load(domain)).cloned().unwrap_or_default()
}

/// The domains, beginning anywhere: which of equals comes first is chance.
fn rotated(domains: &[String], tie: u64) -> impl Iterator<Item = &String> {
    let count = domains.len();
    let start = if count == 0 { 0 } else { usize::try_from(tie % count as u64).unwrap_or_default() };
    domains.iter().cycle().skip(start).take(count)
}
