//! In which order the units of a target start.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    load,
    unit::{Unit, UnitError},
    wanted_by,
};
use crate::guest::memory::root::Root;

/// A unit to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The unit.
    pub unit: Unit,
    /// Units of this plan that must have succeeded before.
    pub requires: Vec<String>,
}

/// The units that a target pulls in, directly or through others, ordered by `After` and `Before`; names decide between
/// equals. Units without a file are left out, unless another requires them.
pub fn plan(root: &Root, target: &str) -> Result<Vec<Start>, UnitError> {
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    let mut left = VecDeque::from([(target.to_owned(), None::<String>)]);
    let mut seen = BTreeSet::new();
    while let Some((name, required_by)) = left.pop_front() {
        let loaded = if let Some(unit) = units.get(&name) { Some(unit.clone()) } else { load(root, &name)? };
        if loaded.is_none()
            && !name.ends_with(".target")
            && let Some(by) = required_by
        {
            return Err(UnitError { unit: by, reason: format!("Unit {name} not found.") });
        }
        if !seen.insert(name.clone()) {
            continue;
        }
        let mut unit = loaded.unwrap_or_else(|| Unit { name: name.clone(), ..Unit::default() });
        unit.requires.extend(super::required_by(root, &name));
        left.extend(unit.wants.iter().map(|name| (name.clone(), None)));
        left.extend(unit.requires.iter().map(|required| (required.clone(), Some(name.clone()))));
        left.extend(wanted_by(root, &name).into_iter().map(|name| (name, None)));
        if super::find(root, &name).is_some_and(|path| path != "/dev/null") {
            units.insert(name, unit);
        }
    }
    sort(units)
}

fn sort(units: BTreeMap<String, Unit>) -> Result<Vec<Start>, UnitError> {
    // Who waits for whom.
    let mut waits: BTreeMap<String, BTreeSet<String>> =
        units.keys().map(|name| (name.clone(), BTreeSet::new())).collect();
    for unit in units.values() {
        for earlier in unit.after.iter().filter(|name| units.contains_key(*name)) {
            waits.entry(unit.name.clone()).or_default().insert(earlier.clone());
        }
        for later in unit.before.iter().filter(|name| units.contains_key(*name)) {
            waits.entry(later.clone()).or_default().insert(unit.name.clone());
        }
    }
    let mut order = Vec::new();
    let mut units = units;
    while !waits.is_empty() {
        let next = waits.iter().find(|(_, earlier)| earlier.is_empty()).map(|(name, _)| name.clone());
        let Some(next) = next else {
            let names: Vec<_> = waits.into_keys().collect();
            let reason = format!("Found ordering cycle on {}", names.join(", "));
            return Err(UnitError { unit: names[0].clone(), reason });
        };
        waits.remove(&next);
        for earlier in waits.values_mut() {
            earlier.remove(&next);
        }
        if let Some(unit) = units.remove(&next) {
            let requires = unit.requires.clone();
            order.push(Start { unit, requires });
        }
    }
    Ok(order)
}
