//! Faults of calls: which calls meet which trouble. Faults of tasks are the site's own, see [`crate::site::tasks`].

use serde::{Deserialize, Serialize};

/// A fault and the calls that meet it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultRule {
    /// Given by the simulator.
    #[serde(default)]
    pub id: u64,
    /// Listener: `vrm` or `host`; absent: both.
    #[serde(default)]
    pub listener: Option<String>,
    /// Method; absent: any.
    #[serde(default)]
    pub method: Option<String>,
    /// Path, where `*` stands for any text; absent: any. `*/action/clone` is every clone.
    #[serde(default)]
    pub path: Option<String>,
    /// Calls that pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// Calls that meet it; absent: every one until removed.
    #[serde(default)]
    pub times: Option<u32>,
    /// Chance of a call to meet it, 0 to 1.
    #[serde(default = "certain")]
    pub probability: f64,
    /// End in milliseconds after it was set; absent: none.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// What happens.
    pub fault: Fault,
}

fn certain() -> f64 {
    1.0
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// Refused with a status and a vendor code.
    Refuse {
        /// HTTP status.
        status: u16,
        /// Vendor code.
        code: u32,
    },
    /// Refused by a proxy in HTML.
    Html {
        /// HTTP status.
        status: u16,
    },
    /// 429 with `Retry-After`.
    Throttle {
        /// Seconds.
        after: u64,
    },
    /// The connection is cut and nothing was done.
    DropBefore,
    /// It was done, and the connection is cut instead of an answer.
    DropAfter,
    /// The answer comes late.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// All tokens expire just before the call.
    ExpireToken,
    /// The answer is not JSON, though all went well.
    Garbage,
    /// The host keeps only this many bytes of an upload and says that all went well.
    Truncate {
        /// Bytes kept.
        bytes: u64,
    },
}

struct Armed {
    rule: FaultRule,
    until: Option<u64>,
}

/// All faults of calls.
#[derive(Default)]
pub struct Faults {
    armed: Vec<Armed>,
    next: u64,
}

impl Faults {
    /// Sets a fault; tells its id.
    pub fn add(&mut self, now: u64, mut rule: FaultRule) -> u64 {
        self.next += 1;
        rule.id = self.next;
        let until = rule.for_ms.map(|ms| now + ms);
        self.armed.push(Armed { rule, until });
        self.next
    }

    /// Removes one fault, or all; tells how many.
    pub fn remove(&mut self, id: Option<u64>) -> usize {
        let before = self.armed.len();
        self.armed.retain(|armed| id.is_some_and(|id| id != armed.rule.id));
        before - self.armed.len()
    }

    /// The faults that are set.
    pub fn list(&self) -> Vec<FaultRule> {
        self.armed.iter().map(|armed| armed.rule.clone()).collect()
    }

    /// The fault that a call meets, if any: the first set that fits. `random` decides on chances.
    pub fn strike(
        &mut self,
        now: u64,
        listener: &str,
        method: &str,
        path: &str,
        mut random: impl FnMut() -> u64,
    ) -> Option<Fault> {
        self.armed.retain(|armed| armed.rule.times != Some(0) && armed.until.is_none_or(|until| until > now));
        for Armed { rule, .. } in &mut self.armed {
            let meant = rule.listener.as_deref().is_none_or(|wanted| wanted == listener)
                && rule.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && rule.path.as_deref().is_none_or(|pattern| fits(pattern, path));
            if !meant {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            #[allow(clippy::cast_precision_loss)]
            let chance = (random() >> 11) as f64 / (1_u64 << 53) as f64;
            if chance >= rule.probability {
                continue;
            }
            rule.times = rule.times.map(|times| times.saturating_sub(1));
            return Some(rule.fault.clone());
        }
        None
    }
}

/// Whether `*` in the pattern can stand for something that makes it the path.
fn fits(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| path.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, fit) in [
            ("*/action/clone", "/service/sites/S/vms/i-1/action/clone", true),
            ("*/action/clone", "/service/sites/S/vms/i-1/action/start", false),
            ("/service/*/vms*", "/service/sites/S/vms", true),
            ("/service/session", "/service/session", true),
            ("/service/session", "/service/sessions", false),
            ("*", "/anything", true),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
        }
    }

    #[test]
    fn a_fault_strikes_after_its_skips_and_only_its_times() {
        let mut faults = Faults::default();
        let rule = serde_json::json!({"method": "post", "skip": 1, "times": 2, "fault": "dropAfter"});
        faults.add(0, serde_json::from_value(rule).unwrap());
        let mut struck = |method| faults.strike(0, "vrm", method, "/x", || 0).is_some();
        assert_eq!(["POST", "GET", "POST", "POST", "POST"].map(&mut struck), [false, false, true, true, false]);
    }
}
