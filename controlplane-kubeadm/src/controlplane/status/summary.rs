//! One condition of a control plane from one condition on each of its machines.

use std::collections::BTreeMap;

use cluster_api::conditions::{Claim, Status, get};

use super::super::facts::MachineFact;

/// Most messages in a summary.
const MESSAGES: usize = 3;

/// Reasons of a summary.
pub(super) struct Reasons {
    pub(super) holds: &'static str,
    pub(super) fails: &'static str,
    pub(super) unknown: &'static str,
}

/// Summarises: what fails comes before what is unknown; machines that say the same share a line.
pub(super) fn claim<'a>(
    type_: &str,
    of: &str,
    machines: impl Iterator<Item = &'a MachineFact>,
    reasons: &Reasons,
) -> Claim {
    let mut groups: BTreeMap<(bool, String), Vec<&str>> = BTreeMap::new();
    let (mut any, mut fails, mut unknown) = (false, false, false);
    for machine in machines {
        any = true;
        let (failing, message) = match get(&machine.conditions, of) {
            None => (false, format!("Condition {of} not yet reported")),
            Some(condition) if condition.status == "True" => continue,
            Some(condition) => (condition.status == "False", condition.message.clone()),
        };
        fails |= failing;
        unknown |= !failing;
        // `false` sorts first: failures lead.
        groups.entry((!failing, message)).or_default().push(&machine.name);
    }
    if !any {
        return Claim::holds(type_, "NoReplicas");
    }
    if !fails && !unknown {
        return Claim::holds(type_, reasons.holds);
    }
    let message = message(groups.into_iter().collect());
    if fails {
        Claim::new(type_, Status::False, reasons.fails, message)
    } else {
        Claim::new(type_, Status::Unknown, reasons.unknown, message)
    }
}

fn message(mut groups: Vec<((bool, String), Vec<&str>)>) -> String {
    groups.sort_by(|(a, in_a), (b, in_b)| a.0.cmp(&b.0).then(in_b.len().cmp(&in_a.len())).then_with(|| in_a.cmp(in_b)));
    let left_out = groups.split_off(groups.len().min(MESSAGES));
    let mut lines: Vec<String> = groups
        .into_iter()
        .map(|((_, message), names)| {
            let listed = super::super::health::listed("Machine", &names);
            // What takes several lines stands below the names.
            if message.starts_with("* ") {
                let indented: Vec<_> = message.lines().map(|line| format!("  {line}")).collect();
                format!("* {listed}:\n{}", indented.join("\n"))
            } else if message.is_empty() {
                format!("* {listed}")
            } else {
                format!("* {listed}: {message}")
            }
        })
        .collect();
    let count =
        |unknown: bool| left_out.iter().filter(|((group, _), _)| *group == unknown).map(|(_, names)| names.len()).sum();
    let (issues, unknowns): (usize, usize) = (count(false), count(true));
    let closing =
        |count: usize, what: &str| format!("And {count} Machine{} with {what}", if count == 1 { "" } else { "s" });
    if issues > 0 {
        lines.push(closing(issues, "other issues"));
    }
    if unknowns > 0 {
        lines.push(closing(unknowns, "status unknown"));
    }
    lines.join("\n")
}
