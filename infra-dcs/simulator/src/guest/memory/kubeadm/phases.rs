//! Phases: which are skipped, and how a failure of one is told.

/// Phases that the user does not want, with those that belong to them.
pub struct Phases(Vec<String>);

impl Phases {
    /// These are skipped.
    pub fn without(skipped: Vec<String>) -> Self {
        Self(skipped)
    }

    /// Whether a phase such as `certs` or `addon/coredns` runs.
    pub fn runs(&self, phase: &str) -> bool {
        let is_or_contains = |skipped: &String| {
            phase.strip_prefix(skipped.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.0.iter().any(is_or_contains)
    }
}

/// Names the phase in which something failed.
pub fn failed(phase: &str, why: impl std::fmt::Display) -> String {
    format!("error execution phase {phase}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_a_phase_skips_its_parts() {
        let phases = Phases::without(vec!["addon".into(), "certs/ca".into()]);
        assert!(!phases.runs("addon") && !phases.runs("addon/coredns") && !phases.runs("certs/ca"));
        assert!(phases.runs("certs") && phases.runs("certs/sa") && phases.runs("addons"));
    }
}
