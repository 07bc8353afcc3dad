//! Who holds which entry of a pool.
//!
//! The record is an annotation of the pool, written with the pool's resource version: two workers, or two managers,
//! cannot give one entry away twice, and `clusterctl move` keeps it, which it would not a status. Machines are named, not
//! identified by UID, because a move changes UIDs; names are unique in the pool's namespace. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    api::{
        DCSIpHostnamePool,
        pool::{Allocation, AllocationState, PoolEntry},
    },
    disks::record::{self, Disks},
};

/// Annotation of a pool: its claims, as JSON.
pub const ANNOTATION: &str = "infrastructure.cluster.x-k8s.io/dcs-claims";
/// Annotation by which an operator frees retained entries: their addresses, separated by commas.
pub const RELEASE: &str = "infrastructure.cluster.x-k8s.io/release-entries";

/// Claims by the address of their entry.
pub type Claims = BTreeMap<String, Claim>;

/// A claim on an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Name of the `DCSMachine`.
    pub machine: String,
    /// Its VM was left running when the machine was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retained: bool,
}

impl Claim {
    /// A claim by a machine.
    pub fn by(machine: &str) -> Self {
        Self { machine: machine.to_owned(), retained: false }
    }
}

/// The claims that a pool records. What cannot be read counts as nothing: the machines' own records still keep their
/// entries from others.
pub fn of_pool(pool: &DCSIpHostnamePool) -> Claims {
    let annotations = pool.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(ANNOTATION))
        .and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

/// Claims as the pool's annotation.
pub fn annotation(claims: &Claims) -> (String, String) {
    (ANNOTATION.to_owned(), serde_json::to_string(claims).unwrap_or_default())
}

/// Which entry a machine gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The pool records this one for it already.
    Held(PoolEntry),
    /// The first that nobody holds.
    Free(PoolEntry),
    /// All are held.
    Exhausted,
}

/// Chooses an entry. `recorded` are the addresses that other machines of the namespace say they hold: they count even
/// where the pool's own record was lost. An entry whose disks are still in a VM, or going, is not free. Among the free
/// ones that goes first whose disks hold data and were given back last: a replacement gets what the one before it left.
pub fn choose(pool: &DCSIpHostnamePool, machine: &str, recorded: &BTreeSet<String>) -> Choice {
    let claims = of_pool(pool);
    let held_by = |entry: &PoolEntry| claims.get(entry.ip());
    let own = |entry: &&PoolEntry| held_by(entry).is_some_and(|claim| claim.machine == machine && !claim.retained);
    if let Some(entry) = pool.spec.pool.iter().find(own) {
        return Choice::Held(entry.clone());
    }
    let Ok(disks) = record::of_pool(pool) else { return Choice::Exhausted };
    let free = |entry: &&PoolEntry| {
        !entry.ip().is_empty()
            && held_by(entry).is_none()
            && !recorded.contains(entry.ip())
            && of_entry(&disks, entry).all(|disk| disk.vm.is_none() && !disk.ending)
    };
    let data_given_back =
        |entry: &PoolEntry| of_entry(&disks, entry).filter(|disk| disk.used).map(|disk| disk.freed).max();
    let free = pool.spec.pool.iter().filter(free);
    // The last of equal ones is taken: so from behind.
    let chosen = free.rev().max_by_key(|entry| data_given_back(entry));
    chosen.map_or(Choice::Exhausted, |entry| Choice::Free(entry.clone()))
}

fn of_entry<'a>(disks: &'a Disks, entry: &'a PoolEntry) -> impl Iterator<Item = &'a record::Record> {
    disks.iter().filter(|(key, _)| key.ip == entry.ip()).map(|(_, record)| record)
}

/// Claims with what an operator asked to be freed taken out; only retained entries can be.
pub fn without_released(claims: &Claims, asked: &str) -> Claims {
    let asked: BTreeSet<_> = asked.split(',').map(str::trim).collect();
    let stays = |ip: &str, claim: &Claim| !(claim.retained && asked.contains(ip));
    claims.iter().filter(|(ip, claim)| stays(ip, claim)).map(|(ip, claim)| (ip.clone(), claim.clone())).collect()
}

/// The pool's entries with their holders, as the status shows them.
pub fn allocations(pool: &DCSIpHostnamePool) -> Vec<Allocation> {
    let claims = of_pool(pool);
    let allocation = |entry: &PoolEntry| {
        let claim = claims.get(entry.ip());
        Allocation {
            ip: entry.ip().to_owned(),
            machine_name: claim.map(|claim| claim.machine.clone()),
            state: match claim {
                None => AllocationState::Free,
                Some(claim) if claim.retained => AllocationState::Retained,
                Some(_) => AllocationState::Claimed,
            },
        }
    };
    pool.spec.pool.iter().map(allocation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DCSIpHostnamePoolSpec;

    fn pool(ips: &[&str], claims: &[(&str, &str, bool)]) -> DCSIpHostnamePool {
        let entry = |ip: &&str| PoolEntry { ip: Some((*ip).to_owned()), ..PoolEntry::default() };
        let mut pool = DCSIpHostnamePool::new("p", DCSIpHostnamePoolSpec { pool: ips.iter().map(entry).collect() });
        let claims: Claims = claims
            .iter()
            .map(|(ip, machine, retained)| {
                ((*ip).to_owned(), Claim { machine: (*machine).to_owned(), retained: *retained })
            })
            .collect();
        pool.metadata.annotations = Some([annotation(&claims)].into());
        pool
    }

    fn ip(choice: &Choice) -> Option<(&'static str, String)> {
        match choice {
            Choice::Held(entry) => Some(("held", entry.ip().to_owned())),
            Choice::Free(entry) => Some(("free", entry.ip().to_owned())),
            Choice::Exhausted => None,
        }
    }

    #[test]
    fn the_first_free_entry_is_chosen_and_a_held_one_kept() {
        let all = ["a", "b", "c"];
        let none = BTreeSet::new();
        let recorded = BTreeSet::from(["b".to_owned()]);
        for (claims, recorded, expected) in [
            (&[][..], &none, Some(("free", "a"))),
            (&[("a", "other", false)][..], &none, Some(("free", "b"))),
            (&[("a", "other", false)][..], &recorded, Some(("free", "c"))),
            (&[("a", "other", false), ("c", "me", false)][..], &none, Some(("held", "c"))),
            // A retained VM of the same name keeps its address: the new machine is another VM.
            (&[("a", "me", true)][..], &none, Some(("free", "b"))),
            (&[("a", "x", false), ("b", "y", true), ("c", "z", false)][..], &none, None),
        ] {
            let chosen = ip(&choose(&pool(&all, claims), "me", recorded));
            assert_eq!(chosen.as_ref().map(|(how, ip)| (*how, ip.as_str())), expected, "{claims:?}");
        }
    }

    fn with_disks(mut pool: DCSIpHostnamePool, disks: &[(&str, record::Record)]) -> DCSIpHostnamePool {
        let disks = disks.iter().map(|(ip, disk)| (record::Key::new(ip, 0), disk.clone())).collect();
        let text = record::annotation(&disks).unwrap();
        pool.metadata.annotations.get_or_insert_default().insert(record::ANNOTATION.to_owned(), text);
        pool
    }

    #[test]
    fn a_replacement_gets_the_disks_of_the_one_before_it_once_they_are_free() {
        let none = BTreeSet::new();
        let freed = |second: i64| record::Record {
            volume: Some("urn:v".into()),
            used: true,
            freed: jiff::Timestamp::from_second(second).ok(),
            ..record::Record::default()
        };
        let in_a_vm = record::Record { vm: Some("urn:vm".into()), ..freed(9) };
        let going = record::Record { ending: true, ..freed(9) };
        let blank = record::Record { used: false, ..freed(9) };
        for (disks, expected) in [
            (&[("b", freed(1)), ("c", freed(2))][..], Some(("free", "c"))),
            (&[("b", freed(1)), ("c", in_a_vm)][..], Some(("free", "b"))),
            (&[("b", freed(1)), ("c", going.clone())][..], Some(("free", "b"))),
            (&[("c", blank)][..], Some(("free", "a"))),
            (&[("a", going.clone()), ("b", going.clone()), ("c", going)][..], None),
        ] {
            let pool = with_disks(pool(&["a", "b", "c"], &[]), disks);
            let chosen = ip(&choose(&pool, "me", &none));
            assert_eq!(chosen.as_ref().map(|(how, ip)| (*how, ip.as_str())), expected, "{disks:?}");
        }
    }

    #[test]
    fn operators_free_retained_entries_only() {
        let pool = pool(&["a", "b"], &[("a", "x", true), ("b", "y", false)]);
        let left = without_released(&of_pool(&pool), " a, b");
        assert_eq!(left.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn an_unreadable_record_frees_nothing_that_machines_say_they_hold() {
        let mut pool = pool(&["a", "b"], &[]);
        pool.metadata.annotations = Some([(ANNOTATION.to_owned(), "{".to_owned())].into());
        assert_eq!(ip(&choose(&pool, "me", &BTreeSet::from(["a".to_owned()]))), Some(("free", "b".to_owned())));
    }
}
