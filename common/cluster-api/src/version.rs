//! Kubernetes versions with vendor suffixes.
//!
//! `v1.34.5-3` and `v1.35.6-acp.1` are rebuilds of a release, not pre-releases of it. Semantic versioning orders
//! `-3` before the release; for what a version can do only its numbers count, and a suffix of a vendor never makes a
//! version older than the release it is built from.

use std::{cmp::Ordering, fmt, str::FromStr};

/// A Kubernetes version as users write it: `v1.34.5`, `v1.34.5-3`, `v1.35.6-acp.1`, `v1.33.0-rc.1+vendor.2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(semver::Version);

/// The text is no version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a Kubernetes version: expected a form such as v1.36.3 or v1.34.5-3")]
pub struct InvalidVersion {
    text: String,
}

impl Version {
    /// Major, minor and patch number.
    pub fn numbers(&self) -> (u64, u64, u64) {
        (self.0.major, self.0.minor, self.0.patch)
    }

    /// Major and minor number: what kubeadm's and the kubelet's formats depend on.
    pub fn minor(&self) -> (u64, u64) {
        (self.0.major, self.0.minor)
    }

    /// Whether this is at least a minor release.
    pub fn is_at_least(&self, major: u64, minor: u64) -> bool {
        self.minor() >= (major, minor)
    }

    /// Whether this is an upstream pre-release (`alpha`, `beta`, `rc`), not a vendor's rebuild.
    pub fn is_prerelease(&self) -> bool {
        let first = self.0.pre.split('.').next().unwrap_or_default();
        ["alpha", "beta", "rc"].contains(&first)
    }

    /// Name of the minor release, as in image tags of documents and in `ConfigMap` names: `1.34`.
    pub fn minor_name(&self) -> String {
        format!("{}.{}", self.0.major, self.0.minor)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let numbers = text.strip_prefix('v').unwrap_or(text);
        semver::Version::parse(numbers).map(Self).map_err(|_| InvalidVersion { text: text.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "v{}", self.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    /// By numbers; then pre-releases before the release, the release before a vendor's rebuilds; then by suffix.
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |version: &Self| match (version.is_prerelease(), version.0.pre.is_empty()) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        let suffix = || self.0.pre.cmp(&other.0.pre).then_with(|| self.0.build.cmp(&other.0.build));
        self.numbers().cmp(&other.numbers()).then_with(|| rank(self).cmp(&rank(other))).then_with(suffix)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_ordered_as_vendors_mean_them() {
        let ascending = [
            "v1.34.4",
            "v1.34.5-alpha.1",
            "v1.34.5-rc.1",
            "v1.34.5",
            "v1.34.5-3",
            "v1.34.5-10",
            "v1.34.5-acp.1",
            "v1.35.0",
        ];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[rstest]
    #[case("v1.34.5-3", (1, 34, 5), "v1.34.5-3")]
    #[case("1.35.6-acp.1", (1, 35, 6), "v1.35.6-acp.1")]
    #[case("v1.33.0+k3s1", (1, 33, 0), "v1.33.0+k3s1")]
    fn suffixes_are_kept(#[case] text: &str, #[case] numbers: (u64, u64, u64), #[case] shown: &str) {
        assert_eq!(version(text).numbers(), numbers);
        assert_eq!(version(text).to_string(), shown);
    }

    #[rstest]
    #[case("")]
    #[case("v1.34")]
    #[case("latest")]
    fn other_texts_are_refused_by_name(#[case] text: &str) {
        let error = text.parse::<Version>().unwrap_err();
        assert!(error.to_string().contains(text));
    }
}
