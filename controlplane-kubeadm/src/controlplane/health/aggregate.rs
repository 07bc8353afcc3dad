//! Conditions of many machines as one of their control plane.

use std::collections::BTreeMap;

use cluster_api::conditions::{Claim, Status};

use super::{super::names::reason, Subject};

/// Most names in one line.
const NAMES: usize = 3;

/// The control plane's condition over conditions of these types on its machines, and over what is wrong beyond them.
pub(super) fn claim(
    type_: &str,
    subjects: &[Subject],
    machines: &BTreeMap<String, Vec<Claim>>,
    of: &[&str],
    errors: &[String],
) -> Claim {
    let (mut any_false, mut any_unknown, mut any_other) = (!errors.is_empty(), false, false);
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for subject in subjects {
        let mut lines = Vec::new();
        let claims = machines.get(&subject.name).map(Vec::as_slice).unwrap_or_default();
        for claim in of.iter().filter_map(|type_| claims.iter().find(|claim| &claim.type_ == type_)) {
            match claim.status {
                Status::True => any_other = true,
                // A machine that is still being provisioned has nothing to tell yet.
                Status::Unknown if subject.provider_id.is_empty() => any_other = true,
                Status::False | Status::Unknown => {
                    any_false |= claim.status == Status::False;
                    any_unknown |= claim.status == Status::Unknown;
                    let said = if claim.message.is_empty() { claim.status.as_str() } else { &claim.message };
                    lines.push((claim.type_.as_str(), said));
                }
            }
        }
        if !lines.is_empty() {
            groups.entry(rendered(&lines)).or_default().push(&subject.name);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(_, a), (_, b)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let mut message: Vec<String> =
        groups.iter().map(|(text, names)| format!("* {}:\n{text}", listed("Machine", names))).collect();
    message.extend(errors.iter().map(|error| format!("* {error}")));
    let message = message.join("\n");
    if any_false {
        Claim::new(type_, Status::False, reason::NOT_HEALTHY, message)
    } else if any_unknown {
        Claim::new(type_, Status::Unknown, reason::HEALTH_UNKNOWN, message)
    } else if any_other {
        Claim::holds(type_, reason::HEALTHY)
    } else {
        Claim::new(type_, Status::Unknown, reason::HEALTH_UNKNOWN, "No Machines reporting health yet")
    }
}

fn rendered(lines: &[(&str, &str)]) -> String {
    let (first, rest) = (lines[0].1, &lines[1..]);
    if !rest.is_empty() && rest.iter().all(|(_, said)| *said == first) {
        return format!("  * Control plane components: {first}");
    }
    lines.iter().map(|(type_, said)| format!("  * {type_}: {said}")).collect::<Vec<_>>().join("\n")
}

/// `Machine a`, `Machines a, b`, `Machines a, b, c, ... (2 more)`.
pub(in crate::controlplane) fn listed(kind: &str, names: &[&str]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    let shown = names.iter().take(NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => format!("{kind}{plural} {shown}"),
        more => format!("{kind}{plural} {shown}, ... ({more} more)"),
    }
}
